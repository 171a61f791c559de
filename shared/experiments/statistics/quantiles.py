"""A quantile of events, such as the 90th percentile of waiting times, where one unit may have many events.

    q̂ = the p-quantile of all events,        se(q̂) = (q_u - q_l) / (2 z) · √( Var(F̂) / (p (1 - p) / N) )

q_l and q_u are the quantiles at p ∓ z √(p (1 - p) / N), z = 1.96: half their distance over z is the standard error if the N events were independent, without a
density having to be estimated. The factor is what clustering does to the share F̂ of events up to q̂, which is a ratio of sums over units (delta method). Where
ties leave q_u = q_l there is no spread, and nothing will be said.

Paper: Deng, Knoblich & Lu, "Applying the delta method in metric analytics", KDD 2018 (arXiv:1803.06336), section 4.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from shared.experiments.statistics.moments import Sample, sums

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.integer]

_Z = 1.959963984540054


def quantile_sample(values: Floats, units: Integers, quantile: float) -> Sample:
    """Return the `quantile` (in (0, 1)) of `values`, shape (n_events,), and how sure it is; `n`: the units that have events.

    `units`: shape (n_events,), which unit an event belongs to. `conversions`: the units with an event above the quantile, or with one up to it, whichever are fewer.

    >>> sample = quantile_sample(np.arange(1_000.0), np.arange(1_000), 0.5)
    >>> sample.n, sample.mean, round(sample.standard_error, 1)
    (1000, 499.5, 15.8)
    """
    events = len(values)
    if not events:
        return Sample(0, 0.0, 0.0, conversions=0)
    per_unit = np.unique(units, return_inverse=True)[1]
    apart = _Z * math.sqrt(quantile * (1.0 - quantile) / events)
    places = np.clip([quantile, quantile - apart, quantile + apart], 0.0, 1.0)
    estimate, low, high = np.quantile(values, places).tolist()
    counts = np.bincount(per_unit).astype(np.float64)
    below = np.bincount(per_unit, weights=values <= estimate).astype(np.float64)
    n = len(counts)
    clustered = sums(below, counts).sample().variance / n
    independent = quantile * (1.0 - quantile) / events
    variance = ((high - low) / (2.0 * _Z)) ** 2 * clustered / independent
    conversions = min(np.count_nonzero(below), np.count_nonzero(counts - below))
    return Sample(n, estimate, variance * n, conversions=int(conversions))
