"""Inverse propensity weighting (IPW, IPS): each reward counts as many times as the target would rather have taken its action.

    V = 1/n Σ w_i r_i,        w_i = π(a_i | x_i) / b(a_i | x_i)

Unbiased where the propensities are true and b > 0 wherever π > 0, whatever rewards depend on. Its variance grows with the weights', and a
constant added to all rewards changes it: take `self_normalised` or `doubly_robust` unless unbiasedness or the anytime-valid interval
matters (that interval holds at every number of rows, see `confidence_sequence`). Papers: Horvitz & Thompson, JASA 1952; Strehl et al.,
"Learning from Logged Implicit Exploration Data", NeurIPS 2010.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from shared.evaluation.confidence_sequence import weighted_sequence
from shared.evaluation.estimate_of_terms import estimate_of_decisions, largest_weight
from shared.evaluation.logged_decisions import LoggedDecisions
from shared.evaluation.value_estimate import CONFIDENCE, ValueEstimate


def inverse_propensity(decisions: LoggedDecisions, confidence: float = CONFIDENCE) -> ValueEstimate:
    """Estimate the target's value. Raises `InvalidInput` where weights do not exist."""
    weights = decisions.weights()
    spread = decisions.reward_range
    bounds = anytime = None
    if spread is not None:
        most = largest_weight(decisions)
        bounds = min(0.0, most * spread[0]), max(0.0, most * spread[1])
        anytime = weighted_sequence(decisions.rewards, weights, spread, confidence)
    terms = weights * decisions.rewards
    return estimate_of_decisions(
        "inverse_propensity", terms, decisions, weights, confidence, bounds=bounds, anytime=anytime
    )


def inverse_propensity_terms(decisions: LoggedDecisions) -> npt.NDArray[np.float64]:
    """Return w r, shape (n_rows,), whose mean is the estimate."""
    return decisions.weights() * decisions.rewards
