"""The difference of two policies' values, estimated from logs that share no row.

    D = V₁ - V₂,        se² = se₁² + se₂²

Comparing whether the two intervals overlap would be too cautious: they may overlap though the difference is
clear. Use `paired_difference` for estimates from the same rows.
"""

from __future__ import annotations

import math

from shared.evaluation.value_estimate import Difference, ValueEstimate


def independent_difference(first: ValueEstimate, second: ValueEstimate) -> Difference:
    """Estimate the value of `first` minus that of `second`; no standard error where either has none.

    >>> one, two = ValueEstimate(0.5, 0.3, 9.0, 4.0, 9), ValueEstimate(0.25, 0.4, 9.0, 2.0, 9)
    >>> independent_difference(one, two)
    Difference(value=0.25, standard_error=0.5)
    """
    if first.standard_error is None or second.standard_error is None:
        error = None
    else:
        error = math.hypot(first.standard_error, second.standard_error)
    return Difference(value=first.value - second.value, standard_error=error)
