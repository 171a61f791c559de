"""What is wrong with a flag: everything at once, each fault with its field."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import msgspec

from shared.experiments.condition_faults import condition_faults
from shared.experiments.fault import Fault, double_faults, json_faults, number_faults, range_faults, text_faults
from shared.experiments.faults import filter_faults, hash_version_faults, key_faults, prerequisite_faults
from shared.experiments.flags import FlagSpec, Rule

_MOST_RULES = 100


def flag_faults(spec: FlagSpec, groups: Collection[str] = ()) -> list[Fault]:
    """Return everything that is wrong with a flag, in the order of its fields. `groups`: the saved groups that there are."""
    found = [*key_faults("key", spec.key), *json_faults("default_value", spec.default_value)]
    if len(spec.rules) > _MOST_RULES:
        found.append(Fault("rules", f"there are more than {_MOST_RULES}"))
    for index, rule in enumerate(spec.rules):
        found += _rule_faults(rule, f"rules[{index}]", spec.key, groups)
    ids = [rule.id if rule.id is not None else f"rule-{number}" for number, rule in enumerate(spec.rules, 1)]
    return [*found, *double_faults("rules[{}].id", ids)]


def _rule_faults(rule: Rule, field: str, flag: str, groups: Collection[str]) -> Iterator[Fault]:
    gives_value = rule.value is not msgspec.UNSET
    if rule.id is not None:
        yield from key_faults(f"{field}.id", rule.id)
        if rule.id == "default":
            yield Fault(f"{field}.id", "`default` is the variant of whoever no rule takes")
    if gives_value:
        yield from json_faults(f"{field}.value", rule.value)
    if gives_value and rule.experiment is not None:
        yield Fault(f"{field}.value", "a rule gives a value or an experiment's, not both")
    if not gives_value and rule.experiment is None and not rule.prerequisites:
        yield Fault(field, "gives nothing: it needs a value, an experiment or a prerequisite")
    if rule.experiment is not None:
        yield from key_faults(f"{field}.experiment", rule.experiment)
        if rule.experiment == flag:
            yield Fault(f"{field}.experiment", "is the flag's own key")
    yield from prerequisite_faults(f"{field}.prerequisites", rule.prerequisites, flag)
    yield from filter_faults(f"{field}.filters", rule.filters)
    if rule.condition is not None:
        yield from condition_faults(rule.condition, f"{field}.condition", groups)
    yield from _rollout_faults(rule, field)


def _rollout_faults(rule: Rule, field: str) -> Iterator[Fault]:
    for name, given in (("coverage", rule.coverage), ("range", rule.range), ("seed", rule.seed)):
        if given is not None and rule.experiment is not None:
            yield Fault(f"{field}.{name}", "belongs to a rule with a value: an experiment has its own")
    if rule.pass_through and rule.experiment is None:
        yield Fault(f"{field}.pass_through", "belongs to a rule with an experiment")
    if rule.coverage is not None:
        yield from number_faults(f"{field}.coverage", rule.coverage, 0, 1)
    if rule.range is not None:
        yield from range_faults(f"{field}.range", (rule.range,))
        if rule.coverage is not None:
            yield Fault(f"{field}.coverage", "must be left out where there is a range, which stands in its place")
    yield from text_faults(f"{field}.hash_attribute", rule.hash_attribute)
    yield from hash_version_faults(f"{field}.hash_version", rule.hash_version)
    if rule.seed is not None:
        yield from text_faults(f"{field}.seed", rule.seed)
    if rule.fallback_attribute is not None:
        yield from text_faults(f"{field}.fallback_attribute", rule.fallback_attribute)
