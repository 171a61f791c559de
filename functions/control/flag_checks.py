"""What `control` alone can tell of a flag: what it would store of people, and hashes that it would share with an experiment.

`shared.experiments.flag_faults` says what is wrong with a flag by itself, `catalogue_faults` what is wrong with it beside the others.
"""

from __future__ import annotations

from collections.abc import Iterator

from functions.control.experiment_checks import personal, unreadable
from shared.experiments.fault import Fault
from shared.experiments.flags import FlagSpec, Rule
from shared.storage.postgres_experiments import Written


def flag_faults_beside(spec: FlagSpec, written: Written) -> Iterator[Fault]:
    """Yield what is wrong with a flag, given what else is written."""
    yield from unreadable(spec.default_value, "default_value")
    for at, rule in enumerate(spec.rules):
        yield from _rule_faults(rule, f"rules[{at}]", written)


def _rule_faults(rule: Rule, field: str, written: Written) -> Iterator[Fault]:
    yield from personal(rule.condition, f"{field}.condition")
    yield from unreadable(rule.condition, f"{field}.condition")
    yield from unreadable(rule.value, f"{field}.value")
    for at, prerequisite in enumerate(rule.prerequisites):
        yield from unreadable(prerequisite.condition, f"{field}.prerequisites[{at}].condition")
    for other in written.experiments.values():
        if rule.seed is not None and other.effective_seed == rule.seed:
            yield Fault(f"{field}.seed", f"{other.key!r} hashes with the seed {rule.seed!r}: both would split alike")
