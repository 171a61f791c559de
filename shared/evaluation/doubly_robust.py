"""Doubly robust (DR): the direct method, corrected by the importance-weighted residuals of its model.

    V = 1/n Σ_i [ Σ_a π(a | x_i) q̂(x_i, a) + w_i (r_i - q̂(x_i, a_i)) ]

Unbiased where the propensities are true, whatever the model; the better the model, the smaller the variance. The model must not
have been fitted to the row that it predicts (`reward_model.cross_fitted`). The estimator to take where there are propensities
and features. Paper: Dudík, Langford & Li, "Doubly Robust Policy Evaluation and Learning", ICML 2011.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from shared.evaluation.estimate_of_terms import estimate_of_decisions, largest_weight
from shared.evaluation.logged_decisions import LoggedDecisions
from shared.evaluation.value_estimate import CONFIDENCE, Interval, ValueEstimate

Floats = npt.NDArray[np.float64]


def doubly_robust(decisions: LoggedDecisions, confidence: float = CONFIDENCE) -> ValueEstimate:
    """Estimate the target's value. Raises `InvalidInput` without predictions, or where weights do not exist."""
    return estimate_of_corrected("doubly_robust", doubly_robust_terms(decisions), decisions, confidence)


def doubly_robust_terms(decisions: LoggedDecisions) -> Floats:
    """Return the terms, shape (n_rows,), whose mean is the estimate."""
    return corrected(decisions, decisions.weights())


def corrected(decisions: LoggedDecisions, weights: Floats) -> Floats:
    """Return the model's value of each row plus the residual times any `weights`, all of shape (n_rows,)."""
    of_logged, of_target = decisions.predicted()
    terms: Floats = of_target + weights * (decisions.rewards - of_logged)
    return terms


def estimate_of_corrected(name: str, terms: Floats, decisions: LoggedDecisions, confidence: float) -> ValueEstimate:
    """Return the estimate of `terms` that spread as those of `corrected` by the whole weights do."""
    bounds = bounds_of_corrected(decisions, largest_weight(decisions))
    return estimate_of_decisions(name, terms, decisions, decisions.weights(), confidence, bounds=bounds)


def bounds_of_corrected(decisions: LoggedDecisions, most: float) -> Interval | None:
    """Return the least and largest possible term, with weights up to `most`; None where rewards have no range."""
    if decisions.reward_range is None or decisions.predictions is None:
        return None
    low = min(decisions.reward_range[0], float(decisions.predictions.min()))
    high = max(decisions.reward_range[1], float(decisions.predictions.max()))
    return low - most * (high - low), high + most * (high - low)
