"""Ours against what gbstats 0.8, statsmodels 0.15 and SciPy compute from the same numbers, to 1e-9 (`make oracles-experiments`)."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import optimize, stats
from scipy.special import ndtr, ndtri

from shared.experiments.plan import Metric
from shared.experiments.statistics.confidence_sequences import confidence_sequence, effective_units
from shared.experiments.statistics.cuped import adjusted
from shared.experiments.statistics.effect import Effect, compared, standard_error
from shared.experiments.statistics.metrics import UnitValues, metric_samples
from shared.experiments.statistics.moments import Sample, sums
from shared.experiments.statistics.power import Baseline, Method, detectable, power, units_needed
from shared.experiments.statistics.quantiles import quantile_sample
from shared.experiments.statistics.welch import degrees_of_freedom, welch

FIXTURES = Path(__file__).parent / "fixtures"
GBSTATS: dict[str, Any] = json.loads((FIXTURES / "gbstats_frequentist.json").read_text())
STATSMODELS: dict[str, Any] = json.loads((FIXTURES / "statsmodels.json").read_text())
ARMS: list[dict[str, npt.NDArray[np.float64]]] = [
    {name: np.array(values) for name, values in arm.items()} for arm in GBSTATS["arms"]
]


def exactly(value: float) -> Any:
    """Return what equals `value` to 1e-9."""
    return pytest.approx(value, rel=1e-9, abs=1e-12)


def agrees(effect: Effect, wanted: dict[str, float]) -> None:
    """Check the absolute effect and its p-value."""
    assert effect.difference == exactly(wanted["difference"])
    assert (effect.low, effect.high) == (exactly(wanted["low"]), exactly(wanted["high"]))
    assert effect.p_value == exactly(wanted["p_value"])


def kinds() -> dict[str, list[Sample]]:
    """Return both samples of each kind of metric."""
    everything = [sums(arm["value"], None, arm["before"]) for arm in ARMS]
    return {
        "mean": [sums(arm["value"]).sample() for arm in ARMS],
        "ratio": [sums(arm["value"], arm["denominator"]).sample() for arm in ARMS],
        "adjusted": list(adjusted(everything)),
        "proportion": [
            Sample(n, count / n, count / n * (1.0 - count / n))  # gbstats divides by n, not by n - 1
            for n, count in zip(GBSTATS["proportion"]["n"], GBSTATS["proportion"]["converted"], strict=True)
        ],
    }


@pytest.mark.parametrize("kind", ["mean", "ratio", "adjusted", "proportion"])
def test_gbstats_finds_the_same_at_a_fixed_horizon(kind: str) -> None:
    """Difference, Welch's interval and p-value."""
    control, treatment = kinds()[kind]
    agrees(welch(control, treatment), GBSTATS[kind]["fixed"])


@pytest.mark.parametrize("kind", ["mean", "ratio", "adjusted", "proportion"])
def test_gbstats_finds_the_same_in_sequence(kind: str) -> None:
    """Its sequence counts all users, ours those that an even split would need: the tuning parameter is scaled by their quotient."""
    control, treatment = kinds()[kind]
    scale = effective_units(control, treatment) / (control.n + treatment.n)
    for tuning, wanted in zip(GBSTATS["tuning"], GBSTATS[kind]["sequential"], strict=True):
        agrees(confidence_sequence(control, treatment, 0.95, tuning * scale), wanted)


@pytest.mark.parametrize("case", GBSTATS["quantiles"], ids=lambda case: str(case["quantile"]))
def test_gbstats_finds_the_same_quantiles(case: dict[str, Any]) -> None:
    """Independent events and events in clusters; gbstats has (n - 1) / n of our squared error, n events."""
    for arm, independent, clustered in zip(ARMS, case["independent"], case["clustered"], strict=True):
        values, counts = arm["event_value"], arm["denominator"].astype(int)
        factor = (len(values) - 1) / len(values)
        sample = quantile_sample(values, np.repeat(np.arange(len(counts)), counts), case["quantile"])
        assert sample.mean == exactly(clustered["mean"])
        assert sample.standard_error**2 * factor == exactly(clustered["squared_error"])
        alone = quantile_sample(values, np.arange(len(values)), case["quantile"])
        below = float(np.mean(values <= alone.mean))
        spread = below * (1.0 - below) / (case["quantile"] * (1.0 - case["quantile"])) * len(values) / (len(values) - 1)
        assert alone.standard_error**2 / spread * factor == exactly(independent["squared_error"])


@pytest.mark.parametrize("case", STATSMODELS["welch"], ids=lambda case: str(case["confidence"]))
def test_statsmodels_and_scipy_have_the_same_welch_test(case: dict[str, Any]) -> None:
    """Statistic, degrees of freedom, p-value and interval."""
    one, other = np.array(case["control"]), np.array(case["treatment"])
    control, treatment = sums(one).sample(), sums(other).sample()
    effect = welch(control, treatment, case["confidence"])
    assert degrees_of_freedom(control, treatment) == exactly(case["degrees_of_freedom"])
    agrees(effect, {**case, "difference": other.mean() - one.mean()})
    direct = stats.ttest_ind(other, one, equal_var=False)
    interval = direct.confidence_interval(case["confidence"])
    assert effect.p_value == exactly(direct.pvalue)
    assert (effect.low, effect.high) == (exactly(interval.low), exactly(interval.high))


@pytest.mark.parametrize("case", STATSMODELS["welch"], ids=lambda case: str(case["confidence"]))
def test_the_lifts_interval_is_where_scipys_welch_test_turns(case: dict[str, Any]) -> None:
    """Fieller's bound r is where the treatment, compared with (1 + r) times the control, is just significant; found by bisection."""
    one, other = (sums(np.array(case[name])).sample() for name in ("control", "treatment"))
    effect = welch(one, other, case["confidence"])
    critical = stats.t.ppf(0.5 + case["confidence"] / 2.0, case["degrees_of_freedom"])

    def excess(r: float) -> float:
        error = math.sqrt(other.variance / other.n + (1.0 + r) ** 2 * one.variance / one.n)
        return float(abs(other.mean - (1.0 + r) * one.mean) - critical * error)

    assert effect.relative is not None
    assert effect.relative_low == exactly(optimize.brentq(excess, -9.0, effect.relative, xtol=1e-14))
    assert effect.relative_high == exactly(optimize.brentq(excess, effect.relative, 20.0, xtol=1e-14))


def test_strata_are_what_a_saturated_regression_makes_of_them() -> None:
    """Difference and HC2 standard error of statsmodels' regression on all cells."""
    case = STATSMODELS["strata"]
    units = UnitValues(
        variation=np.array(case["variation"]), value=np.array(case["values"]), stratum=np.array(case["stratum"])
    )
    control, treatment = metric_samples(Metric("amount", "bought", kind="mean"), units, 2).samples
    assert treatment.mean - control.mean == exactly(case["difference"])
    assert math.hypot(control.standard_error, treatment.standard_error) == exactly(case["standard_error"])


@pytest.mark.parametrize("case", STATSMODELS["proportions"], ids=lambda case: str(case["n_control"]))
def test_statsmodels_has_the_same_interval_for_proportions(case: dict[str, Any]) -> None:
    """Wald's, whose critical value is the normal law's; its variances divide by n, and so do these samples'."""
    shares = [(case[arm] / case[f"n_{arm}"], case[f"n_{arm}"]) for arm in ("control", "treatment")]
    control, treatment = (Sample(n, share, share * (1.0 - share)) for share, n in shares)
    z = (treatment.mean - control.mean) / standard_error(control, treatment)
    effect = compared(
        control, treatment, float(ndtri(0.975)), p_value=float(2.0 * ndtr(-abs(z))), confidence=0.95, method="wald"
    )
    agrees(effect, {**case, "difference": treatment.mean - control.mean})


@pytest.mark.parametrize("case", STATSMODELS["power"], ids=lambda case: str(case["n_control"]))
def test_statsmodels_has_the_same_power(case: dict[str, Any]) -> None:
    """The noncentral t of Welch's degrees of freedom, with variances and sizes that differ."""
    baseline = Baseline(0.0, case["variance_control"], case["variance_treatment"])
    units = case["n_control"] + case["n_treatment"]
    method = Method("fixed_horizon", 1.0 - case["alpha"], case["n_treatment"] / units)
    assert power(baseline, case["difference"], units, method) == exactly(case["power"])


@pytest.mark.parametrize("case", STATSMODELS["sizes"], ids=lambda case: str(case["difference"]))
def test_statsmodels_needs_as_many_units(case: dict[str, Any]) -> None:
    """And at those, that difference is the least that is detectable."""
    baseline, method = Baseline.of_mean(3.0, 1.0), Method("fixed_horizon", 1.0 - case["alpha"])
    units = units_needed(baseline, case["difference"], case["power"], method)
    assert units == exactly(2.0 * case["n_control"])
    assert detectable(baseline, units, case["power"], method) == exactly(case["difference"])
