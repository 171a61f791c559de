"""The log of one policy as data scientists use it: one item a row, with what it was chosen among and what it earned.

Left out, and counted by reason: deferred decisions that were not activated, because nobody saw them. Rewards are those that the
posterior counts, and the policy's default reward for silence. What was chosen among is what was left at the item's place of its
slate. A logged decision that names no actions is taken to have been chosen among those of the policy's active version.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from shared.storage.decision_rows import StoredDecision
    from shared.storage.postgres_log import DecisionLog
    from shared.vocabulary import Action, PolicySpec


class DecidedItem(msgspec.Struct, frozen=True):
    """One item of one decision.

    `eligible`: what it was chosen among, given the items above; `chosen`: its place there, None where it is not among them.
    `propensity`: in (0, 1], given the items above, None where unknown. `reward`: the default reward where not `answered`.
    `settled`: the reward window was over when the log was read. `floor`: the exploration floor, None for a logged decision.
    """

    stored: StoredDecision
    position: int
    action: str
    eligible: tuple[Action, ...]
    chosen: int | None
    propensity: float | None
    reward: float
    answered: bool
    settled: bool
    floor: float | None


class DecidedItems:
    """Reads the items of one policy's decisions; `left_out`: how many decisions were, by reason."""

    def __init__(self, log: DecisionLog, policy: str, now: float, *, events: bool = False) -> None:
        """Read from `log`, as things are at `now` (POSIX seconds), with feedback where `events`. Raises `UnknownPolicy`."""
        self._log = log
        self._events = events
        self._now = now
        self.spec = log.spec(policy)
        self._versions: dict[int, PolicySpec] = {}
        self.left_out: Counter[str] = Counter()

    def read(
        self, began: float, until: float, advance: Callable[[int], None] = lambda _: None
    ) -> Iterator[DecidedItem]:
        """Yield the items of decisions made in [`began`, `until`), oldest first; tell `advance` of every decision."""
        for items in self.decisions(began, until, advance):
            yield from items

    def decisions(
        self, began: float, until: float, advance: Callable[[int], None] = lambda _: None
    ) -> Iterator[list[DecidedItem]]:
        """Yield the same, all items of a decision together."""
        for stored in self._log.decisions(self.spec.name, began, until, events=self._events):
            advance(1)
            if stored.shown:
                yield list(self._items(stored))
            else:
                self.left_out["deferred and not activated"] += 1

    def _items(self, stored: StoredDecision) -> Iterator[DecidedItem]:
        decision = stored.decision
        eligible, floor = self._circumstances(stored)
        settled = stored.decided_at + self.spec.reward_window_s <= self._now
        for position, action in enumerate(decision.actions):
            chosen = next((at for at, one in enumerate(eligible) if one.id == action), None)
            reward = stored.rewards[position]
            yield DecidedItem(
                stored,
                position,
                action,
                eligible,
                chosen,
                decision.propensities[position],
                self.spec.default_reward if reward is None else reward,
                reward is not None,
                settled,
                floor,
            )
            if chosen is not None:
                eligible = eligible[:chosen] + eligible[chosen + 1 :]

    def _circumstances(self, stored: StoredDecision) -> tuple[tuple[Action, ...], float | None]:
        """Return what a decision chose among, and its exploration floor."""
        decision = stored.decision
        if decision.origin == "logged":
            return self.spec.actions if decision.eligible is None else decision.eligible, None
        if not decision.policy_version:  # uniform, without a snapshot
            return decision.eligible or (), 1.0
        version = self._version(decision.policy_version)
        eligible = version.actions if decision.eligible is None else decision.eligible
        by = decision.served_by
        if by is None:
            return eligible, version.exploration_floor
        if by.policy is not None:
            other = self._log.snapshot(by.policy, by.snapshot_version)
            return eligible, None if other is None else other.exploration_floor
        is_default = by.who == "default_action" or (
            version.baseline is not None and version.baseline.serve == "default_action"
        )
        return eligible, 0.0 if is_default and decision.default_action is not None else 1.0

    def _version(self, version: int) -> PolicySpec:
        if version not in self._versions:
            self._versions[version] = self._log.spec(self.spec.name, version)
        return self._versions[version]
