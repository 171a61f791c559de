"""Self-normalised importance weighting (SNIPW): the value of a policy from the log of another.

    V = Σ w_i r_i / Σ w_i

Against plain importance weighting it trades a bias of order 1/n for a variance that no longer grows with the
spread of Σ w, and its answer stays within the range of the rewards. Use it where weights vary; with equal
weights it *is* the sample mean. The standard error is that of the linearised ratio (the delta method): with
the influence of each row

    ψ_i = n w_i (r_i - V) / Σ w,        se² = Σ ψ_i² / (n (n - 1))

It is a large-sample error. With few rewarded rows, or few of large weight, the true coverage of the interval
is lower than its nominal one; `effective_rewards` says how many rewards the estimate rests on. The other two intervals are those
of the linearised terms V + ψ_i, so they too hold only as far as the linearisation does. Paper:
Swaminathan & Joachims, "The Self-Normalized Estimator for Counterfactual Learning", NeurIPS 2015; the
variance as in Owen, "Monte Carlo theory, methods and examples", 2013, section 9.2.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from shared.errors import InvalidInput
from shared.evaluation.estimate_of_terms import estimate_of_decisions, largest_weight
from shared.evaluation.logged_decisions import LoggedDecisions
from shared.evaluation.value_estimate import CONFIDENCE, ValueEstimate


def self_normalised(decisions: LoggedDecisions, confidence: float = CONFIDENCE) -> ValueEstimate:
    """Estimate the target's value. Raises `InvalidInput` where weights do not exist, or all are zero."""
    weights = decisions.weights()
    terms = self_normalised_terms(decisions)
    bounds = None
    if decisions.reward_range is not None:
        value, most = float(terms.mean()), largest_weight(decisions) / float(weights.mean())
        low, high = decisions.reward_range
        bounds = value + most * (low - value), value + most * (high - value)
    return estimate_of_decisions("self_normalised", terms, decisions, weights, confidence, bounds=bounds)


def self_normalised_terms(decisions: LoggedDecisions) -> npt.NDArray[np.float64]:
    """Return V + ψ, shape (n_rows,), whose mean is the estimate and whose spread is its error."""
    weights = decisions.weights()
    total = float(weights.sum())
    if total <= 0.0:
        raise InvalidInput("the target never takes what was logged: all weights are zero", field="target")
    shares = weights / total
    value = float(shares @ decisions.rewards)
    terms: npt.NDArray[np.float64] = value + decisions.rows * shares * (decisions.rewards - value)
    return terms
