"""SquareCB: the less probable, the further behind the best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import ClassVar

import numpy as np

from shared.policies.algorithm import FloatArray, Parameter, parameter
from shared.policies.linear_fit import LINEAR_PARAMETERS
from shared.policies.linear_model import LinearPredictor
from shared.vocabulary import Action, Context, Snapshot


class SquareCb:
    """Choose by inverse gap weighting of the estimated means.

        p(a) = 1 / (K + gamma (m_best - m_a))  for a != best,   p(best) = 1 - sum of the others
        gamma = exploitation * sqrt(K * n / v)

    K actions, n rewards learned from, v the noise variance of the linear model (`linear_fit`), so that gaps count in units of
    noise. Closed form, every action keeps some probability without a floor. Foster and Rakhlin, Beyond UCB: Optimal and
    Efficient Contextual Bandits with Regression Oracles (2020).
    """

    NEEDS_RANGE: ClassVar[bool] = False
    PARAMETERS: ClassVar[Mapping[str, Parameter]] = {
        **LINEAR_PARAMETERS,
        "exploitation": Parameter(1.0, 1e-6, 1e6, "factor of gamma: the larger, the less is explored"),
    }

    def __init__(self, snapshot: Snapshot) -> None:
        """Compile a snapshot."""
        self._predictor = LinearPredictor(snapshot)
        exploitation = parameter(snapshot, self.PARAMETERS, "exploitation")
        self._gamma = exploitation * sqrt(max(self._predictor.rewards, 1.0) / self._predictor.noise)

    def evidence(self, context: Context, actions: Sequence[Action | str] | None) -> FloatArray:
        """Return the mean of each action, shape (n_actions, 1)."""
        return self._predictor.predict(context, actions).mean[:, None]

    def contributions(self, context: Context, action: Action | str) -> dict[str, float]:
        """Return what each feature adds to the mean, in units of reward."""
        return self._predictor.contributions(context, action)

    def probabilities(self, evidence: FloatArray) -> FloatArray:
        """Return the closed form above, shape (n_actions,)."""
        means = evidence[:, 0]
        n = len(means)
        best = int(np.argmax(means))
        shares: FloatArray = 1.0 / (n + sqrt(n) * self._gamma * (means[best] - means))
        shares[best] = 0.0
        shares[best] = 1.0 - shares.sum()
        return shares
