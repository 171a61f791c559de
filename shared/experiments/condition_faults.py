"""What is wrong with a condition: all of it, each fault with its place, before the condition is written."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping

from shared.errors import InvalidInput
from shared.experiments.coercion import is_number, kind_of
from shared.experiments.conditions import is_operators
from shared.experiments.experiment import Json
from shared.experiments.fault import DEEPEST, Fault, json_faults
from shared.experiments.patterns import compile_pattern

_TYPES = ("string", "number", "boolean", "array", "object", "null")
_LISTS = ("$in", "$nin", "$ini", "$nini")
_ORDERS = ("$lt", "$lte", "$gt", "$gte")
_VERSIONS = ("$veq", "$vne", "$vgt", "$vgte", "$vlt", "$vlte")
_MOST_MEMBERS = 10_000


def condition_faults(
    condition: Json, field: str = "condition", groups: Collection[str] = (), *, only: str | None = None
) -> list[Fault]:
    """Return everything that is wrong with a condition.

    `field`: where it stands; `groups`: the saved groups that there are; `only`: the one attribute it may speak of, None for any.

    >>> condition_faults({"country": {"$within": ["DE"]}, "$or": []})
    [Fault(field='condition.country.$within', detail='is no operator'), Fault(field='condition.$or', detail='must be a list of conditions, and not empty')]
    """
    return list(_Conditions(groups, only).of_object(condition, field, 0))


class _Conditions:
    """The checks of a condition, which hold one another. `groups`: the saved groups; `only`: the one attribute that is there."""

    def __init__(self, groups: Collection[str], only: str | None) -> None:
        self._groups = groups
        self._only = only

    def of_object(self, condition: Json, field: str, depth: int) -> Iterator[Fault]:
        """Yield the faults of a condition over an object."""
        if not isinstance(condition, Mapping):
            yield Fault(field, 'must be an object such as {"country": "DE"}')
        elif depth > DEEPEST:
            yield Fault(field, f"lies more than {DEEPEST} deep")
        else:
            for name, expected in condition.items():
                yield from self._entry(name, expected, f"{field}.{name}", depth)

    def _entry(self, name: str, expected: Json, field: str, depth: int) -> Iterator[Fault]:
        if name in ("$or", "$nor", "$and"):
            if not isinstance(expected, list | tuple) or not expected:
                yield Fault(field, "must be a list of conditions, and not empty")
            else:
                for index, part in enumerate(expected):
                    yield from self.of_object(part, f"{field}[{index}]", depth + 1)
        elif name == "$not":
            yield from self.of_object(expected, field, depth + 1)
        elif name.startswith("$"):
            yield Fault(field, "is no operator that stands without an attribute")
        elif not all(name.split(".")):
            yield Fault(field, "names no attribute")
        elif self._only is not None and name.split(".", maxsplit=1)[0] != self._only:
            yield Fault(field, f"there is only `{self._only}` here")
        else:
            yield from self.of_value(expected, field, depth + 1)

    def of_value(self, expected: Json, field: str, depth: int) -> Iterator[Fault]:
        """Yield the faults of what one value must be."""
        if depth > DEEPEST:
            yield Fault(field, f"lies more than {DEEPEST} deep")
        elif not isinstance(expected, Mapping):
            yield from json_faults(field, expected, depth)
        elif is_operators(expected):
            for name, operand in expected.items():
                yield from self._operator(name, operand, f"{field}.{name}", depth)
        elif any(name.startswith("$") for name in expected):
            yield Fault(field, "mixes operators with fields")
        else:
            yield from json_faults(field, dict(expected), depth)

    def _operator(self, name: str, operand: Json, field: str, depth: int) -> Iterator[Fault]:
        plain = _PLAIN.get(name)
        if plain is not None:
            right, detail = plain
            if not right(operand):
                yield Fault(field, detail)
            else:
                yield from json_faults(field, operand, depth)
        elif name in ("$not", "$size"):
            yield from self.of_value(operand, field, depth + 1)
        elif name == "$elemMatch":
            operators = isinstance(operand, Mapping) and is_operators(operand)
            yield from (self.of_value if operators else _Conditions(self._groups, None).of_object)(
                operand, field, depth + 1
            )
        elif name in ("$all", "$alli"):
            yield from self._all(operand, field, depth)
        elif name in ("$regex", "$regexi"):
            yield from _pattern(operand, field)
        elif name in ("$inGroup", "$notInGroup"):
            if operand not in self._groups:
                yield Fault(field, f"there is no saved group {operand!r}")
        else:
            yield Fault(field, "is no operator")

    def _all(self, operand: Json, field: str, depth: int) -> Iterator[Fault]:
        if not isinstance(operand, list | tuple):
            yield Fault(field, "must be a list")
            return
        for index, item in enumerate(operand):
            yield from self.of_value(item, f"{field}[{index}]", depth + 1)


def _pattern(operand: Json, field: str) -> Iterator[Fault]:
    try:
        compile_pattern(operand, insensitive=False)
    except InvalidInput as error:
        yield Fault(field, error.detail)


def _is_plain(operand: Json) -> bool:
    return kind_of(operand) not in ("array", "object")


def _is_list(operand: Json) -> bool:
    return isinstance(operand, list | tuple) and len(operand) <= _MOST_MEMBERS and all(map(_is_plain, operand))


_PLAIN: Mapping[str, tuple[Callable[[Json], bool], str]] = {
    **dict.fromkeys(
        ("$eq", "$ne"), (_is_plain, "must be no list and no object, to which nothing is equal: leave the operator out")
    ),
    **dict.fromkeys(
        _ORDERS, (lambda operand: is_number(operand) or isinstance(operand, str), "must be a number or a text")
    ),
    **dict.fromkeys(
        _VERSIONS, (lambda operand: is_number(operand) or isinstance(operand, str), "must be a version such as 1.2.3")
    ),
    **dict.fromkeys(_LISTS, (_is_list, f"must be a list of at most {_MOST_MEMBERS} texts, numbers, booleans or nulls")),
    "$exists": (lambda operand: isinstance(operand, bool), "must be true or false"),
    "$type": (lambda operand: operand in _TYPES, f"must be one of {', '.join(_TYPES)}"),
}
"""Operator -> whether an operand is right, and what it must be."""
