"""F(age), the share of rewards that has arrived."""

from __future__ import annotations

from math import expm1

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.policies.arrival import share_arrived

ages = st.floats(-1e6, 1e9)
delays = st.floats(1e-3, 366 * 86_400.0)
windows = st.floats(1.0, 366 * 86_400.0)


@given(ages, ages, delays, windows)
def test_share_grows_with_age_within_0_and_1(one: float, other: float, delay_s: float, window_s: float) -> None:
    """F is a distribution function."""
    young, old = (share_arrived(age, delay_s, window_s) for age in sorted((one, other)))
    assert 0.0 <= young <= old <= 1.0


@given(ages, delays, windows)
def test_everything_has_arrived_when_the_window_ends(age: float, delay_s: float, window_s: float) -> None:
    """F is 1 from the end of the window on, 0 before the decision, and without an expected delay 1 at once."""
    assert share_arrived(window_s + abs(age), delay_s, window_s) == 1.0
    assert share_arrived(-abs(age), delay_s, window_s) == 0.0
    assert share_arrived(age, None, window_s) == 1.0


@given(st.floats(1e-6, 900.0, exclude_max=True))
def test_share_has_its_closed_form(age_s: float) -> None:
    """F(a) = (1 - e^(-a/d)) / (1 - e^(-w/d)) (1e-12)."""
    expected = expm1(-age_s / 300.0) / expm1(-900.0 / 300.0)
    assert share_arrived(age_s, 300.0, 900.0) == pytest.approx(expected, abs=1e-12)


def test_share_is_that_of_simulated_delays() -> None:
    """Of 200,000 exponential delays that fell within the window, F(age) had arrived (four standard errors)."""
    delays_s = np.random.default_rng(8).exponential(300.0, 200_000)
    arrived = delays_s[delays_s < 900.0]
    for age_s in (1.0, 60.0, 300.0, 899.0):
        assert float(np.mean(arrived <= age_s)) == pytest.approx(
            share_arrived(age_s, 300.0, 900.0), abs=2 / len(arrived) ** 0.5
        )
