"""Conditions against what GrowthBook's own code makes of them, and against whoever writes them badly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from shared.experiments.condition_faults import condition_faults
from shared.experiments.conditions import compile_condition
from shared.experiments.operators import padded_version

JAVASCRIPT = json.loads((Path(__file__).parent / "fixtures/javascript_conditions.json").read_text())


def test_random_conditions_hold_as_in_javascript() -> None:
    """400 conditions of all operators, over attributes of all types: null, texts of numbers, lists, objects."""
    groups = JAVASCRIPT["groups"]
    found = [compile_condition(condition, groups)(attributes) for condition, attributes, _ in JAVASCRIPT["rows"]]
    assert found == [result for *_, result in JAVASCRIPT["rows"]]
    assert sum(found) == len(found) / 2


@pytest.mark.parametrize(
    ("condition", "attributes", "holds"),
    [
        ({"born": {"$lt": "2000-01-01"}}, {"born": "1999-12-31T23:59:59Z"}, True),
        ({"born": {"$lt": "2000-01-01"}}, {"born": "2000-01-01T00:00:00Z"}, False),
        ({"id": 9007199254740993}, {"id": 9007199254740993}, True),
        ({"tags.0": "new"}, {"tags": ["new", "old"]}, True),
        ({"tags.length": 2}, {"tags": ["new", "old"]}, True),
        ({"a.b": None}, {"a": "text"}, True),
        ({"a": {"$gt": 0}}, {"a": True}, True),
        ({"a": 1}, {"a": True}, True),
        ({"a": {"$eq": 1}}, {"a": True}, False),
        ({"a": {"$in": [1]}}, {"a": True}, False),
        ({"name": {"$lt": "\uff5e"}}, {"name": "\U0001f600"}, True),
        ({}, {}, True),
    ],
)
def test_values_compare_as_in_javascript(condition: dict[str, Any], attributes: dict[str, Any], *, holds: bool) -> None:
    """Dates as the texts they are, big numbers as doubles, true as 1 only where JavaScript says so, texts by code units."""
    assert compile_condition(condition)(attributes) is holds


def test_an_unknown_saved_group_is_empty() -> None:
    """Nobody is in it, and everybody outside."""
    assert not compile_condition({"id": {"$inGroup": "vip"}})({"id": "1"})
    assert compile_condition({"id": {"$notInGroup": "vip"}})({"id": "1"})


def test_versions_sort_by_their_numbers() -> None:
    """Pre-releases come before what they are releases of, and build metadata does not count."""
    rising = [
        "0.9.9",
        "1.0.0-alpha",
        "1.0.0-beta.2",
        "1.0.0-beta.11",
        "1.0.0",
        "1.0.1",
        "1.9.0",
        "1.10.0",
        "v2.0.0+build",
    ]
    mixed = [*rising[::2], *rising[1::2]]
    assert sorted(mixed, key=padded_version) == rising


@pytest.mark.parametrize(
    ("condition", "faults"),
    [
        ({"a": 1, "$or": [{"b": {"$in": ["x"]}}, {"c": {"$not": {"$regex": "^a+$"}}}]}, []),
        (["a"], ["condition"]),
        ({"$or": []}, ["condition.$or"]),
        ({"$and": {"a": 1}}, ["condition.$and"]),
        ({"$in": ["a"]}, ["condition.$in"]),
        ({"a": {"$within": 3}}, ["condition.a.$within"]),
        ({"a": {"$gt": 1, "b": 2}}, ["condition.a"]),
        ({"a..b": 1, "": 2}, ["condition.a..b", "condition."]),
        ({"a": {"$in": "x", "$nin": [["y"]]}}, ["condition.a.$in", "condition.a.$nin"]),
        ({"a": {"$regex": "(", "$regexi": "a(?=b)"}}, ["condition.a.$regex", "condition.a.$regexi"]),
        ({"a": {"$inGroup": "vip"}, "b": {"$notInGroup": "other"}}, ["condition.b.$notInGroup"]),
        ({"a": {"$exists": 1, "$type": "date"}}, ["condition.a.$exists", "condition.a.$type"]),
        ({"a": {"$lt": None, "$gte": True, "$eq": []}}, ["condition.a.$lt", "condition.a.$gte", "condition.a.$eq"]),
        (
            {"a": {"$all": 1, "$elemMatch": 2, "$size": {"$foo": 1}}},
            ["condition.a.$all", "condition.a.$elemMatch", "condition.a.$size.$foo"],
        ),
        ({"a": {"$all": [{"$regex": "["}]}}, ["condition.a.$all[0].$regex"]),
        ({"a": float("nan"), "b": {"$eq": float("inf")}}, ["condition.a", "condition.b.$eq"]),
        ({"$not": {"$nor": [{"a": {"$vgt": []}}, 7]}}, ["condition.$not.$nor[0].a.$vgt", "condition.$not.$nor[1]"]),
    ],
)
def test_every_fault_is_named_with_its_place(condition: object, faults: list[str]) -> None:
    """All of them at once."""
    assert [fault.field for fault in condition_faults(condition, groups=["vip"])] == faults


def test_a_condition_without_end_is_refused() -> None:
    """What lies too deep would end the recursion of whoever compiles it."""
    condition: dict[str, Any] = {"a": 1}
    for _ in range(500):
        condition = {"$not": condition}
    assert [fault.detail for fault in condition_faults(condition)] == ["lies more than 20 deep"]
    value: Any = "x"
    for _ in range(500):
        value = {"$not": value}
    assert [fault.detail for fault in condition_faults({"a": value})] == ["lies more than 20 deep"]


def test_a_prerequisite_speaks_of_its_value_alone() -> None:
    """There is nothing else in what it is put to."""
    assert condition_faults({"value.color": "red", "$not": {"value": 1}}, only="value") == []
    found = condition_faults(
        {"country": "DE", "$not": {"plan": "pro"}, "value": {"$elemMatch": {"any": 1}}}, only="value"
    )
    assert [fault.field for fault in found] == ["condition.country", "condition.$not.plan"]
