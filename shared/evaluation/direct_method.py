"""Direct method (DM): believe a reward model, and average what it predicts for the target's choices.

    V = 1/n Σ_i Σ_a π(a | x_i) q̂(x_i, a)

Needs no propensities, and varies little; it is as wrong as the model is, and its intervals, which know only that the contexts are a
sample, do not say so. So the model is held against the logged rewards: with weights (where they exist) the residuals' mean estimates the
bias itself. Take it where propensities are unknown, or as one half of `doubly_robust`. Paper: Dudík, Langford & Li, "Doubly
Robust Policy Evaluation and Learning", ICML 2011.
"""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from shared.errors import InvalidInput
from shared.evaluation.estimate_of_terms import estimate_of_decisions, standard_error
from shared.evaluation.logged_decisions import LoggedDecisions
from shared.evaluation.value_estimate import CONFIDENCE, ValueEstimate

_BIAS_ERRORS = 3.0


def direct_method(decisions: LoggedDecisions, confidence: float = CONFIDENCE) -> ValueEstimate:
    """Estimate the target's value. Raises `InvalidInput` without predictions."""
    terms = direct_method_terms(decisions)
    bounds = None
    if decisions.reward_range is not None:
        low, high = decisions.reward_range
        bounds = min(low, float(terms.min())), max(high, float(terms.max()))
    estimate = estimate_of_decisions(
        "direct_method",
        terms,
        decisions,
        np.ones(decisions.rows),
        confidence,
        bounds=bounds,
        warnings=_bias(decisions),
    )
    return msgspec.structs.replace(estimate, mean_weight=None)


def direct_method_terms(decisions: LoggedDecisions) -> npt.NDArray[np.float64]:
    """Return Σ_a π(a | x) q̂(x, a), shape (n_rows,), whose mean is the estimate."""
    return decisions.predicted()[1]


def _bias(decisions: LoggedDecisions) -> tuple[str, ...]:
    residuals = decisions.rewards - decisions.predicted()[0]
    try:
        residuals *= decisions.weights()
        of_what = "on the target's choices"
    except InvalidInput:
        of_what = "on the logged choices"
    error, mean = standard_error(residuals), float(residuals.mean())
    if error is None or abs(mean) <= _BIAS_ERRORS * error:
        return ()
    return (f"the logged rewards contradict the reward model: {of_what} it is off by {-mean:+.3g}",)
