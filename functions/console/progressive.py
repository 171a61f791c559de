"""What every candidate would have done at each decision of a log, and what it learned in between.

Decisions are taken in blocks of equal number. At the beginning of a block all candidates learn what was decided before it, and the
feedback that had come by then: of served decisions by when it was received, of logged ones by when it happened. Within a block they stand
still. A decision is judged before it is learned from.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from heapq import heappop, heappush

from msgspec import structs

from functions.console.candidates import Candidate
from functions.console.decided_items import DecidedItem
from shared.policies.choosing import Law
from shared.policies.posterior import Outcome
from shared.policies.rewards import item_delays, item_rewards
from shared.vocabulary import PolicySpec

_Arrival = tuple[float, int, Outcome]
_Counted = tuple[float | None, float | None]
"""A reward, and after how many seconds its first feedback occurred."""


class Progress:
    """Candidates on their way through a log. `blocks`: how many began."""

    def __init__(self, candidates: Sequence[Candidate], policy: PolicySpec, block: int) -> None:
        """Let `candidates` learn before every `block` decisions, from rewards by the rule of `policy`."""
        self._candidates = candidates
        self._policy = policy
        self._block = block
        self._looks = any(candidate.spec.features is not None for candidate in candidates)
        self._arrivals: list[_Arrival] = []
        self._number = 0
        self._in_block = 0
        self.blocks = 0

    def judge(self, items: Sequence[DecidedItem]) -> list[list[Law]]:
        """Return each candidate's laws of the items of the next decision, by what it knew when its block began."""
        first = items[0]
        decision = first.stored.decision
        taken = [item.action for item in items]
        return [candidate.laws(decision.context, first.eligible, taken) for candidate in self._candidates]

    def go_on(self, decided_at: float) -> None:
        """Begin a block at `decided_at` (POSIX seconds), the next decision's time, where one is due: learn what has come by then."""
        if self._in_block == 0:
            arrived = []
            while self._arrivals and self._arrivals[0][0] <= decided_at:
                arrived.append(heappop(self._arrivals)[2])
            for candidate in self._candidates:
                candidate.learn(arrived, decided_at)
            self.blocks += 1
        self._in_block = (self._in_block + 1) % self._block

    def remember(self, items: Sequence[DecidedItem]) -> None:
        """Keep what there is to learn of a decision, until it has come."""
        for moment, outcome in outcomes_of(self._policy, items, looks=self._looks):
            self._number += 1
            heappush(self._arrivals, (moment, self._number, outcome))


def outcomes_of(policy: PolicySpec, items: Sequence[DecidedItem], *, looks: bool) -> Iterator[tuple[float, Outcome]]:
    """Yield what becomes known of a decision, each with when it does: that items were shown, and their rewards as they change.

    `looks`: with context and features.
    """
    stored = items[0].stored
    decision = stored.decision
    names = [
        Outcome(
            stored.decided_at,
            item.action,
            context=decision.context if looks else {},
            features={} if item.chosen is None or not looks else item.eligible[item.chosen].features,
        )
        for item in items
    ]
    for named in names:
        yield stored.decided_at, _changed(named, shown=True)
    logged = decision.origin == "logged"
    came = sorted(stored.events, key=lambda event: event.occurred_at if logged else event.received_at)
    before: list[_Counted] = [(None, None)] * len(items)
    for seen, event in enumerate(came, 1):
        moment = max(event.occurred_at if logged else event.received_at, stored.decided_at)
        rewards = item_rewards(policy, stored.decided_at, decision.actions, came[:seen])
        delays = item_delays(policy, stored.decided_at, decision.actions, came[:seen])
        counted: list[_Counted] = list(zip(rewards, delays, strict=True))
        for position, after in enumerate(counted):
            if after[0] is not None and after != before[position]:
                yield moment, _changed(names[position], before=before[position], after=after)
        before = counted


def _changed(
    named: Outcome, *, shown: bool = False, before: _Counted = (None, None), after: _Counted = (None, None)
) -> Outcome:
    return structs.replace(
        named, shown=shown, before=before[0], after=after[0], delay_before_s=before[1], delay_after_s=after[1]
    )
