"""What an evaluation by sessions says: a row is a session, and its reward the sum of all its decisions' rewards, undiscounted.

The estimate shown is self-normalised per-decision importance weighting; per-decision weighting stands beside it, and fitted-Q evaluation where
the policy tells states apart. Where importance weights do not exist, fitted-Q evaluation is all there is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from functions.console.evaluation_report import (
    Judged,
    Report,
    curve_of,
    logged_totals,
    places_of,
    reasons,
    simultaneous,
    that_apply,
)
from functions.console.failure import ConsoleFailure
from shared.errors import InvalidInput
from shared.evaluation.fitted_q_evaluation import fitted_q_evaluation
from shared.evaluation.logged_sequences import LoggedSequences
from shared.evaluation.paired_difference import paired_difference
from shared.evaluation.per_decision import per_decision, per_decision_terms
from shared.evaluation.per_decision_self_normalised import (
    per_decision_self_normalised,
    per_decision_self_normalised_terms,
)
from shared.evaluation.value_estimate import CONFIDENCE, ValueEstimate

if TYPE_CHECKING:
    from functions.console.candidate import Candidate
    from functions.console.session_log import Mask, SessionLog

Floats = npt.NDArray[np.float64]
_UNDISCOUNTED = 1.0
_WEIGHING = (per_decision_self_normalised, per_decision)
_TERMS: Mapping[str, Callable[[LoggedSequences], Floats]] = {
    "per_decision_self_normalised": per_decision_self_normalised_terms,
    "per_decision": per_decision_terms,
}


def judge_sessions(
    policy: str,
    log: SessionLog,
    kept: Mask,
    candidates: Sequence[Candidate],
    *,
    blocks: int,
    left_out: Counter[str],
    notes: Sequence[str],
    is_cut: bool,
) -> Report:
    """Estimate everything; `kept`: which sessions are judged, shape (n_sessions,). `is_cut`: only their beginnings are in the log.

    Raises `ConsoleFailure` where nothing can be said.
    """
    if not kept.any():
        message = "no session of this span can be judged: " + (reasons(left_out) or "there is none")
        raise ConsoleFailure(message, field="from")
    why = "only the beginnings of sessions are judged" if is_cut else log.no_transitions()
    forecasts = list(_forecasts(log, kept)) if why is None else []
    if log.can_be_weighed(kept):
        judged = [
            _weighed(one.name, sequences, tuple(forecast))
            for one, sequences, forecast in zip(
                candidates, log.sequences(kept), forecasts or repeat(()), strict=bool(forecasts)
            )
        ]
    elif not forecasts:
        message = f"sessions were decided with an exploration floor of 0: importance weights say nothing; and fitted-Q evaluation is not to be had: {why}"
        raise ConsoleFailure(message, field="policy")
    else:
        judged = [_forecast(one.name, forecast) for one, forecast in zip(candidates, forecasts, strict=True)]
        notes = [*notes, "sessions were decided with an exploration floor of 0: importance weights do not exist"]
    totals = log.totals(kept)
    places = places_of(len(totals))
    return Report(
        policy=policy,
        unit="session",
        rows=len(totals),
        decisions=log.decisions(kept),
        blocks=blocks,
        left_out=dict(left_out),
        logged=logged_totals(totals),
        judged=tuple(judged),
        confidence=simultaneous(len(candidates)),
        places=places,
        logged_curve=curve_of(totals, places),
        notes=tuple(notes) if why is None else (*notes, f"no fitted-Q evaluation: {why}"),
    )


def _weighed(name: str, sequences: LoggedSequences, forecast: Sequence[ValueEstimate]) -> Judged:
    """Judge one candidate by its weights, `forecast` beside them."""
    estimates = (*that_apply(_WEIGHING, sequences), *forecast)
    terms = _TERMS[estimates[0].estimator](sequences)
    curve = curve_of(terms, places_of(len(terms)))
    return Judged(name, estimates[0], estimates, paired_difference(terms, sequences.totals), curve)


def _forecast(name: str, forecast: Sequence[ValueEstimate]) -> Judged:
    if not forecast:
        message = f"{name}: fitted-Q evaluation does not settle, and importance weights do not exist"
        raise ConsoleFailure(message, field="from")
    return Judged(name, forecast[0], tuple(forecast), None, ())


def _forecasts(log: SessionLog, kept: Mask) -> Iterator[list[ValueEstimate]]:
    """Yield what fitted-Q evaluation says of each candidate, nothing where its regressions do not settle."""
    for transitions in log.transitions(kept):
        try:
            yield [fitted_q_evaluation(transitions, _UNDISCOUNTED, CONFIDENCE)]
        except InvalidInput:
            yield []
