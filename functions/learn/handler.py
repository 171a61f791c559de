"""The use case of `learn`: journal to PostgreSQL, pending feedback to posteriors, posteriors to Redis.

Many wake-ups at once are one run: whoever asks is answered after a run that began after it asked. One run at a time per
policy in this process, and by a lock in PostgreSQL in all of them; different policies run side by side.
"""

from __future__ import annotations

import asyncio
import logging
from time import monotonic
from typing import Any

from functions.learn.exposures import ExposureDrain
from shared.edge.learning_contracts import LearningDone
from shared.edge.runs import Runs
from shared.errors import Unavailable
from shared.observability.metrics import Metrics
from shared.ports import Clock
from shared.settings import Settings
from shared.storage.learning_state import Learned
from shared.storage.postgres_connection import Pool, connection
from shared.storage.postgres_health import watch
from shared.storage.postgres_learning import LearningTransaction
from shared.storage.postgres_retention import drop_expired
from shared.storage.publication import publish_all, publish_missing
from shared.storage.queries import queries
from shared.storage.redis_connection import Redis
from shared.storage.redis_drain import Portion, drop_journal, journals, read_journal, trim_journal
from shared.storage.redis_snapshots import publish

_log = logging.getLogger(__name__)

DECISIONS_AT_ONCE = 5_000
PENDING_AT_ONCE = 5_000
POLICIES_AT_ONCE = 8
PUBLISHED_BYTES_PER_S = 1e6
_INTERVALS_PER_SWEEP = 10
_DAY_S = 86_400.0


class Learner:
    """Runs learning for every policy that this process is asked about."""

    def __init__(self, settings: Settings, metrics: Metrics, pool: Pool, client: Redis, clock: Clock) -> None:
        """Learn from the journal in Redis and what is pending in PostgreSQL."""
        self._interval_s = settings.learning_interval_ms / 1000
        self._retention_s = settings.retention_days * _DAY_S
        self._metrics = metrics
        self._pool = pool
        self._client = client
        self._clock = clock
        self._exposures = ExposureDrain(pool, client, self._interval_s)
        self._runs = Runs[str | None, LearningDone](self._begin)
        self._room = asyncio.Semaphore(POLICIES_AT_ONCE)

    async def learn(self, policy: str) -> LearningDone:
        """Return after a run for `policy` that began after this call. Raises `UnknownPolicy`, `Unavailable`."""
        return await self._runs.asked(policy)

    async def sweep(self) -> LearningDone:
        """Learn for every policy, record exposures, publish what Redis misses, give up orphans, drop what is too old.

        Returns after a sweep that began after this call.
        """
        return await self._runs.asked(None)

    async def drain_exposures(self) -> int:
        """Return after a run over the journal of exposures that began after this call. Raises `Unavailable`."""
        return await self._exposures.drain()

    async def _begin(self, policy: str | None) -> LearningDone:
        return await (self._sweep() if policy is None else self._run(policy))

    async def _sweep(self) -> LearningDone:
        now = self._clock()
        named = queries("learning")
        self._runs.rest_until(None, monotonic() + self._interval_s * _INTERVALS_PER_SWEEP)
        try:
            strange = await journals(self._client)
        except Unavailable:  # what is committed is learned all the same; publishing says below that Redis is away
            strange = {}
        async with connection(self._pool) as lent:
            await lent.execute(named["unpark"])
            rows = await (await lent.execute(named["policies"])).fetchall()
        names = [row["name"] for row in rows]
        runs: list[Any] = await asyncio.gather(*map(self.learn, names), self.drain_exposures(), return_exceptions=True)
        results = [run for run in runs if isinstance(run, LearningDone)]
        async with connection(self._pool) as lent:
            for query in ("mark_orphans", "mark_orphans_of_nobody"):
                orphans = await (await lent.execute(named[query], {"now": now})).fetchall()
                self._metrics.feedback_orphaned.inc(by=len(orphans))
            for weeks in (0, 1, 2):
                await lent.execute("select ensure_partition(to_timestamp(%s))", [now + weeks * 7 * _DAY_S])
            if self._retention_s:
                await drop_expired(lent, now - self._retention_s)
        await publish_all(self._pool, self._client)
        for policy in strange.keys() - names:  # what stood there before the policies were listed was nobody's
            decisions = await drop_journal(self._client, policy, strange[policy])
            self._metrics.journal_dropped.inc(by=decisions)
            _log.warning("a journal of no policy", extra={"knudge": {"policy": policy, "decisions": decisions}})
        for run in runs:
            if isinstance(run, BaseException):
                raise run  # the others are done; this one asks to be tried again
        return LearningDone(len(results), sum(r.decisions for r in results), sum(r.feedback for r in results))

    async def _run(self, policy: str) -> LearningDone:
        decisions = feedback = 0
        while True:
            async with self._room:
                began = monotonic()
                learned, more = await self._transaction(policy)
            self._metrics.learning_latency.series[policy].observe(monotonic() - began)
            decisions += learned.archived
            feedback += learned.feedback
            if not more:
                return LearningDone(1, decisions, feedback)

    async def _transaction(self, policy: str) -> tuple[Learned, bool]:
        began = monotonic()
        journal = Portion([], None, more=False)
        away: Unavailable | None = None
        try:
            journal = await read_journal(self._client, policy, DECISIONS_AT_ONCE)
        except Unavailable as error:  # what is committed can be learned all the same
            away = error
        async with connection(self._pool) as lent, lent.transaction():
            work = LearningTransaction(lent, policy)
            state = await work.lock()
            learned = await work.learn(state, journal.decisions, self._clock(), PENDING_AT_ONCE)
            health = await watch(lent, policy, learned.fresh)
        size = len(learned.content or b"")
        self._runs.rest_until(policy, began + max(self._interval_s, size / PUBLISHED_BYTES_PER_S))
        self._count(learned)
        if health is not None:
            self._metrics.watch(policy, health.highest, alarm=health.is_alarming())
        if away is not None:
            raise away
        if journal.last is not None:
            await trim_journal(self._client, policy, journal.last)
        if learned.content is not None:
            await publish(self._client, policy, learned.policy_version, learned.snapshot_version, learned.content)
        await publish_missing(self._pool, self._client, policy, learned.snapshot_version or state.snapshot_version)
        return learned, learned.more or journal.more

    def _count(self, learned: Learned) -> None:
        self._metrics.decisions_archived.inc(learned.policy, by=learned.archived)
        self._metrics.feedback_processed.inc("learned", by=learned.feedback)
        if learned.accuracy is not None:
            self._metrics.model_accuracy.set(learned.accuracy, learned.policy)
        comparison = learned.comparison
        if comparison is not None and comparison.uplift is not None:
            for bound in ("value", "low", "high"):
                self._metrics.uplift.set(getattr(comparison.uplift, bound), learned.policy, bound)
        if comparison is not None and comparison.agreement is not None:
            self._metrics.agreement.set(comparison.agreement, learned.policy)
        if learned.archived or learned.feedback:
            _log.info(
                "learned",
                extra={
                    "knudge": {
                        "policy": learned.policy,
                        "decisions": learned.archived,
                        "feedback": learned.feedback,
                        "snapshot_version": learned.snapshot_version,
                    }
                },
            )
