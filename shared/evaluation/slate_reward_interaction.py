"""Slates by reward-interaction importance weighting (RIPS): each position's reward by the items down to it.

    V = 1/n Σ_i Σ_k r_ik Π_{j<=k} π(a_ij | x_i, a_i1 … a_i,j-1) / b(a_ij | x_i, a_i1 … a_i,j-1)

Supposes that users look from the top down: the reward of a position may depend on all items above it, and on none below. Then it is unbiased, with less
variance than `slate_standard`. It is `per_decision` with positions for steps. Paper: McInerney, Brost, Chandar, Mehrotra & Carterette,
"Counterfactual Evaluation of Slate Recommendations with Sequential Reward Interactions", KDD 2020.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from shared.evaluation.logged_sequences import LoggedSequences
from shared.evaluation.per_decision import per_decision, per_decision_terms
from shared.evaluation.value_estimate import CONFIDENCE, ValueEstimate


def slate_reward_interaction(slates: LoggedSequences, confidence: float = CONFIDENCE) -> ValueEstimate:
    """Estimate the target's value, the sum of a slate's rewards."""
    return per_decision(slates, confidence, name="slate_reward_interaction")


def slate_reward_interaction_terms(slates: LoggedSequences) -> npt.NDArray[np.float64]:
    """Return the terms, shape (n_rows,), whose mean is the estimate."""
    return per_decision_terms(slates)
