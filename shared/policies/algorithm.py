"""What every kind of policy offers to the chooser.

An algorithm is compiled once per snapshot and is immutable afterwards. It describes each action by its *evidence*, one
row per action, from which the probabilities of any subset follow: the chooser takes rows away for `exclude` and for
the items that a slate already holds, and asks again. Probabilities leave out the exploration floor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import msgspec
import numpy as np
from numpy.typing import NDArray

from shared.vocabulary import Action, Context, Estimate, PolicySpec, Snapshot

FloatArray = NDArray[np.float64]


class Parameter(msgspec.Struct, frozen=True):
    """A number that a kind of policy may be given: its default (None: derived), and its closed range."""

    default: float | None
    low: float
    high: float
    meaning: str


class Algorithm(Protocol):
    """One kind of policy, compiled for one snapshot."""

    def evidence(self, actions: Sequence[str]) -> FloatArray:
        """Return one row per action, shape (n_actions, n_columns); actions the snapshot does not know get the prior."""

    def probabilities(self, evidence: FloatArray) -> FloatArray:
        """Return the probability of each row's action among the given rows, shape (n_actions,), summing to 1."""

    def scores(self, actions: Sequence[str]) -> list[float | None]:
        """Return what the algorithm thinks of each action, in units of reward; None where it has not been tried."""


@runtime_checkable
class Explained(Protocol):
    """What a kind of policy that looks at features offers besides, for explanations."""

    def contributions(self, context: Context, action: Action | str) -> dict[str, float]:
        """Return what each feature (by its name; `action.` before an action's own) adds to the score of an action.

        The contributions sum to the score; what belongs to no feature has a name in parentheses.
        """


class ContextualAlgorithm(Protocol):
    """One kind of policy that looks at the context and at the actions' features, compiled for one snapshot."""

    def evidence(self, context: Context, actions: Sequence[Action | str] | None) -> FloatArray:
        """Return one row per action, shape (n_actions, n_columns); column 0 is what the algorithm thinks of it, the score.

        None stands for the snapshot's own actions; an id alone for the snapshot's action of that name, or one without features.
        """

    def probabilities(self, evidence: FloatArray) -> FloatArray:
        """Return the probability of each row's action among the given rows, shape (n_actions,), summing to 1."""


@runtime_checkable
class Movable(Protocol):
    """What a kind offers besides where its evidence does not stand in units of reward in every column."""

    def moved(self, evidence: FloatArray, shift: FloatArray) -> FloatArray:
        """Return the evidence of actions that are worth more by `shift`, shape (n_actions,), in units of reward."""


class SequentialAlgorithm(Protocol):
    """One kind of policy that looks at the state which the context is in, compiled for one snapshot."""

    def known_state(self, context: Context) -> int | None:
        """Return the state, None for all that the snapshot cannot tell apart: one law for each."""

    def evidence(self, state: int | None, actions: Sequence[str]) -> FloatArray:
        """Return one row per action, shape (n_actions, n_columns); column 0 is what the algorithm thinks of it, the score."""

    def probabilities(self, evidence: FloatArray) -> FloatArray:
        """Return the probability of each row's action among the given rows, shape (n_actions,), summing to 1."""


class Kind(Protocol):
    """How to compile a kind of policy; every algorithm's class is one."""

    PARAMETERS: Mapping[str, Parameter]
    NEEDS_RANGE: bool

    def __call__(self, snapshot: Snapshot) -> Algorithm:
        """Return the algorithm for a snapshot."""


class ContextualKind(Protocol):
    """The same for a kind that looks at features."""

    PARAMETERS: Mapping[str, Parameter]
    NEEDS_RANGE: bool

    def __call__(self, snapshot: Snapshot) -> ContextualAlgorithm:
        """Return the algorithm for a snapshot."""


class SequentialKind(Protocol):
    """The same for a kind that looks at a state, and at what comes after it."""

    PARAMETERS: Mapping[str, Parameter]
    NEEDS_RANGE: bool

    def __call__(self, snapshot: Snapshot) -> SequentialAlgorithm:
        """Return the algorithm for a snapshot."""


def parameter(given: Snapshot | PolicySpec, kind: Mapping[str, Parameter], name: str) -> float:
    """Return a parameter as a snapshot or a policy gives it, or its default."""
    default = kind[name].default
    value = given.parameters.get(name, default)
    if value is None:
        msg = f"{name} has no default"
        raise KeyError(msg)
    return value


def scale(snapshot: Snapshot) -> tuple[float, float]:
    """Return (low, width) of the reward range; (0, 1) for an unbounded one, which is not rescaled."""
    if snapshot.reward_range is None:
        return 0.0, 1.0
    low, high = snapshot.reward_range
    return low, high - low


def nothing(action: str) -> Estimate:
    """Return the estimate of an action that was never seen."""
    return Estimate(action, 0.0, 0.0, 0.0)


def equal_shares(best: NDArray[np.bool_]) -> FloatArray:
    """Return the law that is uniform over the marked actions, shape (n_actions,)."""
    return best / np.count_nonzero(best)
