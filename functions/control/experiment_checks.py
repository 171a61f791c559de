"""What of an experiment can be told only beside the others: every fault is named, not just the first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from shared.experiments.attributes import PERSONAL, named_attributes
from shared.experiments.experiment import Condition, ExperimentSpec, Json
from shared.experiments.flags import FlagSpec
from shared.experiments.moves import moves
from shared.experiments.references import cycles, references
from shared.storage.postgres_experiments import KnownPolicy, Written

Fault = tuple[str, str]
"""A field, and what is wrong with it."""

_NEXT: Mapping[str, frozenset[str]] = {
    "draft": frozenset({"draft", "running", "stopped"}),
    "running": frozenset({"running", "stopped"}),
    "stopped": frozenset({"stopped"}),
}
"""Which status may follow within a phase. A new phase begins with any, unless the old one is running and would become a draft."""
_LARGEST_INTEGER = 1 << 63


def faults_beside(spec: ExperimentSpec, written: Written) -> list[Fault]:
    """Return what is wrong with an experiment, given all others: what it names, shares, or would split a second time."""
    others = {key: other for key, other in written.experiments.items() if key != spec.key}
    found: list[Fault] = []
    if spec.key in written.flags:
        found.append(("key", "a flag has this key"))
    found += names_known(spec, written)
    found += _holdout_faults(spec, others)
    found += _policy_faults(spec, others, written.policies)
    found += _seed_faults(spec, others, written.flags)
    found += _layer_faults(spec, others)
    found += _json_faults(spec)
    return found


def change_faults(old: ExperimentSpec | None, new: ExperimentSpec) -> tuple[list[Fault], list[Fault]]:
    """Return what speaks against a change as such, and what would move units of a phase that is under way."""
    if old is None:
        return [] if new.phase == 1 else [("phase", "a new experiment begins with phase 1")], []
    if new.phase not in (old.phase, old.phase + 1):
        return [], [("phase", f"must be {old.phase}, the active one, or {old.phase + 1} for a new one")]
    if new.phase == old.phase:
        if new.status not in _NEXT[old.status]:
            what = "a phase that was stopped does not run again" if old.status == "stopped" else "it is running"
            return [], [("status", f"{what}: stop it, or write phase {old.phase + 1}")]
        return [], moves(old, new) if old.status != "draft" else []
    if old.status == "running" and new.status == "draft":
        return [], [("status", f"phase {old.phase} is running: stop it first")]
    if old.effective_seed == new.effective_seed:
        return [("seed", "a new phase splits anew: give another seed, or none")], []
    return [], []


def names_known(entry: ExperimentSpec | FlagSpec, written: Written) -> Iterator[Fault]:
    """Yield what an entry names that does not exist, and what leads back to it."""
    known = {**written.experiments, **written.flags, entry.key: entry}
    for field, key in references(entry):
        must_be_experiment = field.endswith(".experiment") or field == "holdout"
        if key not in known or (must_be_experiment and not isinstance(known[key], ExperimentSpec)):
            yield field, f"there is no {'experiment' if must_be_experiment else 'experiment or flag'} {key!r}"
    for field, way in cycles(entry.key, known):
        yield field, f"leads back to itself: {way}"


def personal(condition: Condition | None, field: str) -> Iterator[Fault]:
    """Yield the attributes of a condition that name users, who would be stored in the clear."""
    for name in sorted(PERSONAL & set(named_attributes(condition or {}))):
        yield f"{field}.{name}", "would store names in the clear; use `forced` for single users"


def unstorable(value: Json, field: str) -> Iterator[Fault]:
    """Yield where a value holds whole numbers that not everybody can read."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from unstorable(inner, f"{field}.{name}")
    elif isinstance(value, list | tuple):
        for at, inner in enumerate(value):
            yield from unstorable(inner, f"{field}[{at}]")
    elif isinstance(value, int) and not -_LARGEST_INTEGER <= value < _LARGEST_INTEGER:
        yield field, "a whole number must have at most 64 bits"


def _holdout_faults(spec: ExperimentSpec, others: Mapping[str, ExperimentSpec]) -> Iterator[Fault]:
    holdout = others.get(spec.holdout) if spec.holdout is not None else None
    if holdout is not None:
        yield from _held_out(spec, holdout, "holdout", "")
    for other in others.values():
        if other.holdout == spec.key:
            yield from _held_out(other, spec, "kind", f"{other.key!r} names it as its holdout: ")


def _held_out(spec: ExperimentSpec, holdout: ExperimentSpec, field: str, begins: str) -> Iterator[Fault]:
    if holdout.kind != "holdout":
        yield field, f"{begins}{holdout.key!r} is no holdout"
    elif holdout.hash_attribute != spec.hash_attribute:
        split = f"{holdout.key!r} splits by {holdout.hash_attribute!r}, {spec.key!r} by {spec.hash_attribute!r}"
        yield "hash_attribute" if begins else field, begins + split


def _policy_faults(
    spec: ExperimentSpec, others: Mapping[str, ExperimentSpec], policies: Mapping[str, KnownPolicy]
) -> Iterator[Fault]:
    if spec.policy is None:
        return
    own = policies.get(spec.policy)
    if own is None:
        yield "policy", f"there is no policy {spec.policy!r}"
    for other in others.values():
        if other.policy == spec.policy and splits(spec) and splits(other):
            yield (
                "policy",
                f"{other.key!r} {'splits' if other.status == 'running' else 'has released for'} {spec.policy!r}",
            )
    if spec.sticky:
        yield "sticky", "recommend keeps nothing for a unit; leave it out for an experiment that splits a policy"
    for at, variation in enumerate(spec.variations):
        field = f"variations[{at}].value.policy"
        named = variation.value.get("policy") if isinstance(variation.value, Mapping) else None
        if named is None:
            continue
        known = policies.get(named) if isinstance(named, str) else None
        if known is None:
            yield field, f"there is no policy {named!r}"
        elif own is not None and own.has_actions and not known.has_actions:
            yield field, f"{named!r} has no actions of its own: calls of {spec.policy!r} that bring none would fail"
        elif own is not None and known.mode == "apprentice" != own.mode:
            yield field, f"{named!r} is an apprentice: calls of {spec.policy!r} without a default action would fail"


def splits(spec: ExperimentSpec) -> bool:
    """Tell whether calls of its policy go by this experiment: it is running, or has released a variation."""
    return spec.status == "running" or (spec.status == "stopped" and spec.released is not None)


def _seed_faults(
    spec: ExperimentSpec, others: Mapping[str, ExperimentSpec], flags: Mapping[str, FlagSpec]
) -> Iterator[Fault]:
    field = "seed" if spec.seed is not None else "key"
    for other in others.values():
        if other.effective_seed == spec.effective_seed:
            yield field, f"{other.key!r} hashes with the seed {spec.effective_seed!r}: both would split alike"
    for flag in flags.values():
        if any(rule.seed == spec.effective_seed for rule in flag.rules):
            yield field, f"the flag {flag.key!r} hashes with the seed {spec.effective_seed!r}: both would split alike"


def _layer_faults(spec: ExperimentSpec, others: Mapping[str, ExperimentSpec]) -> Iterator[Fault]:
    layer = spec.layer
    if layer is None or spec.status == "stopped":
        return
    for other in others.values():
        taken = other.layer
        if taken is None or taken.name != layer.name or other.status == "stopped":
            continue
        if layer.low < taken.high and taken.low < layer.high:
            yield "layer", f"{other.key!r} has [{taken.low:g}, {taken.high:g}) of {layer.name!r}"
        elif other.hash_attribute != spec.hash_attribute:
            yield (
                "layer",
                f"{other.key!r} splits {layer.name!r} by {other.hash_attribute!r}: units would not be exclusive",
            )


def _json_faults(spec: ExperimentSpec) -> Iterator[Fault]:
    yield from personal(spec.condition, "condition")
    yield from unstorable(spec.condition, "condition")
    for at, variation in enumerate(spec.variations):
        yield from unstorable(variation.value, f"variations[{at}].value")
    for at, prerequisite in enumerate(spec.prerequisites):
        yield from unstorable(prerequisite.condition, f"prerequisites[{at}].condition")
