"""Fitted-Q evaluation (FQE), linear: the value of a sequential policy, learned from transitions by regressing on its own forecast.

    w_{k+1} = argmin_w Σ_i (r_i + gamma Σ_a' π(a' | s'_i) φ(s'_i, a')·w_k - φ(s_i, a_i)·w)² + λ |w|²,        V = mean of Σ_a π(a | s_0) φ(s_0, a)·w

Needs no propensities, and its error does not grow exponentially with the length of a session, as that of `per_decision` does; it is as wrong as Q is
not linear in φ. The error is that of the linearised terms, one an episode,

    X_e = v_e·w + n_e u·Σ_{i in e} φ_i δ_i,        u = A⁻ᵀ v̄,   A = Φ'Φ + λI - gamma Φ'Φ'_π,   δ_i = r_i + gamma φ'_i·w - φ_i·w

n u·φ_i are the weights that transitions have in the answer (n transitions): what marginalised importance weighting would give them, so their effective size is
reported, and a mean far from what the target's visits would give shows in the residuals. Papers: Le, Voloshin & Yue, "Batch Policy Learning under Constraints", ICML
2019; Duan, Jia & Wang, "Minimax-Optimal Off-Policy Evaluation with Linear Function Approximation", ICML 2020.
"""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from shared.errors import InvalidInput
from shared.evaluation.estimate_of_terms import estimate_of_terms
from shared.evaluation.value_estimate import CONFIDENCE, ValueEstimate

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

RIDGE = 1e-3
ITERATIONS = 10_000
_TOLERANCE = 1e-10
_DIVERGED = 1e9


class Transitions(msgspec.Struct, frozen=True, kw_only=True):
    """Logged transitions, episode after episode, and what the target would do next.

    `features`: shape (n, d), φ of what was done. `rewards`: shape (n,). `next_features`: shape (n, d), Σ_a' π(a' | s') φ(s', a'), zeros where the episode
    ended. `episodes`: shape (n,), the number of each transition's episode, in [0, n_episodes). `initial_features`: shape (n_episodes, d), Σ_a π(a | s_0)
    φ(s_0, a) of each episode's first state.
    """

    features: Floats
    rewards: Floats
    next_features: Floats
    episodes: Integers
    initial_features: Floats


def fitted_q_evaluation(
    transitions: Transitions, discount: float, confidence: float = CONFIDENCE, ridge: float = RIDGE
) -> ValueEstimate:
    """Estimate the target's discounted sum of rewards. `discount`: gamma in (0, 1]. `ridge`: λ > 0.

    Raises `InvalidInput` where the input is not as it should be, and where the regression's fixed point does not exist.
    """
    weights = fitted_q_weights(transitions, discount, ridge)
    shares = _shares(transitions, discount, ridge)
    residuals = transitions.rewards + discount * transitions.next_features @ weights - transitions.features @ weights
    count = len(transitions.initial_features)
    corrections = np.bincount(transitions.episodes, shares * residuals, minlength=count)
    values = transitions.initial_features @ weights
    totals = np.bincount(transitions.episodes, transitions.rewards, minlength=count).astype(np.float64)
    leverage = np.bincount(transitions.episodes, np.abs(shares), minlength=count).astype(np.float64)
    terms = values + count * (corrections - corrections.mean())
    estimate = estimate_of_terms("fitted_q_evaluation", terms, totals, leverage, confidence)
    kept = tuple(each for each in estimate.warnings if not each.startswith("the mean weight"))
    return msgspec.structs.replace(estimate, mean_weight=None, warnings=kept)


def fitted_q_weights(transitions: Transitions, discount: float, ridge: float = RIDGE) -> Floats:
    """Return w, shape (d,), after as many regressions as it takes. Errors as in `fitted_q_evaluation`."""
    _check(transitions, discount, ridge)
    features = transitions.features
    gram = features.T @ features + ridge * np.eye(features.shape[1])
    start: Floats = np.linalg.solve(gram, features.T @ transitions.rewards).astype(np.float64)
    step = discount * np.linalg.solve(gram, features.T @ transitions.next_features)
    weights = start
    for _ in range(ITERATIONS):
        following = start + step @ weights
        change = float(np.abs(following - weights).max())
        if change > _DIVERGED * (1.0 + float(np.abs(start).max())):
            break
        weights = following
        if change <= _TOLERANCE * (1.0 + float(np.abs(weights).max())):
            return weights
    message = (
        "the regressions do not settle: the features cannot carry this target's values, or the discount is too near 1"
    )
    raise InvalidInput(message, field="features")


def _shares(transitions: Transitions, discount: float, ridge: float) -> Floats:
    """Return u·φ_i, shape (n,): how far each transition's residual moves the answer."""
    features = transitions.features
    matrix = features.T @ (features - discount * transitions.next_features) + ridge * np.eye(features.shape[1])
    shares: Floats = features @ np.linalg.solve(matrix.T, transitions.initial_features.mean(axis=0))
    return shares


def _check(transitions: Transitions, discount: float, ridge: float) -> None:
    count, size = transitions.features.shape if transitions.features.ndim == 2 else (0, 0)  # noqa: PLR2004 - a matrix
    if not count or not size:
        raise InvalidInput("features must have shape (n, d)", field="features")
    episodes = len(transitions.initial_features)
    for name, values, shape in (
        ("rewards", transitions.rewards, (count,)),
        ("next_features", transitions.next_features, (count, size)),
        ("initial_features", transitions.initial_features, (episodes, size)),
    ):
        if values.shape != shape or not bool(np.isfinite(values).all()):
            raise InvalidInput(f"{name} must have shape {shape} and be finite", field=name)
    seen = transitions.episodes
    if seen.shape != (count,) or not bool(((seen >= 0) & (seen < episodes)).all()):
        raise InvalidInput("episodes must number the rows of initial_features", field="episodes")
    if not 0.0 < discount <= 1.0:
        raise InvalidInput("discount must lie in (0, 1]", field="discount")
    if not ridge > 0.0:
        raise InvalidInput("ridge must be above 0", field="ridge")
