"""The difference of two policies' values, both estimated by SNIPW from the *same* rows.

Two estimates from one log rise and fall together, so their errors must not be added as if they were
independent, and overlapping intervals say little. The difference is linear in the rows' influences (see
`self_normalised`):

    D = V₁ - V₂,        se² = Σ (ψ₁_i - ψ₂_i)² / (n (n - 1))

Use `independent_difference` for estimates from different logs.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from shared.evaluation.self_normalised import influences, standard_error
from shared.evaluation.value_estimate import Difference

Floats = npt.NDArray[np.float64]


def paired_difference(rewards: Floats, weights: Floats, other_weights: Floats) -> Difference:
    """Estimate the value under `weights` minus the value under `other_weights`.

    `rewards`, `weights`, `other_weights`: shape (n_rows,), as in `self_normalised`, whose errors this raises.

    >>> same = np.array([1.0, 2.0, 1.0])
    >>> paired_difference(np.array([0.0, 1.0, 0.0]), same, 5.0 * same).value
    0.0
    """
    influence = influences(rewards, weights) - influences(rewards, other_weights)
    if np.allclose(weights / weights.sum(), other_weights / other_weights.sum(), rtol=1e-12, atol=0.0):
        return Difference(value=0.0, standard_error=None)  # one policy twice: what is left is rounding
    value = float(weights @ rewards / weights.sum() - other_weights @ rewards / other_weights.sum())
    return Difference(value=value, standard_error=standard_error(influence))
