"""The reasons of a verdict, in sentences with numbers that need no statistician."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from shared.experiments.plan import AnalysisPlan
from shared.experiments.statistics.confidence_sequences import LEAST_CONVERSIONS
from shared.experiments.statistics.effect import Effect
from shared.experiments.statistics.lopsided import lopsided_p_value
from shared.experiments.statistics.outcome import Effects, Outcome

UNDECIDABLE = "There is no primary metric, or no variation beside the control: nothing can be decided."
UNKEPT = "The planned end is reached and a variation has won, but it is not shown that it keeps to every guardrail: somebody must weigh this."
_LEAST_P = 0.0001


def of_primary(outcome: Outcome, effects: Effects, plan: AnalysisPlan, control: str, comparisons: int) -> str:
    """Say what a primary metric shows; `comparisons`: how many its p-value is corrected for."""
    effect = outcome.effect(effects)
    if effect is None or outcome.state == "silent":
        return _too_few(outcome, effect, control)
    shown = {
        "better": "that is better",
        "worse": "that is worse",
        "open": "that may be chance",
    }[outcome.state]
    if plan.inference == "fixed_horizon" and outcome.state == "open":
        shown = "to be judged once, at the planned end" if effect.direction else shown
    certainty = "" if outcome.p_value is None else f" ({_p_value(outcome.p_value, plan, comparisons)})"
    return f"{_compared(outcome, effect, control)}; {shown}{certainty}."


def of_guardrail(outcome: Outcome, effects: Effects, plan: AnalysisPlan, control: str) -> str:
    """Say what a guardrail shows."""
    effect = outcome.effect(effects)
    margin = next(each.margin for each in plan.guardrails if each.metric == outcome.metric)
    if effect is not None and effect.low is None and outcome.state == "crossed":
        return "Guardrail " + lopsided(outcome, effect, control)
    if effect is None or effect.low is None or outcome.state == "silent":
        return "Guardrail " + _too_few(outcome, effect, control)
    allowed = f"the {_percent(margin)} that it may get worse" if margin else "that it must not get worse"
    shown = {
        "kept": f"within {allowed}" if margin else "no harm is shown",
        "crossed": f"beyond {allowed}" if margin else f"against the rule {allowed}",
    }.get(outcome.state, f"it is not clear yet whether this is within {allowed}")
    return f"Guardrail {_compared(outcome, effect, control)}; {shown}."


def mismatch(units: Mapping[str, int], shares: Mapping[str, float], p_value: float) -> str:
    """Say that units are not split as planned."""
    whole, planned = sum(units.values()) or 1, sum(shares.values()) or 1.0
    keys = sorted(units)
    seen = ", ".join(
        f"{key} has {units[key]:,} ({_percent(units[key] / whole)} instead of {_percent(shares.get(key, 0.0) / planned)})"
        for key in keys
    )
    return f"The units are not split as planned: {seen}. Chance does this less than once in {_times(p_value)} experiments. Until the cause is found no result can be believed."


def lopsided(outcome: Outcome, effect: Effect, control: str) -> str:
    """Say that one variation has hardly any conversions and the other has many."""
    one, other = effect.control, effect.treatment
    return (
        f"{outcome.metric}: {other.conversions:,} conversions of {other.n:,} units in {outcome.variation} and {one.conversions:,} of {one.n:,} in {control}. Chance does this "
        f"less than once in {_times(lopsided_p_value(effect))} experiments: see whether both variations work, and are measured alike."
    )


def double_exposed(number: int, seen: int, most: float) -> str:
    """Say that too many units saw several variations."""
    return (
        f"{number:,} of {seen:,} units ({_percent(number / seen)}, more than {_percent(most)}) saw several variations and are left out. "
        "Who is left out may not be by chance: find out why before any result is believed."
    )


def mixed(variations: Sequence[str]) -> str:
    """Say that primary metrics contradict each other."""
    return f"Primary metrics contradict each other in {', '.join(sorted(variations))}: one got better, another worse. Somebody must weigh them."


def at_end(complete: int, planned: int | None) -> str:
    """Say that nothing was found."""
    reached = (
        "The experiment is over" if planned is None or complete < planned else f"The planned {planned:,} units are in"
    )
    return f"{reached}, and no variation is shown to be better: the control stays."


def progress(complete: int, plan: AnalysisPlan, *, over: bool) -> str:
    """Say how far the experiment is."""
    if over:
        return f"The end is reached with {complete:,} units, but too few of them converted to say anything: more units are needed."
    if plan.planned_units is None:
        return f"{complete:,} units are in; nothing is decided yet."
    share = _percent(complete / plan.planned_units)
    return f"{complete:,} of {plan.planned_units:,} planned units are in ({share}); nothing is decided yet."


def _compared(outcome: Outcome, effect: Effect, control: str) -> str:
    """Say how the variation lies beside the control, with the interval: relative where that is known, else in units of the metric."""
    if effect.relative is not None and effect.relative_low is not None and effect.relative_high is not None:
        value, low, high = map(_percent, (abs(effect.relative), effect.relative_low, effect.relative_high))
        low, high = (
            f"{'+' if of > 0.0 else ''}{text}"
            for of, text in ((effect.relative_low, low), (effect.relative_high, high))
        )
        moved = effect.relative
    else:
        value, low, high = f"{abs(effect.difference):.3g}", f"{effect.low:+.3g}", f"{effect.high:+.3g}"
        moved = effect.difference
    sense = "higher" if moved > 0.0 else "lower" if moved < 0.0 else "different"
    return f"{outcome.metric}: {value} {sense} in {outcome.variation} than in {control} (between {low} and {high} with {_percent(effect.confidence)} confidence)"


def _too_few(outcome: Outcome, effect: Effect | None, control: str) -> str:
    counts = (None, None) if effect is None else (effect.control.conversions, effect.treatment.conversions)
    if counts[0] is None or counts[1] is None or min(counts[0], counts[1]) >= LEAST_CONVERSIONS:
        return f"{outcome.metric}: nothing can be said of {outcome.variation} yet."
    return (
        f"{outcome.metric}: {counts[1]:,} conversions in {outcome.variation} and {counts[0]:,} in {control}; "
        f"nothing is said below {LEAST_CONVERSIONS} in each."
    )


def _p_value(p_value: float, plan: AnalysisPlan, comparisons: int) -> str:
    text = f"p < {_LEAST_P:g}" if p_value < _LEAST_P else f"p = {p_value:.2g}"
    return f"{text}, corrected for {comparisons} comparisons" if plan.correction != "none" and comparisons > 1 else text


def _percent(share: float) -> str:
    """Return a share in per cent with three digits.

    >>> _percent(0.04217), _percent(-0.5), _percent(1.0)
    ('4.22 %', '-50 %', '100 %')
    """
    return f"{100.0 * share:.3g} %" if abs(share) < 9.995 else f"{100.0 * share:,.0f} %"  # noqa: PLR2004 - where three digits would become a power of ten


def _times(p_value: float) -> str:
    return "a billion" if p_value < 1e-9 else f"{int(1.0 / p_value):,}"  # noqa: PLR2004 - nobody needs to know more
