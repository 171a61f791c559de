"""The zero of a monotone function, to the last digits, without derivatives.

Ridders' method: with f at the ends and the middle m of a bracket, of width 2h, the next place is

    m + h · sign(f(low) - f(high)) f(m) / √(f(m)² - f(low) f(high))

which doubles the digits every two evaluations and never leaves the bracket. Paper: Ridders, "A new algorithm for computing a single root of
a real continuous function", IEEE Transactions on Circuits and Systems 1979.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

_MOST_STEPS = 100
_DIGITS = 1e-14


def monotone_root(function: Callable[[float], float], low: float, high: float) -> float:
    """Return where `function` is zero between `low` and `high`, or the end that is nearer to it where it is not zero in between.

    >>> round(monotone_root(lambda x: x**3 - 2.0, 0.0, 2.0), 12)
    1.259921049895
    """
    at_low, at_high = function(low), function(high)
    if at_low * at_high >= 0.0:
        return low if abs(at_low) < abs(at_high) else high
    for _ in range(_MOST_STEPS):
        middle = (low + high) / 2.0
        at_middle = function(middle)
        slope = math.sqrt(at_middle**2 - at_low * at_high)
        place = middle + (middle - low) * math.copysign(1.0, at_low - at_high) * at_middle / slope
        at_place = function(place)
        if at_place == 0.0:
            return place
        ends = sorted(((low, at_low), (middle, at_middle), (place, at_place), (high, at_high)))
        for (one, at_one), (other, at_other) in itertools.pairwise(ends):
            if at_one * at_other <= 0.0:
                low, at_low, high, at_high = one, at_one, other, at_other
                break
        if high - low <= _DIGITS * max(abs(low), abs(high)):
            break
    return low if abs(at_low) < abs(at_high) else high
