"""GrowthBook's buckets: which part of [0, 1) each variation has, and which variation a place falls to."""

from __future__ import annotations

from collections.abc import Sequence

from shared.experiments.experiment import Layer
from shared.experiments.hashing import place

Range = tuple[float, float]
"""Places in [low, high)."""
_TOLERANCE = 0.01
"""How far from 1 the sum of weights may lie before they are taken for a mistake, as in GrowthBook's SDKs."""


def equal_weights(n: int) -> list[float]:
    """Return the weights of `n` variations that share alike; none for n < 1.

    >>> equal_weights(4)
    [0.25, 0.25, 0.25, 0.25]
    """
    return [1 / n] * n if n > 0 else []


def bucket_ranges(n: int, coverage: float, weights: Sequence[float] | None) -> list[Range]:
    """Return the range of each of `n` variations: as long as its weight times the coverage, starting where it would with full coverage.

    So a range grows with the coverage at its end alone, and no unit moves from one variation to another. Coverage is cut to
    [0, 1]; weights of another number or sum (by more than 0.01) count as equal ones. `shared.experiments.faults` refuses those
    when an experiment is written.

    >>> bucket_ranges(2, 0.5, None)
    [(0.0, 0.25), (0.5, 0.75)]
    """
    covered = min(max(coverage, 0.0), 1.0)
    used = (
        weights
        if weights is not None and len(weights) == n and abs(sum(weights) - 1) <= _TOLERANCE
        else equal_weights(n)
    )
    ranges, start = [], 0.0
    for weight in used:
        ranges.append((start, start + covered * weight))
        start += weight
    return ranges


def choose(where: float, ranges: Sequence[Range]) -> int:
    """Return the index of the first range that holds the place, -1 for none.

    >>> choose(0.6, [(0.0, 0.25), (0.5, 0.75)]), choose(0.3, [(0.0, 0.25), (0.5, 0.75)])
    (1, -1)
    """
    for index, (low, high) in enumerate(ranges):
        if low <= where < high:
            return index
    return -1


def in_layer(value: str, layer: Layer) -> bool:
    """Return whether a unit stands in the part of a mutual-exclusion layer: GrowthBook's namespace, whose hash has version 1.

    >>> in_layer("user-1", Layer("checkout", 0.0, 0.5)) is not in_layer("user-1", Layer("checkout", 0.5, 1.0))
    True
    """
    where = place(f"__{layer.name}", value, 1)
    return where is not None and layer.low <= where < layer.high
