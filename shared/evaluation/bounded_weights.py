"""Doubly robust terms by weights that are held back, for less variance and some bias.

The estimate is the mean by the weights that are held back, its error that of the unbiased terms: intervals then keep their coverage.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from shared.evaluation.doubly_robust import corrected
from shared.evaluation.lepski import CANDIDATES, lepski
from shared.evaluation.logged_decisions import LoggedDecisions

Floats = npt.NDArray[np.float64]


def bounded_terms(
    decisions: LoggedDecisions, held_back: Callable[[Floats, float], Floats], bound: float | None
) -> Floats:
    """Return the unbiased terms, shape (n_rows,), moved so that their mean is the one by `held_back(weights, bound)`.

    `bound` None: the one that `lepski` chooses.
    """
    weights = decisions.weights()
    if bound is None:
        bound = CANDIDATES[lepski([corrected(decisions, held_back(weights, each)) for each in CANDIDATES])]
    terms, biased = corrected(decisions, weights), corrected(decisions, held_back(weights, bound))
    moved: Floats = terms + (biased.mean() - terms.mean())
    return moved
