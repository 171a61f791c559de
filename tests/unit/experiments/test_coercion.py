"""JavaScript's coercions at their edges; conditions as a whole are held against GrowthBook's own code (`test_conditions`)."""

from __future__ import annotations

from math import isnan
from typing import Any

import pytest

from shared.experiments.coercion import at_most, less, number, spelled_alike, text, truth

NAN = float("nan")


@pytest.mark.parametrize(
    ("value", "spelled"),
    [
        (0.1, "0.1"), (-0.0, "0"), (1e-6, "0.000001"), (1.5e-7, "1.5e-7"), (1e20, "100000000000000000000"), (1e21, "1e+21"),
        (123456789012345678, "123456789012345680"), (9007199254740993, "9007199254740992"), (10**400, "Infinity"),
        (-(10**400), "-Infinity"), (NAN, "NaN"), (-1.5, "-1.5"), (1e-5, "0.00001"), ([[], {}], ",[object Object]"),
    ],
)  # fmt: skip
def test_numbers_are_spelled_as_in_javascript(value: Any, spelled: str) -> None:
    """Shortest digits, exponents from 1e21 and below 1e-6, integers as doubles."""
    assert text(value) == spelled


@pytest.mark.parametrize(
    ("value", "read"),
    [("", 0), ("  ", 0), ("1_000", None), ("0x1F", 31), ("0b11", 3), ("-0x1F", None), (".5", 0.5), ("5.", 5), ("1e3", 1000), ("\u0661", None),
     ("-Infinity", float("-inf")), ("inf", None), ("nan", None), ("9" * 5000, float("inf")), ([], 0), (["7"], 7), ([1, 2], None), ({}, None)],
)  # fmt: skip
def test_texts_are_read_as_in_javascript(value: Any, read: float | None) -> None:
    """Python's `float` would take more."""
    found = number(value)
    assert isnan(found) if read is None else found == read


def test_what_is_no_number_is_neither_less_nor_more() -> None:
    """NaN compares with nothing; null is 0."""
    assert not less("x", 1)
    assert not less(1, "x")
    assert not at_most({}, 1)
    assert less(None, 1)
    assert at_most(None, 0)


def test_nan_is_no_truth() -> None:
    """Nor are 0, null, false and the empty text; empty lists and objects are."""
    values: list[Any] = [NAN, 0, None, False, "", [], {}, "0"]
    assert [truth(value) for value in values] == [False] * 5 + [True] * 3


@pytest.mark.parametrize(
    ("left", "right", "alike"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, False),
        ({"2": 1, "1": 2}, {"1": 2, "2": 1}, True),
        ({"a": 1, "1": 2}, {"1": 2, "a": 1}, True),
        ({"4294967295": 1, "1": 2}, {"1": 2, "4294967295": 1}, True),
        ({"4294967295": 1, "4294967296": 2}, {"4294967296": 2, "4294967295": 1}, False),
        ({"01": 1, "1": 2}, {"1": 2, "01": 1}, True),
        ([1, True], [1.0, 1], False),
        ([1], [1.0], True),
        ([1], [1, 2], False),
    ],
)
def test_json_is_compared_as_it_is_spelled(left: Any, right: Any, *, alike: bool) -> None:
    """Names that look like an index come first in JavaScript, whatever their order was; the others keep theirs."""
    assert spelled_alike(left, right) is alike
