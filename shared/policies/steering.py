"""A bandit steered by Q-learning: what comes later in a session counts beside what comes now.

The bandit draws by what it knows of the reward that an action brings at once; the tables of `q_tables`, learned from the same
decisions once their sessions are over, know what the action is worth with all that follows. The evidence of each action (its
mean, its index, each of its posterior draws) is moved by

    weight * Q(a),        Q(a) = (Q_0(s, a) + Q_1(s, a)) / 2

in units of reward, and the bandit's own law is then that of the moved evidence, so propensities are exact. What is the same for
all actions of a state changes nothing, so only differences of Q count. An action without samples has the tables' initial value;
a state with fewer samples than `minimum_visits`, of all its actions, leaves the bandit alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from shared.policies.algorithm import FloatArray
from shared.policies.q_tables import initial_value, unpack, values_of, visits_of
from shared.policies.state_space import StateSpace
from shared.vocabulary import Context, Snapshot, Steering


class Helm:
    """The tables of a snapshot, compiled."""

    def __init__(self, snapshot: Snapshot, steering: Steering) -> None:
        """Read the tables; without any, nothing is moved."""
        cells, rows = ({}, {}) if snapshot.tables is None else unpack(snapshot.tables)
        self._weight = steering.weight
        self._initial = initial_value(snapshot.parameters, snapshot.reward_range)
        self._space = StateSpace(cells)
        self._known = {
            state: values_of(row) for state, row in rows.items() if row and visits_of(row) >= steering.minimum_visits
        }

    def known_state(self, context: Context) -> int | None:
        """Return the state, None where it has fewer samples than it needs."""
        state = self._space.state(context)
        return state if state in self._known else None

    def shift(self, state: int | None, actions: Sequence[str]) -> FloatArray | None:
        """Return how far the evidence of each action is moved in a state, shape (n_actions,); None: nowhere."""
        if state is None:
            return None
        values = self._known[state]
        return self._weight * np.array([values.get(action, self._initial) for action in actions])
