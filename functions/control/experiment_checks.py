"""What `control` alone can tell of an experiment: what it would store of people, which policies it splits, what its phase allows.

`shared.experiments.faults` says what is wrong with an experiment by itself, `catalogue_faults` what is wrong with it beside the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from shared.experiments.attributes import PERSONAL, named_attributes
from shared.experiments.experiment import Condition, ExperimentSpec, Json, Variation
from shared.experiments.fault import Fault
from shared.experiments.moves import moves
from shared.storage.postgres_experiments import KnownPolicy, Written

_NEXT: Mapping[str, frozenset[str]] = {
    "draft": frozenset({"draft", "running", "stopped"}),
    "running": frozenset({"running", "stopped"}),
    "stopped": frozenset({"stopped"}),
}
"""Which status may follow within a phase."""
_LARGEST_INTEGER = 1 << 63


def faults_beside(spec: ExperimentSpec, written: Written) -> Iterator[Fault]:
    """Yield what is wrong with an experiment, given what else is written."""
    others = [other for other in written.experiments.values() if other.key != spec.key]
    yield from personal(spec.condition, "condition")
    yield from unreadable(spec.condition, "condition")
    for at, variation in enumerate(spec.variations):
        yield from unreadable(variation.value, f"variations[{at}].value")
    for at, prerequisite in enumerate(spec.prerequisites):
        yield from unreadable(prerequisite.condition, f"prerequisites[{at}].condition")
    for other in others:
        if other.key == spec.holdout and other.hash_attribute != spec.hash_attribute:
            yield Fault("holdout", f"{other.key!r} splits by {other.hash_attribute!r}, not by {spec.hash_attribute!r}")
        if other.holdout == spec.key and spec.kind != "holdout":
            yield Fault("kind", f"{other.key!r} names it as its holdout")
        if other.holdout == spec.key and other.hash_attribute != spec.hash_attribute:
            yield Fault(
                "hash_attribute", f"{other.key!r} names it as its holdout and splits by {other.hash_attribute!r}"
            )
    if spec.policy is not None:
        yield from _policy_faults(spec, spec.policy, others, written.policies)


def phase_faults(old: ExperimentSpec | None, new: ExperimentSpec) -> Iterator[Fault]:
    """Yield what a phase may not begin with."""
    if old is None:
        if new.phase != 1:
            yield Fault("phase", "a new experiment begins with phase 1")
    elif new.phase == old.phase + 1 and old.effective_seed == new.effective_seed:
        yield Fault("seed", "a new phase splits anew: give another seed, or none")


def change_conflicts(old: ExperimentSpec | None, new: ExperimentSpec) -> list[Fault]:
    """Return what a change may not do to the phase that is active: move its units, or let a phase run that is over."""
    if old is None:
        return []
    if new.phase not in (old.phase, old.phase + 1):
        return [Fault("phase", f"must be {old.phase}, the active one, or {old.phase + 1} for a new one")]
    if new.phase > old.phase:
        is_left = old.status == "running" and new.status == "draft"
        return [Fault("status", f"phase {old.phase} is running: stop it first")] if is_left else []
    if new.status not in _NEXT[old.status]:
        what = "a phase that was stopped does not run again" if old.status == "stopped" else "it is running"
        return [Fault("status", f"{what}: stop it, or write phase {old.phase + 1}")]
    return moves(old, new) if old.status != "draft" else []


def personal(condition: Condition | None, field: str) -> Iterator[Fault]:
    """Yield the attributes of a condition that name users, who would be stored in the clear."""
    for name in sorted(PERSONAL & set(named_attributes(condition or {}))):
        yield Fault(
            f"{field}.{name}", "would store names in the clear; single users belong to `forced` of an experiment"
        )


def unreadable(value: Json, field: str) -> Iterator[Fault]:
    """Yield where a value holds whole numbers that cannot be published."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from unreadable(inner, f"{field}.{name}")
    elif isinstance(value, list | tuple):
        for at, inner in enumerate(value):
            yield from unreadable(inner, f"{field}[{at}]")
    elif isinstance(value, int) and not -_LARGEST_INTEGER <= value < _LARGEST_INTEGER:
        yield Fault(field, "a whole number must have at most 64 bits")


def _policy_faults(
    spec: ExperimentSpec, policy: str, others: list[ExperimentSpec], policies: Mapping[str, KnownPolicy]
) -> Iterator[Fault]:
    own = policies.get(policy)
    if own is None:
        yield Fault("policy", f"there is no policy {policy!r}")
    for other in others:
        if other.policy == policy and _splits(spec) and _splits(other):
            what = "splits" if other.status == "running" else "has released a variation for"
            yield Fault("policy", f"{other.key!r} {what} the calls of {policy!r}")
    if spec.sticky:
        yield Fault("sticky", "recommend keeps nothing for a unit: an experiment that splits a policy is never sticky")
    if spec.default is not None:
        yield Fault("default", f"{policy!r} itself decides for whoever is not in the experiment; leave it out")
    for at, variation in enumerate(spec.variations):
        for detail in _variation_faults(variation, policy, policies):
            yield Fault(f"variations[{at}].value.policy", detail)


def _variation_faults(variation: Variation, policy: str, policies: Mapping[str, KnownPolicy]) -> Iterator[str]:
    if not isinstance(variation.value, Mapping) or "policy" not in variation.value:
        return
    named = variation.value["policy"]
    if not isinstance(named, str):
        return
    known, own = policies.get(named), policies.get(policy)
    if known is None:
        yield f"there is no policy {named!r}"
    elif own is not None and own.has_actions and not known.has_actions:
        yield f"{named!r} has no actions of its own: calls of {policy!r} that bring none would fail"
    elif own is not None and known.asks_default and not own.asks_default:
        yield f"{named!r} may serve the caller's default action: calls of {policy!r} without one would fail"


def _splits(spec: ExperimentSpec) -> bool:
    """Tell whether calls of its policy go by this experiment: it is running, or has released a variation."""
    return spec.status == "running" or (spec.status == "stopped" and spec.released is not None)
