"""Several metrics or variations at once: p-values adjusted so that the chance to be fooled anywhere stays what it was for one.

With p-values p_(1) <= ... <= p_(m), in order:

    Holm                 p̃_(i) = max_{j <= i} min(1, (m - j + 1) p_(j))      the chance of *any* false claim is at most alpha
    Benjamini-Hochberg   p̃_(i) = min_{j >= i} min(1, m p_(j) / j)            of all claims, alpha are false on average

Holm holds whatever the p-values' dependence, Benjamini-Hochberg where they are independent or positively dependent (as metrics of the same users mostly are). Sequential
p-values may be adjusted at every look as well: Holm's guarantee then holds at all looks at once, because each hypothesis is rejected only where its p-value, over all time, is small.

What an adjusted interval means. `simultaneous_confidence`: each interval is made at 1 - alpha/m, and all m hold at once with probability 1 - alpha (Bonferroni). Holm rejects whatever these
leave 0 out of, and at times one more, whose interval then still holds 0: the p-value decides, the interval tells the size. `selected_confidence`: intervals of the R claims that
Benjamini-Hochberg makes, at 1 - R alpha/m; of those that are reported so, alpha do not hold on average (the false coverage rate); of the others no interval is meant.

Papers: Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 1979; Benjamini & Hochberg, "Controlling the false
discovery rate", JRSS B 1995; Benjamini & Yekutieli, "False discovery rate-adjusted multiple confidence intervals for selected parameters", JASA 2005.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from shared.errors import InvalidInput

Floats = npt.NDArray[np.float64]
Correction = Literal["holm", "benjamini_hochberg", "none"]


def adjusted(p_values: Sequence[float], correction: Correction) -> Floats:
    """Return the adjusted p-values, shape (n_tests,), in the order of `p_values` (in [0, 1]); a claim is made where one is at most alpha.

    Raises `InvalidInput` for what is no p-value.

    >>> adjusted([0.01, 0.04, 0.03], "holm").tolist(), adjusted([0.01, 0.04, 0.03], "benjamini_hochberg").tolist()
    ([0.03, 0.06, 0.06], [0.03, 0.04, 0.04])
    """
    values = np.asarray(p_values, dtype=np.float64)
    if values.ndim != 1 or not bool(((values >= 0.0) & (values <= 1.0)).all()):
        raise InvalidInput("p-values must be one row of numbers in [0, 1]", field="p_values")
    if correction == "none":
        return values
    order = np.argsort(values, kind="stable")
    ranks = np.arange(1, len(values) + 1)
    in_order = values[order]
    if correction == "holm":
        in_order = np.maximum.accumulate(in_order * (len(values) - ranks + 1))
    else:
        in_order = np.minimum.accumulate((in_order * len(values) / ranks)[::-1])[::-1]
    answer = np.empty_like(values)
    answer[order] = np.minimum(in_order, 1.0)
    return answer


def simultaneous_confidence(confidence: float, comparisons: int) -> float:
    """Return the confidence at which each of `comparisons` (>= 1) intervals is made so that all hold at once with `confidence`.

    >>> round(simultaneous_confidence(0.95, 5), 6)
    0.99
    """
    return 1.0 - (1.0 - confidence) / comparisons


def selected_confidence(confidence: float, claims: int, comparisons: int) -> float:
    """Return the confidence at which the intervals of `claims` out of `comparisons` are made, where Benjamini-Hochberg selected them.

    >>> round(selected_confidence(0.95, 2, 5), 6)
    0.98
    """
    return 1.0 - claims * (1.0 - confidence) / comparisons
