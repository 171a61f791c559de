"""Which attributes of a unit an experiment looks at: what its exposures keep, and what may not name anybody."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from shared.experiments.experiment import USER_ID, Condition, ExperimentSpec

PERSONAL = frozenset({USER_ID, "session_id"})
"""Attributes that name somebody, by their names alone."""


def named_attributes(condition: Condition) -> Iterator[str]:
    """Yield the attributes that a condition looks at, each as often as it does; of a path the attribute that it begins with.

    >>> sorted(named_attributes({"country": "DE", "$or": [{"plan.name": "pro"}, {"$not": {"age": {"$lt": 18}}}]}))
    ['age', 'country', 'plan']
    """
    for name, expected in condition.items():
        if not name.startswith("$"):
            yield name.partition(".")[0]
            continue
        for part in expected if isinstance(expected, list | tuple) else (expected,):
            if isinstance(part, Mapping):
                yield from named_attributes(part)


def looked_at(spec: ExperimentSpec) -> frozenset[str]:
    """Return the attributes that exposures to an experiment keep: those of its condition, and that of its strata.

    The attribute that it splits by is not among them: the unit's pseudonym stands for it.
    """
    names = set(named_attributes(spec.condition or {}))
    if spec.analysis.strata is not None:
        names.add(spec.analysis.strata)
    return frozenset(names - PERSONAL - {spec.hash_attribute, spec.fallback_attribute})


def kept_of(names: frozenset[str], attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an exposure keeps of a unit's attributes: of those that the experiment looks at, what the unit has."""
    return {name: attributes[name] for name in sorted(names & attributes.keys())}
