"""Post-stratification: chance gave one variation more units of one kind than the other, and that is taken out.

    z̄_v = Σ_s w_s z̄_{v,s},        Var = Σ_s w_s² Var_{v,s} / n_{v,s},        w_s the share of stratum s among all units

for the means z̄ of value, denominator and covariate alike, so that ratios and CUPED build on it unchanged: what comes out is again `Sums`, whose products
are scaled so that they give that variance. What differs between strata then no longer counts, as if every variation had been given its exact share of
each. Strata of which some variation has fewer than `LEAST_UNITS` units become one.

Papers: Miratrix, Sekhon & Yu, "Adjusting treatment effect estimates by post-stratification in randomized experiments", JRSS B 2013; Xie & Aurisset,
"Improving the sensitivity of online controlled experiments: case studies at Netflix", KDD 2016.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import numpy as np
import numpy.typing as npt

from shared.experiments.statistics.moments import Sums

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int_]

LEAST_UNITS = 10


def post_stratified(variations: Sequence[Sequence[Sums]]) -> tuple[tuple[Sums, ...], float]:
    """Return the sums of each variation, weighted by the shares of all units, and the variance that the shares bring to all of them in common.

    `variations`: of each variation, the sums of each stratum, as many for all; every stratum has two units or more in every variation (`coarser` sees to that).
    The common variance is that of the mean or ratio: Σ w_s u_s² / N with u_s how far the stratum lies from the whole.
    """
    strata = [reduce(Sums.merged, sums) for sums in zip(*variations, strict=True)]
    units = sum(stratum.n for stratum in strata)
    shares = np.array([stratum.n / units for stratum in strata])
    weighted = tuple(_weighted(sums, shares) for sums in variations)
    pooled = reduce(Sums.merged, strata)
    if pooled.means[1] == 0.0:
        return weighted, 0.0
    apart = np.array([np.array(stratum.means) - np.array(pooled.means) for stratum in strata]) @ pooled.influence()
    return weighted, float(shares @ apart**2) / units


def coarser(counts: Integers) -> Integers:
    """Return for each stratum the number of the one it becomes part of, shape (n_strata,), numbered from 0.

    `counts`: shape (n_variations, n_strata), units. Strata with fewer than `LEAST_UNITS` units in some variation become one; should that be too small, too, it
    takes in the smallest of the others, until it is not or there is one stratum only.

    >>> coarser(np.array([[500, 3, 40, 9], [480, 5, 45, 30]])).tolist()
    [0, 1, 2, 1]
    """
    least = counts.min(axis=0)
    order = np.argsort(least, kind="stable")
    rest = int((least < LEAST_UNITS).sum())
    while 0 < rest < len(order) and counts[:, order[:rest]].sum(axis=1).min() < LEAST_UNITS:
        rest += 1
    first = order[:rest]
    group = np.arange(len(least))
    group[first] = first.min() if rest else 0
    return np.unique(group, return_inverse=True)[1]


def _weighted(strata: Sequence[Sums], shares: Floats) -> Sums:
    """Return sums with the weighted means, whose products give the variance of those."""
    n = sum(stratum.n for stratum in strata)
    means = shares @ np.array([stratum.means for stratum in strata])
    covariance = sum(
        share**2 * np.array(stratum.products) / ((stratum.n - 1) * stratum.n)
        for share, stratum in zip(shares, strata, strict=True)
    )
    products = np.asarray(covariance * (n * (n - 1)))
    return Sums(
        n,
        tuple(means.tolist()),
        tuple(map(tuple, products.tolist())),
        sum(stratum.size for stratum in strata),
    )
