"""An experiment made ready to assign: ranges reckoned, seeds hashed, conditions compiled; once for each published version."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from shared.experiments.assignment import Reason
from shared.experiments.bucketing import bucket_ranges, choose, in_layer
from shared.experiments.coercion import is_number, text, truth
from shared.experiments.conditions import Compiled, compile_condition
from shared.experiments.experiment import USER_ID, ExperimentSpec, Filter, Json, Prerequisite
from shared.experiments.hashing import fnv1a32, place, place_after
from shared.experiments.operators import Groups

Attributes = Mapping[str, Json]
_FEWEST = 2
"""With fewer variations there is nothing to split."""


class Draw(NamedTuple):
    """A variation, None for none, why, and the unit's place where it was worked out."""

    variation: str | None
    reason: Reason
    place: float | None = None


class Hashed(NamedTuple):
    """What is hashed of a unit: an attribute and its value, empty where the unit lacks it."""

    attribute: str
    value: str


class CompiledExperiment:
    """One version of an experiment.

    `spec`: as it was written. `value_of`: variation -> value. `default`: the key of the variation whose value is served to
    whoever is not in it. `active`: whether it assigns anybody. `sticky_key`: under which a unit's variation is kept;
    `independent`: nothing but itself says who is in it. `blocked`: the keys under which an earlier one keeps a unit out. `prerequisites`: each with its compiled condition.
    """

    def __init__(self, spec: ExperimentSpec, groups: Groups) -> None:
        """Compile a specification.

        Raises `ValueError`, `TypeError` or `LookupError` where one was written that should have been refused.
        """
        self.spec = spec
        self.value_of: Mapping[str, Json] = {variation.key: variation.value for variation in spec.variations}
        self.keys = tuple(variation.key for variation in spec.variations)
        self.default = spec.default if spec.default is not None else self.keys[0]
        self.default_value = self.value_of[self.default]
        self.active = spec.status == "running" and len(self.keys) >= _FEWEST
        self.ranges = (
            spec.ranges if spec.ranges is not None else bucket_ranges(len(self.keys), spec.coverage, spec.weights)
        )
        self.condition: Compiled | None = compile_condition(spec.condition, groups) if spec.condition else None
        self.prerequisites = compile_prerequisites(spec.prerequisites)
        self.sticky_key = f"{spec.key}__{spec.bucket_version}"
        self.blocked = tuple(f"{spec.key}__{version}" for version in range(spec.minimum_bucket_version))
        self.place = placing(spec.effective_seed, spec.hash_version)
        self.independent = spec.holdout is None and not spec.prerequisites and not spec.sticky
        self._lets_in = [filtering(part) for part in spec.filters]

    def draw(self, hash_value: str, attributes: Attributes, kept: Mapping[str, str]) -> Draw:
        """Return the variation that a unit draws by itself: what is kept for it, or what its place falls to if it is let in."""
        if not hash_value:
            return Draw(None, "no_hash_attribute")
        stuck = kept.get(self.sticky_key)
        found = stuck if stuck in self.value_of else None
        if found is None:
            if not self._in_layer(hash_value, attributes):
                return Draw(None, "layer")
            if self.condition is not None and not self.condition(attributes):
                return Draw(None, "condition")
        where = self.place(hash_value)
        if kept and any(blocked in kept for blocked in self.blocked):
            return Draw(None, "bucket_version", where)
        if found is not None:
            return Draw(found, "sticky", where)
        variation = self._choose(where) if where is not None else None
        return Draw(variation, "coverage" if variation is None else "assigned", where)

    def _choose(self, where: float) -> str | None:
        """Return the variation whose range holds a place, None for none."""
        index = choose(where, self.ranges)
        return self.keys[index] if 0 <= index < len(self.keys) else None

    def _in_layer(self, hash_value: str, attributes: Attributes) -> bool:
        """Return whether the layer, or what stands in its place, lets a unit in."""
        if self._lets_in:
            return all(lets_in(attributes) for lets_in in self._lets_in)
        return self.spec.layer is None or in_layer(hash_value, self.spec.layer)


def hash_value_of(attributes: Attributes, attribute: str) -> str:
    """Return the text of an attribute that is hashed, empty where a unit lacks it.

    Null, false, 0 and the empty text count as lacking, as in GrowthBook; so do lists and objects, which GrowthBook would hash.
    """
    value = attributes.get(attribute)
    if isinstance(value, str):
        return value
    return text(value) if (value is True or is_number(value)) and truth(value) else ""


def hashed(spec: ExperimentSpec, attributes: Attributes) -> Hashed:
    """Return what is hashed: the fallback attribute's value where a unit lacks the first and what it is assigned sticks."""
    value = hash_value_of(attributes, spec.hash_attribute)
    if not value and spec.sticky and spec.fallback_attribute is not None:
        other = hash_value_of(attributes, spec.fallback_attribute)
        if other:
            return Hashed(spec.fallback_attribute, other)
    return Hashed(spec.hash_attribute, value)


def placing(seed: str, version: int) -> Callable[[str], float | None]:
    """Return `place` under one seed, whose hash is worked out once."""
    if version != 2:  # noqa: PLR2004 - a version's number is its name
        return lambda value: place(seed, value, version)
    seeded = fnv1a32(seed)
    return lambda value: place_after(seeded, value)


def filtering(part: Filter) -> Callable[[Attributes], bool]:
    """Return whether a filter lets a unit in."""
    attribute = part.attribute if part.attribute is not None else USER_ID
    where = placing(part.seed, part.hash_version)

    def lets_in(attributes: Attributes) -> bool:
        value = hash_value_of(attributes, attribute)
        found = where(value) if value else None
        return found is not None and choose(found, part.ranges) >= 0

    return lets_in


def compile_prerequisites(prerequisites: tuple[Prerequisite, ...]) -> tuple[tuple[Prerequisite, Compiled], ...]:
    """Return each prerequisite with its condition, which is over `{"value": ...}`."""
    return tuple((each, compile_condition(each.condition)) for each in prerequisites)
