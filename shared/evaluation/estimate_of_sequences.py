"""What estimators of sequences have in common: one term a sequence, weights that are products, and the doubts that go with those.

The mean of a product of many ratios is 1 in expectation and nearly always far below: few sequences carry it. Whether propensities are true is therefore
asked where enough sequences count.
"""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from shared.evaluation.doubts import doubts_about_mean, doubts_about_products, last_supported
from shared.evaluation.estimate_of_terms import estimate_of_terms
from shared.evaluation.value_estimate import Interval, ValueEstimate

Floats = npt.NDArray[np.float64]


def estimate_of_sequences(
    estimator: str, terms: Floats, totals: Floats, weights: Floats, confidence: float, *, bounds: Interval | None = None
) -> ValueEstimate:
    """Return the mean of `terms`, shape (n_rows,), as an estimate.

    `totals`: shape (n_rows,), what came of each sequence. `weights`: shape (n_rows, n_steps), the product of ratios up to each step. `bounds`: least and
    largest possible term.
    """
    estimate = estimate_of_terms(estimator, terms, totals, weights[:, -1], confidence, bounds=bounds)
    about_mean = set(doubts_about_mean(weights[:, -1]))
    kept = [doubt for doubt in estimate.warnings if doubt not in about_mean]
    doubts = (*kept, *doubts_about_mean(weights[:, last_supported(weights)]), *doubts_about_products(weights))
    return msgspec.structs.replace(estimate, warnings=doubts)
