"""Group sequential tests against published tables, exact integrals, and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from shared.errors import InvalidInput
from shared.experiments.statistics.group_sequential import (
    bounds,
    crossing,
    group_sequential,
    repeated_p_value,
    spent,
    stagewise_interval,
    stagewise_p_value,
)
from shared.experiments.statistics.moments import Sample
from tests.performance.judgement import group_sequential_rates

FIVE = [0.2, 0.4, 0.6, 0.8, 1.0]


def test_published_bounds() -> None:
    """Five even looks at a two-sided 5 %, as ldbounds and gsDesign print them."""
    assert bounds(FIVE) == pytest.approx([4.8769, 3.3569, 2.6803, 2.2898, 2.0310], abs=2e-4)
    assert bounds(FIVE, spending="pocock") == pytest.approx([2.4380, 2.4268, 2.4101, 2.3966, 2.3859], abs=2e-4)


def test_one_look_is_the_fixed_horizon() -> None:
    """With all the information at the first look nothing is left of the sequence."""
    z = stats.norm.isf(0.025)
    assert bounds([1.0]) == pytest.approx([z], abs=1e-12)
    assert repeated_p_value(2.5, [1.0]) == pytest.approx(2 * stats.norm.sf(2.5), rel=1e-9)
    assert stagewise_p_value(2.5, [1.0], []) == pytest.approx(2 * stats.norm.sf(2.5), rel=1e-9)
    low, middle, high = stagewise_interval(1.0, 0.4, [1.0], [])
    assert (low, middle, high) == pytest.approx((1.0 - 0.4 * z, 1.0, 1.0 + 0.4 * z), abs=1e-9)


def test_second_bound_by_an_exact_integral() -> None:
    """The second look's error, by SciPy's adaptive quadrature over the first look."""
    times = [0.35, 0.9]
    first, second = bounds(times, 0.05, "pocock")
    step = math.sqrt(times[1] - times[0])

    def both(z: float) -> float:
        place = z * math.sqrt(times[0])
        limit = second * math.sqrt(times[1])
        return float(
            stats.norm.pdf(z) * (stats.norm.sf((limit - place) / step) + stats.norm.cdf((-limit - place) / step))
        )

    found = integrate.quad(both, -first, first, epsabs=1e-14)[0]
    wanted = 2 * np.diff(spent(np.array(times), 0.025, "pocock"))[0]
    assert found == pytest.approx(wanted, rel=1e-10)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.floats(0.02, 1.0), min_size=1, max_size=6),
    st.sampled_from(["obrien_fleming", "pocock", 1.5]),
    st.floats(0.001, 0.2),
)
def test_bounds_spend_what_is_due(steps: list[float], spending: str, alpha: float) -> None:
    """At any information times the error of all looks together is what the spending function allows, and no drift means as much above as below."""
    times = (np.cumsum(steps) / max(1.0, sum(steps))).tolist()
    limits = bounds(times, alpha, spending)  # type: ignore[arg-type]
    above, below = crossing(times, limits.tolist())
    assert above == pytest.approx(below, rel=1e-6, abs=1e-15)
    due = 2 * np.diff(spent(np.array(times), alpha / 2, spending), prepend=0.0)  # type: ignore[arg-type]
    assert (above + below)[0] == pytest.approx(due[0], rel=1e-9)
    assert (above + below) == pytest.approx(due, rel=1e-9)


def test_a_look_beyond_the_plan_spends_what_is_left() -> None:
    """The first look at 1 or beyond is the last one that may say something."""
    limits = bounds([0.5, 1.1, 1.3])
    assert sum(map(sum, crossing([0.5, 1.1], limits[:2].tolist()))) == pytest.approx(0.05, abs=1e-12)
    assert math.isinf(limits[2])


def test_repeated_p_value_and_interval_agree() -> None:
    """The p-value is alpha just on the bound, below it beyond, above it within; and the effect leaves out 0 accordingly."""
    times = FIVE[:3]
    limit = float(bounds(times)[-1])
    assert repeated_p_value(limit, times) == pytest.approx(0.05, rel=1e-9)
    for shift in (-0.01, 0.01):
        z = limit + shift
        control, treatment = Sample(5_000, 1.0, 2_500.0), Sample(5_000, 1.0 + z, 2_500.0)  # a standard error of 1
        effect = group_sequential(control, treatment, times)
        assert effect.p_value is not None
        assert (effect.p_value <= 0.05) is (shift > 0.0) is (effect.direction == 1)
        assert effect.low == pytest.approx(z - limit, abs=1e-9)
    assert repeated_p_value(0.0, times) == pytest.approx(1.0, abs=1e-6)
    assert repeated_p_value(60.0, times) <= 1e-12


def test_silent_with_few_conversions_or_before_anything_is_spent() -> None:
    """Below ten conversions, and where the first look comes so early that no error is spent, there is no interval."""
    few = group_sequential(Sample(900, 0.01, 0.01, conversions=9), Sample(900, 0.1, 0.09, conversions=90), [0.5])
    assert (few.low, few.p_value) == (None, None)
    early = group_sequential(Sample(900, 0.1, 0.1), Sample(900, 0.2, 0.16), [0.001])
    assert (early.low, early.p_value) == (None, None)


def test_stagewise_interval_fits_its_p_value() -> None:
    """The interval leaves out 0 just where the p-value is below alpha; at drift 0 the p-value of the bound at look k is what was spent by then."""
    limits = bounds(FIVE).tolist()
    for look in range(1, 5):
        times, before = FIVE[: look + 1], limits[:look]
        wanted = 2 * float(spent(np.array(times[-1:]), 0.025)[0])
        assert stagewise_p_value(limits[look], times, before) == pytest.approx(wanted, rel=1e-8)
        for z in (limits[look] + 0.3, -limits[look] - 0.3, 1.2):
            low, middle, high = stagewise_interval(z, 1.0, times, before)
            assert low < middle < high
            assert (low > 0.0 or high < 0.0) is (stagewise_p_value(z, times, before) < 0.05)
        assert (
            abs(stagewise_interval(limits[look] + 0.1, 1.0, times, before)[1]) < limits[look] + 0.1
        )  # pulled towards 0


def test_wrong_times_are_refused() -> None:
    """Times that do not rise, or rise by next to nothing, and an alpha that is none."""
    for times in ([], [0.0, 1.0], [0.5, 0.5], [0.5, 0.50001], [0.8, 0.4]):
        with pytest.raises(InvalidInput) as caught:
            bounds(times)
        assert caught.value.field == "times"
    with pytest.raises(InvalidInput):
        bounds(FIVE, 1.0)
    with pytest.raises(InvalidInput):
        stagewise_p_value(2.0, FIVE, [2.0])


def test_error_rate_and_power_by_simulation() -> None:
    """Few simulated experiments of five looks; `make bench-judgement` has 2,000: a nominal error, and most of the fixed horizon's power."""
    found = group_sequential_rates(runs=400, seed=11, intervals=60)
    assert found["false_positives"] == pytest.approx(0.05, abs=3 * math.sqrt(0.05 * 0.95 / 10_000))
    assert found["power"] >= found["fixed_horizon_power"] - 0.06
    assert found["stagewise_coverage"] >= 0.95 - 3 * math.sqrt(0.05 * 0.95 / 60)
