"""What an evaluation by sessions says: a row is a session, and its reward the sum of all its decisions' rewards, undiscounted.

The estimate shown is weighted doubly robust where the policy tells states apart, self-normalised per-decision importance weighting where it does not;
per-decision weighting stands beside it, and fitted-Q evaluation where there are states. Where importance weights do not exist, that is all there is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import repeat
from typing import TYPE_CHECKING

import msgspec
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
from shared.evaluation.cell_forecasts import cell_forecasts
from shared.evaluation.cell_transitions import CellTransitions
from shared.evaluation.fitted_q_evaluation import fitted_q_evaluation
from shared.evaluation.logged_sequences import LoggedSequences
from shared.evaluation.paired_difference import paired_difference
from shared.evaluation.per_decision import per_decision, per_decision_terms
from shared.evaluation.per_decision_doubly_robust import (
    doubts_about_forecasts,
    per_decision_doubly_robust,
    per_decision_doubly_robust_terms,
)
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
_LEAST_FOR_A_MODEL = 30
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
    transitions = log.transitions(kept) if why is None else repeat(None)
    if log.can_be_weighed(kept):
        judged = [
            _weighed(one.name, sequences, steps)
            for one, sequences, steps in zip(candidates, log.sequences(kept), transitions, strict=False)
        ]
    elif why is not None:
        message = f"sessions were decided with an exploration floor of 0: importance weights say nothing; and fitted-Q evaluation is not to be had: {why}"
        raise ConsoleFailure(message, field="policy")
    else:
        judged = [_forecast(one.name, steps) for one, steps in zip(candidates, transitions, strict=False)]
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


def _weighed(name: str, sequences: LoggedSequences, transitions: CellTransitions | None) -> Judged:
    """Judge one candidate by its weights, and by what can be forecast from `transitions`."""
    estimates = [*that_apply(_WEIGHING, sequences)]
    terms = _TERMS[estimates[0].estimator](sequences)
    doubts: list[str] = []
    if transitions is not None and len(sequences.rewards) >= _LEAST_FOR_A_MODEL:
        with suppress(InvalidInput):  # the regressions do not settle, or all weights of a step are zero
            forecasts = cell_forecasts(transitions)
            estimates.insert(0, per_decision_doubly_robust(sequences, *forecasts, CONFIDENCE))
            terms = per_decision_doubly_robust_terms(sequences, *forecasts)
            doubts += doubts_about_forecasts(sequences, forecasts.residuals)
    estimates += _fitted(transitions, doubts)
    curve = curve_of(terms, places_of(len(terms)))
    return Judged(name, estimates[0], tuple(estimates), paired_difference(terms, sequences.totals), curve)


def _forecast(name: str, transitions: CellTransitions | None) -> Judged:
    estimates = _fitted(transitions)
    if not estimates:
        message = f"{name}: fitted-Q evaluation does not settle, and importance weights do not exist"
        raise ConsoleFailure(message, field="from")
    return Judged(name, estimates[0], tuple(estimates), None, ())


def _fitted(transitions: CellTransitions | None, doubts: Sequence[str] = ()) -> list[ValueEstimate]:
    """Return what fitted-Q evaluation says, with `doubts` besides its own; nothing where it has nothing to say."""
    if transitions is None:
        return []
    with suppress(InvalidInput):  # the regressions do not settle
        estimate = fitted_q_evaluation(transitions, _UNDISCOUNTED, CONFIDENCE)
        return [msgspec.structs.replace(estimate, warnings=(*estimate.warnings, *doubts))]
    return []
