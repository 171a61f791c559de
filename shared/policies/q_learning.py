"""Q-learning: what an action is worth with all that follows it in its session, by state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from shared.policies.algorithm import FloatArray, Parameter, equal_shares, parameter
from shared.policies.q_tables import LEARNING, initial_value, unpack, values_of, visits_of
from shared.policies.state_space import StateSpace
from shared.policies.thompson import Thompson
from shared.vocabulary import Context, Snapshot


class QLearning:
    """Choose what is worth most in the state at hand, and explore the less, the better the state is known.

        Q(a) = (Q_0(s, a) + Q_1(s, a)) / 2           the tables of `q_tables`, double Q-learning
        N    = samples of all actions in s
        p(a) = (1 - e) * [a is best] / |best| + e / n_actions,        e = epsilon / (1 + N / exploration_visits)
        p(a) ~ exp(Q(a) / t),                    t = temperature / (1 + N / exploration_visits), where there is one

    Only eligible actions count, here and in the maximum that the tables are learned with. A state with fewer than
    `minimum_visits` samples is left to `Thompson` over the estimates of all states, whose parameters are taken too: it
    learns at once, the tables only from sessions that are over. Take it where what is shown now changes what comes later in the
    session, and few features tell how the session stands; otherwise a bandit learns faster. Exploration that falls as one
    over the visits of the state, so that the tables converge: Singh et al., Convergence Results for Single-Step
    On-Policy Reinforcement-Learning Algorithms (2000). Watkins and Dayan (1992), van Hasselt (2010), as in `q_tables`.
    """

    NEEDS_RANGE: ClassVar[bool] = False
    PARAMETERS: ClassVar[Mapping[str, Parameter]] = {
        **LEARNING,
        "epsilon": Parameter(1.0, 0.0, 1.0, "probability of choosing uniformly in a state without samples"),
        "temperature": Parameter(
            0.0, 0.0, 1e9, "of the softmax in a state without samples, in reward; 0: epsilon is used"
        ),
        "exploration_visits": Parameter(100.0, 1e-3, 1e9, "after how many samples of a state exploration has halved"),
        "minimum_visits": Parameter(10.0, 0.0, 1e9, "samples below which a state is left to the bandit"),
        **Thompson.PARAMETERS,
    }

    def __init__(self, snapshot: Snapshot) -> None:
        """Compile a snapshot: its tables, and the bandit's draws."""
        self._bandit = Thompson(snapshot)
        self._epsilon = parameter(snapshot, self.PARAMETERS, "epsilon")
        self._temperature = parameter(snapshot, self.PARAMETERS, "temperature")
        self._halved_at = parameter(snapshot, self.PARAMETERS, "exploration_visits")
        self._least = parameter(snapshot, self.PARAMETERS, "minimum_visits")
        self._initial = initial_value(snapshot.parameters, snapshot.reward_range)
        cells, rows = ({}, {}) if snapshot.model is None else unpack(snapshot.model)
        self._space = StateSpace(cells)
        self._known = {
            state: (values_of(row), visits_of(row))
            for state, row in rows.items()
            if visits_of(row) >= max(self._least, _MINIMUM_VISITS)
        }

    def known_state(self, context: Context) -> int | None:
        """Return the state, None where it has fewer samples than it needs."""
        state = self._space.state(context)
        return state if state in self._known else None

    def evidence(self, state: int | None, actions: Sequence[str]) -> FloatArray:
        """Return scores and exploration, shape (n_actions, 2); without a state scores and draws, shape (n_actions, 1 + 256)."""
        if state is None:
            scores = np.array(self._bandit.scores(actions), dtype=np.float64)
            return np.column_stack([scores, self._bandit.evidence(actions)])
        values, visits = self._known[state]
        width = (self._temperature or self._epsilon) / (1.0 + visits / self._halved_at)
        return np.array([[values.get(action, self._initial), width] for action in actions])

    def moved(self, evidence: FloatArray, shift: FloatArray) -> FloatArray:
        """Return the evidence of actions that are worth more by `shift`: their values, or the bandit's draws."""
        if evidence.shape[1] > _KNOWN_COLUMNS:
            return np.column_stack([evidence[:, 0], self._bandit.moved(evidence[:, 1:], shift)])
        return np.column_stack([evidence[:, 0] + shift, evidence[:, 1]])

    def probabilities(self, evidence: FloatArray) -> FloatArray:
        """Return the closed form above, or the bandit's shares of won draws, shape (n_actions,)."""
        if evidence.shape[1] > _KNOWN_COLUMNS:
            return self._bandit.probabilities(evidence[:, 1:])
        values, width = evidence[:, 0], float(evidence[0, 1])
        if self._temperature:
            odds: FloatArray = np.exp((values - values.max()) / width)
            shares: FloatArray = odds / odds.sum()
            return shares
        return (1.0 - width) * equal_shares(values == values.max()) + width / len(values)


_KNOWN_COLUMNS = 2
_MINIMUM_VISITS = 1.0  # a state that nobody was in has no row
