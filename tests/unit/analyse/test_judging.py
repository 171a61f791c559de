"""From arrays to effects and results, without a database: which units an inference is of, and what does not fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from functions.analyse.comparing import Compared, Comparison, compare
from functions.analyse.judging import judged, planned_shares
from shared.experiments.experiment import ExperimentSpec, Variation
from shared.experiments.plan import AnalysisPlan, Inference, Metric
from shared.experiments.statistics.confidence_sequences import confidence_sequence
from shared.experiments.statistics.moments import Sample, sums
from shared.experiments.statistics.welch import welch
from shared.storage.postgres_metrics import Measured, Units
from shared.storage.postgres_results import Phase

WINDOW_S = 100.0
MEAN = Metric("m", "order", kind="mean", window_s=WINDOW_S)


def units(arms: Any, values: Any, metric: Metric = MEAN, **columns: Any) -> Units:
    """Return units exposed at 0, 1, 2, ... seconds."""
    number = len(arms)
    measured = Measured(
        metric,
        np.asarray(values, dtype=np.float64),
        columns.get("denominator"),
        columns.get("before"),
        None,
        columns.get("event_unit"),
        columns.get("event_value"),
    )
    stratum = np.asarray(columns.get("stratum", np.zeros(number)), dtype=np.int32)
    times = np.arange(number, dtype=np.float64)
    return Units(np.asarray(arms, dtype=np.int32), stratum, times, 0, {metric.name: measured})


def compared(plan: AnalysisPlan, of: Units, as_of: float = 1e9, variations: int = 2) -> Comparison:
    """Return the comparison of the only metric."""
    [measured] = of.measured.values()
    return compare(plan, measured, of, variations=variations, control=0, as_of=as_of)


def drawn(number: int, effect: float = 0.0, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Return alternating variations, and normal values that are higher by `effect` in the second."""
    arms = np.arange(number) % 2
    return arms, np.random.default_rng(seed).normal(10.0, 1.0, number) + effect * arms


def halves(arms: np.ndarray, values: np.ndarray, number: int) -> tuple[Sample, Sample]:
    """Return the samples of both variations, of the first `number` units."""
    off, on = (sums(values[:number][arms[:number] == arm]).sample() for arm in (0, 1))
    return off, on


def test_units_whose_window_is_open_do_not_take_part() -> None:
    """The effect at any moment is that of the first units, whatever the others have done until then."""
    arms, values = drawn(1_000)
    values[600:] = 1e6
    found = compared(AnalysisPlan(), units(arms, values), as_of=599.5 + WINDOW_S)
    assert found.complete == 600
    assert found.compared[1].effect == confidence_sequence(*halves(arms, values, 600))


def test_the_fixed_horizon_is_of_the_planned_units() -> None:
    """However many there are by now; before, of all that are complete."""
    arms, values = drawn(1_000, effect=0.1)
    plan = AnalysisPlan(inference="fixed_horizon", planned_units=400)
    for number, as_of in ((400, 1e9), (400, 399 + WINDOW_S), (300, 299 + WINDOW_S)):
        assert compared(plan, units(arms, values), as_of).compared[1].effect == welch(*halves(arms, values, number))


def test_a_look_that_crossed_its_bound_stays() -> None:
    """A great effect that is gone at the end was found at its look; where none crossed, the latest look counts."""
    plan = AnalysisPlan(inference="group_sequential", planned_units=1_000, looks=5)
    arms, values = drawn(1_000, effect=0.0)
    latest = compared(plan, units(arms, values)).compared[1].effect
    assert (latest.control.n + latest.treatment.n, latest.direction) == (1_000, 0)
    values[:600] += 2.0 * arms[:600]
    values[600:] -= 3.0 * arms[600:]
    early = compared(plan, units(arms, values)).compared[1].effect
    assert early.direction == 1
    assert early.control.n + early.treatment.n in {400, 600}
    before = compared(plan, units(arms, values), as_of=199.5 - 1 + WINDOW_S).compared[1].effect
    assert before.low is None


def test_guardrails_are_watched_by_all_complete_units() -> None:
    """Whatever the plan's inference and its looks."""
    arms, values = drawn(950, effect=-0.5)
    expected = confidence_sequence(*halves(arms, values, 950), 0.95, 2_000)
    inferences: tuple[Inference, ...] = ("sequential", "group_sequential", "fixed_horizon", "bayesian")
    for inference in inferences:
        plan = AnalysisPlan(inference=inference, planned_units=2_000, looks=4)
        assert compared(plan, units(arms, values)).compared[1].watched == expected


def test_the_value_shown_is_not_adjusted() -> None:
    """CUPED and strata sharpen the effect, and leave what was measured as it is."""
    arms, noise = drawn(400, effect=1.0)
    habit = np.random.default_rng(2).gamma(2.0, 5.0, 400)
    strata = np.random.default_rng(3).integers(0, 3, 400)
    values = noise + habit + 4.0 * strata
    plain = compared(AnalysisPlan(), units(arms, values)).compared[1]
    adjusted = compared(AnalysisPlan(strata="s"), units(arms, values, before=habit, stratum=strata)).compared[1]
    assert (adjusted.value, adjusted.control_value) == (plain.value, plain.control_value)
    assert plain.variance_left == 1.0
    assert adjusted.variance_left < 0.05
    assert _width(adjusted) < 0.3 * _width(plain)
    ignored = compared(AnalysisPlan(), units(arms, values, stratum=strata)).compared[1]
    assert ignored.effect == plain.effect


def _width(one: Compared) -> float:
    assert one.effect.low is not None
    assert one.effect.high is not None
    return one.effect.high - one.effect.low


def test_quantiles_are_of_the_complete_units_events() -> None:
    """Events of units whose window is open are left out with them."""
    arms = np.arange(200) % 2
    metric = Metric("q", "dwell", kind="quantile", quantile=0.5, window_s=WINDOW_S)
    owners = np.repeat(np.arange(200, dtype=np.int32), 3)
    lengths = np.random.default_rng(4).normal(5.0, 1.0, 600)
    lengths[owners >= 150] = 1e6
    of = units(arms, np.zeros(200), metric, event_unit=owners, event_value=lengths)
    found = compared(AnalysisPlan(), of, as_of=149.5 + WINDOW_S).compared[1]
    assert found.value == pytest.approx(5.0, abs=0.5)
    assert found.effect.difference == pytest.approx(0.0, abs=0.5)


def test_shares_follow_ranges_weights_or_the_number_of_variations() -> None:
    """Coverage does not matter: only units within the experiment are counted."""
    pair = (Variation("a"), Variation("b"))
    assert planned_shares(ExperimentSpec("e", 1, pair)) == [0.5, 0.5]
    assert planned_shares(ExperimentSpec("e", 1, pair, weights=(0.2, 0.8), coverage=0.3)) == [0.2, 0.8]
    ranges = ((0.0, 0.1), (0.6, 0.9))
    assert planned_shares(ExperimentSpec("e", 1, pair, ranges=ranges)) == pytest.approx([0.25, 0.75])
    assert planned_shares(ExperimentSpec("e", 1, pair, weights=(0.0, 0.0))) == [0.0, 0.0]


@pytest.mark.parametrize(("arms", "mismatch"), [([0] * 50, False), ([0] * 50 + [1], True), ([], None)])
def test_a_variation_that_nobody_is_to_see_does_not_fit(arms: list[int], mismatch: bool | None) -> None:
    """One unit of it suffices; where only one variation has a share, nothing else can be wrong with it."""
    spec = ExperimentSpec("e", 1, (Variation("a"), Variation("b")), weights=(1.0, 0.0))
    found = judged(Phase(spec, 0.0, None), units(arms, np.zeros(len(arms))), 1e9, 1e9).results
    assert (found.sample_ratio.mismatch if found.sample_ratio else None) == (mismatch or None)
    assert (found.verdict == "check") == bool(mismatch)


def test_the_control_may_be_any_variation() -> None:
    """Differences are taken against the plan's control, in whatever place it stands."""
    arms, values = drawn(2_000, effect=1.0)
    plan = AnalysisPlan(metrics=(MEAN,), control="b")
    spec = ExperimentSpec("e", 1, (Variation("a"), Variation("b")), analysis=plan)
    results = judged(Phase(spec, 0.0, None), units(arms, values), 1e9, 1e9).results
    [effect] = results.metrics[0].effects
    assert (results.control, effect.variation, effect.better) == ("b", "a", False)
    assert effect.difference == pytest.approx(-1.0, abs=0.2)
    assert results.verdict == "roll_back"


def test_power_does_not_look_at_what_was_found() -> None:
    """The least effect that is found depends on spread and number of units, not on the difference between variations."""
    found = []
    for effect in (0.0, 3.0):
        arms, values = drawn(2_000, effect=effect)
        spec = ExperimentSpec("e", 1, (Variation("a"), Variation("b")), analysis=AnalysisPlan(metrics=(MEAN,)))
        [power] = judged(Phase(spec, 0.0, None), units(arms, values), 1e9, 1e9).results.metrics[0].power
        found.append(power.minimum_effect)
    assert found[0] == pytest.approx(found[1], rel=1e-9)
    assert found[0] is not None
    assert 0.1 < found[0] < 0.25  # a fixed horizon: 2.8 √(4/2,000) = 0.125; sequentially up to 1.9 times the units
