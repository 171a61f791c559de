"""Fitted Q-iteration: what each action is worth, linear in the cells of every feature, fitted to a whole history at once.

    Q(s, a) = w_a0 + sum over features f of w_a[cell of f in s]
    y_t <- r_t + discount * max over eligible a' of Q(s_{t+1}, a')            (r_t alone after an episode's last step)
    w_a <- argmin sum over steps with a of (y_t - Q(s_t, a))^2 + ridge * |w_a without w_a0|^2

for `iterations` rounds, from Q = 0; an action without samples is never the best one. Where a table needs a row for each
combination of cells, this needs a weight for each cell, and takes it that features add up. Ernst, Geurts and Wehenkel,
Tree-Based Batch Mode Reinforcement Learning (2005), with a linear fit in place of their trees; Gordon, Stable Function
Approximation in Dynamic Programming (1995), for when such a fit converges: targets are kept within what rewards allow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from shared.policies.algorithm import FloatArray, Parameter, parameter
from shared.policies.ordered import Step
from shared.policies.state_space import StateSpace
from shared.vocabulary import Cells, PolicySpec

FITTING = {
    "discount": Parameter(0.95, 0.0, 0.999, "what a reward is worth one decision later"),
    "ridge": Parameter(1.0, 1e-6, 1e6, "weight of the penalty: how many samples a weight of 0 is worth"),
    "iterations": Parameter(100.0, 1.0, 1000.0, "rounds of fitting"),
}
"""The parameters on which the weights depend."""

_Indices = NDArray[np.int64]


class Weights(NamedTuple):
    """`weights`: shape (n_actions, 1 + cells of all features); `samples`: steps that each action was fitted to."""

    cells: dict[str, Cells]
    actions: list[str]
    weights: FloatArray
    samples: FloatArray


class _Packed(msgspec.Struct, frozen=True, array_like=True):
    cells: dict[str, Cells]
    actions: list[str]
    weights: bytes
    samples: bytes


_encode = msgspec.msgpack.Encoder(order="sorted").encode
_decode = msgspec.msgpack.Decoder(_Packed).decode


def pack(known: Weights) -> bytes:
    """Return the encoding of weights; numbers as little-endian bytes."""
    numbers = (known.weights.astype("<f8").tobytes(), known.samples.astype("<f8").tobytes())
    return _encode(_Packed(known.cells, known.actions, *numbers))


def unpack(model: bytes) -> Weights:
    """Return the weights that `pack` encoded."""
    packed = _decode(model)
    weights = np.frombuffer(packed.weights, "<f8").reshape(len(packed.actions), -1)
    return Weights(packed.cells, packed.actions, weights, np.frombuffer(packed.samples, "<f8"))


class FittedValues:
    """Fits the weights to all steps at once."""

    EPISODIC: ClassVar[bool] = True
    OFFLINE: ClassVar[bool] = True
    FIELDS: ClassVar[tuple[str, ...]] = ("state",)
    PARAMETERS: ClassVar[tuple[str, ...]] = tuple(FITTING)

    def learn(self, model: bytes | None, spec: PolicySpec, steps: Sequence[Step]) -> bytes:
        """Return the weights fitted to `steps`, whole episodes; what was fitted before is left behind."""
        actions = sorted({action for step in steps for action in step.actions})
        place = {action: at for at, action in enumerate(actions)}
        space = StateSpace(spec.state)
        number: dict[tuple[int, frozenset[str]], int] = {}
        of_step = []
        for step in steps:
            key = space.state(step.context), frozenset(action.id for action in step.eligible)
            of_step.append(number.setdefault(key, len(number)))
        shown = [(at, item) for at, step in enumerate(steps) for item in range(len(step.actions))]
        fit = _Fit(
            situations=np.array([of_step[at] for at, _ in shown], dtype=np.int64),
            chosen=np.array([place[steps[at].actions[item]] for at, item in shown], dtype=np.int64),
            rewards=np.array([steps[at].rewards[item] for at, item in shown]),
            after=np.array([-1 if steps[at].ends else of_step[at + 1] for at, _ in shown], dtype=np.int64),
            columns=np.array([[0, *space.columns(state)] for state, _ in number], dtype=np.int64),
            eligible=np.array([[action in ids for action in actions] for _, ids in number], dtype=bool),
            n_columns=space.n_columns,
        )
        weights = fit.weights(spec, len(actions)) if shown else np.zeros((0, space.n_columns))
        samples = np.bincount(fit.chosen, minlength=len(actions)).astype(np.float64)
        return pack(Weights(spec.state, actions, weights, samples))


class _Fit(NamedTuple):
    """The steps, by the situations that occur: a state with what was eligible in it.

    Items: `situations`, `chosen`, `rewards` and `after`, the next situation or -1, each of shape (n_items,). Situations:
    `columns` shape (n_situations, 1 + n_features), `eligible` shape (n_situations, n_actions).
    """

    situations: _Indices
    chosen: _Indices
    rewards: FloatArray
    after: _Indices
    columns: _Indices
    eligible: NDArray[np.bool_]
    n_columns: int

    def weights(self, spec: PolicySpec, n_actions: int) -> FloatArray:
        """Return the weights after all rounds, shape (n_actions, n_columns)."""
        discount = parameter(spec, FITTING, "discount")
        low, high = (-np.inf, np.inf) if spec.reward_range is None else spec.reward_range
        low, high = min(low, low / (1.0 - discount)), max(high, high / (1.0 - discount))
        pairs = self.chosen * len(self.columns) + self.situations
        counts = self._per_situation(pairs, None, n_actions)
        inverses = self._inverses(counts, parameter(spec, FITTING, "ridge"))
        masked = np.where(self.eligible, 0.0, -np.inf)
        blind = ~self.eligible.any(axis=1)  # nothing that was eligible there was ever shown
        weights = np.zeros((n_actions, self.n_columns))
        for _ in range(int(parameter(spec, FITTING, "iterations"))):
            values = weights.T[self.columns].sum(axis=1)
            best = (values + masked).max(axis=1)
            best[blind] = 0.0
            targets = self.rewards + np.where(self.after >= 0, discount * best[self.after], 0.0)
            sums = self._per_situation(pairs, np.clip(targets, low, high), n_actions)
            weights = np.einsum("aij,aj->ai", inverses, self._per_column(sums))
        return weights

    def _per_situation(self, pairs: _Indices, numbers: FloatArray | None, n_actions: int) -> FloatArray:
        """Return the sums of `numbers` (None: of ones) by action and situation, shape (n_actions, n_situations)."""
        size = n_actions * len(self.columns)
        sums: FloatArray = np.bincount(pairs, numbers, size).astype(np.float64).reshape(n_actions, -1)
        return sums

    def _per_column(self, sums: FloatArray) -> FloatArray:
        """Return X'y by action, shape (n_actions, n_columns)."""
        width = self.columns.shape[1]
        rows = [np.bincount(self.columns.ravel(), np.repeat(each, width), self.n_columns) for each in sums]
        return np.stack(rows)

    def _inverses(self, counts: FloatArray, ridge: float) -> FloatArray:
        """Return the inverse of X'X + ridge by action, shape (n_actions, n_columns, n_columns)."""
        size = self.n_columns
        pairs = (self.columns[:, :, None] * size + self.columns[:, None, :]).reshape(len(self.columns), -1)
        penalty = ridge * np.eye(size)
        penalty[0, 0] = 0.0
        inverses: list[FloatArray] = []
        for each in counts:
            gram = np.bincount(pairs.ravel(), np.repeat(each, pairs.shape[1]), size**2).reshape(size, size)
            inverses.append(np.linalg.inv(gram + penalty).astype(np.float64))
        return np.stack(inverses)
