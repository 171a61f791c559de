"""Softmax: better means exponentially more often."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from shared.policies.algorithm import FloatArray, Parameter, parameter, scale
from shared.policies.means import MEAN_PARAMETERS, Means
from shared.vocabulary import Snapshot


class Softmax:
    """Choose from the Boltzmann distribution over estimated means.

        mean(a) = (total(a) + prior_weight * prior_mean) / (weight(a) + prior_weight)
        p(a)    = exp(mean(a) / (temperature * width)) / sum over eligible b of exp(mean(b) / (temperature * width))

    `width` is that of the reward range, 1 for unbounded rewards, whose temperature is in units of reward. An action that
    is one temperature worse is chosen 2.7 times less often, whatever is known of the two: it explores by how good
    actions look, never by how uncertain that is, and goes on exploring for ever. Take it where graded traffic is wanted,
    and propensities in closed form that are never small without reason. Sutton and Barto, Reinforcement Learning, 2nd
    edition (2018), section 2.8; Cesa-Bianchi et al., Boltzmann Exploration Done Right (2017), on its limits.
    """

    NEEDS_RANGE: ClassVar[bool] = False
    PARAMETERS: ClassVar[Mapping[str, Parameter]] = {
        "temperature": Parameter(
            0.05, 1e-6, 1e6, "difference of means that makes 2.7 times; in widths of the range, in rewards if unbounded"
        ),
        **MEAN_PARAMETERS,
    }

    def __init__(self, snapshot: Snapshot) -> None:
        """Compile a snapshot: one mean per action it knows."""
        _, width = scale(snapshot)
        self._temperature = parameter(snapshot, self.PARAMETERS, "temperature") * width
        self._means = Means(snapshot)

    def evidence(self, actions: Sequence[str]) -> FloatArray:
        """Return the means, shape (n_actions, 1)."""
        return self._means.column(actions)

    def probabilities(self, evidence: FloatArray) -> FloatArray:
        """Return the closed form above, shape (n_actions,)."""
        means = evidence[:, 0]
        odds = np.exp((means - means.max()) / self._temperature)
        law: FloatArray = odds / odds.sum()
        return law

    def scores(self, actions: Sequence[str]) -> list[float | None]:
        """Return the estimated means."""
        return [*self._means.of(actions)]
