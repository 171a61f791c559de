"""Doubly robust with optimistic shrinkage (DRos): large weights are pulled in, which costs a little bias and saves much variance.

    V = 1/n Σ_i [ Σ_a π(a | x_i) q̂(x_i, a) + λ w_i / (w_i² + λ) · (r_i - q̂(x_i, a_i)) ]

λ = ∞ is `doubly_robust`, λ = 0 the direct method; no weight is larger than √λ / 2. Left to choose, λ comes from `lepski`. Take it where
a few weights are large and the model is good. Shrinking saves variance for a bias of at most about as much, which no formula knows: the error
reported, and all intervals, are as wide as `doubly_robust`'s, and lie around the shrunk value. Paper: Su, Dimakopoulou, Krishnamurthy &
Dudík, "Doubly Robust Off-policy Evaluation with Shrinkage", ICML 2020.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from shared.errors import InvalidInput
from shared.evaluation.bounded_weights import bounded_terms
from shared.evaluation.doubly_robust import estimate_of_corrected
from shared.evaluation.logged_decisions import LoggedDecisions
from shared.evaluation.value_estimate import CONFIDENCE, ValueEstimate

Floats = npt.NDArray[np.float64]


def doubly_robust_shrunk(
    decisions: LoggedDecisions, confidence: float = CONFIDENCE, shrinkage: float | None = None
) -> ValueEstimate:
    """Estimate the target's value with λ = `shrinkage` (>= 0), or the one that `lepski` chooses. Errors as in `doubly_robust`."""
    return estimate_of_corrected(
        "doubly_robust_shrunk", doubly_robust_shrunk_terms(decisions, shrinkage), decisions, confidence
    )


def doubly_robust_shrunk_terms(decisions: LoggedDecisions, shrinkage: float | None = None) -> Floats:
    """Return the terms, shape (n_rows,), whose mean is the estimate and whose spread is its error."""
    return bounded_terms(decisions, _shrunk, shrinkage)


def _shrunk(weights: Floats, shrinkage: float) -> Floats:
    if not shrinkage >= 0.0:
        raise InvalidInput("shrinkage must be at least 0", field="shrinkage")
    if math.isinf(shrinkage):
        return weights
    if shrinkage == 0.0:
        return np.zeros_like(weights)
    shrunk: Floats = shrinkage * weights / (weights**2 + shrinkage)
    return shrunk
