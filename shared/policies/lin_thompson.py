"""Linear Thompson sampling: each action as often as it is believed to be the best in this context."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from shared.policies.algorithm import FloatArray, Parameter, parameter
from shared.policies.linear_fit import LINEAR_PARAMETERS
from shared.policies.linear_model import N_DRAWS, LinearPredictor
from shared.vocabulary import Action, Context, Snapshot


class LinThompson:
    """Choose an action with the share of posterior draws in which its mean reward in this context is the highest.

        draw_j(a) = m_a(x) + exploration * (s_a(x) z_ja + l_a(x)' z_j),   j = 1 .. 256

    with the mean m, the action's own standard deviation s and its loadings l on what all actions share, from the linear model
    (`linear_fit`), and fixed standard Normal numbers z that follow from the snapshot's seed: those of an action by its name,
    the second half the mirror of the first. p(a) is the share of draws that a wins among the eligible actions. The noise scale
    is the model's own, so the default exploration of 1 fits any task. Agrawal and Goyal, Thompson Sampling for Contextual
    Bandits with Linear Payoffs (2013).
    """

    NEEDS_RANGE: ClassVar[bool] = False
    PARAMETERS: ClassVar[Mapping[str, Parameter]] = {
        **LINEAR_PARAMETERS,
        "exploration": Parameter(1.0, 0.0, 100.0, "factor of the posterior's standard deviation"),
    }

    def __init__(self, snapshot: Snapshot) -> None:
        """Compile a snapshot."""
        self._predictor = LinearPredictor(snapshot)
        self._exploration = parameter(snapshot, self.PARAMETERS, "exploration")

    def evidence(self, context: Context, actions: Sequence[Action | str] | None) -> FloatArray:
        """Return mean and draws of each action, shape (n_actions, 1 + N_DRAWS)."""
        prediction = self._predictor.predict(context, actions)
        return self._predictor.draws(prediction, actions, self._exploration).T

    def contributions(self, context: Context, action: Action | str) -> dict[str, float]:
        """Return what each feature adds to the mean, in units of reward."""
        return self._predictor.contributions(context, action)

    def probabilities(self, evidence: FloatArray) -> FloatArray:
        """Return each action's share of won draws, shape (n_actions,)."""
        wins = np.bincount(evidence.T[1:].argmax(axis=1), minlength=len(evidence))
        return wins / N_DRAWS
