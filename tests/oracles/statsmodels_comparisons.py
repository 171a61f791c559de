"""statsmodels 0.15: Welch's test and interval, Wald's for proportions, the power of t tests and the samples they need, and strata as a saturated regression.

Post-stratification is what regression on strata, variation and all their products gives, with MacKinnon and White's HC2 for its variance: with one
parameter a cell that is exactly the sum over cells of variance over count.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import statsmodels.api as sm
from scipy.optimize import brentq
from statsmodels.stats.power import TTestIndPower, ttest_power
from statsmodels.stats.proportion import confint_proportions_2indep, test_proportions_2indep
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW


def fixture() -> dict[str, Any]:
    """Return inputs and what statsmodels makes of them."""
    random = np.random.RandomState(6)
    return {
        "welch": _welch(random),
        "proportions": _proportions(),
        "power": _power(),
        "sizes": _sizes(),
        "strata": _strata(random),
    }


def _welch(random: np.random.RandomState) -> list[dict[str, Any]]:
    cases = []
    for sizes, spread, confidence in (((8, 5), 3.0, 0.95), ((60, 25), 0.2, 0.9), ((40, 70), 1.0, 0.99)):
        control = random.normal(2.0, 1.0, size=sizes[0]).round(4)
        treatment = random.normal(2.5, spread, size=sizes[1]).round(4)
        means = CompareMeans(DescrStatsW(treatment), DescrStatsW(control))
        t, p_value, freedom = means.ttest_ind(usevar="unequal")
        low, high = means.tconfint_diff(alpha=1.0 - confidence, usevar="unequal")
        cases.append(
            {
                "control": control.tolist(),
                "treatment": treatment.tolist(),
                "confidence": confidence,
                "t": float(t),
                "p_value": float(p_value),
                "degrees_of_freedom": float(freedom),
                "low": float(low),
                "high": float(high),
            }
        )
    return cases


def _proportions() -> list[dict[str, float]]:
    cases = []
    for converted, n in (((93, 151), (900, 1_100)), ((12, 30), (400, 380))):
        low, high = confint_proportions_2indep(converted[1], n[1], converted[0], n[0], method="wald", compare="diff")
        test = test_proportions_2indep(converted[1], n[1], converted[0], n[0], method="wald", compare="diff")
        cases.append(
            {
                "control": converted[0],
                "n_control": n[0],
                "treatment": converted[1],
                "n_treatment": n[1],
                "low": float(low),
                "high": float(high),
                "p_value": float(test.pvalue),
            }
        )
    return cases


def _power() -> list[dict[str, float]]:
    cases = []
    for n_control, n_treatment, variances, difference, alpha in (
        (20, 20, (1.0, 1.0), 0.8, 0.05),
        (400, 100, (1.0, 2.5), 0.3, 0.05),
        (5_000, 5_000, (0.09, 0.0924), 0.01, 0.01),
    ):
        one, other = variances[0] / n_control, variances[1] / n_treatment
        freedom = (one + other) ** 2 / (one**2 / (n_control - 1) + other**2 / (n_treatment - 1))
        power = ttest_power(difference / np.sqrt(one + other), 1.0, alpha, df=freedom)
        cases.append(
            {
                "n_control": n_control,
                "n_treatment": n_treatment,
                "variance_control": variances[0],
                "variance_treatment": variances[1],
                "difference": difference,
                "alpha": alpha,
                "power": float(power),
            }
        )
    return cases


def _sizes() -> list[dict[str, float]]:
    """The units of the control (not rounded) that equal variances of 1 need; statsmodels' own solver stops five digits earlier than its power is exact."""
    cases = []
    for difference, power, alpha in ((0.2, 0.8, 0.05), (0.5, 0.9, 0.01), (0.05, 0.8, 0.05)):
        near = TTestIndPower().solve_power(effect_size=difference, alpha=alpha, power=power)

        def excess(n: float, difference: float = difference, power: float = power, alpha: float = alpha) -> float:
            return float(TTestIndPower().power(difference, n, alpha) - power)

        n_control = brentq(excess, 0.99 * near, 1.01 * near, xtol=1e-12, rtol=1e-14)
        cases.append({"difference": difference, "power": power, "alpha": alpha, "n_control": float(n_control)})
    return cases


def _strata(random: np.random.RandomState) -> dict[str, Any]:
    n = 160
    variation = random.randint(2, size=n)
    stratum = random.randint(3, size=n)
    values = (stratum * 1.5 + variation * (0.4 + 0.2 * stratum) + random.normal(size=n)).round(3)
    cells = np.eye(6)[variation * 3 + stratum]
    fitted = sm.OLS(values, cells).fit(cov_type="HC2")
    shares = np.bincount(stratum) / n
    contrast = np.concatenate([-shares, shares])
    return {
        "variation": variation.tolist(),
        "stratum": stratum.tolist(),
        "values": values.tolist(),
        "difference": float(contrast @ fitted.params),
        "standard_error": float(np.sqrt(contrast @ fitted.cov_params() @ contrast)),
    }
