"""Power: against simulated tests, its inverses, what the sequential default costs, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from shared.errors import InvalidInput
from shared.experiments.statistics.confidence_sequences import confidence_sequence
from shared.experiments.statistics.moments import Sample
from shared.experiments.statistics.power import Baseline, Method, detectable, power, units_needed
from shared.experiments.statistics.welch import welch

FIXED, SEQUENTIAL = Method("fixed_horizon"), Method("sequential")


def test_the_power_is_how_often_simulated_experiments_find_the_effect() -> None:
    """2,000 experiments on a rate of 10 % with a quarter of the users treated, by both methods; tolerance: three standard errors."""
    random = np.random.default_rng(8)
    baseline, units, looks, count = Baseline.of_rate(0.1), 8_000, 10, 2_000
    difference, step = 0.03, units // looks
    fixed = Method("fixed_horizon", share=0.25)
    sequential = Method("sequential", share=0.25, looks=looks, design_units=4_000.0)
    converted = [
        np.cumsum(random.binomial(int(step * share), rate, size=(count, looks)), axis=1)
        for share, rate in ((0.75, 0.1), (0.25, 0.1 + difference))
    ]
    found = {"fixed": 0, "sequential": 0}
    for one, other in zip(*converted, strict=True):
        pairs = [
            (_converted(int(step * 0.75) * look, int(a)), _converted(int(step * 0.25) * look, int(b)))
            for look, a, b in zip(range(1, looks + 1), one, other, strict=True)
        ]
        found["fixed"] += welch(*pairs[-1]).direction > 0
        found["sequential"] += any(confidence_sequence(*pair, 0.95, 4_000.0).direction > 0 for pair in pairs)
    for name, method in (("fixed", fixed), ("sequential", sequential)):
        wanted = power(baseline, difference, units, method)
        assert 0.5 < wanted < 0.99
        assert found[name] / count == pytest.approx(wanted, abs=3 * np.sqrt(wanted * (1 - wanted) / count) + 0.005)


@pytest.mark.parametrize("method", [FIXED, Method(looks=20)], ids=lambda method: method.inference)
@pytest.mark.parametrize("baseline", [Baseline.of_rate(0.03), Baseline(5.0, 4.0, 9.0)], ids=["rate", "mean"])
def test_units_and_effects_invert_the_power(baseline: Baseline, method: Method) -> None:
    """At the units needed the power is the one that was asked for, and the effect the least that is detectable."""
    difference = 0.2 * baseline.mean
    units = units_needed(baseline, difference, 0.9, method)
    assert power(baseline, difference, units, method) == pytest.approx(0.9, abs=1e-9)
    assert detectable(baseline, units, 0.9, method) == pytest.approx(difference, rel=1e-9)


def test_the_sequential_default_costs_what_it_may() -> None:
    """Where Welch's test has 91 % at 10,000 units, the default has 68 % or more, and 80 % takes at most 1.9 times Welch's units."""
    baseline = Baseline.of_mean(0.0, 1.0)
    difference = detectable(baseline, 10_000, 0.91, FIXED) or 0.0
    assert 0.68 <= power(baseline, difference, 10_000, SEQUENTIAL) <= 0.75
    cost = units_needed(baseline, difference, 0.8, SEQUENTIAL) / units_needed(baseline, difference, 0.8, FIXED)
    assert 1.5 <= cost <= 1.75


def test_the_power_rises_to_one() -> None:
    """However far the effect lies, the power is a number: SciPy's noncentral t is none in places."""
    baseline = Baseline.of_mean(0.0, 1.0)
    for units in (4, 12, 200, 100_000):
        for confidence in (0.8, 0.95, 0.99):
            method = Method("fixed_horizon", confidence)
            powers = [power(baseline, each / np.sqrt(units), units, method) for each in np.linspace(0.0, 120.0, 241)]
            assert powers[0] == pytest.approx(1.0 - confidence)
            assert np.all(np.diff(powers) >= -1e-12)
            assert powers[-1] == pytest.approx(1.0)


def test_a_fall_is_found_as_a_rise_is() -> None:
    """The sign decides nothing where the variances stay, and a rate that falls varies less."""
    baseline = Baseline.of_mean(1.0, 1.0)
    assert power(baseline, -0.1, 2_000, FIXED) == power(baseline, 0.1, 2_000, FIXED)
    rate = Baseline.of_rate(0.1)
    assert power(rate, -0.02, 5_000, FIXED) > power(rate, 0.02, 5_000, FIXED)
    assert units_needed(rate, -0.02, method=FIXED) < units_needed(rate, 0.02, method=FIXED)


def test_a_running_experiment_is_its_own_baseline() -> None:
    """The variances are those of the samples, so that adjusting makes an effect detectable earlier."""
    plain = Baseline.of_samples(Sample(500, 2.0, 4.0), Sample(480, 2.1, 4.4))
    adjusted = Baseline.of_samples(Sample(500, 2.0, 1.0), Sample(480, 2.1, 1.1))
    assert (plain.mean, plain.variance, plain.treated_variance) == (2.0, 4.0, 4.4)
    assert units_needed(adjusted, 0.1, method=FIXED) == pytest.approx(
        units_needed(plain, 0.1, method=FIXED) / 4.0, rel=1e-3
    )


def test_what_no_sample_can_show_is_none_and_what_is_no_question_is_refused() -> None:
    """20 units cannot show any rise of a rate of 90 %; each fault names its field."""
    assert detectable(Baseline.of_rate(0.9), 20, 0.8, FIXED) is None
    for field, ask in (
        ("rate", lambda: Baseline.of_rate(1.0)),
        ("variance", lambda: Baseline.of_mean(1.0, 0.0)),
        ("variance", lambda: Baseline.of_samples(Sample(5, 1.0, 0.0), Sample(5, 1.0, 1.0))),
        ("difference", lambda: power(Baseline.of_rate(0.5), 0.6, 100)),
        ("difference", lambda: units_needed(Baseline.of_rate(0.5), 0.0)),
        ("power", lambda: units_needed(Baseline.of_rate(0.5), 0.1, 1.0)),
        ("power", lambda: detectable(Baseline.of_rate(0.5), 100, 0.01)),
        ("units", lambda: power(Baseline.of_rate(0.5), 0.1, 10.0, Method("fixed_horizon", share=0.1))),
        ("units", lambda: detectable(Baseline.of_rate(0.5), 0.0)),
        ("share", lambda: units_needed(Baseline.of_rate(0.5), 0.1, method=Method(share=1.0))),
        ("confidence", lambda: power(Baseline.of_rate(0.5), 0.1, 100, Method(confidence=95.0))),
    ):
        with pytest.raises(InvalidInput) as caught:
            ask()
        assert caught.value.field == field


def _converted(n: int, count: int) -> Sample:
    rate = count / n
    return Sample(n, rate, rate * (1.0 - rate) * n / (n - 1), conversions=count)
