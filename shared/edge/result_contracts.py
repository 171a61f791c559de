"""The typed structures of an experiment's results: what `analyse` answers, stores and sends, version 1.

Numbers that cannot be known yet are null. Differences are the variation's value less the control variation's; relative ones are that
over the control's value.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from shared.experiments.plan import Inference, Verdict


class AnalysisDue(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Data of `analysis.due`: the experiment to analyse; none for every running one."""

    experiment: str | None = None


class ExperimentDecided(msgspec.Struct, frozen=True):
    """Data of `experiment.decided`: the verdict has changed.

    `previous`: the verdict before. `variation`: the one to ship, where the verdict is to ship. `stopped`: a crossed guardrail has just
    stopped the experiment by itself.
    """

    experiment: str
    version: int
    phase: int
    verdict: Verdict
    previous: Verdict
    variation: str | None
    reasons: tuple[str, ...]
    analysed_at: datetime
    stopped: bool


class ResultsAsked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The arguments of `GET /v1/experiments/{key}/results`. `phase`: None for the newest one."""

    phase: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None


class VariationOut(msgspec.Struct, frozen=True):
    """One variation: `units` that saw it and no other, up to `as_of`; `expected_share` and `share` of them among all counted."""

    key: str
    name: str | None
    units: int
    expected_share: float
    share: float | None


class EffectOut(msgspec.Struct, frozen=True):
    """A variation beside the control one, on one metric.

    `units`, `control_units`: whose window is over. `value`, `control_value`: the metric itself, without adjustment. `low`, `high`: the
    interval of `difference` at the plan's confidence; `relative_low`, `relative_high`: of `relative`. `p_value`: None where the inference has
    none; `adjusted_p_value`: after the correction over the primary metrics and variations. `chance_to_win`, `expected_loss`: Bayesian
    inference only. `variance_reduction`: the share of the variance that CUPED or post-stratification took away. `better`: whether the
    interval lies on the side of the goal (True), on the other (False), or neither (None).
    """

    variation: str
    units: int
    control_units: int
    value: float | None
    control_value: float | None
    difference: float | None
    low: float | None
    high: float | None
    relative: float | None
    relative_low: float | None
    relative_high: float | None
    p_value: float | None
    adjusted_p_value: float | None
    chance_to_win: float | None
    expected_loss: float | None
    variance_reduction: float | None
    method: str
    better: bool | None


class PowerOut(msgspec.Struct, frozen=True):
    """What the complete units would show with a power of 80 %, by the plan's inference (where it is not sequential: a fixed horizon).

    `minimum_effect`: the smallest such difference; `relative`: over the control's value. What they have shown has no part in it.
    """

    variation: str
    minimum_effect: float | None
    relative: float | None


class MetricOut(msgspec.Struct, frozen=True):
    """One metric. `complete`: units whose window is over; `waiting`: units whose window is not, which count later.

    `margin`: of a guardrail, None where it is none; `crossed`: the variations that cross it.
    """

    name: str
    kind: str
    goal: str
    window_s: float
    primary: bool
    margin: float | None
    crossed: tuple[str, ...]
    complete: int
    waiting: int
    effects: tuple[EffectOut, ...]
    power: tuple[PowerOut, ...]


class SampleRatioOut(msgspec.Struct, frozen=True):
    """Whether the variations got the shares of units that they were to get.

    `p_value`: by chi-square, for one look. `sequential_p_value`: may be looked at always; below `threshold` something is wrong.
    """

    p_value: float | None
    sequential_p_value: float | None
    threshold: float
    mismatch: bool


class CourseEffect(msgspec.Struct, frozen=True):
    """An effect as it stood at an earlier analysis."""

    metric: str
    variation: str
    units: int
    difference: float | None
    low: float | None
    high: float | None
    relative: float | None
    relative_low: float | None
    relative_high: float | None


class CoursePoint(msgspec.Struct, frozen=True):
    """An earlier analysis: its verdict, how many units it counted, and the effects."""

    analysed_at: datetime
    verdict: Verdict
    units: int
    effects: tuple[CourseEffect, ...]


class Results(msgspec.Struct, frozen=True):
    """What an experiment shows.

    `as_of`: what happened later is not in it; `started_at`, `ended_at`: of the phase. `units`: counted; `double_exposed`: left out because
    they saw several variations. `variation`: the one to ship, where the verdict is to ship. `course`: the stored analyses of the phase, the
    oldest first, thinned where there are many.
    """

    experiment: str
    version: int
    phase: int
    status: str
    inference: Inference
    confidence: float
    control: str
    analysed_at: datetime
    as_of: datetime
    started_at: datetime
    ended_at: datetime | None
    units: int
    double_exposed: int
    variations: tuple[VariationOut, ...]
    sample_ratio: SampleRatioOut | None
    metrics: tuple[MetricOut, ...]
    verdict: Verdict
    variation: str | None
    reasons: tuple[str, ...]
    course: tuple[CoursePoint, ...] = ()
