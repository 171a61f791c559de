"""All estimators that a log and a target allow, in one call: what `knudge evaluate` shows.

A reward model is needed for three of them, propensities for all but two. Where a decision was made with an exploration floor of 0, or no propensity
is known, only what weighs nothing is left (rule: importance weights are then refused), and says why.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec
import numpy as np

from shared.errors import InvalidInput
from shared.evaluation.direct_method import direct_method
from shared.evaluation.doubly_robust import doubly_robust
from shared.evaluation.doubly_robust_shrunk import doubly_robust_shrunk
from shared.evaluation.inverse_propensity import inverse_propensity
from shared.evaluation.logged_decisions import LoggedDecisions
from shared.evaluation.logged_mean import logged_mean
from shared.evaluation.replay_method import is_replayable, replay_method
from shared.evaluation.self_normalised import self_normalised
from shared.evaluation.switch_doubly_robust import switch_doubly_robust
from shared.evaluation.value_estimate import CONFIDENCE, ValueEstimate

Estimator = Callable[[LoggedDecisions, float], ValueEstimate]

BY_WEIGHTS: Mapping[str, Estimator] = {
    "inverse_propensity": inverse_propensity,
    "self_normalised": self_normalised,
}
BY_WEIGHTS_AND_MODEL: Mapping[str, Estimator] = {
    "doubly_robust": doubly_robust,
    "doubly_robust_shrunk": doubly_robust_shrunk,
    "switch_doubly_robust": switch_doubly_robust,
}


def evaluate(decisions: LoggedDecisions, confidence: float = CONFIDENCE) -> tuple[ValueEstimate, ...]:
    """Return what every estimator that applies says of the target's value, the logged mean first.

    Rows without a propensity are left out of what weighs, and counted there.
    """
    estimates = [logged_mean(decisions, confidence)]
    known = decisions.known()
    refusal = _refusal(known)
    if decisions.predictions is not None:
        direct = direct_method(decisions, confidence)
        if refusal is not None:
            direct = msgspec.structs.replace(direct, warnings=(*direct.warnings, refusal))
        estimates.append(direct)
    if refusal is None:
        estimates += [estimator(known, confidence) for estimator in BY_WEIGHTS.values()]
        if decisions.predictions is not None:
            estimates += [estimator(known, confidence) for estimator in BY_WEIGHTS_AND_MODEL.values()]
        if is_replayable(known):
            estimates.append(replay_method(known, confidence))
    return tuple(estimates)


def _refusal(known: LoggedDecisions) -> str | None:
    try:
        known.refuse_unsupported()
    except InvalidInput as refused:
        return refused.detail
    if not bool(np.any(known.target[known.places] > 0.0)):
        return "the target never takes what was logged: all weights are zero"
    return None
