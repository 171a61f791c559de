"""A flag: a value for everybody, and rules that give some another one. An experiment is a flag, too.

The first rule that takes a unit decides. What the fields may hold is checked before a flag is written
(`shared.experiments.flag_faults`); `shared.experiments.evaluating` compiles and evaluates it.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from shared.experiments.experiment import USER_ID, Condition, Filter, Json, Prerequisite


class RulePrerequisite(Prerequisite, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What another flag or experiment must give first. `gate`: where it does not, the whole flag gives null, not just this rule nothing."""

    gate: bool = False


class Rule(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What some units get: `value`, or, where `experiment` names one, the value of their variation in it.

    A rule with neither gives nothing, but its prerequisites may gate the flag.
    `id`: for people, and the variant that is reported. `prerequisites`, `filters`, `condition`: whom the rule takes.
    `coverage`: share of these that get `value`, None for all; `range`: places [low, high), in place of coverage. Both split by
    `hash_attribute` (or `fallback_attribute` where a unit lacks it), hashed with `seed`, None for the flag's key.
    `pass_through`: variations of the experiment whose units take part and go on to the next rule.
    """

    id: str | None = None
    value: Json = msgspec.UNSET
    experiment: str | None = None
    prerequisites: tuple[RulePrerequisite, ...] = ()
    filters: tuple[Filter, ...] = ()
    condition: Condition | None = None
    coverage: float | None = None
    range: tuple[float, float] | None = None
    hash_attribute: str = USER_ID
    fallback_attribute: str | None = None
    hash_version: Literal[1, 2] = 2
    seed: str | None = None
    pass_through: tuple[str, ...] = ()


class FlagSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """A flag as it is written: `default_value` (any JSON) for whoever no rule takes."""

    key: str
    version: int
    default_value: Json = None
    rules: tuple[Rule, ...] = ()
