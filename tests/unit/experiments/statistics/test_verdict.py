"""The verdict: every row of the decision table, what must never depend on what, and how often it is wrong when nothing is going on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import InvalidInput
from shared.experiments.plan import AnalysisPlan, Guardrail, Metric
from shared.experiments.statistics.confidence_sequences import confidence_sequence
from shared.experiments.statistics.effect import Effect, compared
from shared.experiments.statistics.lopsided import lopsided_p_value
from shared.experiments.statistics.moments import Sample
from shared.experiments.statistics.verdict import Facts, judge

CLICKS, ORDERS, ERRORS = (
    Metric("clicks", "click"),
    Metric("orders", "order"),
    Metric("errors", "error", goal="decrease"),
)
PLAN = AnalysisPlan(metrics=(CLICKS,), planned_units=10_000)
EVEN = Facts(units={"a": 2_000, "b": 2_000}, shares={"a": 0.5, "b": 0.5}, complete=4_000)
END = msgspec.structs.replace(EVEN, complete=10_000)


def effect(z: float, *, lift: float | None = None, conversions: int | None = 400, confidence: float = 0.95) -> Effect:
    """Return an effect that lies `z` standard errors from 0, by a fixed horizon; `lift`: relative to a control of 0.1, 2 % an error where None."""
    change = 0.02 * z if lift is None else lift
    error = 0.1 * abs(change / z) if z else 0.002
    n = 5_000
    variance = error**2 * n / 2
    p_value = math.erfc(abs(z) / math.sqrt(2.0))
    control, treatment = (Sample(n, mean, variance, conversions=conversions) for mean in (0.1, 0.1 * (1.0 + change)))
    return compared(control, treatment, 1.959964, p_value=p_value, confidence=confidence, method="welch")


def one(z: float, **how: Any) -> dict[str, dict[str, Effect]]:
    """Return the effects of an experiment with one metric and one variation."""
    return {"clicks": {"b": effect(z, **how)}}


def test_ship_names_the_variation_and_its_numbers() -> None:
    """A clear gain ships, at any time, in words with the interval."""
    judgement = judge(PLAN, ["a", "b"], one(4.0), EVEN)
    assert (judgement.verdict, judgement.variation, judgement.stop) == ("ship", "b", False)
    (reason,) = judgement.reasons
    assert reason.startswith("clicks: 8 % higher in b than in a (between +")
    assert "that is better (p < 0.0001)" in reason
    assert judgement.primary[0].state == "better"


def test_a_loss_rolls_back_and_nothing_keeps_running() -> None:
    """Worse at any time; open before the end; nothing found at the end."""
    assert judge(PLAN, ["a", "b"], one(-4.0), EVEN).verdict == "roll_back"
    running = judge(PLAN, ["a", "b"], one(1.0), EVEN)
    assert running.verdict == "keep_running"
    assert running.reasons[0] == "4,000 of 10,000 planned units are in (40 %); nothing is decided yet."
    ended = judge(PLAN, ["a", "b"], one(1.0), END)
    assert ended.verdict == "roll_back"
    assert ended.reasons[0].startswith("The planned 10,000 units are in, and no variation is shown to be better")
    stopped = judge(PLAN, ["a", "b"], one(1.0), msgspec.structs.replace(EVEN, stopped=True))
    assert stopped.reasons[0].startswith("The experiment is over, and")


def test_silent_below_ten_conversions() -> None:
    """However large the effect, nine conversions say nothing; at the end more units are asked for."""
    for facts in (EVEN, END):
        judgement = judge(PLAN, ["a", "b"], one(9.0, conversions=9), facts)
        assert (judgement.verdict, judgement.primary[0].state) == ("keep_running", "silent")
        assert "9 conversions in b and 9 in a; nothing is said below 10 in each" in judgement.reasons[-1]
    assert judge(PLAN, ["a", "b"], {}, END).verdict == "keep_running"


def test_checks_come_first() -> None:
    """A mismatch and double exposures, with their numbers, whatever the metrics say."""
    facts = msgspec.structs.replace(EVEN, units={"a": 2_000, "b": 1_700}, sample_ratio_p_value=1e-5)
    judgement = judge(PLAN, ["a", "b"], one(4.0), facts)
    assert judgement.verdict == "check"
    assert "a has 2,000 (54.1 % instead of 50 %), b has 1,700 (45.9 % instead of 50 %)" in judgement.reasons[0]
    assert "once in 99,999 experiments" in judgement.reasons[0] or "once in 100,000 experiments" in judgement.reasons[0]
    double = judge(PLAN, ["a", "b"], one(4.0), msgspec.structs.replace(EVEN, double_exposed=60))
    assert double.verdict == "check"
    assert double.reasons[0].startswith("60 of 4,060 units (1.48 %, more than 1 %) saw several variations")
    for few in (40, 9):  # within one in a hundred; too few to be a share of anything
        few_units = msgspec.structs.replace(EVEN, double_exposed=few)
        assert judge(PLAN, ["a", "b"], one(4.0), few_units).verdict == "ship"
    tiny = msgspec.structs.replace(EVEN, units={"a": 20, "b": 20}, double_exposed=9)
    assert judge(PLAN, ["a", "b"], one(4.0), tiny).verdict == "ship"


def rare(control: int, treatment: int, n: int = 5_000) -> Effect:
    """Return the effect of a proportion with so many conversions of `n` units each."""
    one, other = (Sample(n, each / n, each / n * (1.0 - each / n), conversions=each) for each in (control, treatment))
    return confidence_sequence(one, other)


def test_nobody_converts_in_one_variation() -> None:
    """Nine to nine is silence, none to thirty is a defect: to be checked, whichever side it is on, but no verdict on the effect."""
    for control, treatment in ((30, 0), (0, 30), (200, 9)):
        judgement = judge(PLAN, ["a", "b"], {"clicks": {"b": rare(control, treatment)}}, EVEN)
        assert (judgement.verdict, judgement.primary[0].state) == ("check", "silent")
        assert f"{treatment} conversions of 5,000 units in b and {control} of 5,000 in a" in judgement.reasons[0]
    for control, treatment in ((9, 9), (9, 2), (0, 0), (10, 0)):
        assert judge(PLAN, ["a", "b"], {"clicks": {"b": rare(control, treatment)}}, EVEN).verdict == "keep_running"
    amounts = msgspec.structs.replace(PLAN, metrics=(msgspec.structs.replace(CLICKS, kind="mean"),))
    assert judge(amounts, ["a", "b"], {"clicks": {"b": rare(30, 0)}}, EVEN).verdict == "keep_running"


def test_a_guardrail_need_not_wait_for_ten_errors_of_the_control() -> None:
    """Thirty errors to none cross it, on the bad side only."""
    plan = msgspec.structs.replace(GUARDED, stops_on_guardrail=True)
    for control, treatment, state in ((0, 30, "crossed"), (30, 0, "silent"), (3, 6, "silent")):
        effects = one(4.0) | {"errors": {"b": rare(control, treatment)}}
        judgement = judge(plan, ["a", "b"], effects, EVEN)
        assert (judgement.guardrails[0].state, judgement.stop) == (state, state == "crossed")
    assert (
        judge(plan, ["a", "b"], one(4.0) | {"errors": {"b": rare(0, 30)}}, EVEN)
        .reasons[0]
        .startswith(
            "Guardrail errors: 30 conversions of 5,000 units in b and 0 of 5,000 in a. Chance does this less than once in"
        )
    )


def test_lopsided_conversions_are_rare_by_chance() -> None:
    """Rare conversions at equal rates, looked at a hundred times with unequal shares: a defect is seen in fewer than one experiment in a thousand at p < 0.001, and the p-value holds at 5 %."""
    random = np.random.default_rng(13)
    least = []
    for _ in range(300):
        counts = np.cumsum(random.binomial([300, 100], 0.001, size=(100, 2)), axis=0)
        looks = [
            confidence_sequence(
                Sample(300 * n, 0.0, 0.0, conversions=int(a)), Sample(100 * n, 0.0, 0.0, conversions=int(b))
            )
            for n, (a, b) in enumerate(counts, 1)
        ]
        least.append(min(lopsided_p_value(look) for look in looks))
    assert np.mean(np.array(least) <= 0.05) <= 0.05
    assert np.mean(np.array(least) <= 0.001) <= 0.01


GUARDED = AnalysisPlan(metrics=(CLICKS, ERRORS), guardrails=(Guardrail("errors", 0.05),), planned_units=10_000)


@pytest.mark.parametrize(
    ("z", "lift", "state", "verdict", "verdict_at_end"),
    [
        (1.0, 0.01, "kept", "ship", "ship"),  # between -1 % and +3 %
        (-4.0, -0.08, "kept", "ship", "ship"),  # fewer errors: good
        (1.0, 0.03, "open", "keep_running", "check"),  # up to +9 %
        (10.0, 0.2, "crossed", "check", "check"),  # 16 % at the least
    ],
)
def test_guardrails(z: float, lift: float, state: str, verdict: str, verdict_at_end: str) -> None:
    """A gain ships only where every guardrail is shown to keep its margin, in its own bad direction."""
    effects = one(4.0) | {"errors": {"b": effect(z, lift=lift)}}
    judgement = judge(GUARDED, ["a", "b"], effects, EVEN)
    assert (judgement.guardrails[0].state, judgement.verdict, judgement.stop) == (state, verdict, False)
    assert judge(GUARDED, ["a", "b"], effects, END).verdict == verdict_at_end


def test_a_crossed_guardrail_stops_where_the_plan_says_so() -> None:
    """It rolls back and stops; with a mismatch beside it the verdict is to check, and it stops all the same."""
    plan = msgspec.structs.replace(GUARDED, stops_on_guardrail=True)
    effects = one(4.0) | {"errors": {"b": effect(10.0, lift=0.2)}}
    judgement = judge(plan, ["a", "b"], effects, EVEN)
    assert (judgement.verdict, judgement.stop) == ("roll_back", True)
    assert judgement.reasons[0].startswith("Guardrail errors: 20 % higher in b than in a")
    assert "beyond the 5 % that it may get worse" in judgement.reasons[0]
    doubted = judge(plan, ["a", "b"], effects, msgspec.structs.replace(EVEN, sample_ratio_p_value=0.0))
    assert (doubted.verdict, doubted.stop) == ("check", True)
    calm = judge(plan, ["a", "b"], effects, EVEN, one(4.0) | {"errors": {"b": effect(0.0)}})
    assert (calm.verdict, calm.stop) == ("ship", False)  # guardrails go by the effects that are theirs


def test_a_margin_of_nothing_asks_that_no_harm_is_shown() -> None:
    """Without a margin an interval around 0 keeps it, one beyond 0 crosses it, and silence does not hold anybody up."""
    plan = msgspec.structs.replace(GUARDED, guardrails=(Guardrail("errors"),))
    for z, conversions, state in ((1.0, 400, "kept"), (3.0, 400, "crossed"), (3.0, 4, "kept")):
        effects = one(4.0) | {"errors": {"b": effect(z, conversions=conversions)}}
        judgement = judge(plan, ["a", "b"], effects, EVEN)
        assert (judgement.guardrails[0].state, judgement.verdict) == (state, "check" if state == "crossed" else "ship")


def test_a_silent_guardrail_with_a_margin_holds_up() -> None:
    """What nothing is known of is not kept."""
    effects = one(4.0) | {"errors": {"b": effect(0.0, conversions=4)}}
    assert judge(GUARDED, ["a", "b"], effects, EVEN).verdict == "keep_running"
    ended = judge(GUARDED, ["a", "b"], effects, END)
    assert ended.verdict == "check"
    assert "4 conversions" in ended.reasons[1]


def test_correction_over_metrics_and_variations() -> None:
    """A p-value of 3 % convinces alone, and not as one of four."""
    alone = judge(PLAN, ["a", "b"], one(2.17), EVEN)
    assert alone.verdict == "ship"
    plan = AnalysisPlan(metrics=(CLICKS, ORDERS), primary=("clicks", "orders"), planned_units=10_000)
    effects = {"clicks": {"b": effect(2.17), "c": effect(0.1)}, "orders": {"b": effect(0.2), "c": effect(-0.1)}}
    facts = msgspec.structs.replace(EVEN, units={"a": 1, "b": 1, "c": 1}, shares={"a": 1, "b": 1, "c": 1})
    judgement = judge(plan, ["a", "b", "c"], effects, facts)
    assert judgement.verdict == "keep_running"
    assert judgement.primary[0].p_value == pytest.approx(0.12, abs=0.001)
    assert any("p = 0.12, corrected for 4 comparisons" in reason for reason in judgement.reasons)
    assert judge(msgspec.structs.replace(plan, correction="none"), ["a", "b", "c"], effects, facts).verdict == "ship"


def test_contradicting_primary_metrics_are_weighed_by_people() -> None:
    """One better, one worse."""
    plan = AnalysisPlan(metrics=(CLICKS, ORDERS), primary=("clicks", "orders"))
    judgement = judge(plan, ["a", "b"], {"clicks": {"b": effect(5.0)}, "orders": {"b": effect(-5.0)}}, EVEN)
    assert judgement.verdict == "check"
    assert judgement.reasons[0].startswith("Primary metrics contradict each other in b")


def test_the_best_of_several_is_shipped_and_losers_wait_for_the_others() -> None:
    """The larger gain wins; one lost variation of two does not end the experiment."""
    effects = {"clicks": {"b": effect(5.0), "c": effect(9.0)}}
    assert judge(PLAN, ["a", "b", "c"], effects, EVEN).variation == "c"
    assert (
        judge(PLAN, ["a", "b", "c"], {"clicks": {"b": effect(-5.0), "c": effect(1.0)}}, EVEN).verdict == "keep_running"
    )
    assert judge(PLAN, ["a", "b", "c"], {"clicks": {"b": effect(-5.0), "c": effect(-6.0)}}, EVEN).verdict == "roll_back"


def test_a_fixed_horizon_is_judged_at_its_end() -> None:
    """Before, even a clear effect waits, and says so."""
    plan = msgspec.structs.replace(PLAN, inference="fixed_horizon")
    early = judge(plan, ["a", "b"], one(9.0), EVEN)
    assert early.verdict == "keep_running"
    assert "to be judged once, at the planned end" in early.reasons[1]
    assert judge(plan, ["a", "b"], one(9.0), END).verdict == "ship"


def test_without_p_values_the_interval_decides() -> None:
    """Bayesian effects have none."""
    plain = msgspec.structs.replace(effect(3.0), p_value=None, method="bayesian")
    judgement = judge(msgspec.structs.replace(PLAN, inference="bayesian"), ["a", "b"], {"clicks": {"b": plain}}, EVEN)
    assert (judgement.verdict, judgement.primary[0].p_value) == ("ship", None)


def test_an_experiment_that_measures_nothing_runs_on() -> None:
    """No metrics, or nobody to compare: nothing is decided, not even at the end, but checks are made."""
    for plan, variations in ((msgspec.structs.replace(PLAN, metrics=()), ["a", "b"]), (PLAN, ["a"])):
        judgement = judge(plan, variations, {}, END)
        assert (judgement.verdict, judgement.reasons[0][:26]) == ("keep_running", "There is no primary metric")
        doubted = msgspec.structs.replace(END, sample_ratio_p_value=0.0)
        assert judge(plan, variations, {}, doubted).verdict == "check"


def test_a_plan_that_names_nothing_is_refused() -> None:
    """Metrics and a control that do not exist, by their field."""
    for change, field in (
        ({"primary": ("x",)}, "analysis.primary"),
        ({"guardrails": (Guardrail("x"),)}, "analysis.guardrails"),
        ({"control": "x"}, "analysis.control"),
    ):
        with pytest.raises(InvalidInput) as caught:
            judge(msgspec.structs.replace(PLAN, **change), ["a", "b"], one(1.0), EVEN)
        assert caught.value.field == field
    with pytest.raises(InvalidInput):
        judge(PLAN, [], {}, EVEN)


METRICS = ("clicks", "orders", "errors")
VARIATIONS = ("a", "b", "c", "d")


@st.composite
def experiments(draw: st.DrawFn) -> tuple[AnalysisPlan, dict[str, dict[str, Effect]], Facts]:
    """Return any experiment of three metrics and four variations."""
    metrics = tuple(Metric(name, name, goal=draw(st.sampled_from(["increase", "decrease"]))) for name in METRICS)
    plan = AnalysisPlan(
        metrics=metrics,
        primary=draw(st.sampled_from([("clicks",), ("clicks", "orders")])),
        guardrails=draw(
            st.sampled_from([(), (Guardrail("errors", 0.05),), (Guardrail("errors"), Guardrail("orders", 0.02))])
        ),
        stops_on_guardrail=draw(st.booleans()),
        control="a",
        inference=draw(st.sampled_from(["sequential", "fixed_horizon"])),
        planned_units=10_000,
        correction=draw(st.sampled_from(["holm", "benjamini_hochberg", "none"])),
    )
    sizes = st.sampled_from([-9.0, -4.0, -2.2, -1.0, 0.0, 1.0, 2.2, 4.0, 9.0])
    conversions = st.sampled_from([4, 400, 400, 400])
    effects = {
        name: {each: effect(draw(sizes), conversions=draw(conversions)) for each in VARIATIONS[1:]} for name in METRICS
    }
    facts = Facts(
        units=dict.fromkeys(VARIATIONS, 1_000),
        shares=dict.fromkeys(VARIATIONS, 1.0),
        complete=draw(st.sampled_from([4_000, 10_000])),
        sample_ratio_p_value=draw(st.sampled_from([None, 0.5, 0.5, 1e-6])),
        double_exposed=draw(st.sampled_from([0, 0, 0, 500])),
    )
    return plan, effects, facts


@settings(max_examples=80, deadline=None)
@given(experiments(), st.permutations(METRICS), st.permutations(VARIATIONS))
def test_order_decides_nothing(
    experiment: tuple[AnalysisPlan, Mapping[str, Mapping[str, Effect]], Facts],
    metrics: list[str],
    variations: list[str],
) -> None:
    """Metrics, primary metrics, guardrails, variations and effects in any order give the same verdict for the same reasons."""
    plan, effects, facts = experiment
    known = judge(plan, VARIATIONS, effects, facts)
    turned = msgspec.structs.replace(
        plan,
        metrics=tuple(sorted(plan.metrics, key=lambda each: metrics.index(each.name))),
        primary=tuple(sorted(plan.primary, key=metrics.index)),
        guardrails=tuple(sorted(plan.guardrails, key=lambda each: metrics.index(each.metric))),
    )
    renamed = {name: {each: effects[name][each] for each in variations if each != "a"} for name in metrics}
    found = judge(turned, variations, renamed, facts)
    assert (found.verdict, found.variation, found.stop) == (known.verdict, known.variation, known.stop)
    assert sorted(found.reasons) == sorted(known.reasons)


@settings(max_examples=80, deadline=None)
@given(experiments())
def test_a_mirror_changes_nothing(experiment: tuple[AnalysisPlan, Mapping[str, Mapping[str, Effect]], Facts]) -> None:
    """Effects and goals that all point the other way give the same verdict."""
    plan, effects, facts = experiment
    other = {"increase": "decrease", "decrease": "increase"}
    turned = msgspec.structs.replace(
        plan, metrics=tuple(msgspec.structs.replace(each, goal=other[each.goal]) for each in plan.metrics)
    )
    mirrored = {name: {each: _mirrored(of) for each, of in by.items()} for name, by in effects.items()}
    known, found = judge(plan, VARIATIONS, effects, facts), judge(turned, VARIATIONS, mirrored, facts)
    assert (found.verdict, found.variation, found.stop) == (known.verdict, known.variation, known.stop)
    assert [each.state for each in found.primary + found.guardrails] == [
        each.state for each in known.primary + known.guardrails
    ]


@settings(max_examples=80, deadline=None)
@given(experiments())
def test_nothing_ships_while_anything_is_open(
    experiment: tuple[AnalysisPlan, Mapping[str, Mapping[str, Effect]], Facts],
) -> None:
    """What is shipped has no check open, no guardrail crossed anywhere and its own kept, and a better primary metric of ten conversions or more."""
    plan, effects, facts = experiment
    judgement = judge(plan, VARIATIONS, effects, facts)
    assert judgement.reasons
    assert (judgement.variation is not None) is (judgement.verdict == "ship")
    assert judgement.stop is (plan.stops_on_guardrail and any(each.state == "crossed" for each in judgement.guardrails))
    doubted = facts.sample_ratio_p_value == 1e-6 or facts.double_exposed == 500
    assert (judgement.verdict == "check") or not doubted
    if judgement.verdict == "ship":
        assert not any(each.state == "crossed" for each in judgement.guardrails)
        own = [each for each in judgement.primary + judgement.guardrails if each.variation == judgement.variation]
        assert {each.state for each in own} <= {"better", "kept", "open", "silent"}
        assert all(each.state == "kept" for each in judgement.guardrails if each.variation == judgement.variation)
        better = [each.effect(effects) for each in own if each.state == "better"]
        assert better
        assert all(each is not None and (each.treatment.conversions or 0) >= 10 for each in better)


def test_daily_looks_at_nothing_ship_and_roll_back_rarely() -> None:
    """Two metrics and two variations without any effect, looked at forty times: in at most 5 % of experiments anything is decided (Holm, sequential)."""
    random = np.random.default_rng(12)
    plan = AnalysisPlan(metrics=(CLICKS, ORDERS), primary=("clicks", "orders"))
    decided = 0
    for _ in range(200):
        counts = {
            name: np.cumsum(random.binomial(100, rate, size=(40, 3)), axis=0)
            for name, rate in (("clicks", 0.2), ("orders", 0.05))
        }
        for look in range(40):
            n = 100 * (look + 1)
            samples = {
                name: [
                    Sample(n, int(count) / n, count / n * (1 - count / n), conversions=int(count)) for count in of[look]
                ]
                for name, of in counts.items()
            }
            effects = {
                name: {
                    key: confidence_sequence(of[0], of[place], design_units=8_000)
                    for place, key in ((1, "b"), (2, "c"))
                }
                for name, of in samples.items()
            }
            facts = Facts(units=dict.fromkeys("abc", n), shares=dict.fromkeys("abc", 1.0), complete=3 * n)
            judgement = judge(plan, ["a", "b", "c"], effects, facts)
            if any(each.state in {"better", "worse"} for each in judgement.primary):
                decided += 1
                break
    assert decided / 200 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 200)


def _mirrored(of: Effect) -> Effect:
    def minus(value: float | None) -> float | None:
        return None if value is None else -value

    return msgspec.structs.replace(
        of,
        difference=-of.difference,
        low=minus(of.high),
        high=minus(of.low),
        relative=minus(of.relative),
        relative_low=minus(of.relative_high),
        relative_high=minus(of.relative_low),
    )
