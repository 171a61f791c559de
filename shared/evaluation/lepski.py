"""Lepski's rule: among estimators that trade bias for variance, the least variable one whose bias nobody could notice.

Sorted from the most biased to the unbiased one, the first j is taken that differs from every less biased k by no more than chance explains,

    |V_j - V_k|  <=  se(V_j - V_k)        for all k after j,

and so do all between. Both are estimated from the same rows, so the error of their difference is that of paired terms, much smaller than
either's own. With one standard error a bias is let pass that is small against the variance saved, so that intervals as wide as the unbiased estimator's keep their
coverage; rules that allow more (SLOPE, Su et al. 2020, some three errors) choose estimates whose intervals miss. Papers: Lepski, "On a Problem of
Adaptive Estimation in Gaussian White Noise", 1991; for off-policy evaluation Su, Srinath & Krishnamurthy, "Adaptive Estimator Selection for
Off-Policy Evaluation", ICML 2020.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from shared.evaluation.estimate_of_terms import standard_error

CANDIDATES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1_000.0, 10_000.0, math.inf)
"""Bounds of weights to choose among, the unbiased one last."""


def lepski(terms: Sequence[npt.NDArray[np.float64]]) -> int:
    """Return which of several estimators' `terms` (each of shape (n_rows,), the most biased first, the unbiased one last) to take."""
    taken = len(terms) - 1
    while taken > 0 and all(_agree(terms[taken - 1], less_biased) for less_biased in terms[taken:]):
        taken -= 1
    return taken


def _agree(biased: npt.NDArray[np.float64], less_biased: npt.NDArray[np.float64]) -> bool:
    difference = biased - less_biased
    return abs(float(difference.mean())) <= (standard_error(difference) or 0.0)
