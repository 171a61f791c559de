"""What every candidate would have done at each decision of a log, and what it learned in between.

Decisions are taken in blocks of equal number. At the beginning of a block all candidates learn what was decided before it, and the
feedback that had come by then: of served decisions by when it was received, of logged ones by when it happened; kinds that depend on
order learn what is closed by then (`ordered_log`). Within a block they stand still. A decision is judged before it is learned from.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from heapq import heappop, heappush
from math import inf

from msgspec import structs

from functions.console.candidate import Candidate
from functions.console.decided_items import DecidedItem
from functions.console.ordered_log import OrderedLog, arrived
from shared.policies.choosing import Chooser, Law
from shared.policies.posterior import Outcome
from shared.policies.rewards import item_delays, item_rewards
from shared.vocabulary import PolicySpec

_Arrival = tuple[float, int, Outcome]
_Counted = tuple[float | None, float | None]
"""A reward, and after how many seconds its first feedback occurred."""


class Progress:
    """Candidates on their way through a log. `blocks`: how many began."""

    def __init__(
        self,
        candidates: Sequence[Candidate],
        policy: PolicySpec,
        block: int,
        *,
        trained_from: float = 0.0,
        train_every_s: float = inf,
    ) -> None:
        """Let `candidates` learn before every `block` decisions, from rewards by the rule of `policy`.

        Kinds that only a training changes are trained with the first block that begins at `trained_from` or later, and then
        with the first one `train_every_s` or more after that.
        """
        self._candidates = candidates
        self._policy = policy
        self._block = block
        self._looks = any(candidate.spec.features is not None for candidate in candidates)
        self._arrivals: list[_Arrival] = []
        self._number = 0
        self._in_block = 0
        learners = {one.learner.EPISODIC: one.learner for one in candidates if one.learner is not None}
        self._ordered = {is_episodic: OrderedLog(policy, learner) for is_episodic, learner in learners.items()}
        self._trained_next = trained_from
        self._train_every_s = train_every_s
        self.blocks = 0

    def choosers(self) -> list[Chooser]:
        """Return who decides for each candidate, by what it knew when the block began."""
        return [candidate.chooser() for candidate in self._candidates]

    def judge(self, items: Sequence[DecidedItem]) -> list[list[Law]]:
        """Return each candidate's laws of the items of the next decision, by what it knew when its block began."""
        return judged_by(self.choosers(), items)

    def go_on(self, decided_at: float) -> bool:
        """Begin a block at `decided_at` (POSIX seconds), the next decision's time, where one is due: learn what has come by then."""
        begins = self._in_block == 0
        if begins:
            self._learn(decided_at)
            self.blocks += 1
        self._in_block = (self._in_block + 1) % self._block
        return begins

    def remember(self, items: Sequence[DecidedItem]) -> None:
        """Keep what there is to learn of a decision, until it has come."""
        for moment, outcome in outcomes_of(self._policy, items, looks=self._looks):
            self._number += 1
            heappush(self._arrivals, (moment, self._number, outcome))
        for ordered in self._ordered.values():
            ordered.remember(items)

    def _learn(self, now: float) -> None:
        outcomes = []
        while self._arrivals and self._arrivals[0][0] <= now:
            outcomes.append(heappop(self._arrivals)[2])
        closed = {is_episodic: ordered.closed(now) for is_episodic, ordered in self._ordered.items()}
        looks_ahead = any(candidate.looks_ahead for candidate in self._candidates)
        ahead = self._ordered[False].ahead(now) if looks_ahead else []
        is_trained = now >= self._trained_next
        if is_trained:
            self._trained_next = now + self._train_every_s
        for candidate in self._candidates:
            candidate.learn(outcomes, now)
            if candidate.learner is not None:
                candidate.learn_in_order(closed[candidate.learner.EPISODIC], ahead if candidate.looks_ahead else ())
                if is_trained:
                    candidate.train()


def judged_by(choosers: Sequence[Chooser], items: Sequence[DecidedItem]) -> list[list[Law]]:
    """Return each chooser's laws of the items of a decision, each given those above it."""
    context, eligible = items[0].stored.decision.context, items[0].eligible
    taken = [item.action for item in items]
    return [list(chooser.laws(context, eligible, taken)) for chooser in choosers]


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
    came = [event for _, event in arrived(stored)]
    before: list[_Counted] = [(None, None)] * len(items)
    for seen, (known_at, _) in enumerate(arrived(stored), 1):
        moment = max(known_at, stored.decided_at)
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
