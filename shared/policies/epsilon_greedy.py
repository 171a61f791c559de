"""Epsilon-greedy: the best mean, and now and then any action at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from shared.policies.algorithm import FloatArray, Parameter, equal_shares, parameter
from shared.policies.means import MEAN_PARAMETERS, Means
from shared.vocabulary import Snapshot


class EpsilonGreedy:
    """Choose the action of the highest estimated mean with probability 1 - epsilon, else uniformly.

        mean(a) = (total(a) + prior_weight * prior_mean) / (weight(a) + prior_weight)
        p(a)    = (1 - epsilon) * [a is best] / |best| + epsilon / n_actions

    Ties share the greedy part equally. Take it where the rule must be explained in one sentence; it explores bad
    actions as often as promising ones, so `thompson` earns more from the same traffic. Sutton and Barto, Reinforcement
    Learning, 2nd edition (2018), section 2.4.
    """

    NEEDS_RANGE: ClassVar[bool] = False
    PARAMETERS: ClassVar[Mapping[str, Parameter]] = {
        "epsilon": Parameter(0.1, 0.0, 1.0, "probability of choosing uniformly"),
        **MEAN_PARAMETERS,
    }

    def __init__(self, snapshot: Snapshot) -> None:
        """Compile a snapshot: one mean per action it knows."""
        self._epsilon = parameter(snapshot, self.PARAMETERS, "epsilon")
        self._means = Means(snapshot)

    def evidence(self, actions: Sequence[str]) -> FloatArray:
        """Return the means, shape (n_actions, 1)."""
        return self._means.column(actions)

    def probabilities(self, evidence: FloatArray) -> FloatArray:
        """Return the closed form above, shape (n_actions,)."""
        means = evidence[:, 0]
        return (1.0 - self._epsilon) * equal_shares(means == means.max()) + self._epsilon / len(means)

    def scores(self, actions: Sequence[str]) -> list[float | None]:
        """Return the estimated means."""
        return [*self._means.of(actions)]
