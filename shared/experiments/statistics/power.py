"""How likely an effect is found, how many units that takes, and the least effect that is found: before an experiment, and while it runs.

With per-unit variances v_a, v_b, n_a and n_b of N units, a true difference d and se² = v_a/n_a + v_b/n_b:

    fixed horizon     P(|T| > t_f),  T noncentral t of Welch's f degrees of freedom, noncentrality d / se
    sequential        P(|Z_k| >= c(n_k) at some look k),  Z_k √(k/K) a Brownian motion with drift d / se, looks at N/K, 2N/K, ..., N units

c is the critical value of `confidence_sequences`; looks in between find a little more (69.3 % at 50 looks, 70.2 % at 100), and that it is silent below 10 conversions is left
out. The other two invert the power in N or in d. Both sides count, as they do in the tests. At its design size sequential inference takes 1.67 times the units of a fixed horizon
for a power of 80 %, if it has to run to its end; most experiments that find something end before.

Before: `Baseline.of_rate` and `Baseline.of_mean`. While it runs: `Baseline.of_samples`, which knows by how much CUPED and strata have narrowed the metric; nothing is made of the
effect that is seen, because a power "observed" that way is the p-value in other words.

Papers: Chow, Shao, Wang & Lokhnygina, "Sample size calculations in clinical research", 2017 (noncentral t); Hoenig & Heisey, "The abuse of power", The American Statistician 2001.
"""

from __future__ import annotations

import math
from typing import Literal

import msgspec
from scipy.special import nctdtr, stdtrit

from shared.errors import InvalidInput
from shared.evaluation.confidence_sequence import critical_value
from shared.experiments.statistics.confidence_sequences import DESIGN_UNITS
from shared.experiments.statistics.group_sequential import crossing
from shared.experiments.statistics.moments import Sample
from shared.experiments.statistics.monotone_root import monotone_root
from shared.experiments.statistics.welch import freedom_of

LOOKS = 50
_FEWEST, _FURTHEST = 2.0, 40.0
"""Units of the smaller variation, and standard errors of a difference, between which samples are looked for."""


class Baseline(msgspec.Struct, frozen=True):
    """What one unit does. `mean`: of the control. `variance`, `treated_variance`: of a unit's influence in control and treatment, > 0.

    `is_rate`: the treatment's variance follows from its mean, which must lie in (0, 1).
    """

    mean: float
    variance: float
    treated_variance: float
    is_rate: bool = False

    @classmethod
    def of_rate(cls, rate: float) -> Baseline:
        """Return that of a proportion with `rate` in (0, 1)."""
        if not 0.0 < rate < 1.0:
            raise InvalidInput(f"a rate must lie in (0, 1), got {rate:g}", field="rate")
        return cls(rate, rate * (1.0 - rate), rate * (1.0 - rate), is_rate=True)

    @classmethod
    def of_mean(cls, mean: float, variance: float) -> Baseline:
        """Return that of a metric with this `mean` and `variance` (> 0), which the treatment leaves as it is."""
        if not variance > 0.0:
            raise InvalidInput(f"a variance must be above 0, got {variance:g}", field="variance")
        return cls(mean, variance, variance)

    @classmethod
    def of_samples(cls, control: Sample, treatment: Sample) -> Baseline:
        """Return what a running experiment has shown; raises InvalidInput where either sample has no spread yet."""
        if min(control.variance, treatment.variance) <= 0.0:
            raise InvalidInput("the power needs some spread in both variations", field="variance")
        return cls(control.mean, control.variance, treatment.variance)

    def treated(self, difference: float) -> float:
        """Return the variance of a treated unit; raises InvalidInput where the treatment's rate would be none."""
        if not self.is_rate:
            return self.treated_variance
        rate = self.mean + difference
        if not 0.0 < rate < 1.0:
            raise InvalidInput(f"the treatment's rate must lie in (0, 1), got {rate:g}", field="difference")
        return rate * (1.0 - rate)


class Method(msgspec.Struct, frozen=True):
    """Which test it is. `confidence`: in (0, 1). `share`: of the units, in (0, 1), those that the treatment gets. `design_units`, `looks`: of the sequential one."""

    inference: Literal["sequential", "fixed_horizon"] = "sequential"
    confidence: float = 0.95
    share: float = 0.5
    design_units: float = DESIGN_UNITS
    looks: int = LOOKS


_DEFAULT = Method()


def power(baseline: Baseline, difference: float, units: float, method: Method = _DEFAULT) -> float:
    """Return the probability in [0, 1] that `method` finds `difference` by `units` units, which are both variations' together.

    Raises InvalidInput for fewer than two units a variation, a share or confidence outside (0, 1), or a rate that the difference takes out of (0, 1).

    >>> fixed = Method("fixed_horizon")
    >>> round(power(Baseline.of_rate(0.10), 0.02, 10_000, fixed), 3), round(power(Baseline.of_rate(0.10), 0.02, 10_000), 3)
    (0.892, 0.658)
    """
    n, treated_n = _divided(units, method)
    treated = baseline.treated(difference)
    noncentral = abs(difference) / math.sqrt(baseline.variance / n + treated / treated_n)
    if method.inference == "fixed_horizon":
        freedom = freedom_of(baseline.variance, n, treated, treated_n)
        critical = float(stdtrit(freedom, 0.5 + method.confidence / 2.0))
        return 1.0 - _below(critical, freedom, noncentral) + _below(-critical, freedom, noncentral)
    effective = 4.0 / (1.0 / n + 1.0 / treated_n)
    times = [look / method.looks for look in range(1, method.looks + 1)]
    limits = [critical_value(effective * time, method.confidence, method.design_units) for time in times]
    above, below = crossing(times, limits, noncentral)
    return float(above.sum() + below.sum())


def units_needed(baseline: Baseline, difference: float, wanted: float = 0.8, method: Method = _DEFAULT) -> float:
    """Return the units of both variations together, not rounded, at which the power for `difference` (not 0) is `wanted` (in (0, 1)).

    >>> round(units_needed(Baseline.of_rate(0.10), 0.02, method=Method("fixed_horizon")))
    7678
    """
    _check(wanted, method)
    _divided(math.inf, method)
    if difference == 0.0:
        raise InvalidInput("no number of units finds a difference of 0", field="difference")
    low = math.log(_FEWEST / min(method.share, 1.0 - method.share))
    high = max(math.log(_most(baseline, difference, method)), low + 1.0)
    return math.exp(monotone_root(lambda log: power(baseline, difference, math.exp(log), method) - wanted, low, high))


def detectable(baseline: Baseline, units: float, wanted: float = 0.8, method: Method = _DEFAULT) -> float | None:
    """Return the least increase that has a power of `wanted` at `units` units, as an absolute difference; None where even a rate of 1 has less.

    >>> round(detectable(Baseline.of_rate(0.10), 10_000, method=Method("fixed_horizon")), 4)
    0.0174
    """
    _check(wanted, method)
    _divided(units, method)
    if baseline.is_rate:
        most = (1.0 - baseline.mean) * (1.0 - 1e-9)
    else:
        deviation = math.sqrt(baseline.variance / (1.0 - method.share) + baseline.treated_variance / method.share)
        most = _FURTHEST * deviation / math.sqrt(units)
    if power(baseline, most, units, method) < wanted:
        return None
    return monotone_root(lambda difference: power(baseline, difference, units, method) - wanted, 0.0, most)


def _below(t: float, freedom: float, noncentral: float) -> float:
    """Return P(T < `t`) of a noncentral T; SciPy has no number for some that are below 1e-12."""
    probability = float(nctdtr(freedom, noncentral, t))
    return 0.0 if math.isnan(probability) else probability


def _most(baseline: Baseline, difference: float, method: Method) -> float:
    """Return the units at which `difference` is `_FURTHEST` standard errors."""
    deviation = math.sqrt(baseline.variance / (1.0 - method.share) + baseline.treated(difference) / method.share)
    return (_FURTHEST * deviation / difference) ** 2


def _divided(units: float, method: Method) -> tuple[float, float]:
    """Return the units of control and treatment."""
    for field in ("share", "confidence"):
        if not 0.0 < getattr(method, field) < 1.0:
            raise InvalidInput(f"the {field} must lie in (0, 1), got {getattr(method, field):g}", field=field)
    n, treated_n = (1.0 - method.share) * units, method.share * units
    if not min(n, treated_n) >= _FEWEST * (1.0 - 1e-9):
        raise InvalidInput(f"each variation must have two units at least, got {min(n, treated_n):g}", field="units")
    return n, treated_n


def _check(wanted: float, method: Method) -> None:
    if not 1.0 - method.confidence < wanted < 1.0:
        raise InvalidInput(
            f"the power must lie between {1.0 - method.confidence:.3g} and 1, got {wanted:g}", field="power"
        )
