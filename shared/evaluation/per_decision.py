"""Per-decision importance weighting (PDIS): each step's reward is weighted by the choices up to it, and not by those after.

    V = 1/n Σ_i Σ_t gamma^t r_it w_it,        w_it = Π_{s<=t} π(a_is | h_is) / b(a_is | h_is)

Unbiased where the propensities are true, as weighting by the whole sequence is, with less variance, because later choices cannot have
changed earlier rewards. The variance still grows exponentially with the length: beyond ten steps or so take `fitted_q_evaluation`. The
effective sample size is that of the weights of whole sequences. Paper: Precup, Sutton & Singh, "Eligibility Traces for Off-Policy Policy
Evaluation", ICML 2000.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from shared.errors import InvalidInput
from shared.evaluation.estimate_of_sequences import estimate_of_sequences
from shared.evaluation.logged_sequences import LoggedSequences
from shared.evaluation.value_estimate import CONFIDENCE, ValueEstimate

Floats = npt.NDArray[np.float64]


def per_decision(
    logged: LoggedSequences, confidence: float = CONFIDENCE, discount: float = 1.0, name: str = "per_decision"
) -> ValueEstimate:
    """Estimate the target's value, the discounted sum of rewards. `discount`: gamma in (0, 1]. Raises `InvalidInput`."""
    return estimate_of_sequences(
        name,
        per_decision_terms(logged, discount),
        logged.totals,
        prefix_weights(logged),
        confidence,
        bounds=logged.bounds_of_terms(),
    )


def per_decision_terms(logged: LoggedSequences, discount: float = 1.0) -> Floats:
    """Return the terms, shape (n_rows,), whose mean is the estimate."""
    terms: Floats = (prefix_weights(logged) * logged.rewards) @ discounts(logged, discount)
    return terms


def prefix_weights(logged: LoggedSequences) -> Floats:
    """Return w, shape (n_rows, n_steps): the product of ratios up to each step; beyond a sequence's end that of its last."""
    return np.cumprod(logged.ratios, axis=1).astype(np.float64)


def discounts(logged: LoggedSequences, discount: float) -> Floats:
    """Return gamma^t, shape (n_steps,). Raises `InvalidInput` unless `discount` lies in (0, 1]."""
    if not 0.0 < discount <= 1.0:
        raise InvalidInput("discount must lie in (0, 1]", field="discount")
    return np.power(discount, np.arange(logged.rewards.shape[1], dtype=np.float64))
