"""What is wrong with the plan of an analysis."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from math import inf

from shared.experiments.fault import Fault, double_faults, number_faults, text_faults
from shared.experiments.plan import AnalysisPlan, Metric

_LONGEST_S = 10 * 365.25 * 86_400
"""Ten years: no window is longer."""
_MOST_LOOKS = 100
_MOST_UNITS = 10**12


def plan_faults(plan: AnalysisPlan, variations: Collection[str], field: str = "analysis") -> Iterator[Fault]:
    """Yield everything that is wrong with a plan, given the keys of the experiment's variations."""
    names = [metric.name for metric in plan.metrics]
    yield from double_faults(field + ".metrics[{}].name", names)
    for index, metric in enumerate(plan.metrics):
        yield from _metric_faults(metric, f"{field}.metrics[{index}]")
    yield from double_faults(field + ".primary[{}]", plan.primary)
    for index, name in enumerate(plan.primary):
        if name not in names:
            yield Fault(f"{field}.primary[{index}]", f"there is no metric {name!r}")
    yield from double_faults(field + ".guardrails[{}].metric", [guardrail.metric for guardrail in plan.guardrails])
    for index, guardrail in enumerate(plan.guardrails):
        if guardrail.metric not in names:
            yield Fault(f"{field}.guardrails[{index}].metric", f"there is no metric {guardrail.metric!r}")
        yield from number_faults(f"{field}.guardrails[{index}].margin", guardrail.margin, 0, inf, open_high=True)
    if plan.stops_on_guardrail and not plan.guardrails:
        yield Fault(f"{field}.stops_on_guardrail", "there is no guardrail to stop on")
    if plan.control is not None and plan.control not in variations:
        yield Fault(f"{field}.control", f"there is no variation {plan.control!r}")
    yield from number_faults(f"{field}.confidence", plan.confidence, 0.5, 1, open_low=True, open_high=True)
    yield from _course_faults(plan, field)


def _course_faults(plan: AnalysisPlan, field: str) -> Iterator[Fault]:
    if plan.planned_units is not None:
        yield from number_faults(f"{field}.planned_units", plan.planned_units, 1, _MOST_UNITS)
    elif plan.inference == "group_sequential":
        yield Fault(f"{field}.planned_units", "group_sequential needs to know at how many units the experiment ends")
    yield from number_faults(f"{field}.looks", plan.looks, 1, _MOST_LOOKS)
    if plan.strata is not None:
        yield from text_faults(f"{field}.strata", plan.strata)


def _metric_faults(metric: Metric, field: str) -> Iterator[Fault]:
    yield from text_faults(f"{field}.name", metric.name)
    yield from text_faults(f"{field}.event", metric.event)
    yield from number_faults(f"{field}.window_s", metric.window_s, 0, _LONGEST_S, open_low=True)
    if metric.winsorise is not None:
        yield from number_faults(f"{field}.winsorise", metric.winsorise, 0.5, 1, open_low=True, open_high=True)
    if metric.covariate_s is not None:
        yield from number_faults(f"{field}.covariate_s", metric.covariate_s, 0, _LONGEST_S, open_low=True)
    for name, kind, value in (("denominator", "ratio", metric.denominator), ("quantile", "quantile", metric.quantile)):
        if metric.kind == kind and value is None:
            yield Fault(f"{field}.{name}", f"a {kind} metric needs one")
        elif metric.kind != kind and value is not None:
            yield Fault(f"{field}.{name}", f"a {metric.kind} metric has none")
    if metric.denominator is not None:
        yield from text_faults(f"{field}.denominator", metric.denominator)
    if metric.quantile is not None:
        yield from number_faults(f"{field}.quantile", metric.quantile, 0, 1, open_low=True, open_high=True)
