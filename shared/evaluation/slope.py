"""SLOPE: choose among estimators that trade bias for variance, without knowing the bias.

Sorted from the widest interval to the narrowest, an estimate is taken for as long as it agrees with all wider ones,

    |V_i - V_j|  <=  c_i + (√6 - 1) c_j        for all j before i

where c is the half-width of a one-sided normal interval of level `LEVEL`; the last that agrees is chosen. Papers: Su, Srinath & Krishnamurthy,
"Adaptive Estimator Selection for Off-Policy Evaluation", ICML 2020; without supposing that the bias rises as the variance falls: Tucker &
Lee, "Improved Estimator Selection for Off-Policy Evaluation", 2021.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from shared.evaluation.estimate_of_terms import standard_error

CANDIDATES = (10.0, 50.0, 100.0, 500.0, 1_000.0, 5_000.0, 10_000.0, math.inf)
LEVEL = 0.9


def slope(terms: Sequence[npt.NDArray[np.float64]]) -> int:
    """Return which of several estimators' `terms` (each of shape (n_rows,)) to take."""
    quantile = NormalDist().inv_cdf(LEVEL)
    values = [float(each.mean()) for each in terms]
    widths = [quantile * (standard_error(each) or 0.0) for each in terms]
    order = sorted(range(len(terms)), key=lambda place: -widths[place])
    for rank, place in enumerate(order):
        wider = order[:rank]
        if any(abs(values[place] - values[j]) > widths[place] + (math.sqrt(6.0) - 1.0) * widths[j] for j in wider):
            return order[rank - 1]
    return order[-1]
