"""What of a flag can be told only beside experiments and other flags: every fault is named."""

from __future__ import annotations

from collections.abc import Iterator

from functions.control.experiment_checks import Fault, names_known, personal, unstorable
from shared.experiments.flags import FlagSpec, Rule
from shared.storage.postgres_experiments import Written


def flag_faults_beside(spec: FlagSpec, written: Written) -> list[Fault]:
    """Return what is wrong with a flag, given everything else."""
    found: list[Fault] = []
    if spec.key in written.experiments:
        found.append(("key", "an experiment has this key"))
    found += names_known(spec, written)
    found += unstorable(spec.default_value, "default_value")
    for at, rule in enumerate(spec.rules):
        found += _rule_faults(rule, f"rules[{at}]", written)
    return found


def _rule_faults(rule: Rule, field: str, written: Written) -> Iterator[Fault]:
    yield from personal(rule.condition, f"{field}.condition")
    yield from unstorable(rule.condition, f"{field}.condition")
    yield from unstorable(rule.value, f"{field}.value")
    for at, prerequisite in enumerate(rule.prerequisites):
        yield from unstorable(prerequisite.condition, f"{field}.prerequisites[{at}].condition")
    if rule.seed is not None:
        for other in written.experiments.values():
            if other.effective_seed == rule.seed:
                yield f"{field}.seed", f"{other.key!r} hashes with the seed {rule.seed!r}: both would split alike"
    experiment = written.experiments.get(rule.experiment) if rule.experiment is not None else None
    if experiment is not None:
        keys = {variation.key for variation in experiment.variations}
        for at, named in enumerate(rule.pass_through):
            if named not in keys:
                yield f"{field}.pass_through[{at}]", f"{rule.experiment!r} has no variation {named!r}"
