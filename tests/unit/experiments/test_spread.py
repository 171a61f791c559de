"""Assignments of a million users: shares as asked for, experiments that know nothing of one another.

`make test` looks at 20,000 of them, `make spread` at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy.special import chdtrc

from shared.experiments.experiment import Layer, Variation
from shared.experiments.hashing import place
from tests.unit.experiments.catalogues import assign, catalogue, experiment, pseudonym

SHARES: list[dict[str, Any]] = [
    {"variations": 2},
    {"variations": 2, "weights": (0.9, 0.1)},
    {"variations": 3, "weights": (0.2, 0.3, 0.5), "coverage": 0.3},
    {"variations": 10, "coverage": 0.5},
    {"variations": 2, "ranges": ((0.0, 0.123), (0.5, 0.9))},
    {"variations": 4, "weights": (0.01, 0.01, 0.01, 0.97), "hash_attribute": "device"},
]
UNLIKELY = 1e-4
"""Below this probability a test of the spread fails."""
USERS = [20_000, pytest.param(1_000_000, marks=pytest.mark.slow)]


def unit(number: int) -> str:
    """Return an id as they come: a number, an address, or a name beyond ASCII."""
    return (str(number), f"user{number}@example.com", f"größe-{number}")[number % 3]


@pytest.mark.parametrize("n", USERS)
@pytest.mark.parametrize("shares", SHARES, ids=str)
def test_shares_are_what_was_asked_for(n: int, shares: dict[str, Any]) -> None:
    """Chi-square of how many users each variation has, and none, against weights and coverage."""
    fields = shares | {"variations": tuple(Variation(str(index)) for index in range(shares["variations"]))}
    spec = experiment("spread", **fields)
    of = catalogue(spec)
    lengths = [high - low for low, high in of.experiments["spread"].ranges]
    found = Counter(
        of.assign("spread", {spec.hash_attribute: unit(number)}, pseudonym).variation for number in range(n)
    )
    expected = [*lengths, 1 - sum(lengths)]
    counted = [found[key] for key in (*of.experiments["spread"].keys, None)]
    chance = chance_of(counted, expected, n)
    print(f"{n} users, {shares}: {counted}, chi-square p = {chance:.3f}")
    assert chance > UNLIKELY


@pytest.mark.parametrize("n", USERS)
def test_experiments_know_nothing_of_one_another(n: int) -> None:
    """The places of two experiments correlate under 0.005, of names that differ a little, of phases, and of an experiment and a layer."""
    pairs = [("checkout-1", "checkout-2"), ("a", "b"), ("banner", "banner:2"), ("grün", "gruen"), ("x", "y" * 60)]
    units = [unit(number) for number in range(n)]
    bound = max(0.005, 4 / np.sqrt(n))  # 0.005 is five standard deviations of a million, but not one of 20,000
    for one, other in pairs:
        first, second = (np.array([place(seed, value, 2) for value in units], dtype=float) for seed in (one, other))
        correlation = float(np.corrcoef(first, second)[0, 1])
        chance = chance_of(joint(first, second), [0.01] * 100, n)
        print(
            f"{n} users, seeds {one} and {other}: correlation {correlation:+.5f}, chi-square of tenths p = {chance:.3f}"
        )
        assert abs(correlation) < bound
        assert chance > UNLIKELY


@pytest.mark.parametrize("n", USERS)
def test_a_layer_does_not_tilt_the_experiments_in_it(n: int) -> None:
    """Within its part of a layer, an experiment's variations still have their shares."""
    of = catalogue(experiment("e", layer=Layer("l", 0.2, 0.6)))
    found = Counter(assign(of, "e", unit(number)).variation for number in range(n))
    assert chance_of([found["a"] + found["b"], found[None]], [0.4, 0.6], n) > UNLIKELY
    assert chance_of([found["a"], found["b"]], [0.5, 0.5], found["a"] + found["b"]) > UNLIKELY


def test_the_chi_square_finds_what_is_wrong() -> None:
    """A share that is half a point off is found among 100,000."""
    assert chance_of([50_000, 50_000], [0.5, 0.5], 100_000) == 1
    assert chance_of([50_700, 49_300], [0.5, 0.5], 100_000) < UNLIKELY
    assert chance_of([50_000, 49_999, 1], [0.5, 0.5, 0.0], 100_000) == 0


def chance_of(counted: Sequence[int], expected: Sequence[float], n: int) -> float:
    """Return the probability of counts at least as far from the expected shares, by Pearson's chi-square; 0 where a count should be 0."""
    if any(count and share <= 0 for count, share in zip(counted, expected, strict=True)):
        return 0.0
    cells = [(count, share * n) for count, share in zip(counted, expected, strict=True) if share > 0]
    return float(chdtrc(len(cells) - 1, sum((count - mean) ** 2 / mean for count, mean in cells)))


def joint(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> list[int]:
    """Return how many units lie in each of the 100 cells that tenths of both make."""
    cells = (one * 10).astype(int) * 10 + (other * 10).astype(int)
    return [int(count) for count in np.bincount(cells, minlength=100)]
