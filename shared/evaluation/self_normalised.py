"""Self-normalised importance weighting (SNIPW): the value of a policy from the log of another.

    V = Σ w_i r_i / Σ w_i

Against plain importance weighting it trades a bias of order 1/n for a variance that no longer grows with the
spread of Σ w, and its answer stays within the range of the rewards. Use it where weights vary; with equal
weights it *is* the sample mean. The standard error is that of the linearised ratio (the delta method): with
the influence of each row

    ψ_i = n w_i (r_i - V) / Σ w,        se² = Σ ψ_i² / (n (n - 1))

It is a large-sample error. With few rewarded rows, or few of large weight, the true coverage of the interval
is lower than its nominal one; `effective_rewards` says how many rewards the estimate rests on. Paper:
Swaminathan & Joachims, "The Self-Normalized Estimator for Counterfactual Learning", NeurIPS 2015; the
variance as in Owen, "Monte Carlo theory, methods and examples", 2013, section 9.2.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from shared.errors import InvalidInput
from shared.evaluation.effective_sample_size import effective_sample_size
from shared.evaluation.value_estimate import ValueEstimate

Floats = npt.NDArray[np.float64]


def self_normalised(rewards: Floats, weights: Floats) -> ValueEstimate:
    """Estimate the value of the policy that `weights` lead to.

    `rewards`: shape (n_rows,), finite; `weights`: shape (n_rows,), finite, >= 0, at least one > 0.
    Raises `InvalidInput` otherwise.

    >>> estimate = self_normalised(np.array([0.0, 1.0, 0.0, 1.0]), np.array([1.0, 3.0, 1.0, 1.0]))
    >>> round(estimate.value, 3), round(estimate.effective_sample_size, 3)
    (0.667, 3.0)
    """
    influence = influences(rewards, weights)
    return ValueEstimate(
        value=float(weights @ rewards / weights.sum()),
        standard_error=standard_error(influence),
        effective_sample_size=effective_sample_size(weights),
        effective_rewards=effective_sample_size(weights * np.abs(rewards)),
        rows=len(rewards),
    )


def influences(rewards: Floats, weights: Floats) -> Floats:
    """Return ψ, shape (n_rows,): how far each row draws the estimate. Errors as in `self_normalised`."""
    if rewards.shape != weights.shape or rewards.ndim != 1:
        message = f"rewards and weights must be equally long rows, got {rewards.shape} and {weights.shape}"
        raise InvalidInput(message, field="weights")
    if not (bool(np.isfinite(weights).all()) and bool((weights >= 0.0).all()) and float(weights.sum()) > 0.0):
        message = "weights must be finite and >= 0, and one of them positive"
        raise InvalidInput(message, field="weights")
    if not bool(np.isfinite(rewards).all()):
        message = "rewards must be finite"
        raise InvalidInput(message, field="rewards")
    shares: Floats = weights / weights.sum()
    value = float(shares @ rewards)
    psi: Floats = len(rewards) * shares * (rewards - value)
    return psi


def standard_error(influence: Floats) -> float | None:
    """Return the standard error that influences (shape (n_rows,), mean zero) imply, if they imply one."""
    rows = len(influence)
    if rows < 2 or not bool(influence.any()):  # noqa: PLR2004 - one row has no spread
        return None
    return math.sqrt(float(influence @ influence) / (rows * (rows - 1)))
