"""Thompson sampling: each action as often as it is believed to be the best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import ClassVar

import numpy as np

from shared.policies.algorithm import FloatArray, Parameter, nothing, parameter, scale
from shared.vocabulary import Estimate, Snapshot


class Thompson:
    """Choose an action with the share of posterior draws in which it is the best.

    Rewards in a range are rescaled to [0, 1] and take a Beta posterior, unbounded ones a Normal posterior of known
    noise:

        Beta(prior_alpha + sum r, prior_beta + sum (1 - r))
        Normal(m, v),  1/v = 1/prior_scale^2 + weight/noise_scale^2,  m = v * (prior_mean/prior_scale^2 + total/noise_scale^2)

    A snapshot fixes `N_DRAWS` joint draws, derived from the seed it names; p(a) is the share of them that a wins among
    the eligible actions, so a propensity is exact for every subset. Draws come from NumPy's frozen legacy generator,
    whose stream no release may change (NEP 19): an old decision recomputes under a newer NumPy. The choice for most
    tasks without features. Thompson (1933); Chapelle and Li, An Empirical Evaluation of Thompson Sampling (2011).
    """

    N_DRAWS: ClassVar[int] = 256
    NEEDS_RANGE: ClassVar[bool] = False
    PARAMETERS: ClassVar[Mapping[str, Parameter]] = {
        "prior_alpha": Parameter(1.0, 1e-3, 1e6, "successes the prior is worth (rewards with a range)"),
        "prior_beta": Parameter(1.0, 1e-3, 1e6, "failures the prior is worth (rewards with a range)"),
        "prior_mean": Parameter(0.0, -1e9, 1e9, "mean before any reward (unbounded rewards)"),
        "prior_scale": Parameter(1.0, 1e-6, 1e9, "standard deviation of the prior mean (unbounded rewards)"),
        "noise_scale": Parameter(1.0, 1e-6, 1e9, "standard deviation of one reward (unbounded rewards)"),
    }

    def __init__(self, snapshot: Snapshot) -> None:
        """Compile a snapshot: posterior parameters, and the draws of all actions it knows."""
        self._seed = snapshot.seed
        self._low, self._width = scale(snapshot)
        self._bounded = snapshot.reward_range is not None
        self._snapshot = snapshot
        first, second = self._parameters(snapshot.estimates)
        self._row_of = {known.action: row for row, known in enumerate(snapshot.estimates)}
        self._means = (first / (first + second) * self._width + self._low if self._bounded else first).tolist()
        self._draws = self._draw(self._seed, first, second)

    def evidence(self, actions: Sequence[str]) -> FloatArray:
        """Return the draws, shape (n_actions, N_DRAWS); an unknown action draws from the prior by its own name."""
        unknown = [action for action in actions if action not in self._row_of]
        if not unknown:
            return self._draws[[self._row_of[action] for action in actions]]
        first, second = self._parameters((nothing(""),))
        prior = {action: self._draw(_named_seed(self._seed, action), first, second)[0] for action in unknown}
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
        first, second = self._parameters((nothing(""),))
        prior = float(first[0] / (first[0] + second[0]) * self._width + self._low if self._bounded else first[0])
        return [self._means[self._row_of[a]] if a in self._row_of else prior for a in actions]

    def _parameters(self, estimates: Sequence[Estimate]) -> tuple[FloatArray, FloatArray]:
        """Return (alpha, beta) or (mean, standard deviation), each of shape (n_estimates,)."""
        weight = np.array([known.weight for known in estimates])
        total = np.array([known.total for known in estimates])
        if self._bounded:
            won = np.clip((total - weight * self._low) / self._width, 0.0, weight)
            return self._given("prior_alpha") + won, self._given("prior_beta") + (weight - won)
        prior_precision = self._given("prior_scale") ** -2
        noise_precision = self._given("noise_scale") ** -2
        variance = 1.0 / (prior_precision + weight * noise_precision)
        mean = variance * (self._given("prior_mean") * prior_precision + total * noise_precision)
        return mean, np.sqrt(variance)

    def _given(self, name: str) -> float:
        return parameter(self._snapshot, self.PARAMETERS, name)

    def _draw(self, seed: int, first: FloatArray, second: FloatArray) -> FloatArray:
        random = np.random.RandomState([seed & 0xFFFFFFFF, seed >> 32])
        size = (len(first), self.N_DRAWS)
        if self._bounded:
            return random.beta(first[:, None], second[:, None], size)
        return first[:, None] + second[:, None] * random.standard_normal(size)


def _named_seed(seed: int, action: str) -> int:
    return int.from_bytes(sha256(f"{seed}\0{action}".encode()).digest()[:7], "big")
