"""What use cases ask of the outside world; `shared.storage` and `shared.edge` answer.

Only what two sides agree on stands here. Times are POSIX seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from shared.vocabulary import Decision

if TYPE_CHECKING:
    from shared.experiments.assigning import Catalogue, Kept
    from shared.experiments.exposure import Exposure, StickyAssignment
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
    """Where a serving process finds the newest catalogue of experiments and flags."""

    def held(self) -> Catalogue:
        """Return the catalogue that is in memory."""

    @property
    def found(self) -> bool:
        """Tell whether it was published; an empty one is held before."""


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

    def exposures_due(self) -> None:
        """Say that there are exposures to archive, or that what sticks to units is not where it belongs."""


class Recorded(NamedTuple):
    """What became of exposures: whether each was new to this process, and whether the journal holds them all."""

    new: list[bool]
    held: bool


class ExposureJournal(Protocol):
    """Where exposures go before they are archived."""

    def holds(self, key: str) -> bool:
        """Tell whether an exposure of this key is in the journal, and this process knows it."""

    async def record(self, exposures: Sequence[tuple[str, Exposure]]) -> Recorded:
        """Return once the journal holds the exposures, or with `held` False where it will only later, if at all.

        Each comes with its key: what has the same one is the same exposure.
        """


class Stickies(Protocol):
    """Where what sticks to units is kept."""

    async def read(self, units: Mapping[str, str]) -> Kept | None:
        """Return what sticks, by attribute; None where it is not to be had. `units`: attribute -> pseudonym."""

    async def keep(self, kept: Sequence[StickyAssignment]) -> bool:
        """Keep what sticks; return whether it is held."""
