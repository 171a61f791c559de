"""What is wrong with something that is written, and the checks that all of it shares."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import isfinite
from typing import NamedTuple

from shared.experiments.coercion import is_number
from shared.experiments.experiment import Json

DEEPEST = 20
"""How deep lists and objects may lie in one another."""


class Fault(NamedTuple):
    """One thing that is wrong. `field`: a dotted path such as `variations[1].key`; `detail`: what is wrong with it."""

    field: str
    detail: str


def number_faults(
    field: str, value: Json, low: float, high: float, *, open_low: bool = False, open_high: bool = False
) -> Iterator[Fault]:
    """Yield what is wrong with a number that must lie from `low` to `high`, these included unless they are open."""
    inside = is_number(value) and isfinite(value) and low <= value <= high
    if not inside or (open_low and value == low) or (open_high and value == high):
        span = f"{'(' if open_low else '['}{low:g}, {high:g}{')' if open_high else ']'}"
        yield Fault(field, f"must be a number in {span}")


def text_faults(field: str, value: Json, longest: int = 200) -> Iterator[Fault]:
    """Yield what is wrong with a name."""
    if not isinstance(value, str) or not value.strip() or len(value) > longest:
        yield Fault(field, f"must be a text of 1 to {longest} characters")


def double_faults(field: str, names: Sequence[str]) -> Iterator[Fault]:
    """Yield every name that was there before; `field` holds `{}` where its index belongs."""
    seen: set[str] = set()
    for index, name in enumerate(names):
        if name in seen:
            yield Fault(field.format(index), f"{name!r} is there twice")
        seen.add(name)


def range_faults(field: str, ranges: Sequence[Sequence[float]], *, overlap: bool = False) -> Iterator[Fault]:
    """Yield what is wrong with ranges [low, high) of places; unless `overlap`, no place may lie in two."""
    sound: list[tuple[float, float, int]] = []
    for index, (low, high) in enumerate(ranges):
        wrong = [*number_faults(f"{field}[{index}]", low, 0, 1), *number_faults(f"{field}[{index}]", high, 0, 1)]
        if not wrong and low > high:
            wrong = [Fault(f"{field}[{index}]", f"begins at {low:g}, after its end at {high:g}")]
        yield from wrong[:1]
        if not wrong and low < high:
            sound.append((low, high, index))
    if not overlap:
        sound.sort()
        for (_, end, first), (begin, _, second) in pairwise(sound):
            if begin < end:
                yield Fault(f"{field}[{second}]", f"overlaps {field}[{first}]")


def json_faults(field: str, value: Json, depth: int = 0) -> Iterator[Fault]:
    """Yield what is wrong with a value that may be any JSON."""
    if depth > DEEPEST:
        yield Fault(field, f"lies more than {DEEPEST} deep")
    elif isinstance(value, float) and not isfinite(value):
        yield Fault(field, "must be a finite number")
    elif isinstance(value, dict):
        for name, held in value.items():
            yield from json_faults(f"{field}.{name}", held, depth + 1)
    elif isinstance(value, list | tuple):
        for index, held in enumerate(value):
            yield from json_faults(f"{field}[{index}]", held, depth + 1)
