"""Thompson sampling: each action as often as it is believed to be the best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from math import sqrt
from typing import ClassVar

import numpy as np

from shared.policies.algorithm import FloatArray, Parameter, nothing, parameter, scale
from shared.vocabulary import Estimate, Snapshot


class Thompson:
    """Choose an action with the share of posterior draws in which it is the best.

    Rewards in a range are rescaled to [0, 1] and take a Beta posterior. Unbounded ones are taken as Gaussian; where
    `noise_scale` is given it is their known standard deviation, else the variance is estimated with the mean
    (normal-inverse-gamma, whose mean has Student's t distribution), n standing for weight:

        Beta(prior_alpha + sum r, prior_beta + sum (1 - r))
        Normal(m, v),  1/v = 1/prior_scale^2 + n/noise_scale^2,  m = v * (prior_mean/prior_scale^2 + total/noise_scale^2)
        m + sqrt(b/(a k)) * t(2a),  k = prior_weight + n,  m = (prior_weight * prior_mean + total)/k,  2a = noise_weight + n,
            2b = noise_weight * noise_guess^2 + sum (r - mean)^2 + (prior_weight * n/k) (mean - prior_mean)^2

    where prior_mean and noise_guess, if not given, are mean and standard deviation of all rewards of the snapshot, so that
    no unit of reward needs a setting.

    A snapshot fixes `N_DRAWS` joint draws, derived from the seed it names; p(a) is the share of them that a wins among
    the eligible actions, so a propensity is exact for every subset. Draws come from NumPy's frozen legacy generator,
    whose stream no release may change (NEP 19): an old decision recomputes under a newer NumPy. A snapshot that
    names neither `noise_scale` nor `noise_weight` is older than the estimate: its noise is known to be 1. The choice
    for most tasks without features. Thompson (1933); Chapelle and Li, An Empirical Evaluation of Thompson Sampling
    (2011); for the t distribution Murphy, Conjugate Bayesian analysis of the Gaussian distribution (2007).
    """

    N_DRAWS: ClassVar[int] = 256
    NEEDS_RANGE: ClassVar[bool] = False
    PARAMETERS: ClassVar[Mapping[str, Parameter]] = {
        "prior_alpha": Parameter(1.0, 1e-3, 1e6, "successes the prior is worth (rewards with a range)"),
        "prior_beta": Parameter(1.0, 1e-3, 1e6, "failures the prior is worth (rewards with a range)"),
        "prior_mean": Parameter(None, -1e9, 1e9, "mean before any reward; 0, or all actions' where noise is estimated"),
        "prior_scale": Parameter(1.0, 1e-6, 1e9, "standard deviation of the prior mean (unbounded, noise known)"),
        "noise_scale": Parameter(
            None, 1e-6, 1e9, "standard deviation of one reward (unbounded); estimated if left out"
        ),
        "prior_weight": Parameter(1.0, 1e-6, 1e6, "how many rewards the prior mean is worth (noise estimated)"),
        "noise_guess": Parameter(None, 1e-6, 1e9, "standard deviation of one reward before any; that of all actions'"),
        "noise_weight": Parameter(10.0, 0.1, 1e6, "how many rewards that guess is worth (noise estimated)"),
    }

    def __init__(self, snapshot: Snapshot) -> None:
        """Compile a snapshot: posterior parameters, and the draws of all actions it knows."""
        self._seed = snapshot.seed
        self._snapshot = snapshot
        self._low, self._width = scale(snapshot)
        given = snapshot.parameters
        self._bounded = snapshot.reward_range is not None
        self._noise = None if "noise_weight" in given and "noise_scale" not in given else given.get("noise_scale", 1.0)
        self._pooled = _pooled(snapshot.estimates) if self._noise is None else (0.0, 1.0)
        posterior = self._posterior(snapshot.estimates)
        self._row_of = {known.action: row for row, known in enumerate(snapshot.estimates)}
        self._means: list[float] = self._mean(posterior).tolist()
        self._draws = self._draw(self._seed, posterior)

    def evidence(self, actions: Sequence[str]) -> FloatArray:
        """Return the draws, shape (n_actions, N_DRAWS); an unknown action draws from the prior by its own name."""
        unknown = [action for action in actions if action not in self._row_of]
        if not unknown:
            return self._draws[[self._row_of[action] for action in actions]]
        nobody = self._posterior((nothing(""),))
        prior = {action: self._draw(_named_seed(self._seed, action), nobody)[0] for action in unknown}
        return np.array([prior[a] if a in prior else self._draws[self._row_of[a]] for a in actions])

    def probabilities(self, evidence: FloatArray) -> FloatArray:
        """Return each action's share of won draws, shape (n_actions,); those who tie for a draw share it equally.

        Beta draws of a weak prior are often exactly 0 or 1.
        """
        rows, draws = np.nonzero(evidence == evidence.max(axis=0))
        wins: FloatArray = np.bincount(rows, 1.0 / np.bincount(draws)[draws], len(evidence)) / evidence.shape[1]
        return wins

    def moved(self, evidence: FloatArray, shift: FloatArray) -> FloatArray:
        """Return the draws of actions that are worth more by `shift`; draws of rewards in a range are scaled to [0, 1]."""
        return evidence + shift[:, None] / self._width

    def scores(self, actions: Sequence[str]) -> list[float | None]:
        """Return the posterior means, in units of reward."""
        prior = float(self._mean(self._posterior((nothing(""),)))[0])
        return [self._means[self._row_of[a]] if a in self._row_of else prior for a in actions]

    def _posterior(self, estimates: Sequence[Estimate]) -> tuple[FloatArray, ...]:
        """Return (alpha, beta), (mean, deviation) or (mean, scale, degrees of freedom), each of shape (n_estimates,)."""
        weight = np.array([known.weight for known in estimates])
        total = np.array([known.total for known in estimates])
        if self._bounded:
            won = np.clip((total - weight * self._low) / self._width, 0.0, weight)
            return self._given("prior_alpha") + won, self._given("prior_beta") + (weight - won)
        given = self._snapshot.parameters
        if self._noise is None:
            squares = np.array([known.squares for known in estimates])
            return self._with_unknown_noise(weight, total, squares)
        prior_mean = given.get("prior_mean", self._pooled[0])
        prior_precision, noise_precision = self._given("prior_scale") ** -2, self._noise**-2
        variance = 1.0 / (prior_precision + weight * noise_precision)
        return variance * (prior_mean * prior_precision + total * noise_precision), np.sqrt(variance)

    def _with_unknown_noise(self, weight: FloatArray, total: FloatArray, squares: FloatArray) -> tuple[FloatArray, ...]:
        given = self._snapshot.parameters
        prior_mean, guess = given.get("prior_mean", self._pooled[0]), given.get("noise_guess", self._pooled[1])
        own, worth = self._given("prior_weight"), self._given("noise_weight")
        mean = np.divide(total, weight, out=np.full(len(weight), prior_mean), where=weight > 0)
        spread = np.maximum(squares - total * mean, 0.0) + own * weight / (own + weight) * (mean - prior_mean) ** 2
        freedom = worth + weight
        centre = (own * prior_mean + total) / (own + weight)
        return centre, np.sqrt((worth * guess**2 + spread) / (freedom * (own + weight))), freedom

    def _mean(self, posterior: tuple[FloatArray, ...]) -> FloatArray:
        first, second = posterior[:2]
        return first / (first + second) * self._width + self._low if self._bounded else first

    def _given(self, name: str) -> float:
        return parameter(self._snapshot, self.PARAMETERS, name)

    def _draw(self, seed: int, posterior: tuple[FloatArray, ...]) -> FloatArray:
        random = np.random.RandomState([seed & 0xFFFFFFFF, seed >> 32])
        first, second, *freedom = (part[:, None] for part in posterior)
        size = (len(first), self.N_DRAWS)
        if self._bounded:
            return random.beta(first, second, size)
        return first + second * (random.standard_t(freedom[0], size) if freedom else random.standard_normal(size))


def _named_seed(seed: int, action: str) -> int:
    return int.from_bytes(sha256(f"{seed}\0{action}".encode()).digest()[:7], "big")


def _pooled(estimates: Sequence[Estimate]) -> tuple[float, float]:
    """Return mean and standard deviation of all rewards; where they do not vary, their size stands for the latter."""
    weight = sum(known.weight for known in estimates)
    if weight <= 0:
        return 0.0, 1.0
    mean = sum(known.total for known in estimates) / weight
    square = sum(known.squares for known in estimates) / weight
    variance = square - mean * mean
    return mean, sqrt(variance) if variance > 1e-12 * square else abs(mean) or 1.0
