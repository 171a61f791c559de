"""LinUCB: optimism in the face of uncertainty, with features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from shared.policies.algorithm import FloatArray, Parameter, equal_shares, parameter
from shared.policies.linear_fit import LINEAR_PARAMETERS
from shared.policies.linear_model import LinearPredictor
from shared.vocabulary import Action, Context, Snapshot


class LinUcb:
    """Choose the action of the highest upper confidence bound on its mean reward in this context.

        index(a) = m_a(x) + exploration * spread_a(x)

    with mean and standard deviation from the linear model (`linear_fit`). The best action gets all that the exploration floor
    leaves; with a floor of 0 its decisions cannot be weighted by importance. The standard deviation is in units of reward (the
    noise is the model's own), so `exploration` needs no tuning to a scale: a = sqrt(v) times the paper's alpha. Li, Chu,
    Langford and Schapire, A Contextual-Bandit Approach to Personalized News Article Recommendation (2010).
    """

    NEEDS_RANGE: ClassVar[bool] = False
    PARAMETERS: ClassVar[Mapping[str, Parameter]] = {
        **LINEAR_PARAMETERS,
        "exploration": Parameter(1.0, 0.0, 100.0, "standard deviations added to the mean"),
    }

    def __init__(self, snapshot: Snapshot) -> None:
        """Compile a snapshot."""
        self._predictor = LinearPredictor(snapshot)
        self._exploration = parameter(snapshot, self.PARAMETERS, "exploration")

    def evidence(self, context: Context, actions: Sequence[Action | str] | None) -> FloatArray:
        """Return mean and index of each action, shape (n_actions, 2)."""
        prediction = self._predictor.predict(context, actions)
        return np.column_stack([prediction.mean, prediction.mean + self._exploration * prediction.spread()])

    def contributions(self, context: Context, action: Action | str) -> dict[str, float]:
        """Return what each feature adds to the mean, in units of reward."""
        return self._predictor.contributions(context, action)

    def probabilities(self, evidence: FloatArray) -> FloatArray:
        """Return 1 for the best action, shared where several are best, shape (n_actions,)."""
        index = evidence[:, 1]
        return equal_shares(index == index.max())
