"""Switch-DR: doubly robust where the weight is small, the direct method where it is large.

    V = 1/n Σ_i [ Σ_a π(a | x_i) q̂(x_i, a) + w_i 1{w_i <= τ} (r_i - q̂(x_i, a_i)) ]

Left to choose, τ comes from `lepski`. `doubly_robust_shrunk` does the same less abruptly. As there, the error
and the intervals are as wide as `doubly_robust`'s.
Paper: Wang, Agarwal & Dudík, "Optimal and Adaptive Off-policy Evaluation in Contextual Bandits", ICML 2017.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from shared.errors import InvalidInput
from shared.evaluation.bounded_weights import bounded_terms
from shared.evaluation.doubly_robust import estimate_of_corrected
from shared.evaluation.logged_decisions import LoggedDecisions
from shared.evaluation.value_estimate import CONFIDENCE, ValueEstimate

Floats = npt.NDArray[np.float64]


def switch_doubly_robust(
    decisions: LoggedDecisions, confidence: float = CONFIDENCE, threshold: float | None = None
) -> ValueEstimate:
    """Estimate the target's value with τ = `threshold` (>= 0), or the one that `lepski` chooses. Errors as in `doubly_robust`."""
    return estimate_of_corrected(
        "switch_doubly_robust", switch_doubly_robust_terms(decisions, threshold), decisions, confidence
    )


def switch_doubly_robust_terms(decisions: LoggedDecisions, threshold: float | None = None) -> Floats:
    """Return the terms, shape (n_rows,), whose mean is the estimate and whose spread is its error."""
    return bounded_terms(decisions, _switched, threshold)


def _switched(weights: Floats, threshold: float) -> Floats:
    if not threshold >= 0.0:
        raise InvalidInput("threshold must be at least 0", field="threshold")
    return np.where(weights <= threshold, weights, 0.0)
