"""Which attributes of a unit something may stick to: what is looked up before experiments and flags are evaluated."""

from __future__ import annotations

from collections.abc import Iterator

from shared.experiments.assigning import Catalogue


def sticky_attributes(catalogue: Catalogue) -> dict[str, frozenset[str]]:
    """Return, by key of an experiment or a flag, the attributes whose values something may stick to.

    They are those of the running sticky experiments that its evaluation may come to: itself, its holdout, its prerequisites
    and the experiments of its rules, and theirs. Keys that come to none are left out.
    """
    found = {}
    for key in (*catalogue.experiments, *catalogue.flags):
        reached: set[str] = set()
        _reach(catalogue, key, reached)
        attributes = frozenset(
            attribute
            for each in reached
            if each in catalogue.experiments
            and catalogue.experiments[each].spec.sticky
            and catalogue.experiments[each].active
            for attribute in _attributes(catalogue, each)
        )
        if attributes:
            found[key] = attributes
    return found


def _attributes(catalogue: Catalogue, key: str) -> Iterator[str]:
    spec = catalogue.experiments[key].spec
    yield spec.hash_attribute
    if spec.fallback_attribute is not None:
        yield spec.fallback_attribute


def _reach(catalogue: Catalogue, key: str, reached: set[str]) -> None:
    waiting = [key]
    while waiting:
        each = waiting.pop()
        if each not in reached:
            reached.add(each)
            waiting += _named_by(catalogue, each)


def _named_by(catalogue: Catalogue, key: str) -> Iterator[str]:
    if key in catalogue.experiments:
        spec = catalogue.experiments[key].spec
        yield from (each.key for each in spec.prerequisites)
        if spec.holdout is not None:
            yield spec.holdout
    if key in catalogue.flags:
        for rule in catalogue.flags[key].spec.rules:
            yield from (each.key for each in rule.prerequisites)
            if rule.experiment is not None:
                yield rule.experiment
