"""A flag, compiled, and how it is evaluated: rule after rule, the first that takes the unit decides."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

import msgspec

from shared.experiments.assignment import Asked, Assignment, Evaluation
from shared.experiments.compiled import filtering, hash_value_of, placing
from shared.experiments.conditions import Compiled, compile_condition
from shared.experiments.flags import FlagSpec, Rule
from shared.experiments.operators import Groups

Gate = Literal["open", "skip", "blocked", "cycle"]
"""What prerequisites say of a rule."""


class Answering(Protocol):
    """The catalogue, as a flag needs it."""

    def assigned(self, key: str, asked: Asked) -> Assignment:
        """Assign whoever asks to an experiment."""

    def evaluated(self, key: str, asked: Asked) -> Evaluation:
        """Evaluate a flag or an experiment."""


class CompiledRule:
    """A rule: whom it takes, compiled. `variant`: what is reported where its value is served."""

    def __init__(self, rule: Rule, flag: str, number: int, groups: Groups) -> None:
        """Compile rule `number` (from 1) of a flag."""
        self.rule = rule
        self.variant = rule.id if rule.id is not None else f"rule-{number}"
        self.gates = tuple((each, compile_condition(each.condition)) for each in rule.prerequisites)
        self._condition: Compiled | None = compile_condition(rule.condition, groups) if rule.condition else None
        self._lets_in = [filtering(part) for part in rule.filters]
        self._place: Callable[[str], float | None] = placing(
            rule.seed if rule.seed is not None else flag, rule.hash_version
        )

    def takes(self, asked: Asked) -> bool:
        """Return whether filters and condition let the unit in."""
        if self._condition is not None and not self._condition(asked.attributes):
            return False
        return all(lets_in(asked.attributes) for lets_in in self._lets_in)

    def rolled_out(self, asked: Asked) -> bool:
        """Return whether the unit is in the share that gets the value."""
        rule = self.rule
        if rule.range is None and rule.coverage is None:
            return True
        if rule.range is None and rule.coverage == 0:
            return False
        value = hash_value_of(asked.attributes, rule.hash_attribute)
        if not value and rule.fallback_attribute is not None:
            value = hash_value_of(asked.attributes, rule.fallback_attribute)
        where = self._place(value) if value else None
        if where is None:
            return False
        if rule.range is not None:
            return rule.range[0] <= where < rule.range[1]
        return rule.coverage is not None and where <= rule.coverage

    def gate(self, answering: Answering, asked: Asked) -> Gate:
        """Return what the rule's prerequisites say."""
        for prerequisite, met in self.gates:
            parent = answering.evaluated(prerequisite.key, asked)
            if parent.source == "cycle":
                return "cycle"
            if not met({"value": parent.value}):
                return "blocked" if prerequisite.gate else "skip"
        return "open"


class CompiledFlag:
    """One version of a flag. `spec`: as it was written."""

    def __init__(self, spec: FlagSpec, groups: Groups) -> None:
        """Compile a specification.

        Raises `ValueError`, `TypeError` or `LookupError` where one was written that should have been refused.
        """
        self.spec = spec
        self.rules = tuple(CompiledRule(rule, spec.key, number, groups) for number, rule in enumerate(spec.rules, 1))


def evaluate_flag(flag: CompiledFlag, answering: Answering, asked: Asked) -> Evaluation:
    """Evaluate a flag. `asked.path` holds its key, so that a prerequisite that leads back to it is a cycle."""
    key = flag.spec.key
    seen: list[Assignment] = []
    for compiled in flag.rules:
        gate = compiled.gate(answering, asked)
        if gate in ("cycle", "blocked"):
            return Evaluation(key, None, "default", "cycle" if gate == "cycle" else "prerequisite", None, tuple(seen))
        if gate == "skip" or not compiled.takes(asked):
            continue
        rule = compiled.rule
        if rule.experiment is not None:
            assignment = answering.assigned(rule.experiment, asked)
            seen.append(assignment)
            if assignment.variation is not None and assignment.variation not in rule.pass_through:
                return Evaluation(key, assignment.value, assignment.variation, "experiment", rule.id, tuple(seen))
        elif rule.value is not msgspec.UNSET and compiled.rolled_out(asked):
            return Evaluation(key, rule.value, compiled.variant, "value", rule.id, tuple(seen))
    return Evaluation(key, flag.spec.default_value, "default", "default", None, tuple(seen))
