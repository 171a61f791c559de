"""The sequential default: agreement of interval and p-value, silence, uneven and changing splits, coverage at all looks of every kind of metric."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.evaluation.confidence_sequence import anytime_p_value, asymptotic_sequence, critical_value
from shared.experiments.statistics.confidence_sequences import confidence_sequence, effective_units
from shared.experiments.statistics.cuped import adjusted
from shared.experiments.statistics.moments import Sample, Sums, sums
from shared.experiments.statistics.welch import welch


@given(st.floats(0.0, 30.0), st.floats(2.0, 1e7), st.floats(0.55, 0.999), st.floats(10.0, 1e6))
def test_the_p_value_is_alpha_where_the_interval_touches_zero(
    z: float, rows: float, confidence: float, design: float
) -> None:
    """It is at most alpha where |z| >= c, and alpha at c."""
    critical = critical_value(rows, confidence, design)
    assert anytime_p_value(critical, rows, confidence, design) == pytest.approx(1.0 - confidence, rel=1e-9)
    if abs(z - critical) > 1e-9:
        assert (anytime_p_value(z, rows, confidence, design) < 1.0 - confidence) == (z > critical)


def test_one_sample_and_two_share_their_critical_value() -> None:
    """The one-sample sequence around a mean, and the difference to a control that is known to be 0, have the same width."""
    values = np.random.default_rng(1).normal(0.3, 1.0, size=500)
    low, high = asymptotic_sequence(values, 0.95) or (0.0, 0.0)
    n = len(values)
    effect = confidence_sequence(
        Sample(n, 0.0, 0.0), sums(values).sample(), 0.95, 1_000 * effective_units(*[Sample(n, 0.0, 0.0)] * 2) / n
    )
    assert effect.low == pytest.approx(low)
    assert effect.high == pytest.approx(high)


def test_it_is_wider_than_welch_and_narrowest_at_its_design() -> None:
    """Always; at the design 1.55 times as wide as a normal interval."""
    widths = {}
    for n in (200, 2_000, 5_000, 50_000, 5_000_000):
        pair = Sample(n, 1.0, 1.0), Sample(n, 1.1, 1.0)
        sequential, fixed = confidence_sequence(*pair), welch(*pair)
        assert (sequential.low or 0.0) < (fixed.low or 0.0)
        assert (sequential.high or 0.0) > (fixed.high or 0.0)
        widths[n] = ((sequential.high or 0.0) - (sequential.low or 0.0)) / math.sqrt(2.0 / n) / 2.0
    assert min(widths, key=lambda n: widths[n]) == 5_000
    assert widths[5_000] / 1.96 == pytest.approx(1.55, abs=0.01)


def test_it_is_silent_below_ten_conversions() -> None:
    """In either variation; at ten it speaks. Samples without a count of conversions are never silenced."""
    few, enough = Sample(10_000, 0.0009, 0.0009, conversions=9), Sample(10_000, 0.1, 0.09, conversions=1_000)
    for pair in ((few, enough), (enough, few)):
        effect = confidence_sequence(*pair)
        assert (effect.low, effect.relative_low, effect.p_value, effect.direction) == (None, None, None, 0)
        assert effect.difference == pair[1].mean - pair[0].mean
    ten = Sample(10_000, 0.001, 0.001, conversions=10)
    assert confidence_sequence(ten, enough).direction == 1
    assert confidence_sequence(Sample(9, 0.1, 0.01), Sample(9, 0.1, 0.01)).low is not None


def test_an_uneven_split_counts_for_what_it_tells() -> None:
    """9,000 and 1,000 units tell what an even split of 3,600 would."""
    uneven = Sample(9_000, 1.0, 1.0), Sample(1_000, 1.0, 1.0)
    even = Sample(1_800, 1.0, 1.0), Sample(1_800, 1.0, 1.0)
    assert effective_units(*uneven) == pytest.approx(3_600)
    assert confidence_sequence(*uneven).low == pytest.approx(confidence_sequence(*even).low)


def test_a_split_that_changes_on_the_way_costs_no_error() -> None:
    """The treatment gets 2 % of the first 4,000 units and half of the rest, on a rate of 20 %: of 1,000 experiments at most 5 % find what is not there."""
    random = np.random.default_rng(6)
    false = 0
    for _ in range(1_000):
        treated = random.random(12_000) < np.repeat([0.02, 0.5], [4_000, 8_000])
        values = random.random(12_000) < 0.2
        counts = [
            (np.cumsum(mine)[199::200].tolist(), np.cumsum(mine & values)[199::200].tolist())
            for mine in (~treated, treated)
        ]
        looks = zip(*(map(_converted, *arm) for arm in counts), strict=True)
        false += any(confidence_sequence(control, treatment).direction != 0 for control, treatment in looks)
    assert false <= 50


@pytest.mark.parametrize("kind", ["ratio", "adjusted"])
def test_lifts_of_ratios_and_adjusted_means_are_covered_at_all_looks(kind: str) -> None:
    """A true lift of 20 %, 150 experiments of 4,000 users, 40 looks: the relative interval ever misses it in at most 5 %; and half of them find it."""
    random = np.random.default_rng(12)
    missed = found = 0
    for _ in range(150):
        arms = [_blocks(random, lift, kind) for lift in (0.0, 0.2)]
        seen: list[Sums] = [sums(np.array([]))] * 2
        ever = ever_found = False
        for look in zip(*arms, strict=True):
            seen = [before.merged(block) for before, block in zip(seen, look, strict=True)]
            pair = adjusted(seen) if kind == "adjusted" else [each.sample() for each in seen]
            effect = confidence_sequence(pair[0], pair[1], 0.95, 4_000)
            if effect.relative_low is not None and effect.relative_high is not None:
                ever |= not effect.relative_low <= 0.2 <= effect.relative_high
                ever_found |= effect.direction > 0
        missed += ever
        found += ever_found
    assert missed <= 7
    assert found >= 75


def _blocks(random: np.random.Generator, lift: float, kind: str) -> list[Sums]:
    """Return the sums of 40 blocks of 50 units: clicks over views, or amounts beside those before."""
    shape = (40, 50)
    if kind == "ratio":
        views = random.poisson(5.0, size=shape).astype(np.float64)
        clicks = random.binomial(views.astype(int), 0.3 * (1.0 + lift) * random.beta(4.0, 4.0, size=shape) * 2.0 * 0.8)
        return [sums(y.astype(np.float64), d) for y, d in zip(clicks, views, strict=True)]
    before = random.gamma(2.0, 1.0, size=shape)
    after = (before + random.normal(0.0, 1.0, size=shape) + 0.5) * (1.0 + lift)
    return [sums(y, None, x) for y, x in zip(after, before, strict=True)]


def _converted(n: int, count: int) -> Sample:
    rate = count / n if n else 0.0
    return Sample(n, rate, rate * (1.0 - rate), conversions=min(count, n - count))
