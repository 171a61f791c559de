"""What an experiment measures and how it is judged, as its author planned it."""

from __future__ import annotations

from typing import Literal

import msgspec

Inference = Literal["sequential", "group_sequential", "fixed_horizon", "bayesian"]
Verdict = Literal["ship", "roll_back", "keep_running", "check"]


class Metric(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A number per unit, made from the feedback of its users.

    `kind`: `proportion` whether the unit had any event, `mean` the value per unit, `ratio` the sum of numerator over the sum of denominator,
    `quantile` of the events' values. `event`: the kind of feedback; `denominator`: of a ratio, a kind of feedback or `decisions`.
    `aggregate`: how a unit's events become one value. `window_s`: only events up to this long after the first exposure count, > 0.
    `winsorise`: values above this quantile of all units' are cut to it, in (0.5, 1); None: none. `quantile`: in (0, 1), of a quantile metric.
    `goal`: which way is better. `covariate_s`: CUPED: the same metric over this long before the exposure; None: none.
    """

    name: str
    event: str
    kind: Literal["proportion", "mean", "ratio", "quantile"] = "proportion"
    aggregate: Literal["sum", "count", "max"] = "sum"
    denominator: str | None = None
    window_s: float = 604_800.0
    winsorise: float | None = None
    quantile: float | None = None
    goal: Literal["increase", "decrease"] = "increase"
    covariate_s: float | None = None


class Guardrail(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A metric that must not get worse by more than `margin`, relative to the control variation's; 0 for not at all."""

    metric: str
    margin: float = 0.0


class AnalysisPlan(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """How an experiment is judged.

    `metrics`: all that is measured; `primary`: names of those that decide, none for the first. `guardrails`: what may not suffer;
    `stops_on_guardrail`: such a one stops the experiment by itself. `control`: the variation that the others are compared with, None for the first.
    `confidence`: of intervals, in (0.5, 1). `inference`: how often results may be looked at: `sequential` always, `group_sequential` at `looks`
    planned looks up to `planned_units` units, `fixed_horizon` once. `correction`: over the primary metrics and variations.
    `strata`: an attribute by whose values results are post-stratified.
    """

    metrics: tuple[Metric, ...] = ()
    primary: tuple[str, ...] = ()
    guardrails: tuple[Guardrail, ...] = ()
    stops_on_guardrail: bool = False
    control: str | None = None
    confidence: float = 0.95
    inference: Inference = "sequential"
    planned_units: int | None = None
    looks: int = 5
    correction: Literal["holm", "benjamini_hochberg", "none"] = "holm"
    strata: str | None = None
