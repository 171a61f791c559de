"""Sums of units: what they give, that they merge in any order, and what they refuse."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.experiments.statistics.moments import Sample, Sums, sums

NUMBERS = st.floats(-1e6, 1e6)


def test_a_mean_is_numpys_mean_and_variance() -> None:
    """Without a denominator: mean, unbiased variance, and the effective number of values, (3.5 + 1.25 + 8)² / (3.5² + 1.25² + 8²) = 2.09."""
    values = np.array([0.0, 3.5, 0.0, -1.25, 8.0])
    sample = sums(values).sample()
    assert sample.mean == pytest.approx(values.mean(), rel=1e-15)
    assert sample.variance == pytest.approx(values.var(ddof=1), rel=1e-14)
    assert sample.standard_error == pytest.approx(values.std(ddof=1) / math.sqrt(5), rel=1e-14)
    assert (sample.n, sample.conversions, sample.common) == (5, 2, 0.0)


def test_a_ratio_has_the_variance_of_its_influence() -> None:
    """The delta method: the variance is that of (y - R d) / d̄; and it is what 5,000 simulated ratios vary by."""
    random = np.random.default_rng(1)
    denominators = random.poisson(4.0, size=(5_000, 200)).astype(np.float64)
    values = random.binomial(denominators.astype(int), 0.3) + 0.5 * denominators
    sample = sums(values[0], denominators[0]).sample()
    ratio = values[0].sum() / denominators[0].sum()
    influence = (values[0] - ratio * denominators[0]) / denominators[0].mean()
    assert sample.mean == pytest.approx(ratio, rel=1e-14)
    assert sample.variance == pytest.approx(influence.var(ddof=1), rel=1e-12)
    ratios = values.sum(axis=1) / denominators.sum(axis=1)
    errors = np.mean(
        [sums(y, d).sample().standard_error for y, d in zip(values[:200], denominators[:200], strict=True)]
    )
    assert errors == pytest.approx(ratios.std(), rel=0.03)


@given(st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS), min_size=1, max_size=12), st.integers(0, 12))
def test_sums_of_parts_merge_to_the_sums_of_the_whole(rows: list[tuple[float, ...]], cut: int) -> None:
    """However the units are divided and in whatever order the parts are added."""
    table = np.array(rows)
    whole, one, other = (sums(*part.T) for part in (table, table[:cut], table[cut:]))
    for merged in (one.merged(other), other.merged(one)):
        assert merged.n == whole.n
        assert merged.size == pytest.approx(whole.size)
        assert np.allclose(merged.means, whole.means, rtol=1e-12, atol=1e-6)
        assert np.allclose(merged.products, whole.products, rtol=1e-9, atol=1e-3)  # of numbers up to 1e12


def test_a_large_mean_costs_no_digits() -> None:
    """Sums of squares would lose all of a variance of 1/6 at a mean of a thousand million; centred sums lose none."""
    values = 1e9 + np.tile([0.0, 0.5, 1.0], 100)
    merged = sums(values[:150]).merged(sums(values[150:]))
    assert merged.sample().variance == pytest.approx(np.var(values - 1e9, ddof=1), rel=1e-9)


def test_nothing_and_one_unit_have_no_spread() -> None:
    """No units, or a ratio of which nobody has the denominator, tell nothing; one unit has a mean and no variance."""
    assert sums(np.array([])).sample() == Sample(0, 0.0, 0.0, conversions=0)
    assert sums(np.ones(3), np.zeros(3)).sample() == Sample(0, 0.0, 0.0, conversions=0)
    assert sums(np.array([])).sample().standard_error == 0.0
    assert sums(np.array([4.0])).sample() == Sample(1, 4.0, 0.0, conversions=1)
    empty: Sums = sums(np.array([]))
    assert empty.merged(empty) == empty


def test_arrays_that_do_not_fit_are_refused() -> None:
    """Shapes that differ and numbers that are none say so."""
    with pytest.raises(ValueError, match="one number for each of the 2 units"):
        sums(np.ones(2), np.ones(3))
    with pytest.raises(ValueError, match="finite"):
        sums(np.array([1.0, math.nan]))
