"""What an evaluation says: estimates of every candidate, its lift over what was logged, and the doubts.

The estimate shown is doubly robust where the log has no slates, reward-interaction weighting (the sum of a slate's rewards) where it has; of sessions `session_report` says it. A
lift is the paired difference to the logged rewards; its interval holds for all candidates at once (Bonferroni), because whoever picks
the best of many picks luck too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from functions.console.failure import ConsoleFailure
from shared.errors import InvalidInput
from shared.evaluation.doubly_robust import doubly_robust_terms
from shared.evaluation.estimate_of_terms import standard_error
from shared.evaluation.evaluation import evaluate
from shared.evaluation.logged_decisions import LoggedDecisions
from shared.evaluation.logged_mean import logged_mean_terms
from shared.evaluation.logged_sequences import LoggedSequences
from shared.evaluation.paired_difference import paired_difference
from shared.evaluation.per_decision_self_normalised import per_decision_self_normalised
from shared.evaluation.self_normalised import self_normalised_terms
from shared.evaluation.slate_reward_interaction import slate_reward_interaction, slate_reward_interaction_terms
from shared.evaluation.slate_standard import slate_standard
from shared.evaluation.value_estimate import CONFIDENCE, Difference, ValueEstimate

if TYPE_CHECKING:
    from functions.console.candidate import Candidate
    from functions.console.decided_items import DecidedItems
    from functions.console.evaluation_log import EvaluationLog, Survey

Floats = npt.NDArray[np.float64]
_TERMS: Mapping[str, Callable[[LoggedDecisions], Floats]] = {
    "doubly_robust": doubly_robust_terms,
    "self_normalised": self_normalised_terms,
}
"""The estimators that may be the one shown, the preferred one first."""
_OF_SLATES = (slate_reward_interaction, per_decision_self_normalised, slate_standard)
CURVE = 200


Unit = Literal["decision", "slate", "session"]


class Judged(msgspec.Struct, frozen=True):
    """One candidate. `estimate`: the one to look at; `estimates`: all; `lift`: over what was logged, None where not to be had.

    `curve`: the estimate from the first decisions alone, for growing numbers of them; empty where it has no terms.
    """

    name: str
    estimate: ValueEstimate
    estimates: tuple[ValueEstimate, ...]
    lift: Difference | None
    curve: tuple[float, ...]


class Report(msgspec.Struct, frozen=True):
    """An evaluation. `logged`: what the log itself earned; `places`: after how many rows the curves are read.

    `unit`: what is judged, one a row; `rows` of them have `decisions`. `blocks`: how often candidates learned; `left_out`: decisions by
    reason; `confidence`: of a lift's interval; `notes`: what else there is to know of all estimates.
    """

    policy: str
    unit: Unit
    rows: int
    decisions: int
    blocks: int
    left_out: dict[str, int]
    logged: ValueEstimate
    judged: tuple[Judged, ...]
    confidence: float
    places: tuple[int, ...]
    logged_curve: tuple[float, ...]
    notes: tuple[str, ...] = ()


def judge(
    reader: DecidedItems, log: EvaluationLog, survey: Survey, candidates: Sequence[Candidate], blocks: int
) -> Report:
    """Estimate everything. Raises `ConsoleFailure` where slates were decided without an exploration floor, or none is left."""
    if not log.rows:
        message = "no decision of this span can be judged: " + reasons(reader.left_out)
        raise ConsoleFailure(message, field="from")
    if survey.has_slates:
        judged, logged, terms = _of_slates(log, candidates)
    else:
        judged, logged, terms = _of_decisions(log, candidates, reader.spec.reward_range)
    places = places_of(len(terms))
    return Report(
        policy=reader.spec.name,
        unit="slate" if survey.has_slates else "decision",
        rows=log.rows,
        decisions=log.rows,
        blocks=blocks,
        left_out=dict(reader.left_out),
        logged=logged,
        judged=tuple(judged),
        confidence=simultaneous(len(candidates)),
        places=places,
        logged_curve=curve_of(terms, places),
    )


def figures(report: Report) -> dict[str, Any]:
    """Return the report as JSON shows it, with every estimate's normal interval."""

    def shown(estimate: ValueEstimate) -> dict[str, Any]:
        fields: dict[str, Any] = msgspec.to_builtins(estimate)
        return fields | {"interval": estimate.interval(CONFIDENCE)}

    return {
        "policy": report.policy,
        "unit": f"reward of a {report.unit}",
        "rows": report.rows,
        "decisions": report.decisions,
        "blocks": report.blocks,
        "slates": report.unit == "slate",
        "left_out": report.left_out,
        "notes": report.notes,
        "logged": shown(report.logged),
        "confidence_of_lifts": report.confidence,
        "candidates": [
            {
                "candidate": each.name,
                "estimator": each.estimate.estimator,
                "value": each.estimate.value,
                "interval": each.estimate.interval(CONFIDENCE),
                "lift": None if each.lift is None else each.lift.value,
                "lift_interval": None if each.lift is None else each.lift.interval(report.confidence),
                "estimates": [shown(estimate) for estimate in each.estimates],
            }
            for each in report.judged
        ],
    }


def _of_decisions(
    log: EvaluationLog, candidates: Sequence[Candidate], reward_range: tuple[float, float] | None
) -> tuple[list[Judged], ValueEstimate, Floats]:
    judged, logged, rewards = [], None, np.zeros(0)
    for candidate, decisions in zip(candidates, log.decisions(reward_range), strict=True):
        logged, *estimates = evaluate(decisions, CONFIDENCE)
        if not estimates:
            message = "nothing can be said of so few decisions, or of decisions without propensities"
            raise ConsoleFailure(message, field="from")
        by_name = {estimate.estimator: estimate for estimate in estimates}
        known = decisions.known()
        main = next((name for name in _TERMS if name in by_name), None)
        if main is None:
            direct = by_name.get("direct_method", estimates[0])
            judged.append(Judged(candidate.name, direct, tuple(estimates), None, ()))
            rewards = decisions.rewards
            continue
        terms, rewards = _TERMS[main](known), logged_mean_terms(known)
        lift = paired_difference(terms, rewards)
        curve = curve_of(terms, places_of(len(terms)))
        judged.append(Judged(candidate.name, by_name[main], tuple(estimates), lift, curve))
    assert logged is not None  # noqa: S101 - there is a candidate
    return judged, logged, rewards


def _of_slates(log: EvaluationLog, candidates: Sequence[Candidate]) -> tuple[list[Judged], ValueEstimate, Floats]:
    without = log.without_floor()
    if without:
        message = f"{without:,} of {log.rows:,} slates were decided with an exploration floor of 0: importance weights say nothing"
        raise ConsoleFailure(message, field="policy")
    judged, totals = [], np.zeros(0)
    for candidate, slates in zip(candidates, log.slates(), strict=True):
        estimates = tuple(that_apply(_OF_SLATES, slates))
        terms, totals = slate_reward_interaction_terms(slates), slates.totals
        curve = curve_of(terms, places_of(len(terms)))
        judged.append(Judged(candidate.name, estimates[0], estimates, paired_difference(terms, totals), curve))
    return judged, logged_totals(totals), totals


def that_apply(
    estimators: Sequence[Callable[[LoggedSequences, float], ValueEstimate]], logged: LoggedSequences
) -> Iterator[ValueEstimate]:
    """Yield what those of the estimators say that can say something."""
    for estimator in estimators:
        with suppress(InvalidInput):  # all weights of a position are zero: nothing to normalise by
            yield estimator(logged, CONFIDENCE)


def logged_totals(totals: Floats) -> ValueEstimate:
    """Return what was earned by rows that sum to `totals`, shape (n_rows,)."""
    n = len(totals)
    return ValueEstimate(
        float(totals.mean()), standard_error(totals), float(n), float(np.count_nonzero(totals)), n, "logged_mean"
    )


def simultaneous(candidates: int) -> float:
    """Return the confidence of each interval at which all of so many hold at once (Bonferroni)."""
    return 1.0 - (1.0 - CONFIDENCE) / candidates


def places_of(rows: int) -> tuple[int, ...]:
    """Return after how many rows a curve is read."""
    first = max(rows // 20, 1)
    return tuple(dict.fromkeys(np.linspace(first, rows, CURVE).astype(int).tolist()))


def curve_of(terms: Floats, places: Sequence[int]) -> tuple[float, ...]:
    """Return the mean of the first terms, for each place."""
    sums = np.cumsum(terms)
    return tuple(float(sums[place - 1] / place) for place in places)


def reasons(left_out: Mapping[str, int]) -> str:
    """Return why decisions were left out, in words."""
    return "; ".join(f"{count:,}: {reason}" for reason, count in sorted(left_out.items()))
