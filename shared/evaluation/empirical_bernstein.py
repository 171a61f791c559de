"""Empirical Bernstein interval: holds at every number of rows, for terms within known bounds.

For independent X_1 … X_n in [a, b] with sample variance S² (divided by n - 1), with probability at least 1 - alpha

    |X̄ - E X̄|  <=  √(2 S² log(4/alpha) / n)  +  7 (b - a) log(4/alpha) / (3 (n - 1))

Unlike the normal interval it supposes no central limit; unlike Hoeffding's it is narrow where the variance is small. The second term
is the price of the bounds: with importance weights up to W it is of order W/n, and dominates until n is many times W.
Paper: Maurer & Pontil, "Empirical Bernstein Bounds and Sample-Variance Penalization", COLT 2009, theorems 4 and 11 (alpha/2 a side).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def empirical_bernstein(
    terms: Floats, bounds: tuple[float, float] | None, confidence: float
) -> tuple[float, float] | None:
    """Return the interval around the mean of `terms` (shape (n_rows,), within `bounds`); None without bounds or a second row.

    `confidence`: in (0, 1).

    >>> low, high = empirical_bernstein(np.tile([0.0, 1.0], 5_000), (0.0, 1.0), 0.95)
    >>> round(low, 3), round(high, 3)
    (0.484, 0.516)
    """
    rows = len(terms)
    if bounds is None or rows < 2:  # noqa: PLR2004 - one row has no variance
        return None
    low, high = bounds
    level = math.log(4.0 / (1.0 - confidence))
    mean = float(terms.mean())
    radius = math.sqrt(2.0 * float(terms.var(ddof=1)) * level / rows) + 7.0 * (high - low) * level / (3.0 * (rows - 1))
    return mean - radius, mean + radius
