"""Slates by independent importance weighting (IIPS): each position by itself.

    V = 1/n Σ_i Σ_k r_ik π_k(a_ik | x_i) / b_k(a_ik | x_i)

with the *marginal* probabilities that an item stands at position k, so here `sequences` is given those and not the conditional ones. Supposes that
the reward of a position depends on its own item alone; then it is unbiased and varies least. Paper: Li, Abbasi-Yadkori, Kveton, Muthukrishnan,
Vinay & Wen, "Offline Evaluation of Ranking Policies with Click Models", KDD 2018.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from shared.evaluation.estimate_of_terms import estimate_of_terms
from shared.evaluation.logged_sequences import LoggedSequences
from shared.evaluation.value_estimate import CONFIDENCE, ValueEstimate


def slate_independent(slates: LoggedSequences, confidence: float = CONFIDENCE) -> ValueEstimate:
    """Estimate the target's value, the sum of a slate's rewards, from ratios of marginal probabilities.

    The effective sample size is that of the slates' mean ratios.
    """
    terms, weights = slate_independent_terms(slates), slates.ratios.mean(axis=1)
    return estimate_of_terms("slate_independent", terms, slates.totals, weights, confidence)


def slate_independent_terms(slates: LoggedSequences) -> npt.NDArray[np.float64]:
    """Return the terms, shape (n_rows,), whose mean is the estimate."""
    terms: npt.NDArray[np.float64] = (slates.ratios * slates.rewards).sum(axis=1)
    return terms
