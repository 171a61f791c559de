"""The tables of Q-learning: what each action in each state is worth, learned from episodes in their order.

Double Q-learning keeps two estimates of each pair of state and action, made from disjoint samples; one says which action
of the next state is best, the other what that is worth, so that the maximum of noise is not taken for value:

    Q_i(s, a) += n^-learning_rate_decay * (r + discount * Q_j(s', argmax over eligible a' of Q_i(s', a')) - Q_i(s, a))

with n the number of samples of (s, a) that Q_i has seen, this one included, and nothing after an episode's last step. Where
the step after took the best action itself, what it was updated towards counts for a share `trace` of the value of s': rewards
come back over several steps at once (Watkins's Q(lambda)). The paper tosses a coin for i; here the sample goes to the table
that has seen the pair less often, which needs no chance. An episode is learned from its end to its beginning. Each item of a
slate is learned from its own reward, without trace. Watkins and Dayan, Q-learning (1992); van Hasselt, Double Q-learning
(2010); the trace: Sutton and Barto, Reinforcement Learning, 2nd edition (2018), section 12.10; the decay of the learning rate:
Even-Dar and Mansour, Learning Rates for Q-learning (2003); from the end: Lin, Self-improving Reactive Agents (1992).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, NamedTuple

import msgspec
import numpy as np

from shared.policies.algorithm import Parameter, parameter
from shared.policies.ordered import Step
from shared.policies.state_space import StateSpace
from shared.vocabulary import Action, Cells, PolicySpec

LEARNING = {
    "discount": Parameter(0.99, 0.0, 1.0, "what a reward is worth one decision later"),
    "learning_rate_decay": Parameter(0.7, 0.5, 1.0, "how fast the learning rate falls: n^-decay at the n-th sample"),
    "learning_rate_floor": Parameter(0.0, 0.0, 1.0, "below which it does not fall, so that old episodes are forgotten"),
    "trace": Parameter(
        0.5, 0.0, 1.0, "share of what was earned after a best action in the value of the state after a step"
    ),
    "initial_value": Parameter(
        None, -1e9, 1e9, "of an action without samples; the middle of the range, 0 if unbounded"
    ),
}
"""The parameters on which the tables depend."""

Row = dict[str, list[float]]
"""One state: action -> [Q_0, Q_1, samples of Q_0, samples of Q_1]."""


class Tables(NamedTuple):
    """What is known, by state, and the cells by which states were told apart."""

    cells: dict[str, Cells]
    rows: dict[int, Row]


class _Packed(msgspec.Struct, frozen=True, array_like=True):
    """Tables as they are stored: pairs in the order of state and action; numbers as little-endian bytes.

    `states`: shape (n_pairs,), int64; `at`: positions in `actions`, shape (n_pairs,), int32; `values`: shape (n_pairs, 4),
    float64.
    """

    cells: dict[str, Cells]
    actions: list[str]
    states: bytes
    at: bytes
    values: bytes


_encode = msgspec.msgpack.Encoder(order="sorted").encode
_decode = msgspec.msgpack.Decoder(_Packed).decode


def pack(tables: Tables) -> bytes:
    """Return the encoding of tables: the same for equal tables."""
    actions = sorted({action for row in tables.rows.values() for action in row})
    position = {action: at for at, action in enumerate(actions)}
    pairs = [
        (state, position[action], tables.rows[state][action])
        for state in sorted(tables.rows)
        for action in sorted(tables.rows[state])
    ]
    return _encode(
        _Packed(
            tables.cells,
            actions,
            np.array([state for state, _, _ in pairs], "<i8").tobytes(),
            np.array([at for _, at, _ in pairs], "<i4").tobytes(),
            np.array([values for _, _, values in pairs], "<f8").tobytes(),
        )
    )


def unpack(model: bytes) -> Tables:
    """Return the tables that `pack` encoded."""
    packed = _decode(model)
    rows: dict[int, Row] = {}
    states = np.frombuffer(packed.states, "<i8").tolist()
    positions = np.frombuffer(packed.at, "<i4").tolist()
    values = np.frombuffer(packed.values, "<f8").reshape(-1, 4).tolist()
    for state, at, row in zip(states, positions, values, strict=True):
        rows.setdefault(state, {})[packed.actions[at]] = row
    return Tables(packed.cells, rows)


def initial_value(parameters: Mapping[str, float], reward_range: tuple[float, float] | None) -> float:
    """Return what an action is worth before its first sample."""
    return parameters.get("initial_value", 0.0 if reward_range is None else sum(reward_range) / 2)


def values_of(row: Row) -> dict[str, float]:
    """Return what each action of a state is worth: the mean of both tables, the first alone before the second has a sample."""
    return {action: (pair[0] + pair[1]) / 2 if pair[3] else pair[0] for action, pair in row.items()}


def visits_of(row: Row) -> float:
    """Return the number of samples of all actions of a state."""
    return sum(pair[2] + pair[3] for pair in row.values())


class QTables:
    """Learns the tables in order."""

    EPISODIC: ClassVar[bool] = True
    OFFLINE: ClassVar[bool] = False
    FIELDS: ClassVar[tuple[str, ...]] = ("state",)
    PARAMETERS: ClassVar[tuple[str, ...]] = tuple(LEARNING)

    def learn(self, model: bytes | None, spec: PolicySpec, steps: Sequence[Step]) -> bytes:
        """Return the tables that also know `steps`, whole episodes; tables over other cells are left behind."""
        tables = None if model is None else unpack(model)
        if tables is None or tables.cells != spec.state:
            tables = Tables(spec.state, {})
        update = _Update(spec, tables.rows)
        episode: list[Step] = []
        for step in steps:
            episode.append(step)
            if step.ends:
                update.episode(episode)
                episode = []
        return pack(tables)


class _Update:
    """The update equation over tables that it writes into."""

    def __init__(self, spec: PolicySpec, rows: dict[int, Row]) -> None:
        self._discount = parameter(spec, LEARNING, "discount")
        self._decay = parameter(spec, LEARNING, "learning_rate_decay")
        self._floor = parameter(spec, LEARNING, "learning_rate_floor")
        self._initial = initial_value(spec.parameters, spec.reward_range)
        self._trace = parameter(spec, LEARNING, "trace")
        self._rows = rows
        self._space = StateSpace(spec.state)

    def episode(self, steps: Sequence[Step]) -> None:
        """Learn an episode from its end to its beginning."""
        after: Step | None = None
        next_row: Row = {}
        earned = 0.0  # the target of the step after, where its action was the best one
        followed = 0.0
        for step in reversed(steps):
            row = self._rows.setdefault(self._space.state(step.context), {})
            for action, reward in zip(step.actions, step.rewards, strict=True):
                pair = row.get(action)
                if pair is None:
                    pair = row[action] = [self._initial, self._initial, 0.0, 0.0]
                table = 0 if pair[2] <= pair[3] else 1
                samples = pair[2 + table] = pair[2 + table] + 1.0
                target = reward
                if after is not None:
                    value = self._bootstrap(next_row, after.eligible, table)
                    target += self._discount * (value + followed * (earned - value))
                pair[table] += max(samples**-self._decay, self._floor) * (target - pair[table])
            after, next_row, earned = step, row, target
            followed = self._trace if len(step.actions) == 1 and self._is_best(row, step) else 0.0

    def _is_best(self, row: Row, step: Step) -> bool:
        """Tell whether the one action of a step is the best one by both tables together."""
        chosen = row[step.actions[0]]
        worth = chosen[0] + chosen[1]
        initial = 2.0 * self._initial
        for action in step.eligible:
            pair = row.get(action.id)
            if (initial if pair is None else pair[0] + pair[1]) > worth:
                return False
        return True

    def _bootstrap(self, row: Row, eligible: Iterable[Action], table: int) -> float:
        """Return what the best eligible action of one table is worth by the other."""
        best = value = None
        for action in eligible:
            pair = row.get(action.id)
            own, others = (self._initial, self._initial) if pair is None else (pair[table], pair[1 - table])
            if best is None or own > best:
                best, value = own, others
        return self._initial if value is None else value
