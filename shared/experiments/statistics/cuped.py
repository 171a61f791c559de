"""CUPED: what a unit did before its exposure explains part of what it does after, and that part is taken out.

    R_v - θ (C_v - C),        θ = Cov(ψ, χ) / Var(χ)

R_v is the metric in variation v, C_v the same metric over the time before, C that of all variations together; ψ and χ are a unit's influence on R and C (the value
and the value before of a mean, the delta method's linear forms of a ratio). θ is one for all variations, from all their units. As no variation has touched
what was before, E C_v = C: the adjusted mean estimates what the metric does, with a variance that is smaller by the factor 1 - r², r being the correlation of
ψ and χ. Units of which nothing is known before have 0 there. What C itself varies by is `Sample.common`.

Paper: Deng, Xu, Kohavi & Walker, "Improving the sensitivity of online controlled experiments by utilizing pre-experiment data", WSDM 2013.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import numpy as np
import numpy.typing as npt

from shared.experiments.statistics.moments import Sample, Sums

Floats = npt.NDArray[np.float64]


def adjusted(variations: Sequence[Sums]) -> tuple[Sample, ...]:
    """Return the adjusted sample of each of `variations` (one or more), in their order; unadjusted ones where the covariate tells nothing."""
    pooled = reduce(Sums.merged, variations)
    slope = theta(pooled)
    if slope == 0.0 or any(each.n and (each.means[1] == 0.0 or each.means[3] == 0.0) for each in variations):
        return tuple(each.sample() for each in variations)
    everyone = pooled.means[2] / pooled.means[3]
    common = slope * slope * pooled.variance_of(_covariate_influence(pooled)) / pooled.n
    return tuple(_adjusted(each, slope, everyone, common) for each in variations)


def theta(pooled: Sums) -> float:
    """Return θ of the sums of all units; 0 where the covariate does not vary or is not there."""
    if not pooled.n or pooled.means[1] == 0.0 or pooled.means[3] == 0.0:
        return 0.0
    covariate = _covariate_influence(pooled)
    products = np.array(pooled.products) @ covariate
    spread = float(covariate @ products)
    return float(pooled.influence() @ products) / spread if spread > 0.0 else 0.0


def _adjusted(variation: Sums, slope: float, everyone: float, common: float) -> Sample:
    sample = variation.sample()
    if not sample.n:
        return sample
    before = variation.means[2] / variation.means[3]
    weights = variation.influence() - slope * _covariate_influence(variation)
    return Sample(
        sample.n,
        sample.mean - slope * (before - everyone),
        variation.variance_of(weights),
        common,
        sample.conversions,
    )


def _covariate_influence(of: Sums) -> Floats:
    """Return the weights, shape (4,), of the linear form whose value a unit is its influence on x̄ / ē."""
    return np.array([0.0, 0.0, 1.0, -of.means[2] / of.means[3]]) / of.means[3]
