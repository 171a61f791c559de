"""The operators of a condition that compare one value with what the condition says, each compiled into a test."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

from shared.errors import InvalidInput
from shared.experiments.coercion import at_most, identical, is_number, kind_of, less, sort_key, text, truth
from shared.experiments.experiment import Json
from shared.experiments.patterns import compile_pattern

Test = Callable[[Json], bool]
Groups = Mapping[str, Sequence[Json]]
"""Name of a saved group -> its members."""
_BUILD = re.compile(r"^v|\+.*$")
_SEPARATOR = re.compile(r"[-.]")
_CORE = 3
"""How many parts a version without a pre-release has."""
_WIDTH = 5


def always(_value: Json) -> bool:
    """Pass every value."""
    return True


def never(_value: Json) -> bool:
    """Pass none."""
    return False


def padded_version(version: Json) -> bytes:
    """Return what orders versions: 1.9 before 1.10, 1.0.0-beta before 1.0.0; build metadata does not count.

    >>> padded_version("1.9.0") < padded_version("v1.10.0-rc.1") < padded_version("1.10.0+build7")
    True
    """
    given = text(version) if is_number(version) else version
    return _padded(given if isinstance(given, str) and given else "0")


@lru_cache(maxsize=4096)
def _padded(version: str) -> bytes:
    parts = _SEPARATOR.split(_BUILD.sub("", version))
    if len(parts) == _CORE:
        parts.append("~")
    return sort_key("-".join(part.rjust(_WIDTH) if part.isascii() and part.isdigit() else part for part in parts))


def _equal(operand: Json) -> Test:
    return lambda value: identical(value, operand)


def _unequal(operand: Json) -> Test:
    return lambda value: not identical(value, operand)


def _less(operand: Json) -> Test:
    return lambda value: less(value, operand)


def _at_most(operand: Json) -> Test:
    return lambda value: at_most(value, operand)


def _greater(operand: Json) -> Test:
    return lambda value: less(operand, value)


def _at_least(operand: Json) -> Test:
    return lambda value: at_most(operand, value)


def _versions(compare: Callable[[bytes, bytes], bool]) -> Callable[[Json], Test]:
    def compiled(operand: Json) -> Test:
        expected = padded_version(operand)
        return lambda value: compare(padded_version(value), expected)

    return compiled


def _exists(operand: Json) -> Test:
    if truth(operand):
        return lambda value: value is not None
    return lambda value: value is None


def _type(operand: Json) -> Test:
    return lambda value: kind_of(value) == operand


def one_of(members: Sequence[Json], *, insensitive: bool = False) -> Test:
    """Return the test of being a member, or, for a list, of having one; lists and objects are members of nothing."""

    def folded(value: Json) -> Json:
        return value.lower() if insensitive and isinstance(value, str) else value

    keys = frozenset(
        (kind_of(member), folded(member)) for member in members if kind_of(member) not in ("array", "object")
    )

    def member(value: Json) -> bool:
        return kind_of(value) not in ("array", "object") and (kind_of(value), folded(value)) in keys

    return lambda value: any(map(member, value)) if isinstance(value, list) else member(value)


def _in(*, insensitive: bool, wanted: bool) -> Callable[[Json], Test]:
    def compiled(operand: Json) -> Test:
        if not isinstance(operand, list | tuple):
            return never
        member = one_of(operand, insensitive=insensitive)
        return member if wanted else lambda value: not member(value)

    return compiled


def _matches(*, insensitive: bool) -> Callable[[Json], Test]:
    def compiled(operand: Json) -> Test:
        try:
            pattern = compile_pattern(operand, insensitive=insensitive)
        except InvalidInput:
            return never
        return lambda value: pattern(text(value))

    return compiled


LEAVES: Mapping[str, Callable[[Json], Test]] = {
    "$eq": _equal,
    "$ne": _unequal,
    "$lt": _less,
    "$lte": _at_most,
    "$gt": _greater,
    "$gte": _at_least,
    "$veq": _versions(lambda value, expected: value == expected),
    "$vne": _versions(lambda value, expected: value != expected),
    "$vgt": _versions(lambda value, expected: value > expected),
    "$vgte": _versions(lambda value, expected: value >= expected),
    "$vlt": _versions(lambda value, expected: value < expected),
    "$vlte": _versions(lambda value, expected: value <= expected),
    "$exists": _exists,
    "$type": _type,
    "$in": _in(insensitive=False, wanted=True),
    "$nin": _in(insensitive=False, wanted=False),
    "$ini": _in(insensitive=True, wanted=True),
    "$nini": _in(insensitive=True, wanted=False),
    "$regex": _matches(insensitive=False),
    "$regexi": _matches(insensitive=True),
}
"""Operator -> what compiles it."""
