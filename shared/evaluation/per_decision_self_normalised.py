"""Per-decision importance weighting, self-normalised at every step (WPDIS): biased of order 1/n, with much less variance.

    V = Σ_t gamma^t v_t,        v_t = Σ_i w_it r_it / Σ_i w_it

with w as in `per_decision`; a sequence that has ended earns 0 and keeps its weight. Each v_t lies within the range of the rewards. The error is that of the
linearised terms Σ_t gamma^t [v_t + n w_it (r_it - v_t) / Σ_j w_jt]. Papers: Precup, Sutton & Singh, ICML 2000; Thomas, "Safe Reinforcement
Learning", 2015, section 3.6 (consistent weighted per-decision importance sampling).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from shared.errors import InvalidInput
from shared.evaluation.estimate_of_sequences import estimate_of_sequences
from shared.evaluation.logged_sequences import LoggedSequences
from shared.evaluation.per_decision import discounts, prefix_weights
from shared.evaluation.value_estimate import CONFIDENCE, ValueEstimate

Floats = npt.NDArray[np.float64]


def per_decision_self_normalised(
    logged: LoggedSequences, confidence: float = CONFIDENCE, discount: float = 1.0
) -> ValueEstimate:
    """Estimate the target's value. `discount`: gamma in (0, 1]. Raises `InvalidInput`, also where all weights of a step are zero."""
    return estimate_of_sequences(
        "per_decision_self_normalised",
        per_decision_self_normalised_terms(logged, discount),
        logged.totals,
        prefix_weights(logged),
        confidence,
    )


def per_decision_self_normalised_terms(logged: LoggedSequences, discount: float = 1.0) -> Floats:
    """Return the linearised terms, shape (n_rows,), whose mean is the estimate."""
    weights = prefix_weights(logged)
    sums = weights.sum(axis=0)
    if not bool((sums > 0.0).all()):
        raise InvalidInput("the target never takes what was logged: all weights of a step are zero", field="target")
    shares = weights / sums
    values = (shares * logged.rewards).sum(axis=0)
    terms: Floats = (values + len(weights) * shares * (logged.rewards - values)) @ discounts(logged, discount)
    return terms
