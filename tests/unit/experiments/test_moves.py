"""What a change does to a running phase: checked against what it does to a crowd of units."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.experiments.assigning import Catalogue
from shared.experiments.experiment import Condition, ExperimentSpec, Filter, Layer, Prerequisite, Variation
from shared.experiments.moves import moves

UNITS = [{"user_id": f"user-{number}", "country": "DE" if number % 2 else "AT"} for number in range(2_000)]
OLD = ExperimentSpec("e", 1, (Variation("a", 1), Variation("b", 2)))
GERMANS: Condition = {"country": "DE"}
GATE = Prerequisite("gate", {"value": True})


def variations(spec: ExperimentSpec, kept: list[dict[str, dict[str, str]]] | None = None) -> list[str | None]:
    """Return the variation of every unit, given what is kept for each."""
    gate = ExperimentSpec("gate", 1, (Variation("on", True), Variation("off", False)))
    catalogue = Catalogue(1, [spec, gate])
    given = kept or [{}] * len(UNITS)
    return [
        catalogue.assign("e", unit, lambda attribute, value: attribute + value, stuck).variation
        for unit, stuck in zip(UNITS, given, strict=True)
    ]


def moved(old: ExperimentSpec, new: ExperimentSpec) -> int:
    """Return how many units had a variation and have another one now, or none."""
    pairs = zip(variations(old), variations(new), strict=True)
    return sum(before is not None and after != before for before, after in pairs)


@pytest.mark.parametrize(
    ("before", "after", "fields"),
    [
        ({"coverage": 0.3}, {"coverage": 0.7}, []),
        ({"coverage": 0.7}, {"coverage": 0.3}, ["coverage"]),
        ({"weights": (0.5, 0.5)}, {}, []),
        ({}, {"weights": (0.4, 0.6)}, ["weights"]),
        ({"coverage": 0.5}, {"coverage": 1.0, "weights": (0.3, 0.7)}, []),
        ({"coverage": 0.8}, {"coverage": 1.0, "weights": (0.3, 0.7)}, ["weights", "coverage"]),
        ({"coverage": 0.4}, {"ranges": ((0.0, 0.2), (0.5, 0.7)), "coverage": 1.0}, []),
        ({"ranges": ((0.0, 0.2), (0.5, 0.7))}, {"ranges": ((0.0, 0.3), (0.4, 0.7))}, []),
        ({"ranges": ((0.0, 0.2), (0.5, 0.7))}, {"ranges": ((0.0, 0.1), (0.5, 0.7))}, ["ranges"]),
        ({"coverage": 0.4}, {"coverage": 0.4, "variations": (*OLD.variations, Variation("c"))}, ["variations"]),
        (
            {"ranges": ((0.0, 0.2), (0.5, 0.7))},
            {"ranges": ((0.0, 0.2), (0.5, 0.7), (0.8, 1.0)), "variations": (*OLD.variations, Variation("c"))},
            [],
        ),
        ({}, {"variations": (Variation("a", 1),)}, ["variations"]),
        ({}, {"variations": (Variation("b", 2), Variation("a", 1))}, ["variations[0].key", "variations[1].key"]),
        ({}, {"seed": "other"}, ["seed"]),
        ({}, {"seed": "e"}, []),
        ({}, {"hash_version": 1}, ["hash_version"]),
        ({}, {"hash_attribute": "country"}, ["hash_attribute"]),
        ({}, {"filters": (Filter("f", ((0.0, 0.5),)),)}, ["filters"]),
        ({"layer": Layer("l", 0.2, 0.5)}, {"layer": Layer("l", 0.1, 0.6)}, []),
        ({"layer": Layer("l", 0.2, 0.5)}, {"layer": Layer("l", 0.3, 0.6)}, ["layer"]),
        ({"layer": Layer("l", 0.2, 0.5)}, {}, []),
        ({}, {"layer": Layer("l", 0.0, 0.5)}, ["layer"]),
        ({"condition": GERMANS}, {}, []),
        ({}, {"condition": GERMANS}, ["condition"]),
        ({"prerequisites": (GATE,)}, {}, []),
        ({}, {"prerequisites": (GATE,)}, ["prerequisites"]),
    ],
)
def test_what_moves_units_is_named(before: dict[str, Any], after: dict[str, Any], fields: list[str]) -> None:
    """A change is refused exactly where units of a crowd move, and by the fields that move them."""
    old, new = msgspec.structs.replace(OLD, **before), msgspec.structs.replace(OLD, version=2, **after)
    assert [fault.field for fault in moves(old, new)] == fields
    assert (moved(old, new) > 0) == bool(fields)


@pytest.mark.parametrize("field", ["kind", "policy", "holdout", "sticky", "bucket_version"])
def test_what_units_are_is_not_changed(field: str) -> None:
    """What is split, what sticks and what is measured stay as they are within a phase."""
    was = {"kind": "experiment", "policy": "p", "holdout": "h", "sticky": True, "bucket_version": 1}
    to = {"kind": "holdout", "policy": "q", "holdout": None, "sticky": False, "bucket_version": 2}
    old = msgspec.structs.replace(OLD, **was)
    assert [fault.field for fault in moves(old, msgspec.structs.replace(old, **{field: to[field]}))] == [field]


@pytest.mark.parametrize(
    "after",
    [
        {"weights": (0.1, 0.9), "coverage": 0.2},
        {"layer": Layer("l", 0.0, 0.1)},
        {"filters": (Filter("f", ((0.0, 0.5),)),)},
        {"condition": GERMANS, "prerequisites": (GATE,)},
    ],
)
def test_what_sticks_may_be_shared_and_targeted_anew(after: dict[str, Any]) -> None:
    """A sticky experiment keeps every unit that it has, whatever the shares and whom it is meant for; without what was kept they move."""
    old = msgspec.structs.replace(OLD, sticky=True)
    new = msgspec.structs.replace(old, version=2, **after)
    assert moves(old, new) == []
    assert moved(old, new) > 0
    before = variations(old)
    kept = [{} if one is None else {"user_id": {"e__0": one}} for one in before]
    assert variations(new, kept) == before


@given(st.floats(0, 1), st.floats(0, 1), st.lists(st.integers(1, 9), min_size=2, max_size=2))
def test_the_coverage_may_grow_and_not_shrink(low: float, high: float, parts: list[int]) -> None:
    """For any weights, more coverage moves nobody; less moves somebody, unless no place lies between."""
    low, high = min(low, high), max(low, high)
    weights = tuple(part / sum(parts) for part in parts)
    less = msgspec.structs.replace(OLD, weights=weights, coverage=low)
    more = msgspec.structs.replace(OLD, weights=weights, coverage=high)
    assert moves(less, more) == []
    if (high - low) * min(weights) > 1e-4:
        assert [fault.field for fault in moves(more, less)] == ["coverage"]
