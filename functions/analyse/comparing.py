"""From what units did to effects: one metric, every variation beside the control one, by the inference that the plan names.

Only units whose window is over take part (`shared.storage.postgres_metrics`), the first of them first:

| inference | units | when it is looked at |
|---|---|---|
| `sequential` | all | always |
| `group_sequential` | as many as there were at a planned look: the look that went furthest beyond its bound, where none did the latest | at any time: nothing changes between two looks |
| `fixed_horizon` | the planned ones, once there are so many; all before | at the end: before, it decides nothing |
| `bayesian` | all | as its author thinks fit |

Guardrails are looked at always, by confidence sequences, whatever the inference.
"""

from __future__ import annotations

import msgspec
import numpy as np

from shared.experiments.plan import AnalysisPlan
from shared.experiments.statistics.bayesian import Posterior, bayesian
from shared.experiments.statistics.confidence_sequences import DESIGN_UNITS, confidence_sequence, is_silent
from shared.experiments.statistics.effect import Effect, compared, standard_error
from shared.experiments.statistics.group_sequential import bounds, group_sequential
from shared.experiments.statistics.metrics import MetricSamples, UnitValues, metric_samples
from shared.experiments.statistics.moments import Sample
from shared.experiments.statistics.welch import welch
from shared.storage.postgres_metrics import Measured, Units


class Compared(msgspec.Struct, frozen=True):
    """One variation beside the control.

    `effect`: by the plan's inference; `watched`: by a confidence sequence over all complete units. `posterior`: of Bayesian inference.
    `value`, `control_value`: of the units that `effect` is of, unadjusted; None where there are none. `variance_left`: see `MetricSamples`.
    """

    effect: Effect
    watched: Effect
    posterior: Posterior | None
    value: float | None
    control_value: float | None
    variance_left: float


class Comparison(msgspec.Struct, frozen=True):
    """One metric: the number of units whose window is over, and each variation (by its index) beside the control."""

    complete: int
    compared: dict[int, Compared]


def compare(
    plan: AnalysisPlan, measured: Measured, units: Units, *, variations: int, control: int, as_of: float
) -> Comparison:
    """Return the comparison of one metric. `control`: index among the `variations`; `as_of`: POSIX seconds."""
    complete = measured.complete(units.exposed_at, as_of)
    series = _Series(plan, measured, units, variations, control)
    return Comparison(complete, {at: _compare(series, at, complete) for at in range(variations) if at != control})


class _Series:
    """A metric's samples by how many of the first units they are of."""

    def __init__(self, plan: AnalysisPlan, measured: Measured, units: Units, variations: int, control: int) -> None:
        self.plan = plan
        self.metric = measured.metric
        self.control = control
        self._measured = measured
        self._units = units
        self._variations = variations
        self._known: dict[tuple[int, bool], MetricSamples] = {}

    @property
    def is_adjusted(self) -> bool:
        """Say whether samples are adjusted: by what was before, or by strata."""
        return self._measured.before is not None or self.plan.strata is not None

    def of_first(self, number: int, *, adjusted: bool = True) -> MetricSamples:
        """Return the samples of the first `number` units."""
        if (number, adjusted) not in self._known:
            self._known[number, adjusted] = metric_samples(
                self.metric, self._first(number, adjusted=adjusted), self._variations
            )
        return self._known[number, adjusted]

    def pair(self, number: int, variation: int) -> tuple[Sample, Sample]:
        """Return the samples of the control and of a variation, of the first `number` units."""
        samples = self.of_first(number).samples
        return samples[self.control], samples[variation]

    def _first(self, number: int, *, adjusted: bool) -> UnitValues:
        measured = self._measured
        of_them = None if measured.event_unit is None else int(np.searchsorted(measured.event_unit, number))
        return UnitValues(
            variation=self._units.variation[:number],
            value=measured.value[:number],
            denominator=None if measured.denominator is None else measured.denominator[:number],
            before=measured.before[:number] if adjusted and measured.before is not None else None,
            denominator_before=measured.denominator_before[:number]
            if adjusted and measured.denominator_before is not None
            else None,
            stratum=self._units.stratum[:number] if adjusted and self.plan.strata is not None else None,
            event_unit=None if measured.event_unit is None else measured.event_unit[:of_them],
            event_value=None if measured.event_value is None else measured.event_value[:of_them],
        )


def _compare(series: _Series, variation: int, complete: int) -> Compared:
    plan = series.plan
    design = DESIGN_UNITS if plan.planned_units is None else plan.planned_units
    watched = confidence_sequence(*series.pair(complete, variation), plan.confidence, design)
    effect, number, posterior = watched, complete, None
    if plan.inference == "group_sequential":
        effect, number = _at_looks(series, variation, complete)
    elif plan.inference == "fixed_horizon":
        number = complete if plan.planned_units is None else min(complete, plan.planned_units)
        effect = welch(*series.pair(number, variation), plan.confidence)
    elif plan.inference == "bayesian":
        effect, posterior = bayesian(
            *series.pair(complete, variation),
            is_proportion=series.metric.kind == "proportion" and not series.is_adjusted,
            goal=series.metric.goal,
            confidence=plan.confidence,
        )
    found = series.of_first(number)
    plain = series.of_first(number, adjusted=False).samples if series.is_adjusted else found.samples
    return Compared(
        effect,
        watched,
        posterior,
        plain[variation].mean if plain[variation].n else None,
        plain[series.control].mean if plain[series.control].n else None,
        found.variance_left,
    )


def _at_looks(series: _Series, variation: int, complete: int) -> tuple[Effect, int]:
    """Return the effect at the planned look that decides, and how many units it is of; before the first it says nothing.

    That is the look that went furthest beyond its bound, for what is said at each of them holds at all of them at once; where none did, the latest.
    """
    plan = series.plan
    planned, looks = plan.planned_units or DESIGN_UNITS, plan.looks
    numbers = [number for look in range(1, looks + 1) if (number := -(-planned * look // looks)) <= complete]
    if not numbers:
        samples = series.pair(complete, variation)
        silent = compared(*samples, None, p_value=None, confidence=plan.confidence, method="group_sequential")
        return silent, complete
    times = [(at + 1) / looks for at in range(len(numbers))]
    beyond = [
        _deviation(*series.pair(number, variation)) / limit
        for number, limit in zip(numbers, bounds(times, 1.0 - plan.confidence), strict=True)
    ]
    furthest = int(np.argmax(beyond))
    at = furthest if beyond[furthest] >= 1.0 else len(numbers) - 1
    effect = group_sequential(*series.pair(numbers[at], variation), times[: at + 1], plan.confidence)
    return effect, numbers[at]


def _deviation(control: Sample, treatment: Sample) -> float:
    """Return the size of the difference in standard errors, 0 where nothing is said of it."""
    error = standard_error(control, treatment)
    return 0.0 if is_silent(control, treatment) or error == 0.0 else abs(treatment.mean - control.mean) / error
