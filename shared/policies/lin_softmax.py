"""Softmax with features: the better the mean in this context, the more probable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from shared.policies.algorithm import FloatArray, Parameter, parameter, scale
from shared.policies.linear_fit import LINEAR_PARAMETERS
from shared.policies.linear_model import LinearPredictor
from shared.vocabulary import Action, Context, Snapshot


class LinSoftmax:
    """Choose each action with a probability that grows exponentially with its mean reward in this context.

        p(a) = exp(m_a(x) / t) / sum_b exp(m_b(x) / t),   t = temperature * width of the reward range (1 if unbounded)

    with the mean from the linear model (`linear_fit`): what `softmax` is where a policy has features. Sutton and Barto,
    Reinforcement Learning, 2nd edition (2018), section 2.8.
    """

    NEEDS_RANGE: ClassVar[bool] = False
    PARAMETERS: ClassVar[Mapping[str, Parameter]] = {
        **LINEAR_PARAMETERS,
        "temperature": Parameter(0.05, 1e-6, 1e6, "how far a mean may lie behind the best, in widths of the range"),
    }

    def __init__(self, snapshot: Snapshot) -> None:
        """Compile a snapshot."""
        self._predictor = LinearPredictor(snapshot)
        _, width = scale(snapshot)
        self._temperature = parameter(snapshot, self.PARAMETERS, "temperature") * width

    def evidence(self, context: Context, actions: Sequence[Action | str] | None) -> FloatArray:
        """Return the mean of each action, shape (n_actions, 1)."""
        return self._predictor.predict(context, actions).mean[:, None]

    def contributions(self, context: Context, action: Action | str) -> dict[str, float]:
        """Return what each feature adds to the mean, in units of reward."""
        return self._predictor.contributions(context, action)

    def probabilities(self, evidence: FloatArray) -> FloatArray:
        """Return the closed form above, shape (n_actions,)."""
        means = evidence[:, 0]
        weights = np.exp((means - means.max()) / self._temperature)
        shares: FloatArray = weights / weights.sum()
        return shares
