"""Fitted Q: what an action is worth with all that follows it, where a state has too many features for a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from shared.policies.algorithm import FloatArray, Parameter, equal_shares, parameter
from shared.policies.fitted_values import FITTING, unpack
from shared.policies.state_space import StateSpace
from shared.policies.thompson import Thompson
from shared.vocabulary import Context, Snapshot


class FittedQ:
    """Choose what the last training found to be worth most in the state at hand, and explore a fixed share.

        Q(a) = w_a0 + sum over features of w_a[cell]           the weights of `fitted_values`
        p(a) = (1 - epsilon) * [a is best] / |best| + epsilon / n_actions
        p(a) ~ exp(Q(a) / temperature),          where there is one

    The weights change by training alone (`training.requested`, the nightly schedule, or a version that learns
    otherwise), from the sessions that are closed by then and retained. Before the first one `Thompson` decides over the
    estimates, whose parameters are taken too; afterwards an action that was not trained is worth what the worst one is. Take it where `q_learning` would need more states than are ever visited. Ernst,
    Geurts and Wehenkel (2005), as in `fitted_values`.
    """

    NEEDS_RANGE: ClassVar[bool] = False
    PARAMETERS: ClassVar[Mapping[str, Parameter]] = {
        **FITTING,
        "epsilon": Parameter(0.1, 0.0, 1.0, "probability of choosing uniformly"),
        "temperature": Parameter(0.0, 0.0, 1e9, "of the softmax, in units of reward; 0: epsilon is used"),
        **Thompson.PARAMETERS,
    }

    def __init__(self, snapshot: Snapshot) -> None:
        """Compile a snapshot: its weights, and the bandit's draws."""
        self._bandit = Thompson(snapshot)
        self._epsilon = parameter(snapshot, self.PARAMETERS, "epsilon")
        self._temperature = parameter(snapshot, self.PARAMETERS, "temperature")
        known = None if snapshot.model is None else unpack(snapshot.model)
        self._space = StateSpace({} if known is None else known.cells)
        self._weights = np.zeros((0, 1)) if known is None else known.weights
        self._at = {} if known is None else {action: at for at, action in enumerate(known.actions)}

    def known_state(self, context: Context) -> int | None:
        """Return the state, None before the first training."""
        return self._space.state(context) if self._at else None

    def evidence(self, state: int | None, actions: Sequence[str]) -> FloatArray:
        """Return scores, shape (n_actions, 1); without a state scores and draws, shape (n_actions, 1 + 256)."""
        if state is None:
            scores = np.array(self._bandit.scores(actions), dtype=np.float64)
            return np.column_stack([scores, self._bandit.evidence(actions)])
        values: FloatArray = self._weights[:, [0, *self._space.columns(state)]].sum(axis=1)
        worst = int(values.argmin())
        rows: FloatArray = values[[self._at.get(action, worst) for action in actions]][:, None]
        return rows

    def moved(self, evidence: FloatArray, shift: FloatArray) -> FloatArray:
        """Return the evidence of actions that are worth more by `shift`: their values, or the bandit's draws."""
        if evidence.shape[1] > 1:
            return np.column_stack([evidence[:, 0], self._bandit.moved(evidence[:, 1:], shift)])
        return evidence + shift[:, None]

    def probabilities(self, evidence: FloatArray) -> FloatArray:
        """Return the closed form above, or the bandit's shares of won draws, shape (n_actions,)."""
        if evidence.shape[1] > 1:
            return self._bandit.probabilities(evidence[:, 1:])
        values = evidence[:, 0]
        if self._temperature:
            odds: FloatArray = np.exp((values - values.max()) / self._temperature)
            shares: FloatArray = odds / odds.sum()
            return shares
        return (1.0 - self._epsilon) * equal_shares(values == values.max()) + self._epsilon / len(values)
