"""What a kind that depends on order learns, and how: each closed decision once, in an order that is stored.

Storage closes decisions (a session's time-out and the reward windows are over), puts them in order, and hands them over
as `Step`s, an episode's one after another. What a learner makes of them may depend on nothing else: neither on how the
steps are cut into batches, nor on any clock, so that the stored order gives the same model again, bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol

import msgspec

from shared.vocabulary import Action, Context, PolicySpec


class Step(msgspec.Struct, frozen=True):
    """One closed decision, as it is learned.

    `actions`: what was shown, from the top. `rewards`: one for each of them, the default reward where there was silence.
    `eligible`: what it chose among. `propensities`: as they were stored. `ends`: nothing of its episode comes after it.
    """

    decided_at: float
    context: Context
    actions: tuple[str, ...]
    rewards: tuple[float, ...]
    eligible: tuple[Action, ...]
    propensities: tuple[float | None, ...]
    ends: bool


class OpenStep(Step, frozen=True):
    """A decision that is still open, with its rewards so far. `answered`: for each of them whether there was feedback."""

    answered: tuple[bool, ...]


class OrderedLearner(Protocol):
    """How a kind learns in order."""

    EPISODIC: ClassVar[bool]
    """Whether the decisions of a session are one episode; otherwise those that are closed at one time are, a batch."""
    OFFLINE: ClassVar[bool]
    """Whether only a refit learns, from all steps that are retained at once; otherwise each batch is learned when it is closed."""
    FIELDS: ClassVar[tuple[str, ...]]
    """The fields of a policy, beside rewards and times, on which the model depends: a change of one asks for a refit."""
    PARAMETERS: ClassVar[tuple[str, ...]]
    """Those of the policy's parameters on which it depends."""

    def learn(self, model: bytes | None, spec: PolicySpec, steps: Sequence[Step]) -> bytes:
        """Return the model that also knows `steps`, whole episodes in their order; `model` None is one that knows nothing.

        A model that was made under other `FIELDS`, so that it cannot be gone on with, is left behind.
        """


class Publisher(Protocol):
    """How a kind makes what a snapshot carries, where that is not the model itself."""

    def published(self, model: bytes | None, spec: PolicySpec, ahead: Sequence[OpenStep], as_of: float) -> bytes:
        """Return what a snapshot carries at `as_of`: what `model` knows, and what can be known of `ahead`, which is open."""
