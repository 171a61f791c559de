"""From what units did to the results of an experiment: effects, checks, the verdict. Pure but for what it imports: SciPy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np

from functions.analyse.comparing import Compared, Comparison, compare
from shared.edge.result_contracts import EffectOut, MetricOut, PowerOut, Results, SampleRatioOut, VariationOut
from shared.experiments.experiment import ExperimentSpec
from shared.experiments.plan import AnalysisPlan, Metric
from shared.experiments.statistics.confidence_sequences import DESIGN_UNITS
from shared.experiments.statistics.effect import Effect
from shared.experiments.statistics.power import Baseline, Method, detectable
from shared.experiments.statistics.sample_ratio import chi_square_p_value, sequential_p_value
from shared.experiments.statistics.verdict import MISMATCH, Facts, Judgement, judge, primary_metrics
from shared.storage.postgres_metrics import Units
from shared.storage.postgres_results import Phase

POWER = 0.8
"""With which the smallest effect is found that is told."""
_DIGITS = 9
"""To how many digits shares are compared."""

CHANGED = (
    "The variations' shares were changed within this phase: they are not held against the plan, and of later days more of one variation "
    "is compared with less of another. A new phase would compare like with like."
)


class Judged(NamedTuple):
    """What an experiment shows, and whether a guardrail stops it now."""

    results: Results
    stop: bool


def judged(known: Phase, units: Units, now: float, as_of: float) -> Judged:
    """Return what a phase shows of its `units`, read as of `as_of`; `now`: when that is (POSIX seconds)."""
    spec, plan = known.spec, known.spec.analysis
    keys = [variation.key for variation in spec.variations]
    control = keys.index(plan.control) if plan.control in keys else 0
    counts = np.bincount(units.variation, minlength=len(keys))
    shares = planned_shares(spec)
    comparisons = {
        metric.name: compare(
            plan, units.measured[metric.name], units, variations=len(keys), control=control, as_of=as_of
        )
        for metric in plan.metrics
    }
    changed = _shares_changed(known.ran)
    ratio = None if changed else _sample_ratio(counts.tolist(), shares)
    primary = [metric.name for metric in primary_metrics(plan)]
    facts = Facts(
        units=dict(zip(keys, counts.tolist(), strict=True)),
        shares={} if changed else dict(zip(keys, shares, strict=True)),
        complete=min((comparisons[name].complete for name in primary), default=len(units.variation)),
        sample_ratio_p_value=None if ratio is None else ratio.sequential_p_value,
        double_exposed=units.double_exposed,
        stopped=known.ended_at is not None,
    )
    judgement = judge(
        plan,
        keys,
        {name: {keys[at]: each.effect for at, each in one.compared.items()} for name, one in comparisons.items()},
        facts,
        {name: {keys[at]: each.watched for at, each in one.compared.items()} for name, one in comparisons.items()},
    )
    total = int(counts.sum())
    results = Results(
        experiment=spec.key,
        version=spec.version,
        phase=spec.phase,
        status=spec.status,
        inference=plan.inference,
        confidence=plan.confidence,
        control=keys[control],
        analysed_at=_moment(now),
        as_of=_moment(as_of),
        started_at=_moment(known.started_at),
        ended_at=None if known.ended_at is None else _moment(known.ended_at),
        units=total,
        double_exposed=units.double_exposed,
        variations=tuple(
            VariationOut(variation.key, variation.name, int(count), share, int(count) / total if total else None)
            for variation, count, share in zip(spec.variations, counts, shares, strict=True)
        ),
        sample_ratio=ratio,
        metrics=tuple(
            _metric_out(
                metric,
                plan,
                comparisons[metric.name],
                judgement,
                keys=keys,
                total=total,
                primary=metric.name in primary,
            )
            for metric in plan.metrics
        ),
        verdict=judgement.verdict,
        variation=judgement.variation,
        reasons=(*judgement.reasons, CHANGED) if changed else judgement.reasons,
    )
    return Judged(results, judgement.stop and known.ended_at is None)


def planned_shares(spec: ExperimentSpec) -> list[float]:
    """Return the share of the units in the experiment that each variation is to get; they add up to 1.

    >>> from shared.experiments.experiment import Variation
    >>> planned_shares(ExperimentSpec("e", 1, (Variation("a"), Variation("b")), weights=(0.9, 0.1), coverage=0.5))
    [0.9, 0.1]
    """
    if spec.ranges is not None:
        parts = [max(high - low, 0.0) for low, high in spec.ranges]
    else:
        parts = [1.0] * len(spec.variations) if spec.weights is None else list(spec.weights)
    whole = math.fsum(parts)
    return [part / whole for part in parts] if whole else parts


def _shares_changed(ran: Sequence[ExperimentSpec]) -> bool:
    """Say whether versions of a phase share the units differently; more coverage with the same weights does not."""
    found = {tuple(round(share, _DIGITS) for share in planned_shares(spec)) for spec in ran}
    return len(found) > 1


def _sample_ratio(counts: Sequence[int], shares: Sequence[float]) -> SampleRatioOut | None:
    """Hold the counts against the planned shares; a variation that nobody is to see and somebody saw does not fit, whatever the others."""
    if any(count and not share for count, share in zip(counts, shares, strict=True)):
        return SampleRatioOut(0.0, 0.0, MISMATCH, mismatch=True)
    seen = [count for count, share in zip(counts, shares, strict=True) if share]
    planned = [share for share in shares if share]
    if not sum(seen) or len(planned) < 2:  # noqa: PLR2004 - one share fits always
        return None
    p_value = sequential_p_value(seen, planned)
    return SampleRatioOut(chi_square_p_value(seen, planned), p_value, MISMATCH, mismatch=p_value < MISMATCH)


def _metric_out(
    metric: Metric,
    plan: AnalysisPlan,
    comparison: Comparison,
    judgement: Judgement,
    *,
    keys: Sequence[str],
    total: int,
    primary: bool,
) -> MetricOut:
    margins = {guardrail.metric: guardrail.margin for guardrail in plan.guardrails}
    corrected = {each.variation: each.p_value for each in judgement.primary if each.metric == metric.name}
    is_watched = metric.name in margins and not primary
    return MetricOut(
        name=metric.name,
        kind=metric.kind,
        goal=metric.goal,
        window_s=metric.window_s,
        primary=primary,
        margin=margins.get(metric.name),
        crossed=tuple(
            each.variation for each in judgement.guardrails if each.metric == metric.name and each.state == "crossed"
        ),
        complete=comparison.complete,
        waiting=total - comparison.complete,
        effects=tuple(
            _effect_out(keys[at], each, metric, corrected, watched=is_watched)
            for at, each in comparison.compared.items()
        ),
        power=tuple(
            PowerOut(keys[at], *_minimum_effect(plan, each.watched))
            for at, each in comparison.compared.items()
            if primary
        ),
    )


def _effect_out(
    variation: str, compared: Compared, metric: Metric, corrected: Mapping[str, float | None], *, watched: bool
) -> EffectOut:
    effect = compared.watched if watched else compared.effect
    posterior = None if watched else compared.posterior
    return EffectOut(
        variation=variation,
        units=effect.treatment.n,
        control_units=effect.control.n,
        value=_finite(compared.value),
        control_value=_finite(compared.control_value),
        difference=_finite(effect.difference) if min(effect.treatment.n, effect.control.n) else None,
        low=_finite(effect.low),
        high=_finite(effect.high),
        relative=_finite(effect.relative),
        relative_low=_finite(effect.relative_low),
        relative_high=_finite(effect.relative_high),
        p_value=_finite(effect.p_value),
        adjusted_p_value=_finite(corrected.get(variation)),
        chance_to_win=None if posterior is None else _finite(posterior.chance_to_win),
        expected_loss=None if posterior is None else _finite(posterior.expected_loss),
        variance_reduction=1.0 - compared.variance_left if compared.variance_left != 1.0 else None,
        method=effect.method,
        better=_better(effect, metric),
    )


def _minimum_effect(plan: AnalysisPlan, effect: Effect) -> tuple[float | None, float | None]:
    """Return the smallest difference that so many units would show, and the same relative to the control; None where nothing is known yet."""
    control, treatment = effect.control, effect.treatment
    if min(control.n, treatment.n) < 2 or min(control.variance, treatment.variance) <= 0.0:  # noqa: PLR2004 - no spread
        return None, None
    units = control.n + treatment.n
    method = Method(
        "sequential" if plan.inference == "sequential" else "fixed_horizon",
        plan.confidence,
        treatment.n / units,
        plan.planned_units or DESIGN_UNITS,
    )
    least = detectable(Baseline.of_samples(control, treatment), units, POWER, method)
    return _finite(least), _finite(least / abs(control.mean)) if least is not None and control.mean else None


def _better(effect: Effect, metric: Metric) -> bool | None:
    direction = effect.direction if metric.goal == "increase" else -effect.direction
    return None if not direction else direction > 0


def _finite(number: float | None) -> float | None:
    return number if number is not None and math.isfinite(number) else None


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
