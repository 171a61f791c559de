"""Conversions that are all on one side: too few in one variation for a normal interval, and still no chance.

A variation in which nobody can order has no orders, so that every interval is silent (`confidence_sequences`) for as long as it is broken. Given that a unit converted, it belongs to
the variation w with probability n_w / (n_w + n_c) while the rates are equal, whatever they are; so conversions are held against the split of units as units are against the planned
one, by the same martingale (`sample_ratio`), which may be looked at always. With as many units in both, 15 conversions to none have p = 0.0005.

That says that something is wrong, not how large an effect is. Only for proportions: of amounts, `Sample.conversions` is no count.
"""

from __future__ import annotations

from shared.experiments.statistics.effect import Effect
from shared.experiments.statistics.sample_ratio import sequential_p_value

CONCENTRATION = 2.0
"""A uniform prior of the share, for variations with as many units: nothing is known of what a defect does."""


def lopsided_p_value(effect: Effect) -> float:
    """Return the p-value of equal rates in (0, 1], from conversions and units alone; 1 where they are not counted."""
    one, other = effect.control, effect.treatment
    if one.conversions is None or other.conversions is None or not min(one.n, other.n):
        return 1.0
    return sequential_p_value([one.conversions, other.conversions], [one.n, other.n], CONCENTRATION)
