"""Slates by whole-slate importance weighting (SIPS): the sum of a slate's rewards times the ratio of the slate's probabilities.

    V = 1/n Σ_i (Σ_k r_ik) Π_k π(a_ik | x_i, a_i1 … a_i,k-1) / b(a_ik | x_i, a_i1 … a_i,k-1)

Supposes nothing of how users look at a slate; its variance grows exponentially with the number of positions. Paper: Strehl et al., "Learning from
Logged Implicit Exploration Data", NeurIPS 2010; for slates as in McInerney et al., KDD 2020.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from shared.evaluation.estimate_of_terms import estimate_of_terms
from shared.evaluation.logged_sequences import LoggedSequences
from shared.evaluation.value_estimate import CONFIDENCE, ValueEstimate


def slate_standard(slates: LoggedSequences, confidence: float = CONFIDENCE) -> ValueEstimate:
    """Estimate the target's value, the sum of a slate's rewards."""
    weights = slates.ratios.prod(axis=1)
    terms = slate_standard_terms(slates)
    return estimate_of_terms(
        "slate_standard", terms, slates.totals, weights, confidence, bounds=slates.bounds_of_terms()
    )


def slate_standard_terms(slates: LoggedSequences) -> npt.NDArray[np.float64]:
    """Return the terms, shape (n_rows,), whose mean is the estimate."""
    terms: npt.NDArray[np.float64] = slates.ratios.prod(axis=1) * slates.totals
    return terms
