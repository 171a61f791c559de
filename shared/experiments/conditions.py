"""GrowthBook's condition language, compiled once into closures: whether a unit's attributes satisfy a condition.

`{"country": {"$in": ["DE", "AT"]}, "$not": {"plan": "free"}}`. A path such as `address.city` walks into objects and lists; a
path that leads nowhere gives null. Values are compared as JavaScript compares them (`shared.experiments.coercion`), dates as the
texts they are. What GrowthBook does with a condition that makes no sense (an unknown operator is never met) is kept, but
`shared.experiments.condition_faults` refuses it when it is written. A regular expression runs as an automaton
(`shared.experiments.patterns`), so no condition can hang a process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from shared.experiments.coercion import kind_of, number, spelled_alike, text, truth
from shared.experiments.experiment import Condition, Json
from shared.experiments.operators import LEAVES, Groups, Test, always, never, one_of

Compiled = Callable[[Mapping[str, Json]], bool]
"""Whether attributes satisfy a condition."""
_ABSENT = object()


def _same_number(expected: float, value: Json) -> bool:
    return number(value) == expected


_EQUALITY: Mapping[str, Callable[[Json], Test]] = {
    "string": lambda expected: lambda value: value == expected if isinstance(value, str) else text(value) == expected,
    "number": lambda expected: partial(_same_number, number(expected)),
    "boolean": lambda expected: lambda value: value is not None and truth(value) is expected,
    "null": lambda _: lambda value: value is None,
    "array": lambda expected: lambda value: spelled_alike(value, expected),
    "object": lambda expected: lambda value: spelled_alike(value, expected),
}
"""Type of what is expected -> the test of being equal to it."""


def compile_condition(condition: Condition, groups: Groups | None = None) -> Compiled:
    """Return the condition as a function of the attributes.

    `groups`: name of a saved group -> its members, for `$inGroup` and `$notInGroup`; an unknown group is empty.

    >>> german = compile_condition({"country": "DE", "age": {"$gte": 18}})
    >>> german({"country": "DE", "age": 30}), german({"country": "DE"})
    (True, False)
    """
    return _object_test(condition, groups or {})


def _object_test(condition: Json, groups: Groups) -> Test:
    """Return the test of an object: all that the condition says of its paths, and of the whole."""
    if not isinstance(condition, Mapping):
        return always
    return _all([_entry(name, expected, groups) for name, expected in condition.items()])


def _entry(name: str, expected: Json, groups: Groups) -> Test:
    if name in ("$or", "$nor", "$and"):
        parts = [_object_test(part, groups) for part in expected] if isinstance(expected, Sequence) else []
        if name == "$and":
            return _all(parts)
        either = _any(parts) if parts else always
        return either if name == "$or" else _opposite(either)
    if name == "$not":
        return _opposite(_object_test(expected, groups))
    return _at_path(name, value_test(expected, groups))


def value_test(expected: Json, groups: Groups, *, insensitive: bool = False) -> Test:
    """Return the test of one value: equality with a plain one, or the operators of an object whose names all begin with `$`."""
    kind = kind_of(expected)
    if kind == "object" and is_operators(expected):
        return _all([_operator(name, operand, groups) for name, operand in expected.items()])
    if kind == "string" and insensitive:
        lowered = expected.lower()
        return lambda value: text(value).lower() == lowered
    return _EQUALITY[kind](expected)


def is_operators(condition: Mapping[str, Json]) -> bool:
    """Return whether an object is a list of operators: not empty, and every name begins with `$`."""
    return bool(condition) and all(name.startswith("$") for name in condition)


def _operator(name: str, operand: Json, groups: Groups) -> Test:
    leaf = LEAVES.get(name)
    if leaf is not None:
        return leaf(operand)
    if name in ("$inGroup", "$notInGroup"):
        member = one_of(groups.get(operand, ()) if isinstance(operand, str) else ())
        return member if name == "$inGroup" else _opposite(member)
    return _nested(name, operand, groups)


def _nested(name: str, operand: Json, groups: Groups) -> Test:
    """Return the test of an operator whose operand holds conditions."""
    if name == "$not":
        return _opposite(value_test(operand, groups))
    if name == "$size":
        of_length = value_test(operand, groups)
        return lambda value: isinstance(value, list) and of_length(len(value))
    if name == "$elemMatch":
        inner = (
            value_test(operand, groups)
            if isinstance(operand, Mapping) and is_operators(operand)
            else _object_test(operand, groups)
        )
        return lambda value: isinstance(value, list) and any(truth(item) and inner(item) for item in value)
    if name in ("$all", "$alli") and isinstance(operand, list):
        wanted = [value_test(item, groups, insensitive=name == "$alli") for item in operand]
        return lambda value: isinstance(value, list) and all(any(map(one, value)) for one in wanted)
    return never


def _at_path(path: str, test: Test) -> Test:
    parts = path.split(".")
    if len(parts) == 1:
        return lambda attributes: test(
            attributes.get(path) if isinstance(attributes, Mapping) else _step_or_none(attributes, path)
        )

    def along(attributes: Json) -> bool:
        current: Json = attributes
        for part in parts:
            current = _step(current, part)
            if current is _ABSENT:
                return test(None)
        return test(current)

    return along


def _step_or_none(current: Json, part: str) -> Json:
    found = _step(current, part)
    return None if found is _ABSENT else found


def _step(current: Json, part: str) -> Json:
    if isinstance(current, Mapping):
        return current.get(part, _ABSENT)
    if isinstance(current, list):
        if part == "length":
            return len(current)
        if part.isascii() and part.isdigit() and str(int(part)) == part and int(part) < len(current):
            return current[int(part)]
    return _ABSENT


def _all(tests: list[Test]) -> Test:
    if len(tests) == 1:
        return tests[0]

    def together(value: Json) -> bool:
        for test in tests:  # noqa: SIM110 - `all` of a generator takes twice the time, on the path of every request
            if not test(value):
                return False
        return True

    return together


def _any(tests: list[Test]) -> Test:
    return lambda value: any(test(value) for test in tests)


def _opposite(test: Test) -> Test:
    return lambda value: not test(value)
