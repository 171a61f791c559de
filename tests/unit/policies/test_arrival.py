"""F(age), the share of answers that has arrived: as declared, and as estimated from answers that are seen too early."""

from __future__ import annotations

from collections import Counter
from math import expm1

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.policies.arrival import N_BINS, PRIOR_ANSWERS, Arrival, declared_share, delay_bin

ages = st.floats(-1e6, 1e9)
delays = st.floats(1e-3, 366 * 86_400.0)
windows = st.floats(1.0, 366 * 86_400.0)
counts = st.dictionaries(st.integers(0, N_BINS - 1), st.floats(-1e-12, 1e6), max_size=N_BINS)
groups = st.lists(st.tuples(st.floats(-0.1, 2.0), counts), max_size=6)

WINDOW_S = 12_800.0
ENDS_S = [WINDOW_S * 2.0 ** ((at - N_BINS + 1) / 2) for at in range(N_BINS)]


@given(ages, ages, delays, windows, groups)
def test_share_grows_with_age_within_0_and_1(
    one: float, other: float, delay_s: float, window_s: float, seen: list[tuple[float, dict[int, float]]]
) -> None:
    """F is a distribution function, whatever was answered."""
    arrival = Arrival(delay_s, window_s, [(share * window_s, weights) for share, weights in seen])
    young, old = (arrival.share(age) for age in sorted((one, other)))
    assert 0.0 <= young <= old <= 1.0


@given(st.floats(1e-6, 1.0), st.floats(1e-6, 1.0), delays, groups)
def test_share_grows_inside_the_window(
    one: float, other: float, delay_s: float, seen: list[tuple[float, dict[int, float]]]
) -> None:
    """So it is between the ends of bins, up to rounding."""
    arrival = Arrival(delay_s, WINDOW_S, [(share * WINDOW_S, weights) for share, weights in seen])
    young, old = (arrival.share(age * WINDOW_S) for age in sorted((one, other)))
    assert 0.0 <= young <= old + 1e-12
    assert old <= 1.0


@given(ages, delays, windows, groups)
def test_everything_has_arrived_when_the_window_ends(
    age: float, delay_s: float, window_s: float, seen: list[tuple[float, dict[int, float]]]
) -> None:
    """F is 1 from the end of the window on, and 0 before the decision."""
    arrival = Arrival(delay_s, window_s, [(share * window_s, weights) for share, weights in seen])
    assert arrival.share(window_s + abs(age)) == 1.0
    assert arrival.share(-abs(age)) == 0.0


@given(st.floats(1e-6, 900.0, exclude_max=True))
def test_without_answers_the_share_is_what_was_declared(age_s: float) -> None:
    """F(a) = (1 - e^(-a/d)) / (1 - e^(-w/d)) (1e-12)."""
    expected = expm1(-age_s / 300.0) / expm1(-900.0 / 300.0)
    assert declared_share(age_s, 300.0, 900.0) == pytest.approx(expected, abs=1e-12)
    assert Arrival(300.0, 900.0, []).share(age_s) == pytest.approx(expected, abs=1e-12)
    assert Arrival(300.0, 900.0, [(900.0, {}), (50.0, {0: 0.0})]).share(age_s) == pytest.approx(expected, abs=1e-12)


def test_declared_share_is_that_of_simulated_delays() -> None:
    """Of 200,000 exponential delays that fell within the window, F(age) had arrived (four standard errors)."""
    delays_s = np.random.default_rng(8).exponential(300.0, 200_000)
    arrived = delays_s[delays_s < 900.0]
    for age_s in (1.0, 60.0, 300.0, 899.0):
        assert float(np.mean(arrived <= age_s)) == pytest.approx(
            declared_share(age_s, 300.0, 900.0), abs=2 / len(arrived) ** 0.5
        )


@given(st.floats(-10.0, WINDOW_S))
def test_a_delay_lies_in_its_bin(delay_s: float) -> None:
    """A bin holds what came after the end of the one before and not after its own, up to rounding."""
    at = delay_bin(delay_s, WINDOW_S)
    assert delay_s <= ENDS_S[at] * (1 + 1e-12)
    assert at == 0 or delay_s > ENDS_S[at - 1] * (1 - 1e-12)


def test_share_is_the_product_of_reversed_hazards() -> None:
    """At every bin's end F is the estimate of Lagakos et al. from single answers, pseudo-answers added (1e-9)."""
    random = np.random.default_rng(3)
    decided = random.uniform(-2 * WINDOW_S, 0.0, 3_000)
    youngest = np.floor(decided / 500.0) * 500.0 + 500.0  # groups of 500 s
    seen = [
        (-last, delay)
        for at, last, delay in zip(decided, youngest, random.exponential(4_000.0, 3_000), strict=True)
        if delay <= min(-at, WINDOW_S)
    ]
    groups: dict[float, Counter[int]] = {}
    for age_s, delay in seen:
        groups.setdefault(age_s, Counter())[delay_bin(delay, WINDOW_S)] += 1
    arrival = Arrival(2_000.0, WINDOW_S, [(age_s, dict(row)) for age_s, row in groups.items()])
    expected = 1.0
    for at in range(N_BINS - 1, 0, -1):
        old_enough = [delay for age_s, delay in seen if age_s >= ENDS_S[at]]
        came = sum(delay <= ENDS_S[at] for delay in old_enough)
        within = sum(ENDS_S[at - 1] < delay <= ENDS_S[at] for delay in old_enough)
        declared, below = (declared_share(end_s, 2_000.0, WINDOW_S) for end_s in (ENDS_S[at], ENDS_S[at - 1]))
        expected *= 1 - (within + PRIOR_ANSWERS * (declared - below)) / (came + PRIOR_ANSWERS * declared)
        assert arrival.share(ENDS_S[at - 1]) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("declared_s", [400.0, 4_000.0, 40_000.0])
def test_share_is_estimated_from_answers_seen_too_early(declared_s: float) -> None:
    """From steady traffic F comes out within 0.03 however wrong the declaration; the answers seen alone mislead."""
    random = np.random.default_rng(4)
    width_s = WINDOW_S / 64
    edges = np.arange(0.0, 1.25 * WINDOW_S, width_s)
    groups, seen = [], []
    for youngest_s in edges:
        ages_s = youngest_s + random.uniform(0.0, width_s, 100)
        delays_s = random.exponential(4_000.0, 100)
        came = delays_s[delays_s <= np.minimum(ages_s, WINDOW_S)]
        seen += came.tolist()
        groups.append((float(youngest_s), dict(Counter(delay_bin(delay, WINDOW_S) for delay in came.tolist()))))
    arrival = Arrival(declared_s, WINDOW_S, groups)
    for age_s in np.arange(width_s / 2, WINDOW_S, width_s):
        assert arrival.share(age_s) == pytest.approx(declared_share(age_s, 4_000.0, WINDOW_S), abs=0.03)
    assert np.mean(np.array(seen) <= 2_000.0) > declared_share(2_000.0, 4_000.0, WINDOW_S) + 0.05


def test_what_no_decision_is_old_enough_to_show_is_as_declared() -> None:
    """Answers of young decisions shape F up to their age; from there on it is the declared one."""
    young_s = ENDS_S[8]
    arrival = Arrival(3_000.0, WINDOW_S, [(young_s, {0: 1e6})])
    for age_s in ENDS_S[8:]:
        assert arrival.share(age_s) == pytest.approx(declared_share(age_s, 3_000.0, WINDOW_S), abs=1e-12)
    assert arrival.share(ENDS_S[0]) == pytest.approx(declared_share(young_s, 3_000.0, WINDOW_S), rel=1e-3)
