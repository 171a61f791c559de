"""gbstats 0.8's frequentist and sequential tests of every kind of metric, from small samples whose values stand in the fixture.

Only absolute differences: gbstats' relative ones are by the delta method, which may contradict them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from gbstats.frequentist.tests import FrequentistConfig, SequentialConfig, SequentialTwoSidedTTest, TwoSidedTTest
from gbstats.models.statistics import (
    ProportionStatistic,
    QuantileClusteredStatistic,
    QuantileStatistic,
    RatioStatistic,
    RegressionAdjustedStatistic,
    SampleMeanStatistic,
    TestStatistic,
)

Floats = npt.NDArray[Any]
SIZES = (90, 120)
TUNING = (200.0, 5_000.0)
QUANTILES = (0.5, 0.9)
Z = 1.959963984540054


def fixture() -> dict[str, Any]:
    """Return inputs and what gbstats makes of them."""
    random = np.random.RandomState(5)
    arms = [_arm(random, n, lift) for n, lift in zip(SIZES, (0.0, 0.4), strict=True)]
    plain = [_mean(arm["value"]) for arm in arms]
    ratio = [
        RatioStatistic(
            n=len(arm["value"]),
            m_statistic=_mean(arm["value"]),
            d_statistic=_mean(arm["denominator"]),
            m_d_sum_of_products=float(arm["value"] @ arm["denominator"]),
        )
        for arm in arms
    ]
    adjusted = [
        RegressionAdjustedStatistic(
            n=len(arm["value"]),
            post_statistic=_mean(arm["value"]),
            pre_statistic=_mean(arm["before"]),
            post_pre_sum_of_products=float(arm["value"] @ arm["before"]),
            theta=0.0,
        )
        for arm in arms
    ]
    shares = [ProportionStatistic(n=n, sum=count) for n, count in ((900, 93), (1_100, 151))]
    return {
        "arms": [{name: values.tolist() for name, values in arm.items()} for arm in arms],
        "tuning": list(TUNING),
        "mean": _tests(*plain),
        "ratio": _tests(*ratio),
        "adjusted": _tests(*adjusted),
        "proportion": {"n": [900, 1_100], "converted": [93, 151], **_tests(*shares)},
        "quantiles": [{"quantile": each, **_quantile(arms, each)} for each in QUANTILES],
    }


def _arm(random: np.random.RandomState, n: int, lift: float) -> dict[str, Floats]:
    before = random.gamma(2.0, 1.0, size=n)
    events = random.poisson(3.0, size=n) + 1
    return {
        "value": (before + lift + random.normal(size=n)).round(3),
        "denominator": events.astype(float),
        "before": before.round(3),
        "event_value": (np.repeat(before, events) + random.exponential(2.0, size=events.sum())).round(3),
    }


def _mean(values: Floats) -> SampleMeanStatistic:
    return SampleMeanStatistic(n=len(values), sum=float(values.sum()), sum_squares=float(values @ values))


def _quantile(arms: list[dict[str, Floats]], quantile: float) -> dict[str, Any]:
    clustered, independent = [], []
    for arm in arms:
        values, counts = arm["event_value"], arm["denominator"].astype(int)
        n = len(values)
        apart = Z * np.sqrt(quantile * (1.0 - quantile) / n)
        estimate, low, high = np.quantile(values, [quantile, quantile - apart, quantile + apart])
        below = np.add.reduceat((values <= estimate).astype(float), np.cumsum(counts) - counts)
        order: dict[str, Any] = {
            "n": n,
            "n_star": n,
            "nu": quantile,
            "quantile_hat": estimate,
            "quantile_lower": low,
            "quantile_upper": high,
        }
        independent.append(QuantileStatistic(**order))
        clustered.append(
            QuantileClusteredStatistic(
                **order,
                main_sum=below.sum(),
                main_sum_squares=below @ below,
                denominator_sum=float(n),
                denominator_sum_squares=float(counts @ counts),
                main_denominator_sum_product=below @ counts,
                n_clusters=len(counts),
            )
        )
    return {
        "independent": [_summary(each) for each in independent],
        "clustered": [_summary(each) for each in clustered],
    }


def _summary(statistic: TestStatistic) -> dict[str, float]:
    return {"mean": float(statistic.mean), "squared_error": float(statistic.variance / statistic.n)}


def _tests(control: TestStatistic, treatment: TestStatistic) -> dict[str, Any]:
    fixed = TwoSidedTTest(control, treatment, FrequentistConfig(difference_type="absolute"))
    sequential = [
        SequentialTwoSidedTTest(
            control, treatment, SequentialConfig(difference_type="absolute", sequential_tuning_parameter=tuning)
        )
        for tuning in TUNING
    ]
    return {"fixed": _result(fixed), "sequential": [_result(test) for test in sequential]}


def _result(test: Any) -> dict[str, float]:
    result = test.compute_result()
    return {
        "difference": float(result.expected),
        "low": float(result.ci[0]),
        "high": float(result.ci[1]),
        "p_value": float(result.p_value),
    }
