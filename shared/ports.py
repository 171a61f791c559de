"""What use cases ask of the outside world; `shared.storage` and `shared.edge` answer.

Only what two sides agree on stands here. Times are POSIX seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from shared.vocabulary import Decision

if TYPE_CHECKING:
    from shared.experiments.assigning import Catalogue
    from shared.policies.choosing import Chooser  # brings NumPy, which `feedback` starts without

Clock = Callable[[], float]
"""The present time, POSIX seconds."""


class Journal(Protocol):
    """Where decisions go before they are archived."""

    async def append(self, decision: Decision) -> bool:
        """Return True once the journal holds the decision, False where it will only later, if at all."""

    async def append_once(
        self, decision: Decision, policy: str, request: str, answer: bytes
    ) -> tuple[bool, bytes | None]:
        """Append unless `request` to `policy` was answered before, whoever decided: (journalled, the earlier answer or None)."""

    async def answered(self, policy: str, request: str) -> bytes | None:
        """Return what `request` was answered with in the last five minutes, or None."""


class Catalogues(Protocol):
    """Where a serving process finds the newest experiments and flags."""

    def held(self) -> Catalogue:
        """Return the catalogue that is in memory, an empty one before the first was found."""


class Snapshots(Protocol):
    """Where a serving process finds the newest snapshots."""

    def held(self, policy: str) -> Chooser | None:
        """Return the snapshot that is in memory."""

    async def find(self, policy: str) -> Chooser | None:
        """Return the snapshot from the store; None: the store has none of this policy *now*.

        Raises `UnknownPolicy` where the store is complete and has no such policy.
        """


class Wakes(Protocol):
    """Who wakes the learner up."""

    def learning_due(self, policy: str | None) -> None:
        """Say that there is something to learn for a policy; None: for one that may not exist, which takes a sweep."""
