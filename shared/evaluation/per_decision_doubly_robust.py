"""Doubly robust evaluation of sequences: what a model forecasts, corrected at every step by the weighted error of the forecast.

    X_i = V̂(s_i0) + Σ_t w_it (r_it + V̂(s_i,t+1) - Q̂(s_it, a_it)),        w_it = Π_{s<=t} π(a_is | h_is) / b(a_is | h_is)

with V̂(s) = Σ_a π(a|s) Q̂(s, a), 0 after the end. Right where the propensities are, whatever Q̂ is; the better Q̂, the less there is left to weigh. Here
the weights are normalised at every step, as in `per_decision_self_normalised`, which the errors are those of. Papers: Jiang & Li, "Doubly Robust Off-policy Value
Evaluation for Reinforcement Learning", ICML 2016; Thomas & Brunskill, "Data-Efficient Off-Policy Policy Evaluation for Reinforcement Learning", ICML
2016 (weighted doubly robust).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from shared.errors import InvalidInput
from shared.evaluation.estimate_of_sequences import estimate_of_sequences
from shared.evaluation.estimate_of_terms import standard_error
from shared.evaluation.logged_sequences import LoggedSequences
from shared.evaluation.per_decision import per_decision_terms, prefix_weights
from shared.evaluation.per_decision_self_normalised import per_decision_self_normalised_terms
from shared.evaluation.value_estimate import CONFIDENCE, ValueEstimate

Floats = npt.NDArray[np.float64]
_BIAS_ERRORS = 3.0


def per_decision_doubly_robust(
    logged: LoggedSequences, initial: Floats, residuals: Floats, confidence: float = CONFIDENCE
) -> ValueEstimate:
    """Estimate the target's value, the sum of rewards. `initial`, `residuals`: as `per_decision_doubly_robust_terms` says."""
    return estimate_of_sequences(
        "per_decision_doubly_robust",
        per_decision_doubly_robust_terms(logged, initial, residuals),
        logged.totals,
        prefix_weights(logged),
        confidence,
    )


def doubts_about_forecasts(logged: LoggedSequences, residuals: Floats) -> Iterator[str]:
    """Say that the weighted `residuals`, as below, are not 0 by more than chance: how far off the forecasts are that leave them."""
    terms = per_decision_self_normalised_terms(LoggedSequences(rewards=residuals, ratios=logged.ratios))
    error, mean = standard_error(terms), float(terms.mean())
    if error is not None and abs(mean) > _BIAS_ERRORS * error:
        yield (
            f"the logged rewards contradict the forecasts, which are off by {-mean:+.3g}: the state does not say all that matters"
        )


def per_decision_doubly_robust_terms(
    logged: LoggedSequences, initial: Floats, residuals: Floats, *, normalised: bool = True
) -> Floats:
    """Return the terms, shape (n_rows,), whose mean is the estimate; `normalised`: linearised ones.

    `initial`: V̂ of each row's first state, shape (n_rows,). `residuals`: r_t + V̂(s_t+1) - Q̂(s_t, a_t), shape (n_rows, n_steps), 0 beyond the end; of a Q̂ that
    was fitted to other rows. Raises `InvalidInput`, also where all weights of a step are zero.
    """
    if initial.shape != logged.rewards.shape[:1] or residuals.shape != logged.rewards.shape:
        raise InvalidInput("residuals must have the shape of rewards, and initial that of its rows", field="residuals")
    errors = LoggedSequences(rewards=residuals, ratios=logged.ratios)
    terms: Floats = initial + (per_decision_self_normalised_terms if normalised else per_decision_terms)(errors)
    return terms
