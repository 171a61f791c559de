"""How much of the feedback has arrived by a given age.

A decision without feedback weighs as the default reward times F(age). Where a policy declares no expected delay, F is
1 at once: silence is believed immediately. Counting slow rewards at once would starve new actions.
"""

from __future__ import annotations

from math import exp


def share_arrived(age_s: float, expected_delay_s: float | None, window_s: float) -> float:
    """Return the share of rewards, in [0, 1], that would have arrived by `age_s` seconds.

    Delays are taken as exponential with mean `expected_delay_s`, cut off at the end of the reward window:
    F(a) = (1 - exp(-a/d)) / (1 - exp(-w/d)) below the window w, 1 from there on.

    >>> share_arrived(10.0, None, 60.0), share_arrived(60.0, 20.0, 60.0)
    (1.0, 1.0)
    """
    if expected_delay_s is None or age_s >= window_s:
        return 1.0
    if age_s <= 0:
        return 0.0
    return (1.0 - exp(-age_s / expected_delay_s)) / (1.0 - exp(-window_s / expected_delay_s))
