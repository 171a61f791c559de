"""From units to samples, by kind of metric: by hand, with caps, covariates and strata, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from shared.errors import InvalidInput
from shared.experiments.plan import Metric
from shared.experiments.statistics.metrics import UnitValues, metric_samples
from shared.experiments.statistics.moments import Sample, sums

TWO = np.array([0, 1, 0, 1, 0, 1, 1])


def test_a_proportion_asks_whether_a_unit_had_any_event() -> None:
    """Counts above 1 are one conversion; of 3 and 4 units 2 and 1 converted; the rarer outcome counts as conversions."""
    values = np.array([3.0, 0.0, 1.0, 2.0, 0.0, 0.0, 0.0])
    control, treatment = metric_samples(
        Metric("bought", "purchase"), UnitValues(variation=TWO, value=values), 2
    ).samples
    assert (control.n, control.conversions) == (3, 1)
    assert control.mean == pytest.approx(2 / 3)
    assert control.variance == pytest.approx(1 / 3)
    assert treatment == Sample(4, 0.25, 0.25, conversions=1)


def test_a_ratio_divides_sums() -> None:
    """Not the mean of ratios; the variance is that of the delta method."""
    values, denominators = np.array([1.0, 4.0, 2.0, 0.0, 3.0, 1.0, 1.0]), np.array([2.0, 4.0, 2.0, 1.0, 9.0, 0.0, 5.0])
    units = UnitValues(variation=TWO, value=values, denominator=denominators)
    control, treatment = metric_samples(Metric("rate", "click", kind="ratio", denominator="view"), units, 2).samples
    assert control.mean == pytest.approx(6 / 13)
    assert treatment.mean == pytest.approx(6 / 10)
    assert treatment == sums(values[TWO == 1], denominators[TWO == 1]).sample()


def test_one_cap_cuts_the_values_of_all_variations() -> None:
    """The 90th percentile of all eleven values is 9: both 100s become 9, in whichever variation they are; where the cap would be the least value nothing is cut."""
    values = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 100.0, 0.0])
    units = UnitValues(variation=np.array([0] * 5 + [1] * 6), value=values)
    result = metric_samples(Metric("amount", "purchase", kind="mean", winsorise=0.9), units, 2)
    assert result.cap == pytest.approx(9.0)
    assert [each.mean for each in result.samples] == [pytest.approx(3.0), pytest.approx((6 + 7 + 8 + 9 + 9 + 0) / 6)]
    rare = UnitValues(variation=np.array([0, 1] * 50), value=np.array([0.0] * 98 + [5.0, 7.0]))
    untouched = metric_samples(Metric("amount", "purchase", kind="mean", winsorise=0.9), rare, 2)
    assert untouched.cap is None
    assert [each.mean for each in untouched.samples] == [0.1, 0.14]


def test_a_quantile_is_of_events_and_its_units_are_clusters() -> None:
    """Events that a unit repeats tell nothing new: five copies of each leave the standard error nearly as it is."""
    random = np.random.default_rng(3)
    values = random.exponential(1.0, size=400)
    variation = np.arange(400) % 2
    metric = Metric("wait", "served", kind="quantile", quantile=0.8)
    once = UnitValues(variation=variation, value=np.zeros(400), event_unit=np.arange(400), event_value=values)
    five = UnitValues(
        variation=variation,
        value=np.zeros(400),
        event_unit=np.repeat(np.arange(400), 5),
        event_value=np.repeat(values, 5),
    )
    for one, other in zip(
        metric_samples(metric, once, 2).samples, metric_samples(metric, five, 2).samples, strict=True
    ):
        assert one.n == other.n == 200
        assert other.mean == pytest.approx(one.mean, rel=0.05)
        assert other.standard_error == pytest.approx(one.standard_error, rel=0.35)
        density = 0.2  # of the exponential distribution at its 80th percentile
        assert one.standard_error == pytest.approx(math.sqrt(0.8 * 0.2 / 200) / density, rel=0.35)


def test_quantiles_of_clustered_events_vary_by_their_standard_error() -> None:
    """500 experiments of 300 users with three events each on average, alike within a user: the mean standard error is the spread of the medians."""
    random = np.random.default_rng(4)
    samples = []
    for _ in range(500):
        counts = random.poisson(3.0, size=300)
        units = np.repeat(np.arange(300), counts)
        values = random.gamma(2.0, 1.0, size=300)[units] + random.exponential(0.5, size=len(units))
        events = UnitValues(
            variation=np.zeros(300, dtype=int), value=np.zeros(300), event_unit=units, event_value=values
        )
        samples.append(metric_samples(Metric("wait", "served", kind="quantile", quantile=0.5), events, 1).samples[0])
    assert np.mean([each.standard_error for each in samples]) == pytest.approx(
        np.std([each.mean for each in samples]), rel=0.08
    )


def test_variations_without_units_are_empty_samples() -> None:
    """Three variations of which one has nobody, and no units at all; for every kind."""
    empty = Sample(0, 0.0, 0.0, conversions=0)
    for metric in (
        Metric("a", "e"),
        Metric("a", "e", kind="mean", winsorise=0.9),
        Metric("a", "e", kind="ratio", denominator="d"),
        Metric("a", "e", kind="quantile", quantile=0.5),
    ):
        for variation, known in ((TWO, 2), (TWO[:0], 0)):
            n = len(variation)
            units = UnitValues(
                variation=variation,
                value=np.arange(float(n)),
                denominator=np.ones(n),
                before=np.arange(float(n)) ** 2,
                denominator_before=np.ones(n),
                stratum=np.zeros(n, dtype=int),
                event_unit=np.arange(n),
                event_value=np.arange(float(n)),
            )
            samples = metric_samples(metric, units, 3).samples
            assert [each.n for each in samples] == [0, 0, 0] if not known else [3, 4, 0]
            assert samples[2] == empty


def test_covariates_and_strata_narrow_what_they_explain() -> None:
    """A value that is mostly what it was before and which country it is from: each takes out its part, both together leave the noise."""
    random = np.random.default_rng(5)
    n = 6_000
    stratum, before = random.integers(0, 3, size=n), random.normal(5.0, 1.0, size=n)
    value = 2.0 * stratum + before + random.normal(0.0, 0.5, size=n) + 10.0
    everything: dict[str, Any] = {"variation": random.integers(0, 2, size=n), "value": value}
    metric = Metric("amount", "purchase", kind="mean")
    left = {}
    more: dict[str, Any]
    for name, more in (
        ("none", {}),
        ("strata", {"stratum": stratum}),
        ("before", {"before": before}),
        ("both", {"stratum": stratum, "before": before}),
    ):
        result = metric_samples(metric, UnitValues(**everything, **more), 2)
        left[name] = result.variance_left
        difference = result.samples[1].mean - result.samples[0].mean
        error = math.hypot(*(each.standard_error for each in result.samples))
        assert abs(difference) < 3.5 * error
        assert result.samples[0].mean == pytest.approx(17.0, abs=0.2)
        assert (
            result.samples[0].conversions == metric_samples(metric, UnitValues(**everything), 2).samples[0].conversions
        )
    whole = 4.0 * 2.0 / 3.0 + 1.0 + 0.25
    assert left["none"] == 1.0
    assert left["strata"] == pytest.approx(1.25 / whole, rel=0.05)
    assert left["before"] == pytest.approx((whole - 1.0) / whole, rel=0.05)
    assert left["both"] == pytest.approx(0.25 / whole, rel=0.05)


def test_what_does_not_fit_is_refused() -> None:
    """A ratio without a denominator, a quantile without events, variations that there are not, arrays of other lengths."""
    units = UnitValues(variation=TWO, value=np.ones(7))
    with pytest.raises(InvalidInput, match="no denominator"):
        metric_samples(Metric("rate", "click", kind="ratio", denominator="view"), units, 2)
    with pytest.raises(InvalidInput, match="needs a quantile"):
        metric_samples(Metric("wait", "served", kind="quantile"), units, 2)
    with pytest.raises(ValueError, match="numbered from 0"):
        metric_samples(Metric("a", "e"), units, 1)
    with pytest.raises(ValueError, match="every unit"):
        metric_samples(Metric("a", "e"), UnitValues(variation=TWO, value=np.ones(6)), 2)
