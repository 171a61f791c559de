"""The use case of `recommend`: decide from the snapshot at hand, journal the decision, answer.

Neither PostgreSQL nor a healthy Redis is needed to answer: without the journal the answer is degraded, without any
snapshot it is uniform over the caller's actions, with `snapshot_version` 0.
"""

from __future__ import annotations

import asyncio
import logging
import os
from time import perf_counter, time_ns

import msgspec

from functions.recommend.checking import RequestChecks, eligible_of
from functions.recommend.splitting import Asked, Splitter
from shared.edge.contracts import RecommendAnswer, RecommendRequest, SeenVariation
from shared.errors import Conflict, KnudgeError, UnknownPolicy
from shared.identity import RANDOM_BITS, content_identity, decision_id, place, policy_key, pseudonym, uniform
from shared.observability.metrics import Metrics
from shared.policies.arms import check_default, is_plain, served_by, stand_in, who_decides
from shared.policies.choosing import Chooser, without_snapshot
from shared.ports import Catalogues, Journal, Snapshots, Wakes
from shared.settings import Settings
from shared.vocabulary import Action, Caller, Decision, Item, ServedBy

_log = logging.getLogger(__name__)
_answer = msgspec.json.Encoder()
_earlier = msgspec.json.Decoder(tuple[str, RecommendAnswer])


class Recommender:
    """Answers recommendation requests of one process."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        snapshots: Snapshots,
        journal: Journal,
        wakes: Wakes,
        *,
        catalogues: Catalogues,
    ) -> None:
        """Decide from `snapshots`, split calls by `catalogues`, append to `journal`, and tell `wakes`."""
        self._key = settings.server_key.encode()
        self._revision = settings.k_revision
        self._checks = RequestChecks(settings)
        self._snapshots = snapshots
        self._splitter = Splitter(self._key, catalogues, snapshots)
        self._journal = journal
        self._wakes = wakes
        self._metrics = metrics
        self._uniform = Chooser(without_snapshot(""))
        self._logs_decisions = settings.log_level.lower() == "debug"

    async def recommend(self, request: RecommendRequest, caller: Caller, asked: Asked | None = None) -> RecommendAnswer:
        """Return the answer to one request; the same one for the same `request_id` within five minutes.

        `asked`: who decides it, where that is known and the request is checked.
        """
        started = perf_counter()
        if asked is None:
            self._checks.check(request)
            asked = self._plainly(request) or await self._asked(request)
        if request.request_id is not None:
            answer = await self._once(request, asked, caller)
        else:
            decision, answer = self._decide(asked, caller)
            if not await self._journal.append(decision) or not decision.snapshot_version:
                answer = msgspec.structs.replace(answer, degraded=True)
        # a name that no snapshot confirms may be anything: whoever learns looks at all policies, and at what Redis lacks
        self._wakes.learning_due(answer.policy if answer.snapshot_version else None)
        series = self._metrics.answered_degraded if answer.degraded else self._metrics.answered
        series.observe(perf_counter() - started)
        return answer

    async def recommend_batch(self, requests: list[RecommendRequest], caller: Caller) -> list[RecommendAnswer]:
        """Return one answer per request; a fault in one of them, named by its index, refuses all before any is made."""
        self._checks.check_size(len(requests))
        all_asked = []
        for at, request in enumerate(requests):
            try:
                self._checks.check(request)
                asked = self._plainly(request) or await self._asked(request)
                eligible = eligible_of(asked.request, asked.chooser)
                if asked.chooser is not None:
                    check_default(asked.chooser.snapshot, eligible, request.default_action, request.count)
            except KnudgeError as error:
                error.field = f"requests[{at}].{error.field}"
                raise
            all_asked.append(asked)
        self._checks.check_size(sum(request.count for request in requests))
        answers: list[RecommendAnswer] = []
        for start in range(0, len(requests), _SIDE_BY_SIDE):  # others are answered in between
            some = slice(start, start + _SIDE_BY_SIDE)
            pairs = zip(requests[some], all_asked[some], strict=True)
            answers += await asyncio.gather(*(self.recommend(one, caller, asked) for one, asked in pairs))
        return answers

    def _plainly(self, request: RecommendRequest) -> Asked | None:
        """Return who decides a request where that is its policy's snapshot in memory and nothing else is to be asked."""
        chooser = self._snapshots.held(request.policy)
        if chooser is None or chooser.snapshot.baseline is not None or self._splitter.of(request.policy) is not None:
            return None
        self._metrics.snapshot_hits += 1
        return Asked(request, chooser, None)

    async def _asked(self, request: RecommendRequest) -> Asked:
        """Return who decides a request: its policy's snapshot, or another one's, where an experiment says so."""
        chooser = self._snapshots.held(request.policy)
        if chooser is not None:
            self._metrics.snapshot_hits += 1
        else:
            self._metrics.snapshot_misses += 1
            chooser = await self._snapshots.find(request.policy)
        if chooser is None:
            return Asked(request, None, None)
        split = self._splitter.of(request.policy)
        asked = Asked(request, chooser, None) if split is None else await self._splitter.split(split, request, chooser)
        if asked.chooser is not None and asked.chooser.snapshot.baseline is not None:
            await self._find_baseline(asked.chooser)
        return asked

    async def _once(self, request: RecommendRequest, asked: Asked, caller: Caller) -> RecommendAnswer:
        """Decide, unless the same caller's same request was decided before, by whichever policy."""
        name = content_identity(f"{caller.name}\0{request.request_id}".encode())
        sent = content_identity(_answer.encode(self._without_names(request)))
        earlier = await self._journal.answered(request.policy, name)
        if earlier is None:
            decision, answer = self._decide(asked, caller)
            content = _answer.encode((sent, answer))
            held, earlier = await self._journal.append_once(decision, request.policy, name, content)
            if earlier is None:
                degraded = not held or not decision.snapshot_version
                return msgspec.structs.replace(answer, degraded=True) if degraded else answer
        earlier_sent, answer = _earlier.decode(earlier)
        if earlier_sent != sent:
            detail = "this request_id was used with another body in the last five minutes"
            raise Conflict(detail, field="request_id")
        return answer

    def _decide(self, asked: Asked, caller: Caller) -> tuple[Decision, RecommendAnswer]:
        request, chooser, experiment = asked
        eligible = eligible_of(request, chooser)
        if chooser is None:
            chooser = Chooser(without_snapshot(request.policy))
        snapshot = chooser.snapshot
        several = request.count > 1
        now_us = time_ns() // 1000
        random = int.from_bytes(os.urandom(5), "big") & _RANDOM_MASK
        decided = decision_id(policy_key(request.policy), now_us, random, several=several)
        draws = [uniform(self._key, request.policy, decided, position) for position in range(request.count)]
        user = self._pseudonym("user", request.user_id)
        other: ServedBy | None = None
        if is_plain(snapshot):
            items = chooser.choose(request.context, eligible, draws)
        else:
            items, other = self._decide_by_arm(request, chooser, eligible, draws, user or decided)
        decision = Decision(
            decided,
            request.policy,
            snapshot.policy_version,
            snapshot.snapshot_version,
            tuple([item.action for item in items]),
            tuple([item.propensity for item in items]),
            eligible,
            request.context,
            user,
            self._pseudonym("session", request.session_id),
            request.defer_activation,
            not snapshot.snapshot_version,
            "served",
            self._revision,
            caller.name,
            request.default_action,
            served_by=other,
            experiment=experiment,
        )
        for action in decision.actions:
            self._metrics.select(
                request.policy if snapshot.snapshot_version else None, action, known=action in chooser.actions
            )
        if self._logs_decisions:
            _log.debug("decided", extra={"knudge": {"decision_id": decided, "policy": request.policy}})
        return decision, RecommendAnswer(
            decided,
            request.policy,
            snapshot.policy_version,
            snapshot.snapshot_version,
            items,
            False,
            "policy" if other is None else other.who,
            None if experiment is None else SeenVariation(experiment.key, experiment.variation),
        )

    def _decide_by_arm(
        self,
        request: RecommendRequest,
        chooser: Chooser,
        eligible: tuple[Action, ...] | None,
        draws: list[float],
        unit: str,
    ) -> tuple[tuple[Item, ...], ServedBy | None]:
        """Let the policy, its baseline or the caller decide, whichever it is for this unit."""
        snapshot = chooser.snapshot
        check_default(snapshot, eligible, request.default_action, request.count)
        who = who_decides(snapshot, place(self._key, request.policy, unit))
        if who == "policy":
            return chooser.choose(request.context, eligible, draws), None
        baseline = snapshot.baseline
        decider: Chooser | str = self._uniform
        if request.default_action is not None and (
            who == "default_action" or (baseline is not None and baseline.serve == "default_action")
        ):
            decider = request.default_action
        elif baseline is not None and baseline.policy is not None:
            decider = self._snapshots.held(baseline.policy) or self._uniform
        items, propensities, gains = stand_in(chooser, decider, request.context, eligible, draws)
        return items, served_by(who, decider, propensities, gains)

    async def _find_baseline(self, chooser: Chooser) -> None:
        """See to it that the snapshot of the policy that serves the baseline is in memory; without it, uniform draws do."""
        baseline = chooser.snapshot.baseline
        if baseline is not None and baseline.policy is not None and self._snapshots.held(baseline.policy) is None:
            try:
                await self._snapshots.find(baseline.policy)
            except UnknownPolicy:
                _log.warning("the baseline's policy is unknown", extra={"knudge": {"policy": baseline.policy}})

    def _without_names(self, request: RecommendRequest) -> RecommendRequest:
        """Return the request with pseudonyms for names: replayed from a dead letter, where names are sealed, it is the same."""
        return msgspec.structs.replace(
            request,
            user_id=self._pseudonym("user", request.user_id),
            session_id=self._pseudonym("session", request.session_id),
        )

    def _pseudonym(self, kind: str, name: str | None) -> str | None:
        return None if name is None else pseudonym(self._key, kind, name)


_SIDE_BY_SIDE = 32
_RANDOM_MASK = (1 << RANDOM_BITS) - 1
