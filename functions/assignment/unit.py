"""One unit as experiments see it, and what of it may be stored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from shared.experiments.assigning import Assignment, Catalogue, Kept
from shared.experiments.attributes import kept_of, looked_at
from shared.experiments.compiled import hash_value_of
from shared.experiments.experiment import USER_ID, Json
from shared.experiments.exposure import Exposure, StickyAssignment
from shared.experiments.sticking import sticky_attributes
from shared.identity import unit_pseudonym
from shared.vocabulary import Context, ContextValue


class Outlook(msgspec.Struct):
    """A catalogue, with what is worked out once for each of its versions.

    `sticky`: key of an experiment or a flag -> attributes whose values something may stick to. `looks`: key of an experiment ->
    attributes that its exposures keep. `offered`: the experiments that are told to whoever asks for all, in order: no drafts and no
    holdouts; `evaluated`: these and the flags.
    """

    catalogue: Catalogue
    offered: list[str]
    evaluated: list[str]
    sticky: dict[str, frozenset[str]]
    looks: dict[str, frozenset[str]]

    @classmethod
    def on(cls, catalogue: Catalogue) -> Outlook:
        """Work it out."""
        looks = {key: looked_at(experiment.spec) for key, experiment in catalogue.experiments.items()}
        offered = {
            key
            for key, experiment in catalogue.experiments.items()
            if experiment.spec.kind == "experiment" and experiment.spec.status != "draft"
        }
        evaluated = sorted(offered | catalogue.flags.keys())
        return cls(catalogue, sorted(offered), evaluated, sticky_attributes(catalogue), looks)


class Unit:
    """What is known of one unit: its attributes, the user id among them. Pseudonyms are made once."""

    __slots__ = ("_key", "_pseudonyms", "attributes")

    def __init__(self, key: bytes, attributes: Mapping[str, Json], user_id: str | None) -> None:
        """Take the attributes; `key`: the server's, for pseudonyms."""
        self._key = key
        self._pseudonyms: dict[tuple[str, str], str] = {}
        self.attributes = attributes if user_id is None else {**attributes, USER_ID: user_id}

    def pseudonym_of(self, attribute: str, value: str) -> str:
        """Return the pseudonym of a value of an attribute."""
        named = (attribute, value)
        held = self._pseudonyms.get(named)
        if held is None:
            held = self._pseudonyms[named] = unit_pseudonym(self._key, attribute, value)
        return held

    @property
    def user(self) -> str | None:
        """Return the user's pseudonym, None where there is no user."""
        value = hash_value_of(self.attributes, USER_ID)
        return self.pseudonym_of(USER_ID, value) if value else None

    def stuck_to(self, outlook: Outlook, keys: Iterable[str]) -> dict[str, str]:
        """Return the attributes of this unit that something may stick to, each with the pseudonym of its value."""
        names = {name for key in keys for name in outlook.sticky.get(key, ())}
        values = {name: hash_value_of(self.attributes, name) for name in sorted(names)}
        return {name: self.pseudonym_of(name, value) for name, value in values.items() if value}


class Shown(msgspec.Struct, frozen=True):
    """When a unit was shown what it was assigned; `revision`: `K_REVISION`; `actor`: who says so."""

    exposed_at: float
    revision: str
    actor: str


def exposure_key(assignment: Assignment) -> str:
    """Return what tells an exposure from others in the memory of a process, where it costs less than a pseudonym."""
    return "\0".join(
        (
            assignment.experiment,
            str(assignment.phase),
            assignment.variation or "",
            assignment.hash_attribute,
            assignment.hash_value,
        )
    )


def exposure_of(outlook: Outlook, unit: Unit, assignment: Assignment, shown: Shown) -> Exposure:
    """Return the exposure to the variation of an assignment."""
    looks = outlook.looks[assignment.experiment]
    name = unit.pseudonym_of(assignment.hash_attribute, assignment.hash_value)
    return Exposure(
        assignment.experiment,
        assignment.phase,
        assignment.variation or "",
        name,
        name if assignment.hash_attribute == USER_ID else unit.user,
        shown.exposed_at,
        _storable(kept_of(looks, unit.attributes)) if looks else {},
        None,
        shown.revision,
        shown.actor,
    )


def meant(outlook: Outlook, unit: Unit, assignment: Assignment, sticky: Kept) -> tuple[Assignment, ...]:
    """Return an assignment, and where an exposure to its holdout is due that to the holdout."""
    if assignment.holdout is None:
        return (assignment,)
    held = outlook.catalogue.assign(assignment.holdout[0], unit.attributes, unit.pseudonym_of, sticky)
    return assignment, held


def sticking(unit: Unit, assignment: Assignment) -> list[StickyAssignment]:
    """Return what is to be kept of an assignment."""
    if assignment.kept is None:
        return []
    name = unit.pseudonym_of(assignment.hash_attribute, assignment.hash_value)
    return [StickyAssignment(assignment.hash_attribute, name, *assignment.kept)]


def _storable(attributes: Mapping[str, Json]) -> Context:
    """Return attributes as contexts are stored: what is nested becomes its JSON."""
    return {name: _flat(value) for name, value in attributes.items()}


def _flat(value: Json) -> ContextValue:
    if value is None or isinstance(value, str | float | bool):
        return value
    if isinstance(value, int):
        return float(value)
    if isinstance(value, list) and all(isinstance(entry, str) for entry in value):
        return value
    return msgspec.json.encode(value, order="deterministic").decode()
