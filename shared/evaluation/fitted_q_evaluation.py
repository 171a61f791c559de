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

from collections.abc import Iterator
from typing import Protocol

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


class Regression(Protocol):
    """Logged transitions, episode after episode, and what the target would do next, as the regressions need them.

    d features; n transitions. Every method returns an array of the shape that it names.
    """

    @property
    def rewards(self) -> Floats:
        """Return r, shape (n,)."""

    @property
    def episodes(self) -> Integers:
        """Return the number of each transition's episode, in [0, n_episodes), shape (n,)."""

    def check(self) -> None:
        """Raise `InvalidInput` where an array is not as it should be."""

    def gram(self) -> Floats:
        """Return Φ'Φ, shape (d, d)."""

    def cross(self) -> Floats:
        """Return Φ'Φ'_π, shape (d, d)."""

    def weighed(self, numbers: Floats) -> Floats:
        """Return Φ'y of `numbers`, shape (n,): shape (d,)."""

    def values(self, weights: Floats) -> Floats:
        """Return φ_i·w, shape (n,)."""

    def next_values(self, weights: Floats) -> Floats:
        """Return φ'_i·w, shape (n,), 0 where the episode ended."""

    def initial_values(self, weights: Floats) -> Floats:
        """Return v_e·w, shape (n_episodes,)."""

    def initial(self) -> Floats:
        """Return v̄, shape (d,)."""

    def doubts(self) -> Iterator[str]:
        """Say what is wrong with the transitions themselves."""


class Transitions(msgspec.Struct, frozen=True, kw_only=True):
    """Transitions with any features.

    `features`: shape (n, d), φ of what was done. `rewards`: shape (n,). `next_features`: shape (n, d), Σ_a' π(a' | s') φ(s', a'), zeros where the episode
    ended. `episodes`: shape (n,), the number of each transition's episode, in [0, n_episodes). `initial_features`: shape (n_episodes, d), Σ_a π(a | s_0)
    φ(s_0, a) of each episode's first state.
    """

    features: Floats
    rewards: Floats
    next_features: Floats
    episodes: Integers
    initial_features: Floats

    def check(self) -> None:
        """Do what `Regression` says."""
        count, size = self.features.shape if self.features.ndim == 2 else (0, 0)  # noqa: PLR2004 - a matrix
        if not count or not size:
            raise InvalidInput("features must have shape (n, d)", field="features")
        episodes = len(self.initial_features)
        for name, values, shape in (
            ("rewards", self.rewards, (count,)),
            ("next_features", self.next_features, (count, size)),
            ("initial_features", self.initial_features, (episodes, size)),
        ):
            if values.shape != shape or not bool(np.isfinite(values).all()):
                raise InvalidInput(f"{name} must have shape {shape} and be finite", field=name)
        seen = self.episodes
        if seen.shape != (count,) or not bool(((seen >= 0) & (seen < episodes)).all()):
            raise InvalidInput("episodes must number the rows of initial_features", field="episodes")

    def gram(self) -> Floats:
        """Do what `Regression` says."""
        return self.features.T @ self.features

    def cross(self) -> Floats:
        """Do what `Regression` says."""
        return self.features.T @ self.next_features

    def weighed(self, numbers: Floats) -> Floats:
        """Do what `Regression` says."""
        return self.features.T @ numbers

    def values(self, weights: Floats) -> Floats:
        """Do what `Regression` says."""
        return self.features @ weights

    def next_values(self, weights: Floats) -> Floats:
        """Do what `Regression` says."""
        return self.next_features @ weights

    def initial_values(self, weights: Floats) -> Floats:
        """Do what `Regression` says."""
        return self.initial_features @ weights

    def initial(self) -> Floats:
        """Do what `Regression` says."""
        mean: Floats = self.initial_features.mean(axis=0)
        return mean

    def doubts(self) -> Iterator[str]:
        """Say nothing: whether features can carry the values shows in the regressions."""
        yield from ()


def fitted_q_evaluation(
    transitions: Regression, discount: float, confidence: float = CONFIDENCE, ridge: float = RIDGE
) -> ValueEstimate:
    """Estimate the target's discounted sum of rewards. `discount`: gamma in (0, 1]. `ridge`: λ > 0.

    Raises `InvalidInput` where the input is not as it should be, and where the regression's fixed point does not exist.
    """
    weights = fitted_q_weights(transitions, discount, ridge)
    shares = _shares(transitions, discount, ridge)
    residuals = transitions.rewards + discount * transitions.next_values(weights) - transitions.values(weights)
    values = transitions.initial_values(weights)
    count = len(values)
    corrections = np.bincount(transitions.episodes, shares * residuals, minlength=count)
    totals = np.bincount(transitions.episodes, transitions.rewards, minlength=count).astype(np.float64)
    leverage = np.bincount(transitions.episodes, np.abs(shares), minlength=count).astype(np.float64)
    terms = values + count * (corrections - corrections.mean())
    estimate = estimate_of_terms("fitted_q_evaluation", terms, totals, leverage, confidence)
    kept = [each for each in estimate.warnings if not each.startswith("the mean weight")]
    return msgspec.structs.replace(estimate, mean_weight=None, warnings=(*kept, *transitions.doubts()))


def fitted_q_weights(transitions: Regression, discount: float, ridge: float = RIDGE) -> Floats:
    """Return w, shape (d,), after as many regressions as it takes. Errors as in `fitted_q_evaluation`."""
    transitions.check()
    if not 0.0 < discount <= 1.0:
        raise InvalidInput("discount must lie in (0, 1]", field="discount")
    if not ridge > 0.0:
        raise InvalidInput("ridge must be above 0", field="ridge")
    gram = transitions.gram()
    gram += ridge * np.eye(len(gram))
    start: Floats = np.linalg.solve(gram, transitions.weighed(transitions.rewards)).astype(np.float64)
    step = discount * np.linalg.solve(gram, transitions.cross())
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


def _shares(transitions: Regression, discount: float, ridge: float) -> Floats:
    """Return u·φ_i, shape (n,): how far each transition's residual moves the answer."""
    matrix = transitions.gram() - discount * transitions.cross()
    matrix += ridge * np.eye(len(matrix))
    return transitions.values(np.linalg.solve(matrix.T, transitions.initial()).astype(np.float64))
