"""Sequential sample-ratio p-values of ssrm-test (the authors of the method), and SciPy's chi-square."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import chisquare
from ssrm_test import ssrm_test

CASES = (
    ([0.5, 0.5], [[50, 40], [500, 530], [5_000, 5_100], [3_000, 3_400]]),
    ([0.4, 0.4, 0.2], [[20, 17, 9], [18, 21, 8], [400, 610, 400], [18, 19, 11]]),
    ([0.9, 0.1], [[900, 100], [9_000, 1_000]]),
)
CONCENTRATIONS = (100.0, 1_000.0, 10_000.0)


def fixture() -> dict[str, Any]:
    """Return inputs (units that came between looks) and what the references make of them."""
    return {
        "cases": [
            {
                "weights": weights,
                "units": units,
                "concentration": concentration,
                "log_bayes_factors": [
                    float(np.log(each))
                    for each in ssrm_test.sequential_bayes_factors(
                        np.array(units), np.array(weights), None, concentration
                    )
                ],
                "p_values": [
                    float(each)
                    for each in ssrm_test.sequential_p_values(np.array(units), np.array(weights), None, concentration)
                ],
                "chi_square": float(chisquare(np.sum(units, axis=0), np.sum(units) * np.array(weights)).pvalue),
            }
            for weights, units in CASES
            for concentration in CONCENTRATIONS
        ]
    }
