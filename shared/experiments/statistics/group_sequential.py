"""Group sequential tests: a few looks at an experiment whose end is planned, at the price of hardly any power.

At information times 0 < t_1 < ... < t_K (the share of the planned units that is in) the statistics Z_k √t_k are a Brownian motion B seen at t_k, with
drift θ = δ √I_max where the difference is δ and the planned information (1 over the squared standard error at the end) I_max. A spending
function says how much of the error alpha may be used up by time t; the bound b_k spends what came due since the look before:

    P(|Z_1| < b_1, ..., |Z_{k-1}| < b_{k-1}, |Z_k| >= b_k)  =  2 f(alpha/2, t_k) - 2 f(alpha/2, t_{k-1})

    O'Brien-Fleming type  f(a, t) = 2 - 2 Φ(z_{1-a/2} / √t)        Pocock type  f(a, t) = a log(1 + (e - 1) t)        power family  f(a, t) = a t^r

The looks need not be where they were planned: only times up to now count, as long as what was seen does not choose them. The densities of B(t_k) on the
continuation region are carried from look to look by Gauss-Legendre quadrature on panels as wide as the kernel's two standard deviations, which leaves
errors around 1e-13.

Two kinds of intervals: `repeated_*` holds at every look, whether the experiment then stops or not; the `stagewise_*` ones are narrower and unbiased in the median, but
hold only where the experiment stopped at that look by its bound, or the look is the last.

Papers: Lan & DeMets, "Discrete sequential boundaries for clinical trials", Biometrika 1983; Armitage, McPherson & Rowe, "Repeated significance tests on
accumulating data", JRSS A 1969 (recursion); Jennison & Turnbull, "Interim analyses: the repeated confidence interval approach", JRSS B 1989; Tsiatis, Rosner & Mehta,
"Exact confidence intervals following a group sequential test", Biometrics 1984.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri

from shared.errors import InvalidInput
from shared.experiments.statistics.confidence_sequences import is_silent
from shared.experiments.statistics.effect import Effect, compared, standard_error
from shared.experiments.statistics.moments import Sample
from shared.experiments.statistics.monotone_root import monotone_root

Floats = npt.NDArray[np.float64]
Spending = Literal["obrien_fleming", "pocock"]

LEAST_STEP = 1e-3
"""The least information between two looks, as a share of all that is planned: looks nearer to each other count as one."""
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(12)
_FURTHEST = 9.5
_LEAST_ALPHA = 1e-12


def group_sequential(
    control: Sample,
    treatment: Sample,
    times: Sequence[float],
    confidence: float = 0.95,
    spending: Spending | float = "obrien_fleming",
) -> Effect:
    """Return the effect at the last of `times` (all looks until now, rising), with the repeated interval and p-value: they hold at all looks at once."""
    alpha = 1.0 - confidence
    limit, error = float(bounds(times, alpha, spending)[-1]), standard_error(control, treatment)
    silent = error <= 0.0 or not math.isfinite(limit) or is_silent(control, treatment)
    if silent:
        return compared(control, treatment, None, p_value=None, confidence=confidence, method="group_sequential")
    p_value = repeated_p_value((treatment.mean - control.mean) / error, times, spending)
    return compared(control, treatment, limit, p_value=p_value, confidence=confidence, method="group_sequential")


def spent(times: Floats, alpha: float, spending: Spending | float = "obrien_fleming") -> Floats:
    """Return how much of the one-sided error `alpha` may be used up by each of `times` (shape (n_looks,), in (0, 1]).

    `spending`: a number is the exponent r > 0 of the power family.
    """
    if spending == "obrien_fleming":
        quantile = -float(ndtri(alpha / 2.0))
        return np.asarray(2.0 * ndtr(-quantile / np.sqrt(times)), dtype=np.float64)
    if spending == "pocock":
        return np.asarray(alpha * np.log1p((math.e - 1.0) * times), dtype=np.float64)
    return np.asarray(alpha * times**spending, dtype=np.float64)


def bounds(
    times: Sequence[float],
    alpha: float = 0.05,
    spending: Spending | float = "obrien_fleming",
    sides: Literal[1, 2] = 2,
) -> Floats:
    """Return the bound on |Z| (`sides` 1: on Z, from above only) at each look, shape (n_looks,); infinite where nothing is spent.

    `times`: rising, above 0, `LEAST_STEP` apart at least; the first look at 1 or beyond spends all that is left, later ones nothing. `alpha`: in (0, 1), of all looks and both sides together. Raises `InvalidInput`.

    >>> [round(float(each), 3) for each in bounds([0.2, 0.4, 0.6, 0.8, 1.0])]
    [4.877, 3.357, 2.68, 2.29, 2.031]
    """
    moments = _checked(times)
    if not 0.0 < alpha < 1.0:
        raise InvalidInput(f"alpha must lie in (0, 1), got {alpha:g}", field="alpha")
    due = np.diff(spent(np.minimum(moments, 1.0), alpha / sides, spending), prepend=0.0)
    walk = _Walk(moments, 0.0)
    found = np.empty(len(moments))
    for look, amount in enumerate(due):
        found[look] = walk.bound(float(amount))
        walk.go_on(-found[look] if sides == 2 else -np.inf, found[look])  # noqa: PLR2004 - two sides
    return found


def crossing(times: Sequence[float], limits: Sequence[float], drift: float = 0.0) -> tuple[Floats, Floats]:
    """Return the probabilities to leave ±`limits` (bounds on |Z|) first at each look, above and below, both of shape (n_looks,).

    `drift`: θ; with 0 they are the error rates, and their sum over the looks with another one is the power.
    """
    moments = _checked(times)
    walk = _Walk(moments, drift)
    above, below = np.empty(len(moments)), np.empty(len(moments))
    for look, limit in enumerate(limits):
        above[look], below[look] = walk.beyond(limit)
        walk.go_on(-limit, limit)
    return above, below


def repeated_p_value(z: float, times: Sequence[float], spending: Spending | float = "obrien_fleming") -> float:
    """Return the least alpha, in (0, 1], whose bound at the last of `times` |`z`| reaches: below alpha just where the repeated interval leaves out 0.

    It is at least 1e-12.
    """

    def excess(log_alpha: float) -> float:
        return float(bounds(times, math.exp(log_alpha), spending)[-1]) - abs(z)

    largest = math.log(1.0 - 1e-9)
    if excess(largest) >= 0.0:
        return 1.0
    smallest = math.log(_LEAST_ALPHA)
    return _LEAST_ALPHA if excess(smallest) <= 0.0 else math.exp(monotone_root(excess, smallest, largest))


def stagewise_p_value(z: float, times: Sequence[float], limits: Sequence[float]) -> float:
    """Return the two-sided p-value of an experiment that stopped at the last of `times` with statistic `z`.

    `limits`: the bounds at the looks before. A result is more extreme the earlier its bound was crossed, and the further at one look.
    """
    above = _more_extreme(z, times, limits, 0.0)
    return min(1.0, 2.0 * min(above, 1.0 - above))


def stagewise_interval(
    difference: float, standard_error: float, times: Sequence[float], limits: Sequence[float], confidence: float = 0.95
) -> tuple[float, float, float]:
    """Return (low, median-unbiased estimate, high) of an experiment that stopped at the last of `times`; arguments as in `stagewise_p_value`.

    `difference`, `standard_error`: at that look.
    """
    z, scale = difference / standard_error, standard_error * math.sqrt(times[-1])
    centre, reach = z / math.sqrt(times[-1]), 12.0 / math.sqrt(times[0])

    def limit(probability: float) -> float:
        def excess(drift: float) -> float:
            return _more_extreme(z, times, limits, drift) - probability

        return monotone_root(excess, centre - reach, centre + reach) * scale

    tail = (1.0 - confidence) / 2.0
    return limit(tail), limit(0.5), limit(1.0 - tail)


def _more_extreme(z: float, times: Sequence[float], limits: Sequence[float], drift: float) -> float:
    """Return P(a result at least as far up as `z` at the last of `times`), in (0, 1)."""
    moments = _checked(times)
    if len(limits) != len(moments) - 1:
        raise InvalidInput(f"there must be a bound for each earlier look, {len(moments) - 1}", field="limits")
    walk, total = _Walk(moments, drift), 0.0
    for limit in limits:
        total += walk.beyond(limit)[0]
        walk.go_on(-limit, limit)
    return total + walk.beyond(z)[0]


class _Walk:
    """The density of B on the paths that have not left their bounds yet, carried from look to look."""

    def __init__(self, times: Floats, drift: float) -> None:
        self._times = times
        self._steps = np.diff(times, prepend=0.0)
        self._drift = drift
        self._look = 0
        self._places, self._masses = np.zeros(1), np.ones(1)  # a quadrature: where B may be, and how probably

    def beyond(self, limit: float) -> tuple[float, float]:
        """Return P(Z > limit) and P(Z < -limit) at this look, on the paths that are left."""
        step, time = self._steps[self._look], self._times[self._look]
        deviation, centres = math.sqrt(step), self._places + self._drift * step
        bound = limit * math.sqrt(time)
        above = ndtr((centres - bound) / deviation)
        below = ndtr((-bound - centres) / deviation)
        return float(self._masses @ above), float(self._masses @ below)

    def bound(self, amount: float) -> float:
        """Return the limit above which this look finds `amount` of probability; infinite for none."""
        if amount < 1e-290:  # noqa: PLR2004 - what no float can tell from none
            return math.inf

        def excess(limit: float) -> float:
            above = self.beyond(limit)[0]
            return math.log(amount) - (math.log(above) if above > 0.0 else -750.0)

        return monotone_root(excess, -_FURTHEST, 40.0)

    def go_on(self, low: float, high: float) -> None:
        """Leave the paths outside (`low`, `high`), which are limits on Z, and step to the next look."""
        look = self._look
        self._look += 1
        if self._look == len(self._times):
            return
        step, time = self._steps[look], self._times[look]
        root, mean = math.sqrt(time), self._drift * time
        start = max(low * root, mean - _FURTHEST * root)
        stop = min(high * root, mean + _FURTHEST * root)
        width = 2.0 * math.sqrt(min(step, self._steps[self._look]))
        panels = max(1, math.ceil((stop - start) / width))
        edges = np.linspace(start, max(stop, start), panels + 1)
        half = np.diff(edges)[:, None] / 2.0
        places = (edges[:-1, None] + half * (1.0 + _NODES)).ravel()
        weights = (half * _WEIGHTS).ravel()
        distances = (places[:, None] - self._places - self._drift * step) / math.sqrt(step)
        density = np.exp(-0.5 * distances**2) @ self._masses / math.sqrt(2.0 * math.pi * step)
        self._places, self._masses = places, weights * density


def _checked(times: Sequence[float]) -> Floats:
    moments = np.asarray(times, dtype=np.float64)
    steps = np.diff(moments, prepend=0.0)
    if moments.ndim != 1 or not len(moments) or not bool((steps >= LEAST_STEP * (1 - 1e-9)).all()):
        message = f"information times must rise from above 0, by {LEAST_STEP:g} or more from look to look"
        raise InvalidInput(message, field="times")
    return moments
