"""The verdict: what an experiment's results say should be done, by rules that were fixed before it began.

Each variation but the control is looked at by itself. A primary metric is *better* or *worse* where its p-value, corrected over all primary metrics and
variations, is at most alpha and the effect points to its goal or away from it (where a method has no p-values: where its interval leaves out 0); else it is *open*. A guardrail
is *crossed* where its whole relative interval lies beyond the margin on the bad side, *kept* where all of it lies within (with a margin of 0: where it is not crossed, because
that nothing is lost at all cannot be shown), else *open*; a silent one that is lopsided on the bad side is crossed, too. Below `LEAST_CONVERSIONS` conversions in either variation everything is *silent*, which decides nothing. Then, the first that applies:

    1. units are not split as planned, more than `MOST_DOUBLE` saw several variations, or a silent primary
       proportion is lopsided (`lopsided`): nobody converts in one variation, many in the other              check
    2. a guardrail is crossed                                      roll_back where the plan stops on guardrails, else check
    3. a variation has a better and no worse primary metric, and every guardrail kept                        ship (the best)
    4. the end: a variation has won, but a guardrail of it is not kept                                      check
    5. a variation is better by one primary metric and worse by another                                    check
    6. every variation has a worse and no better primary metric                                        roll_back
    7. the end: something could be said, and nothing was found                                       roll_back
    8. otherwise, and at the end where all was silent                                            keep_running

A crossed guardrail stops the experiment (`Judgement.stop`) where the plan says so, with rule 1, too: what harms users need not wait for the cause. Before the planned end of a
fixed horizon primary metrics are open, whatever they show. The order of metrics and variations decides nothing (`docs/experiment-decisions.md`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from shared.errors import InvalidInput
from shared.experiments.plan import AnalysisPlan, Guardrail, Metric, Verdict
from shared.experiments.statistics import verdict_reasons as words
from shared.experiments.statistics.confidence_sequences import is_silent
from shared.experiments.statistics.effect import Effect
from shared.experiments.statistics.lopsided import lopsided_p_value
from shared.experiments.statistics.multiple_testing import adjusted
from shared.experiments.statistics.outcome import Effects, Outcome, State

MISMATCH = 0.001
"""The p-value below which the variations' shares of units, or of conversions, are wrong."""
MOST_DOUBLE, LEAST_DOUBLE = 0.01, 10
"""The share of units, and the number, above which double exposures are too many."""


class Facts(msgspec.Struct, frozen=True):
    """What was counted.

    `units`: of each variation, without the double exposures; `shares`: what each should have, in any unit; empty where a bandit assigns. `complete`: units whose windows are over,
    which are held against the planned ones. `sample_ratio_p_value`: one that may be looked at always, None where there is none. `double_exposed`: units that saw
    several variations. `stopped`: whether the experiment is over for another reason than its planned units.
    """

    units: Mapping[str, int]
    shares: Mapping[str, float]
    complete: int
    sample_ratio_p_value: float | None = None
    double_exposed: int = 0
    stopped: bool = False


class Judgement(msgspec.Struct, frozen=True):
    """The verdict. `variation`: the one to ship, None unless the verdict is to ship. `stop`: a guardrail stops the experiment now.

    `reasons`: in words, the most important one first.
    """

    verdict: Verdict
    variation: str | None
    reasons: tuple[str, ...]
    stop: bool
    primary: tuple[Outcome, ...]
    guardrails: tuple[Outcome, ...]


def judge(
    plan: AnalysisPlan,
    variations: Sequence[str],
    effects: Effects,
    facts: Facts,
    guardrail_effects: Effects | None = None,
) -> Judgement:
    """Return the verdict on an experiment with these `variations` (keys, the control among them).

    `effects`: at the plan's confidence, by the plan's inference. `guardrail_effects`: by a method that may be looked at always, where `effects` are not; None: the same.
    Raises `InvalidInput` where the plan names what there is not.
    """
    control = _control(plan, variations)
    others = [each for each in variations if each != control]
    over = facts.stopped or (plan.planned_units is not None and facts.complete >= plan.planned_units)
    waits = plan.inference == "fixed_horizon" and not over
    primary = _primary(plan, others, effects, waits=waits)
    of_guardrails = effects if guardrail_effects is None else guardrail_effects
    guardrails = _guardrails(plan, others, of_guardrails)
    told = [words.of_primary(each, effects, plan, control, len(primary)) for each in primary]
    guarded = [words.of_guardrail(each, of_guardrails, plan, control) for each in guardrails]
    crossed = [text for each, text in zip(guardrails, guarded, strict=True) if each.state == "crossed"]
    stop = bool(crossed) and plan.stops_on_guardrail
    won = [each for each in others if _has_won(each, primary)]
    unkept = [
        text
        for each, text in zip(guardrails, guarded, strict=True)
        if each.variation in won and each.state in {"open", "silent"}
    ]
    clean = [each for each in won if all(of.state == "kept" for of in guardrails if of.variation == each)]
    mixed = [each for each in others if _states(each, primary) >= {"better", "worse"}]
    doubts = [*_doubts(facts), *_lopsided(plan, primary, effects, control)]

    verdict: Verdict = "keep_running"
    best: str | None = None
    reasons: list[str] = []
    if doubts:
        verdict, reasons = "check", [*doubts, *crossed]
    elif crossed:
        verdict, reasons = ("roll_back" if stop else "check"), crossed
    elif clean:
        verdict, best = "ship", max(clean, key=lambda each: (_gain(each, plan, effects), each))
        reasons = _about(best, primary, told) + _about(best, guardrails, guarded)
    elif won and over:
        verdict, reasons = "check", [words.UNKEPT, *unkept, *told]
    elif mixed:
        verdict, reasons = "check", [words.mixed(mixed), *told]
    elif others and all("worse" in _states(each, primary) for each in others):
        verdict, reasons = "roll_back", told
    elif over and any(each.state != "silent" for each in primary):
        verdict, reasons = "roll_back", [words.at_end(facts.complete, plan.planned_units), *told]
    elif not primary:
        reasons = [words.UNDECIDABLE]
    else:
        reasons = [words.progress(facts.complete, plan, over=over), *unkept, *told]
    return Judgement(verdict, best, tuple(reasons), stop, tuple(primary), tuple(guardrails))


def primary_metrics(plan: AnalysisPlan) -> list[Metric]:
    """Return the metrics that decide: those the plan names, else its first."""
    return [each for each in plan.metrics if each.name in plan.primary] if plan.primary else list(plan.metrics[:1])


def _control(plan: AnalysisPlan, variations: Sequence[str]) -> str:
    """Return the control variation, after a look at what the plan names."""
    names = {metric.name for metric in plan.metrics}
    named = [("primary", name, names) for name in plan.primary]
    named += [("guardrails", each.metric, names) for each in plan.guardrails]
    named += [("control", each, set(variations)) for each in (plan.control,) if each is not None]
    for field, name, known in named:
        if name not in known:
            raise InvalidInput(f"there is no {name}", field=f"analysis.{field}")
    if not variations:
        raise InvalidInput("there must be variations", field="variations")
    return plan.control or variations[0]


def _primary(plan: AnalysisPlan, others: Sequence[str], effects: Effects, *, waits: bool) -> list[Outcome]:
    pairs = [(metric, variation) for metric in primary_metrics(plan) for variation in others]
    found = [effects.get(metric.name, {}).get(variation) for metric, variation in pairs]
    p_values = [1.0 if each is None or each.p_value is None or is_mute(each) else each.p_value for each in found]
    outcomes = []
    for (metric, variation), effect, p_value in zip(pairs, found, adjusted(p_values, plan.correction), strict=True):
        corrected: float | None = None
        state: State = "silent"
        if effect is not None and not is_mute(effect):
            direction = _sign(effect.difference)
            if effect.p_value is None:
                direction = effect.direction
            else:
                corrected = float(p_value)
                direction *= corrected <= 1.0 - plan.confidence
            state = "open" if waits or not direction else "better" if direction == _towards(metric) else "worse"
        outcomes.append(Outcome(metric.name, variation, state, corrected))
    return outcomes


def _guardrails(plan: AnalysisPlan, others: Sequence[str], effects: Effects) -> list[Outcome]:
    name_to_metric = {metric.name: metric for metric in plan.metrics}
    return [
        Outcome(
            each.metric,
            variation,
            _kept(effects.get(each.metric, {}).get(variation), each, name_to_metric[each.metric]),
        )
        for each in plan.guardrails
        for variation in others
    ]


def _kept(effect: Effect | None, guardrail: Guardrail, metric: Metric) -> State:
    unharmed: State = "kept" if guardrail.margin == 0.0 else "open"
    if effect is None or is_mute(effect):
        if effect is not None and _is_lopsided(effect, metric) and _sign(effect.difference) != _towards(metric):
            return "crossed"
        return "kept" if guardrail.margin == 0.0 else "silent"
    bounds = (effect.low, effect.high) if guardrail.margin == 0.0 else (effect.relative_low, effect.relative_high)
    if bounds[0] is None or bounds[1] is None:
        return unharmed
    worst, best = sorted(_towards(metric) * each for each in bounds if each is not None)
    if best < -guardrail.margin:
        return "crossed"
    return "kept" if worst >= -guardrail.margin else unharmed


def is_mute(effect: Effect) -> bool:
    """Return whether nothing may be said of an effect: too few conversions, or a method that has no interval yet."""
    return effect.low is None or effect.high is None or is_silent(effect.control, effect.treatment)


def _doubts(facts: Facts) -> list[str]:
    """Return what forbids to believe any result, in words."""
    doubts = []
    if facts.sample_ratio_p_value is not None and facts.sample_ratio_p_value < MISMATCH:
        doubts.append(words.mismatch(facts.units, facts.shares, facts.sample_ratio_p_value))
    seen = sum(facts.units.values()) + facts.double_exposed
    if facts.double_exposed >= LEAST_DOUBLE and facts.double_exposed > MOST_DOUBLE * seen:
        doubts.append(words.double_exposed(facts.double_exposed, seen, MOST_DOUBLE))
    return doubts


def _lopsided(plan: AnalysisPlan, primary: Sequence[Outcome], effects: Effects, control: str) -> list[str]:
    name_to_metric = {metric.name: metric for metric in plan.metrics}
    found = [(each, each.effect(effects)) for each in primary if each.state == "silent"]
    return [
        words.lopsided(each, effect, control)
        for each, effect in found
        if effect is not None and _is_lopsided(effect, name_to_metric[each.metric])
    ]


def _is_lopsided(effect: Effect, metric: Metric) -> bool:
    few = is_silent(effect.control, effect.treatment)
    return metric.kind == "proportion" and few and lopsided_p_value(effect) < MISMATCH


def _gain(variation: str, plan: AnalysisPlan, effects: Effects) -> float:
    """Return the mean relative gain over the primary metrics, towards their goals."""
    metrics = primary_metrics(plan)
    found = [(metric, effects.get(metric.name, {}).get(variation)) for metric in metrics]
    gains = [_towards(metric) * (each.relative or 0.0) for metric, each in found if each is not None]
    return sum(sorted(gains)) / len(metrics)


def _has_won(variation: str, primary: Sequence[Outcome]) -> bool:
    states = _states(variation, primary)
    return "better" in states and "worse" not in states


def _states(variation: str, outcomes: Sequence[Outcome]) -> set[State]:
    return {each.state for each in outcomes if each.variation == variation}


def _about(variation: str, outcomes: Sequence[Outcome], texts: Sequence[str]) -> list[str]:
    return [text for each, text in zip(outcomes, texts, strict=True) if each.variation == variation]


def _towards(metric: Metric) -> int:
    return 1 if metric.goal == "increase" else -1


def _sign(value: float) -> int:
    return (value > 0.0) - (value < 0.0)
