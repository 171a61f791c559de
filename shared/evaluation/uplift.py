"""What one arm earns more than another, item for item, with an interval that holds at all times at once.

Both arms are seen as sums over groups of users, counts N_g and totals R_g, g = 1..G; users are independent, what one user's items have in
common stays within a group. With m = sum R / sum N of an arm, which is a ratio of means,

    D = m_1 - m_2,        V = V_1 + V_2,        V_i = G/(G-1) * sum_g (R_g - m N_g)^2 / (sum N)^2

and at least that of independent items with one variance, because an arm with few rewards makes too much of chance by itself. The
interval is Robbins' normal mixture with the variance estimated, an asymptotic confidence sequence: it may be looked at after every
item,

    radius^2 = V (1 + 1/x) (log(1 + x) + 2 log(1/alpha)),        x = (-2 log alpha + log(1 - 2 log alpha)) n / DESIGN

with n = 1 / (1/sum N_1 + 1/sum N_2); fixed beforehand, it is narrowest where n is about `DESIGN`. Waudby-Smith, Arbour, Sinha, Kennedy and
Ramdas, Time-uniform central limit theory and asymptotic confidence sequences (2021, arXiv:2103.06476), theorem 2.2 and appendix
B.2. It says nothing before both arms had time for `LEAST_REWARDS` rewards, at the mean rate of both.
"""

from __future__ import annotations

from math import inf, log, sqrt
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from shared.evaluation.comparison import Uplift

Floats = npt.NDArray[np.float64]

DESIGN = 1_000.0
LEAST_REWARDS = 20.0
"""How many root mean square rewards must have been to be expected in the smaller arm."""


class Earned(NamedTuple):
    """An arm: items and their rewards by group, both shape (n_groups,); `squares`: the sum of the squared rewards."""

    counts: Floats
    totals: Floats
    squares: float

    @property
    def items(self) -> float:
        """The number of items."""
        return float(self.counts.sum())

    @property
    def mean(self) -> float:
        """The mean reward of an item; there must be one."""
        return float(self.totals.sum()) / self.items

    @property
    def variance_of_mean(self) -> float:
        """V_i."""
        filled = int(np.count_nonzero(self.counts))
        if filled < _LEAST_GROUPS:
            return inf
        residuals = self.totals - self.mean * self.counts
        return filled / (filled - 1) * float(residuals @ residuals) / self.items**2


def uplift(one: Earned, other: Earned, confidence: float = 0.95) -> Uplift | None:
    """Return what `one` earns more than `other`; None while nothing can be said.

    >>> half, third = np.tile([0.0, 1.0], 500), np.tile([0.0, 0.0, 1.0], 300)
    >>> found = uplift(Earned(np.ones(1000), half, 500.0), Earned(np.ones(900), third, 300.0))
    >>> round(found.value, 3), round(found.low, 3), round(found.high, 3), round(found.relative, 2)
    (0.167, 0.097, 0.237, 0.5)
    """
    if not one.items or not other.items:
        return None
    items = one.items + other.items
    square = (one.squares + other.squares) / items
    mean = (one.mean * one.items + other.mean * other.items) / items
    rewarded = min(one.items, other.items) * mean**2 / square if square else 0.0
    if rewarded < LEAST_REWARDS:
        return None
    independent = (square - mean**2) * (1 / one.items + 1 / other.items)
    variance = max(one.variance_of_mean + other.variance_of_mean, independent)
    if not 0 < variance < inf:
        return None
    alpha = 1.0 - confidence
    n = 1 / (1 / one.items + 1 / other.items)
    x = (-2 * log(alpha) + log(1 - 2 * log(alpha))) * n / DESIGN
    radius = sqrt(variance * (1 + 1 / x) * (log(1 + x) + 2 * log(1 / alpha)))
    value = one.mean - other.mean
    relative = value / other.mean if other.mean > 0 else None
    return Uplift(value, value - radius, value + radius, relative, confidence)


_LEAST_GROUPS = 10
