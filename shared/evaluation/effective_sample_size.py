"""Effective sample size: how many equally weighted rows would tell as much as these weighted ones.

    n_eff = (Σ w)² / Σ w²

It is n for equal weights, 1 where one row outweighs all others, and does not look at the rewards.
Paper: Kish, "Survey Sampling", 1965.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def effective_sample_size(weights: npt.NDArray[np.float64]) -> float:
    """Return the effective sample size of `weights` (shape (n_rows,), >= 0), 0.0 where none is positive.

    >>> effective_sample_size(np.array([1.0, 1.0, 1.0])), effective_sample_size(np.array([1.0, 0.0, 0.0]))
    (3.0, 1.0)
    """
    largest = float(weights.max(initial=0.0))
    if largest <= 0.0:
        return 0.0
    scaled = weights / largest  # squares of very small or large weights would leave the float range
    return float(scaled.sum() ** 2 / (scaled**2).sum())
