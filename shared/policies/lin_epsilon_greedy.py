"""Epsilon-greedy with features: the best mean in this context, and now and then any action at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from shared.policies.algorithm import FloatArray, Parameter, equal_shares, parameter
from shared.policies.linear_fit import LINEAR_PARAMETERS
from shared.policies.linear_model import LinearPredictor
from shared.vocabulary import Action, Context, Snapshot


class LinEpsilonGreedy:
    """Choose the action of the highest mean reward in this context with probability 1 - epsilon, else uniformly.

        p(a) = (1 - epsilon) * [m_a(x) is best] / |best| + epsilon / n_actions

    with the mean from the linear model (`linear_fit`): what `epsilon_greedy` is where a policy has features. Langford and Zhang,
    The Epoch-Greedy Algorithm for Multi-armed Bandits with Side Information (2007).
    """

    NEEDS_RANGE: ClassVar[bool] = False
    PARAMETERS: ClassVar[Mapping[str, Parameter]] = {
        **LINEAR_PARAMETERS,
        "epsilon": Parameter(0.1, 0.0, 1.0, "probability of choosing uniformly"),
    }

    def __init__(self, snapshot: Snapshot) -> None:
        """Compile a snapshot."""
        self._predictor = LinearPredictor(snapshot)
        self._epsilon = parameter(snapshot, self.PARAMETERS, "epsilon")

    def evidence(self, context: Context, actions: Sequence[Action | str] | None) -> FloatArray:
        """Return the mean of each action, shape (n_actions, 1)."""
        return self._predictor.predict(context, actions).mean[:, None]

    def contributions(self, context: Context, action: Action | str) -> dict[str, float]:
        """Return what each feature adds to the mean, in units of reward."""
        return self._predictor.contributions(context, action)

    def probabilities(self, evidence: FloatArray) -> FloatArray:
        """Return the closed form above, shape (n_actions,)."""
        means = evidence[:, 0]
        return (1.0 - self._epsilon) * equal_shares(means == means.max()) + self._epsilon / len(means)
