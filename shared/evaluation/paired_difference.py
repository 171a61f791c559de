"""The difference of two policies' values, both estimated from the *same* rows.

Two estimates from one log rise and fall together, so their errors must not be added as if they were
independent, and overlapping intervals say little. With the terms whose means the estimates are (`self_normalised_terms`,
`doubly_robust_terms`, ...)

    D = 1/n Σ (X_i - Y_i),        se² = Σ (X_i - Y_i - D)² / (n (n - 1))

Use `independent_difference` for estimates from different logs.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from shared.errors import InvalidInput
from shared.evaluation.estimate_of_terms import standard_error
from shared.evaluation.value_estimate import Difference

Floats = npt.NDArray[np.float64]


def paired_difference(terms: Floats, other_terms: Floats) -> Difference:
    """Estimate the value that `terms` lead to minus that of `other_terms`, both of shape (n_rows,).

    Raises `InvalidInput` where the shapes differ.

    >>> paired_difference(np.array([0.0, 1.0, 0.5]), np.array([0.0, 1.0, 0.5])).value
    0.0
    """
    if terms.shape != other_terms.shape:
        message = f"terms must belong to the same rows, got {terms.shape} and {other_terms.shape}"
        raise InvalidInput(message, field="other_terms")
    largest = float(max(np.abs(terms).max(), np.abs(other_terms).max()))
    difference = terms - other_terms
    if float(np.abs(difference).max()) <= 1e-12 * largest:
        return Difference(value=0.0, standard_error=None)  # one policy twice: what is left is rounding
    return Difference(value=float(difference.mean()), standard_error=standard_error(difference))
