"""What fitted-Q evaluation forecasts of sequences that it was not fitted to, for estimates that correct the forecast by weights.

Episodes are dealt into folds, and each is forecast by the regression over the others (cross-fitting, Chernozhukov et al. 2018), so that no reward
forecasts itself.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from shared.evaluation.cell_transitions import CellTransitions
from shared.evaluation.fitted_q_evaluation import fitted_q_weights
from shared.evaluation.reward_model import folds_of

Floats = npt.NDArray[np.float64]


class Forecasts(NamedTuple):
    """`initial`: V̂ of each episode's first state, shape (n_episodes,). `residuals`: r_t + V̂(s_t+1) - Q̂(s_t, a_t), shape (n_episodes, n_steps), 0 beyond the end."""

    initial: Floats
    residuals: Floats


def cell_forecasts(transitions: CellTransitions) -> Forecasts:
    """Forecast the undiscounted sum of rewards. Raises `InvalidInput` as `fitted_q_weights` does, and under as many episodes as folds."""
    transitions.check()
    lengths = np.bincount(transitions.episodes)
    folds = folds_of(len(lengths))
    fold_of_step = folds[transitions.episodes]
    initial, errors = np.zeros(len(lengths)), np.zeros(len(transitions.pairs))
    for fold in range(int(folds.max()) + 1):
        weights = fitted_q_weights(transitions.only(folds != fold), 1.0)
        residuals = transitions.rewards + transitions.next_values(weights) - transitions.values(weights)
        initial[folds == fold] = transitions.initial_values(weights)[folds == fold]
        errors[fold_of_step == fold] = residuals[fold_of_step == fold]
    laid_out = np.zeros((len(lengths), int(lengths.max())))
    laid_out[np.arange(laid_out.shape[1]) < lengths[:, None]] = errors
    return Forecasts(initial, laid_out)
