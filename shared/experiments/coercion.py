"""How JavaScript turns values of JSON into text, numbers and truth, and compares them: what GrowthBook's conditions rest on."""

from __future__ import annotations

import re
from decimal import Decimal
from math import inf, isinf, isnan, nan
from typing import Literal

from shared.experiments.experiment import Json

_EXPONENT_FROM = 1e21
"""From here on JavaScript writes a number with an exponent."""
_SMALLEST_PLAIN = 1e-6
"""Below this, too."""
_RADIX = re.compile("0[xX][0-9a-fA-F]+|0[oO][0-7]+|0[bB][01]+")
_DECIMAL = re.compile(r"[+-]?(Infinity|([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?)")


def kind_of(value: Json) -> Literal["null", "boolean", "number", "string", "array", "object"]:
    """Return the name of a value's type in JSON."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list | tuple) else "object"


def is_number(value: Json) -> bool:
    """Return whether a value is a number, which a bool is not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def truth(value: Json) -> bool:
    """Return whether JavaScript takes a value for true: all but null, false, 0, NaN and the empty text."""
    if isinstance(value, str | bool | int | float):
        return bool(value) and value == value  # noqa: PLR0124 - NaN is no truth
    return value is not None


def text(value: Json) -> str:
    """Return `value + ""`.

    >>> text(3.0), text(True), text(None), text([1, [2, None]]), text(1e21)
    ('3', 'true', 'null', '1,2,', '1e+21')
    """
    kind = kind_of(value)
    if kind == "string":
        return str(value)
    if kind == "null":
        return "null"
    if kind == "boolean":
        return "true" if value else "false"
    if kind == "number":
        return _number_text(value)
    if kind == "array":
        return ",".join("" if item is None else text(item) for item in value)
    return "[object Object]"


def number(value: Json) -> float:
    """Return `value * 1`; NaN where that is no number.

    >>> number("0x10"), number(" 7 "), number(None), number([5]), number("a")
    (16.0, 7.0, 0.0, 5.0, nan)
    """
    kind = kind_of(value)
    if kind in ("number", "boolean"):
        return _double(value)
    if kind == "null":
        return 0.0
    if kind == "object":
        return nan
    return _parsed(text(value).strip())


def identical(left: Json, right: Json) -> bool:
    """Return `left === right` for values of JSON that were parsed apart: no list or object is identical to another."""
    kind = kind_of(left)
    return kind == kind_of(right) and kind not in ("array", "object") and bool(left == right)


def spelled_alike(left: Json, right: Json) -> bool:
    """Return whether both have the same JSON: objects with the same fields in the same order."""
    kind = kind_of(left)
    if kind != kind_of(right):
        return False
    if kind == "array":
        return len(left) == len(right) and all(map(spelled_alike, left, right))
    if kind == "object":
        ours, theirs = _ordered(left), _ordered(right)
        return ours == theirs and all(spelled_alike(left[name], right[name]) for name in ours)
    return bool(left == right)


def less(left: Json, right: Json) -> bool:
    """Return `left < right`: two texts by their UTF-16 code units, anything else as numbers, of which NaN is less than none."""
    if isinstance(left, str) and isinstance(right, str):
        return sort_key(left) < sort_key(right)
    pair = [text(v) if kind_of(v) in ("array", "object") else v for v in (left, right)]
    if all(isinstance(v, str) for v in pair):
        return sort_key(pair[0]) < sort_key(pair[1])
    return number(pair[0]) < number(pair[1])


def at_most(left: Json, right: Json) -> bool:
    """Return `left <= right`, as `less` compares."""
    if isinstance(left, str | list | dict) and isinstance(right, str | list | dict):
        return not less(right, left)
    return number(left) <= number(right)


def sort_key(value: str) -> bytes:
    """Return what orders texts by their UTF-16 code units."""
    return value.encode("utf-16-be", "surrogatepass")


def _ordered(fields: dict[str, Json]) -> list[str]:
    """Return the names in JavaScript's order: what looks like an index first, rising; then as they came."""
    indices = [
        name
        for name in fields
        if name.isascii() and name.isdigit() and str(int(name)) == name and int(name) < 2**32 - 1
    ]
    return sorted(indices, key=int) + [name for name in fields if name not in indices] if indices else list(fields)


def _number_text(value: float) -> str:
    double = _double(value)
    if isnan(double):
        return "NaN"
    if isinf(double):
        return "Infinity" if double > 0 else "-Infinity"
    if double == 0:
        return "0"
    if _SMALLEST_PLAIN <= abs(double) < _EXPONENT_FROM:
        return format(Decimal(repr(double)), "f").removesuffix(".0")
    mantissa, _, exponent = repr(double).partition("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent):+d}"


def _double(value: float) -> float:
    try:
        return float(value)
    except OverflowError:  # an integer beyond JavaScript's numbers
        return inf if value > 0 else -inf


def _parsed(stripped: str) -> float:
    """Return the number that a text without space around it spells; Python's float takes more than JavaScript's."""
    if not stripped:
        return 0.0
    try:
        if _RADIX.fullmatch(stripped):
            return _double(int(stripped, 0))
        return float(stripped) if _DECIMAL.fullmatch(stripped) else nan
    except ValueError:
        return nan
