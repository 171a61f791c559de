"""The decisions of a log as kinds that depend on order learn them: open, and closed by the rule of `shared.policies.closing`.

Rewards of a closed decision are those that were known when it was closed, of an open one those that are known when it is looked at: of
served decisions by when feedback was received, of logged ones by when it happened.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import structs

from functions.console.decided_items import DecidedItem
from shared.policies.closing import OpenDecisions, OpenEpisodes, waits_s
from shared.policies.ordered import OpenStep, OrderedLearner, Step
from shared.policies.rewards import item_rewards
from shared.storage.decision_rows import StoredDecision
from shared.vocabulary import Feedback, PolicySpec


class OrderedLog:
    """What is open of a log, for all candidates that learn episodes, or for all that learn batches."""

    def __init__(self, policy: PolicySpec, learner: OrderedLearner) -> None:
        """Close decisions by the times of `policy`, as for `learner`; rewards by the rule of `policy`."""
        wait_s = waits_s(learner, policy)
        self._policy = policy
        self._items: dict[str, Sequence[DecidedItem]] = {}
        self._episodes = OpenEpisodes(wait_s, policy.session_timeout_s) if learner.EPISODIC else None
        self._batches = OpenDecisions(wait_s)

    def remember(self, items: Sequence[DecidedItem]) -> None:
        """Take a decision as open; they come in the order in which they were made."""
        stored = items[0].stored
        name = stored.decision.decision_id
        self._items[name] = items
        (self._episodes or self._batches).add(stored.decided_at, name, stored.decision.session)

    def closed(self, now: float) -> list[Step]:
        """Return what is closed by `now` (POSIX seconds) and was not before, in the order in which it is learned."""
        return [
            _step(self._policy, self._items.pop(one.decision_id), one.since, ends=one.ends)
            for one in (self._episodes or self._batches).closed(now)
        ]

    def ahead(self, now: float) -> list[OpenStep]:
        """Return the newest of what is open at `now`, the oldest first; nothing of episodes."""
        return [_open_step(self._policy, self._items[name], now) for name in self._batches.newest()]


def arrived(stored: StoredDecision) -> list[tuple[float, Feedback]]:
    """Return a decision's feedback, each with the moment at which it was known, in that order."""
    is_logged = stored.decision.origin == "logged"
    moments = [(event.occurred_at if is_logged else event.received_at, event) for event in stored.events]
    return sorted(moments, key=lambda known: known[0])


def _rewards(policy: PolicySpec, stored: StoredDecision, known_at: float) -> list[float | None]:
    events = [event for moment, event in arrived(stored) if moment <= known_at]
    return item_rewards(policy, stored.decided_at, stored.decision.actions, events)


def _step(policy: PolicySpec, items: Sequence[DecidedItem], known_at: float, *, ends: bool) -> Step:
    first = items[0]
    decision = first.stored.decision
    rewards = _rewards(policy, first.stored, known_at)
    return Step(
        first.stored.decided_at,
        decision.context,
        decision.actions,
        tuple([policy.default_reward if reward is None else reward for reward in rewards]),
        first.eligible,
        decision.propensities,
        ends,
    )


def _open_step(policy: PolicySpec, items: Sequence[DecidedItem], now: float) -> OpenStep:
    answered = tuple([reward is not None for reward in _rewards(policy, items[0].stored, now)])
    return OpenStep(**structs.asdict(_step(policy, items, now, ends=False)), answered=answered)
