"""Buckets: no unit moves when the coverage grows, and shares are what was asked for."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.experiments.bucketing import bucket_ranges, choose, equal_weights, in_layer
from shared.experiments.experiment import Layer

shares = (
    st.lists(st.integers(0, 100), min_size=2, max_size=8)
    .filter(any)
    .map(lambda parts: [part / sum(parts) for part in parts])
)
portions = st.floats(0, 1)
places = st.integers(0, 9999).map(lambda at: at / 10_000)


@given(shares, portions, portions, places)
def test_growing_the_coverage_moves_nobody(weights: list[float], one: float, other: float, where: float) -> None:
    """Whoever is in a variation at some coverage is in the same one at every higher coverage."""
    small, large = sorted((one, other))
    before = choose(where, bucket_ranges(len(weights), small, weights))
    after = choose(where, bucket_ranges(len(weights), large, weights))
    assert before in (-1, after)


@given(shares, portions)
def test_ranges_are_as_long_as_their_shares(weights: list[float], coverage: float) -> None:
    """Weight times coverage, without overlap, from 0 to 1."""
    ranges = bucket_ranges(len(weights), coverage, weights)
    assert [high - low for low, high in ranges] == pytest.approx([weight * coverage for weight in weights])
    ends = [0.0, *(edge for pair in ranges for edge in pair), 1.0]
    assert all(first <= second + 1e-12 for first, second in pairwise(ends))


@pytest.mark.parametrize("weights", [None, [0.2, 0.3], [0.9, 0.9, 0.9], [0.1, 0.1, 0.1]])
def test_weights_that_make_no_sense_are_equal_ones(weights: list[float] | None) -> None:
    """As in GrowthBook's SDKs; such weights are refused when an experiment is written."""
    assert bucket_ranges(3, 1, weights) == bucket_ranges(3, 1, equal_weights(3))


@pytest.mark.parametrize(("coverage", "same_as"), [(-1.0, 0.0), (7.0, 1.0)])
def test_coverage_stays_in_bounds(coverage: float, same_as: float) -> None:
    """Less than nobody is nobody, more than everybody is everybody."""
    assert bucket_ranges(2, coverage, None) == bucket_ranges(2, same_as, None)


@given(st.text(min_size=1), st.text(min_size=1), st.integers(0, 1000).map(lambda at: at / 1000))
def test_two_parts_of_a_layer_never_share_a_unit(unit: str, name: str, cut: float) -> None:
    """A unit is in exactly one of the parts that a layer is cut into."""
    assert in_layer(unit, Layer(name, 0.0, cut)) is not in_layer(unit, Layer(name, cut, 1.0))
