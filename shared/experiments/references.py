"""What experiments and flags name of one another, and where that leads back to itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from shared.experiments.experiment import ExperimentSpec
from shared.experiments.flags import FlagSpec

Entries = Mapping[str, ExperimentSpec | FlagSpec]
"""All experiments and flags by key."""


def references(entry: ExperimentSpec | FlagSpec) -> Iterator[tuple[str, str]]:
    """Yield (field, key) for every experiment and flag that an entry names, a holdout among them."""
    if isinstance(entry, ExperimentSpec):
        for at, prerequisite in enumerate(entry.prerequisites):
            yield f"prerequisites[{at}].key", prerequisite.key
        if entry.holdout is not None:
            yield "holdout", entry.holdout
        return
    for number, rule in enumerate(entry.rules):
        for at, gate in enumerate(rule.prerequisites):
            yield f"rules[{number}].prerequisites[{at}].key", gate.key
        if rule.experiment is not None:
            yield f"rules[{number}].experiment", rule.experiment


def cycles(key: str, entries: Entries) -> Iterator[tuple[str, str]]:
    """Yield (field, the way round) for every reference of the entry `key` that leads back to it.

    >>> from shared.experiments.experiment import Prerequisite, Variation
    >>> of = {"a": "b", "b": "a"}
    >>> entries = {
    ...     name: ExperimentSpec(name, 1, (Variation("x"), Variation("y")), prerequisites=(Prerequisite(other, {}),))
    ...     for name, other in of.items()
    ... }
    >>> list(cycles("a", entries))
    [('prerequisites[0].key', 'a -> b -> a')]
    """
    for field, named in references(entries[key]):
        way = _way(named, key, entries)
        if way:
            yield field, " -> ".join((key, *way))


def _way(start: str, goal: str, entries: Entries) -> tuple[str, ...]:
    """Return the keys from `start` to `goal`, none where no way leads there."""
    waiting: list[tuple[str, ...]] = [(start,)]
    seen = {start}
    while waiting:
        way = waiting.pop()
        if way[-1] == goal:
            return way
        entry = entries.get(way[-1])
        for _, named in references(entry) if entry is not None else ():
            if named not in seen:
                seen.add(named)
                waiting.append((*way, named))
    return ()
