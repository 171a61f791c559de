"""Gaussian posteriors of gbstats 0.8, and beta-binomial ones by SciPy's adaptive quadrature."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from gbstats.bayesian.tests import EffectBayesianABTest, EffectBayesianConfig, GaussianPrior
from gbstats.models.statistics import ProportionStatistic, SampleMeanStatistic
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.stats import beta

SAMPLES = {
    "proportions": (ProportionStatistic(n=1_000, sum=100), ProportionStatistic(n=1_100, sum=135)),
    "means": (
        SampleMeanStatistic(n=500, sum=1_234.5, sum_squares=9_876.5),
        SampleMeanStatistic(n=480, sum=1_100.25, sum_squares=8_000.75),
    ),
    "alike": (ProportionStatistic(n=20_000, sum=1_000), ProportionStatistic(n=20_000, sum=1_001)),
}
PRIORS = (None, (0.0, 0.01), (0.02, 0.0004))
COUNTS = (
    ((50, 1_000), (70, 1_000)),
    ((0, 10), (3, 20_000)),
    ((0, 5), (5, 5)),
    ((480, 5_000), (490, 5_000)),
    ((3, 7), (40, 4_000)),
)


def fixture() -> dict[str, Any]:
    """Return inputs and what the references make of them."""
    gaussian = [_gaussian(name, prior, inverse) for name in SAMPLES for prior in PRIORS for inverse in (False, True)]
    return {"gaussian": gaussian, "beta_binomial": [_beta_binomial(*counts) for counts in COUNTS]}


def _gaussian(name: str, prior: tuple[float, float] | None, inverse: bool) -> dict[str, Any]:
    one, other = SAMPLES[name]
    mean, variance = prior or (0.0, 1.0)
    config = EffectBayesianConfig(
        difference_type="absolute",
        inverse=inverse,
        prior_type="absolute",
        prior_effect=GaussianPrior(mean, variance, prior is not None),
    )
    result = EffectBayesianABTest(one, other, config).compute_result()
    return {
        "difference": float(other.mean - one.mean),
        "standard_error": float((one.variance / one.n + other.variance / other.n) ** 0.5),
        "prior": prior and list(prior),
        "goal": "decrease" if inverse else "increase",
        "mean": float(result.expected),
        "interval": [float(each) for each in result.ci],
        "chance_to_win": float(result.chance_to_win),
        "risk": [float(each) for each in result.risk],
    }


def _beta_binomial(control: tuple[int, int], treatment: tuple[int, int]) -> dict[str, Any]:
    c, t = (beta(1 + converted, 1 + units - converted) for converted, units in (control, treatment))
    marks = sorted(
        {float(each.isf(tail)) for each in (c, t) for tail in (1e-12, 1e-6, 0.01, 0.3, 0.7, 0.99, 1 - 1e-6, 1 - 1e-12)}
    )

    def integral(function: Callable[[float], float], shift: Callable[[float], float] = lambda x: x) -> float:
        edges = sorted({0.0, 1.0, *marks, *(min(max(shift(each), 0.0), 1.0) for each in [0.0, 1.0, *marks])})
        pieces = itertools.pairwise(edges)
        return float(sum(quad(function, low, high, epsabs=1e-15, epsrel=1e-13, limit=200)[0] for low, high in pieces))

    def below(difference: float) -> float:
        return integral(lambda x: c.pdf(x) * t.cdf(x + difference), lambda x: x - difference)

    def below_ratio(ratio: float) -> float:
        return integral(lambda x: c.pdf(x) * t.cdf(x * ratio), lambda x: x / ratio)

    return {
        "control": list(control),
        "treatment": list(treatment),
        "chance_to_win": integral(lambda x: c.pdf(x) * t.sf(x)),
        "expected_loss": integral(lambda x: c.sf(x) * t.cdf(x)),
        "interval": [brentq(lambda d, p=p: below(d) - p, -1.0, 1.0, xtol=1e-13) for p in (0.025, 0.975)],
        "ratio_interval": [brentq(lambda r, p=p: below_ratio(r) - p, 1e-7, 1e5, xtol=1e-12) for p in (0.025, 0.975)],
    }
