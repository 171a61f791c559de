"""Bayesian inference about a difference: chance to win, expected loss, credible intervals.

Gaussian: the estimated difference d is normal around the true one δ with standard error s, the prior of δ is flat, or normal with mean m and variance v:

    δ | d  ~  N(μ, σ²),     1/σ² = 1/s² + 1/v,     μ = σ² (d / s² + m / v),     z = μ / √σ²
    chance to win  P(δ > 0) = Φ(z)
    expected loss  E[max(-δ, 0)] = √σ² φ(z) - μ Φ(-z)   of taking the variation,     E[max(δ, 0)]   of staying with the control

Beta-binomial: of n units k converted, the rate's prior is Beta(a, b), its posterior Beta(a + k, b + n - k). With densities f, distribution functions F
of control (c) and variation (t)

    chance to win  ∫ f_c(x) (1 - F_t(x)) dx          expected loss  ∫ (1 - F_c(x)) F_t(x) dx
    P(p_t - p_c <= δ) = ∫ f_c(x) F_t(x + δ) dx       P(p_t / p_c <= r) = ∫ f_c(x) F_t(r x) dx

by Gauss-Legendre quadrature between the quantiles of both, which resolves the narrower one however unequal they are; errors are below 1e-12.

Neither is a licence to look daily: chances to win that may end an experiment whenever they are high err more often than they say, unless the prior is what
effects are truly drawn from. Papers: Stucchio, "Bayesian A/B testing at VWO", 2015 (expected loss); Deng, Lu & Chen, "Continuous monitoring of A/B tests
without pain", DSAA 2016.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt
from scipy.special import betainc, betaincc, betaincinv, ndtr, ndtri, xlog1py

from shared.errors import InvalidInput
from shared.experiments.statistics.confidence_sequences import is_silent
from shared.experiments.statistics.effect import Effect, compared, standard_error
from shared.experiments.statistics.moments import Sample
from shared.experiments.statistics.monotone_root import monotone_root

Floats = npt.NDArray[np.float64]
Goal = Literal["increase", "decrease"]

METHOD = "bayesian"
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(12)
_TAILS = ndtr(np.arange(-9.0, 0.25, 0.5))
_WIDEST_RATIO = 1e9


class Posterior(msgspec.Struct, frozen=True):
    """What is believed of a difference, variation minus control.

    `difference`: its mean; `low`, `high`: the central interval that holds it with probability `confidence`; `relative`, `relative_low`, `relative_high`: of the ratio minus 1 (its
    median; None where it was not asked for). `chance_to_win`: that the variation is better, by the metric's goal, in [0, 1]. `expected_loss`: what is lost on average by
    taking the variation, `expected_loss_of_control` by staying, both >= 0, in units of the metric.
    """

    difference: float
    low: float
    high: float
    chance_to_win: float
    expected_loss: float
    expected_loss_of_control: float
    confidence: float
    relative: float | None = None
    relative_low: float | None = None
    relative_high: float | None = None


def bayesian(
    control: Sample,
    treatment: Sample,
    *,
    is_proportion: bool = False,
    goal: Goal = "increase",
    confidence: float = 0.95,
) -> tuple[Effect, Posterior | None]:
    """Return the effect with credible intervals, and the posterior in units of the metric; None for one where nothing can be said yet.

    `is_proportion`: the samples' means are shares of their units, unadjusted: beta-binomial with uniform priors. Else Gaussian with a flat prior, whose relative interval is Fieller's.
    """
    error = standard_error(control, treatment)
    if is_silent(control, treatment) or error == 0.0:
        return compared(control, treatment, None, p_value=None, confidence=confidence, method=METHOD), None
    if not is_proportion:
        posterior = gaussian(treatment.mean - control.mean, error, goal=goal, confidence=confidence)
        critical = -float(ndtri((1.0 - confidence) / 2.0))
        effect = compared(control, treatment, critical, p_value=None, confidence=confidence, method=METHOD)
        return effect, posterior
    counts = [(round(each.mean * each.n), each.n) for each in (control, treatment)]
    posterior = beta_binomial(counts[0], counts[1], goal=goal, confidence=confidence)
    effect = Effect(
        control=control,
        treatment=treatment,
        difference=posterior.difference,
        low=posterior.low,
        high=posterior.high,
        relative=posterior.relative,
        relative_low=posterior.relative_low,
        relative_high=posterior.relative_high,
        p_value=None,
        confidence=confidence,
        method=METHOD,
    )
    return effect, posterior


def gaussian(
    difference: float,
    standard_error: float,
    *,
    prior_mean: float = 0.0,
    prior_variance: float | None = None,
    goal: Goal = "increase",
    confidence: float = 0.95,
) -> Posterior:
    """Return the posterior of a difference that was estimated with `standard_error` > 0; `prior_variance` None: a flat prior.

    Raises `InvalidInput` for a standard error or prior variance that is not above 0.

    >>> round(gaussian(0.02, 0.01).chance_to_win, 4)
    0.9772
    """
    for name, value in (("standard_error", standard_error), ("prior_variance", prior_variance)):
        if value is not None and not 0.0 < value < math.inf:
            raise InvalidInput(f"{name} must be finite and above 0, got {value:g}", field=name)
    own, prior = standard_error**-2, 0.0 if prior_variance is None else 1.0 / prior_variance
    mean = (difference * own + prior_mean * prior) / (own + prior)
    deviation = (own + prior) ** -0.5
    ratio, reach = mean / deviation, -float(ndtri((1.0 - confidence) / 2.0)) * deviation
    density = deviation * math.exp(-0.5 * ratio**2) / math.sqrt(2.0 * math.pi)
    loss, gain = density - mean * float(ndtr(-ratio)), density + mean * float(ndtr(ratio))
    won = float(ndtr(ratio))
    if goal == "decrease":
        won, loss, gain = float(ndtr(-ratio)), gain, loss
    return Posterior(mean, mean - reach, mean + reach, won, max(loss, 0.0), max(gain, 0.0), confidence)


def beta_binomial(
    control: tuple[int, int],
    treatment: tuple[int, int],
    *,
    prior: tuple[float, float] = (1.0, 1.0),
    goal: Goal = "increase",
    confidence: float = 0.95,
) -> Posterior:
    """Return the posterior of the difference of two rates; `control`, `treatment`: (converted units, all units); `prior`: (a, b) of both, > 0.

    Raises `InvalidInput` for counts that cannot be.

    >>> round(beta_binomial((50, 1_000), (70, 1_000)).chance_to_win, 4)
    0.9699
    """
    if not min(prior) > 0.0:
        raise InvalidInput("both numbers of the prior must be above 0", field="prior")
    c, t = _Rate.after(prior, "control", control), _Rate.after(prior, "treatment", treatment)
    tail = (1.0 - confidence) / 2.0

    def quantile(of: Callable[[float], float], probability: float, low: float, high: float) -> float:
        return monotone_root(lambda x: of(x) - probability, low, high)

    def below(difference: float) -> float:
        return _mass(c, t, lambda x: x + difference, lambda y: y - difference)

    def below_ratio(log_ratio: float) -> float:
        ratio = math.exp(log_ratio)
        return _mass(c, t, lambda x: x * ratio, lambda y: y / ratio)

    ratios = (
        quantile(below_ratio, p, -math.log(_WIDEST_RATIO), math.log(_WIDEST_RATIO)) for p in (0.5, tail, 1.0 - tail)
    )
    relative, relative_low, relative_high = (math.expm1(each) for each in ratios)
    places, weights = _quadrature(np.concatenate([c.marks, t.marks]))
    lost = float(weights @ (c.above(places) * t.below(places)))
    gained = float(weights @ (t.above(places) * c.below(places)))
    won, lost_chance = (float(weights @ (c.density(places) * of(places))) for of in (t.above, t.below))
    if goal == "decrease":
        won, lost, gained = lost_chance, gained, lost
    return Posterior(
        difference=t.mean - c.mean,
        low=quantile(below, tail, -1.0, 1.0),
        high=quantile(below, 1.0 - tail, -1.0, 1.0),
        chance_to_win=min(won, 1.0),
        expected_loss=lost,
        expected_loss_of_control=gained,
        confidence=confidence,
        relative=relative,
        relative_low=relative_low,
        relative_high=relative_high,
    )


class _Rate:
    """A Beta distribution. `marks`: quantiles between which it is smooth."""

    def __init__(self, a: float, b: float) -> None:
        self._a, self._b = a, b
        upper = 1.0 - betaincinv(b, a, _TAILS)
        self.marks: Floats = np.concatenate([betaincinv(a, b, _TAILS), upper])
        self.mean = a / (a + b)
        self._mass = 1.0
        places, weights = _quadrature(self.marks)
        self._mass = float(weights @ self.density(places))

    @classmethod
    def after(cls, prior: tuple[float, float], name: str, counts: tuple[int, int]) -> _Rate:
        converted, units = counts
        if not 0 <= converted <= units:
            raise InvalidInput(f"{converted} of {units} units cannot have converted", field=name)
        return cls(prior[0] + converted, prior[1] + units - converted)

    def density(self, places: Floats) -> Floats:
        """Return f, by its ratio to that at the mean: logarithms of large powers would lose the digits."""
        away = places - self.mean
        exponent = xlog1py(self._a - 1.0, away / self.mean) + xlog1py(self._b - 1.0, -away / (1.0 - self.mean))
        return np.asarray(np.exp(exponent) / self._mass)

    def below(self, places: Floats) -> Floats:
        return np.asarray(betainc(self._a, self._b, np.clip(places, 0.0, 1.0)))

    def above(self, places: Floats) -> Floats:
        return np.asarray(betaincc(self._a, self._b, np.clip(places, 0.0, 1.0)))


def _mass(c: _Rate, t: _Rate, forward: Callable[[Floats], Floats], back: Callable[[Floats], Floats]) -> float:
    """Return ∫ f_c(x) F_t(forward(x)) dx."""
    corners = back(np.array([0.0, 1.0]))
    places, weights = _quadrature(np.concatenate([c.marks, back(t.marks), corners]), c.marks)
    return float(weights @ (c.density(places) * t.below(forward(places))))


def _quadrature(marks: Floats, within: Floats | None = None) -> tuple[Floats, Floats]:
    """Return places and weights of Gauss-Legendre panels between neighbouring `marks`, cut to the span of `within`."""
    span = marks if within is None else within
    edges = np.unique(np.clip(marks, max(float(span.min()), 0.0), min(float(span.max()), 1.0)))
    half = np.diff(edges)[:, None] / 2.0
    return (edges[:-1, None] + half * (1.0 + _NODES)).ravel(), (half * _WEIGHTS).ravel()
