"""What an evaluation says: estimates of every candidate, its lift over what was logged, and the doubts.

The estimate shown is doubly robust where the log has no slates, reward-interaction weighting (the sum of a slate's rewards) where it has. A
lift is the paired difference to the logged rewards; its interval holds for all candidates at once (Bonferroni), because whoever picks
the best of many picks luck too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import numpy.typing as npt

from functions.console.failure import ConsoleFailure
from shared.errors import InvalidInput
from shared.evaluation.doubly_robust import doubly_robust_terms
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
    from functions.console.candidates import Candidate
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
    """An evaluation. `logged`: what the log itself earned; `places`: after how many decisions the curves are read.

    `blocks`: how often candidates learned; `left_out`: decisions by reason; `confidence`: of a lift's interval.
    """

    policy: str
    rows: int
    blocks: int
    left_out: dict[str, int]
    logged: ValueEstimate
    judged: tuple[Judged, ...]
    confidence: float
    places: tuple[int, ...]
    logged_curve: tuple[float, ...]
    slates: bool


def judge(
    reader: DecidedItems, log: EvaluationLog, survey: Survey, candidates: Sequence[Candidate], blocks: int
) -> Report:
    """Estimate everything. Raises `ConsoleFailure` where slates were decided without an exploration floor, or none is left."""
    if not log.rows:
        message = "no decision of this span can be judged: " + _reasons(reader.left_out)
        raise ConsoleFailure(message, field="from")
    if survey.has_slates:
        judged, logged, terms = _of_slates(log, candidates)
    else:
        judged, logged, terms = _of_decisions(log, candidates, reader.spec.reward_range)
    places = _places(len(terms))
    return Report(
        policy=reader.spec.name,
        rows=log.rows,
        blocks=blocks,
        left_out=dict(reader.left_out),
        logged=logged,
        judged=tuple(judged),
        confidence=1.0 - (1.0 - CONFIDENCE) / len(candidates),
        places=places,
        logged_curve=_curve(terms, places),
        slates=survey.has_slates,
    )


def figures(report: Report) -> dict[str, Any]:
    """Return the report as JSON shows it, with every estimate's normal interval."""

    def shown(estimate: ValueEstimate) -> dict[str, Any]:
        fields: dict[str, Any] = msgspec.to_builtins(estimate)
        return fields | {"interval": estimate.interval(CONFIDENCE)}

    return {
        "policy": report.policy,
        "rows": report.rows,
        "blocks": report.blocks,
        "slates": report.slates,
        "left_out": report.left_out,
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


def show(report: Report, *, whole: bool) -> None:
    """Print the table, the best candidate first; `whole`: a line for every estimator."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    unit = "reward of a slate" if report.slates else "reward of a decision"
    console.print(
        f"{report.policy}: {report.rows:,} decisions, {report.blocks} times learned; {unit}", style="bold", markup=False
    )
    table = Table(box=None)
    table.add_column("candidate", overflow="fold")
    for heading in ("estimate", "95 % interval", "lift", f"{report.confidence:.1%} interval", "rows' worth"):
        table.add_column(heading, justify="right")
    table.add_column("estimator" if whole else "")
    table.add_row("as logged", *_cells(report.logged), "", "", f"{report.logged.rows:,}", "", style="dim")
    for each in sorted(report.judged, key=lambda one: -one.estimate.value):
        lift, between = "", ""
        if each.lift is not None:
            lift, between = f"{each.lift.value:+.5f}", _interval(each.lift.interval(report.confidence), signed=True)
        told = each.lift is not None and each.lift.is_told_apart(report.confidence)
        for estimate in each.estimates if whole else (each.estimate,):
            main = estimate is each.estimate
            doubts = estimate.estimator if whole else "doubtful" if estimate.warnings else ""
            table.add_row(
                Text(each.name if main else ""),
                *_cells(estimate),
                Text(lift if main else "", style="green" if told and each.lift and each.lift.value > 0 else ""),
                between if main else "",
                f"{estimate.effective_sample_size:,.0f}",
                doubts,
                style="bold" if main and whole else None,
            )
    console.print(table)
    for reason, count in sorted(report.left_out.items()):
        console.print(f"left out: {count:,}, {reason}", markup=False)
    for each in report.judged:
        for warning in each.estimate.warnings:
            console.print(f"{each.name}: {warning}", style="yellow", markup=False)
    if any(each.estimate.estimator == "direct_method" for each in report.judged):
        console.print("the direct method is only as right as its reward model: take it for a guess", style="yellow")


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
        curve = _curve(terms, _places(len(terms)))
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
        estimates = tuple(_that_apply(slates))
        terms, totals = slate_reward_interaction_terms(slates), slates.totals
        curve = _curve(terms, _places(len(terms)))
        judged.append(Judged(candidate.name, estimates[0], estimates, paired_difference(terms, totals), curve))
    n = len(totals)
    error = float(totals.std(ddof=1) / np.sqrt(n)) if n > 1 and totals.std() > 0 else None
    logged = ValueEstimate(float(totals.mean()), error, float(n), float(np.count_nonzero(totals)), n, "logged_mean")
    return judged, logged, totals


def _that_apply(slates: LoggedSequences) -> Iterator[ValueEstimate]:
    for estimator in _OF_SLATES:
        with suppress(InvalidInput):  # all weights of a position are zero: nothing to normalise by
            yield estimator(slates, CONFIDENCE)


def _places(rows: int) -> tuple[int, ...]:
    """Return after how many rows a curve is read."""
    first = max(rows // 20, 1)
    return tuple(dict.fromkeys(np.linspace(first, rows, CURVE).astype(int).tolist()))


def _curve(terms: Floats, places: Sequence[int]) -> tuple[float, ...]:
    sums = np.cumsum(terms)
    return tuple(float(sums[place - 1] / place) for place in places)


def _cells(estimate: ValueEstimate) -> tuple[str, str]:
    return f"{estimate.value:.5f}", _interval(estimate.interval(CONFIDENCE))


def _interval(interval: tuple[float, float] | None, *, signed: bool = False) -> str:
    if interval is None:
        return ""
    form = "+.5f" if signed else ".5f"
    return f"{interval[0]:{form}} to {interval[1]:{form}}"


def _reasons(left_out: Mapping[str, int]) -> str:
    return "; ".join(f"{count:,}: {reason}" for reason, count in sorted(left_out.items()))
