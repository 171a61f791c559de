"""CUPED and post-stratification: by hand, and that their variances are what simulated experiments vary by."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.experiments.plan import Metric
from shared.experiments.statistics.cuped import adjusted, theta
from shared.experiments.statistics.metrics import UnitValues, metric_samples
from shared.experiments.statistics.moments import Sample, sums
from shared.experiments.statistics.post_stratification import LEAST_UNITS, coarser, post_stratified

Floats = npt.NDArray[np.float64]


def test_cuped_by_hand() -> None:
    """θ is the regression slope over all units; each mean moves by θ times how far its units were from all before."""
    random = np.random.default_rng(1)
    before = [random.normal(size=n) for n in (30, 50)]
    after = [x * 0.7 + random.normal(size=len(x)) for x in before]
    both = [sums(y, None, x) for y, x in zip(after, before, strict=True)]
    slope = np.cov(np.concatenate(after), np.concatenate(before))[0, 1] / np.var(np.concatenate(before), ddof=1)
    assert theta(both[0].merged(both[1])) == pytest.approx(slope)
    everyone = np.concatenate(before).mean()
    for sample, y, x in zip(adjusted(both), after, before, strict=True):
        assert sample.mean == pytest.approx(y.mean() - slope * (x.mean() - everyone))
        assert sample.variance == pytest.approx(np.var(y - slope * x, ddof=1))
        assert sample.common == pytest.approx(slope**2 * np.var(np.concatenate(before), ddof=1) / 80)


def test_a_covariate_that_says_nothing_changes_nothing() -> None:
    """None, one that does not vary, a ratio of which nobody had the denominator before, and a variation without units."""
    random = np.random.default_rng(2)
    values, ones, zeros = random.normal(size=20), np.ones(20), np.zeros(20)
    for variations in (
        [sums(values), sums(values + 1.0)],
        [sums(values, None, ones), sums(values + 1.0, None, ones)],
        [sums(values, ones, zeros, zeros), sums(values + 1.0, ones, zeros, zeros)],
        [sums(values, ones, zeros, zeros), sums(values[:0])],
    ):
        assert list(adjusted(variations)) == [each.sample() for each in variations]
    nobody = adjusted([sums(values, None, values), sums(values[:0])])
    assert nobody[1] == Sample(0, 0.0, 0.0, conversions=0)
    assert nobody[0].mean == pytest.approx(values.mean())


@pytest.mark.parametrize("kind", ["cuped", "cuped of a ratio", "strata", "strata of a ratio", "both"])
def test_adjusted_estimates_vary_by_their_standard_errors(kind: str) -> None:
    """1,000 experiments: the difference is unbiased and its spread the standard error; the control's own spread is that and the common part's."""
    random = np.random.default_rng(3)
    pairs = [_experiment(random, kind) for _ in range(1_000)]
    differences = np.array([treatment.mean - control.mean for control, treatment in pairs])
    errors = [math.hypot(control.standard_error, treatment.standard_error) for control, treatment in pairs]
    assert differences.mean() == pytest.approx(0.0, abs=4.0 * differences.std() / math.sqrt(1_000))
    assert np.mean(errors) == pytest.approx(differences.std(), rel=0.08)
    own = np.array([control.mean for control, _ in pairs]).std()
    with_common = np.mean([math.sqrt(control.standard_error**2 + control.common) for control, _ in pairs])
    assert with_common == pytest.approx(own, rel=0.08)
    assert np.mean([control.standard_error for control, _ in pairs]) < 0.96 * own  # the common part is there


def _experiment(random: np.random.Generator, kind: str) -> tuple[Sample, Sample]:
    n = 400
    stratum, before = random.integers(0, 3, size=n), random.normal(4.0, 1.0, size=n)
    value = before + 1.5 * stratum + random.normal(0.0, 0.8, size=n)
    denominator, denominator_before = (random.poisson(3.0, size=n).astype(np.float64) + 1.0 for _ in range(2))
    ratio = "ratio" in kind
    units = UnitValues(
        variation=random.permutation(np.arange(n) % 2)
        if random.random() < 0.5
        else (random.random(n) < 0.4).astype(int),
        value=value * denominator if ratio else value,
        denominator=denominator if ratio else None,
        before=None if "strata" in kind else before * denominator_before if ratio else before,
        denominator_before=denominator_before if ratio else None,
        stratum=None if "cuped" in kind else stratum,
    )
    metric = Metric("m", "e", kind="ratio", denominator="d") if ratio else Metric("m", "e", kind="mean")
    control, treatment = metric_samples(metric, units, 2).samples
    return control, treatment


def test_strata_by_hand() -> None:
    """Means are weighted by the shares of all units, not of the variation's own; variances add up by squared shares."""
    cells = [
        [sums(np.array([1.0, 3.0])), sums(np.array([10.0, 14.0, 12.0, 12.0]))],
        [sums(np.array([2.0, 2.0, 5.0])), sums(np.array([11.0]).repeat(3) + np.array([0.0, 1.0, 2.0]))],
    ]
    weighted, common = post_stratified(cells)
    shares = np.array([5, 7]) / 12
    assert weighted[0].sample().mean == pytest.approx(shares @ [2.0, 12.0])
    assert weighted[0].sample().standard_error ** 2 == pytest.approx(shares**2 @ [2.0 / 2, (8.0 / 3.0) / 4])
    means = np.array([13.0 / 5, 84.0 / 7])
    assert common == pytest.approx(shares @ (means - shares @ means) ** 2 / 12)


@given(st.lists(st.lists(st.integers(0, 40), min_size=1, max_size=6), min_size=2, max_size=3))
def test_coarser_strata_are_large_enough(table: list[list[int]]) -> None:
    """Every stratum is part of one, those have enough units in every variation unless there is one only, and large ones are not joined needlessly."""
    counts = np.array([row[: min(map(len, table))] for row in table])
    part_of = coarser(counts)
    groups = int(part_of.max()) + 1
    assert set(part_of.tolist()) == set(range(groups))
    merged = np.array([[row[part_of == group].sum() for group in range(groups)] for row in counts])
    assert groups == 1 or merged.min() >= LEAST_UNITS
    if counts.min() >= LEAST_UNITS:
        assert groups == counts.shape[1]
