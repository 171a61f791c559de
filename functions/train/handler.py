"""The use case of `train`: every posterior asked for is refitted from PostgreSQL's history and published.

A policy is refitted in one transaction under its lock: `learn` waits for that long and loses nothing. The same transaction
notes for the event that it is done, so that a repeat goes on where a run that died had got to. An event that comes again
while it is worked on waits for the run that works: were it answered at once, nobody would train if that run died.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from time import monotonic

import msgspec

from shared.edge.learning_contracts import RequestIdentity, TrainedPolicy, TrainingFinished
from shared.edge.sink import Sink
from shared.errors import Unavailable, UnknownPolicy
from shared.events.types import TRAINING_FINISHED
from shared.identity import content_identity
from shared.ports import Clock
from shared.settings import Settings
from shared.storage.learning_state import Learned
from shared.storage.postgres_connection import Pool, connection
from shared.storage.postgres_learning import LearningTransaction
from shared.storage.postgres_trainings import Asked, Held, Trainings
from shared.storage.publication import publish_missing
from shared.storage.redis_connection import Redis

_log = logging.getLogger(__name__)

WAIT_S = 600.0
"""How long a run waits for another that trains for the same event."""
POLL_S = 0.5
_RENEWALS_PER_LEASE = 3
_IDLE_S = 60  # a process that stops in the middle of its transaction, with its host, blocks `learn` no longer than that


class Trainer:
    """Trains for the events that ask for it."""

    def __init__(self, settings: Settings, pool: Pool, client: Redis, sink: Sink, clock: Clock) -> None:
        """Refit in PostgreSQL, publish to Redis, tell the sink where there is one."""
        self._has_sink = bool(settings.k_sink)
        self._pool = pool
        self._client = client
        self._sink = sink
        self._clock = clock
        self._trainings = Trainings(pool, settings.training_lease_s)

    async def train(self, asked: Asked) -> TrainingFinished | None:
        """Train, publish and say so; return what was done, None where it had been done before.

        Raises `UnknownPolicy`; raises `Unavailable` where something is left to do, which the same event does when it
        comes again.
        """
        names = await self._trainings.policies()
        if asked.policy is not None and asked.policy not in names:
            raise UnknownPolicy(f"there is no policy {asked.policy!r}", field="policy")
        held = await self._hold(asked)
        if held is None:
            _log.info("trained before", extra={"knudge": {"source": asked.source, "event_id": asked.id}})
            return None
        try:
            async with self._renewed(held):
                finished = await self._work(held, names if asked.policy is None else [asked.policy])
        except BaseException:  # cancellation too: whoever is next need not wait for the lease to end
            with suppress(Unavailable):
                await self._trainings.release(held)
            raise
        return finished

    async def _hold(self, asked: Asked) -> Held | None:
        """Take hold of the training, as soon as nobody else holds it; None where all is done."""
        until = monotonic() + WAIT_S
        is_said = False
        while (held := await self._trainings.hold(asked)) is None:
            held_s = await self._trainings.held_s(asked)
            if held_s is None:
                return None
            if monotonic() > until:
                raise Unavailable(f"another run has been training for this event for over {WAIT_S:g} s")
            if not is_said:
                _log.info("another run is training", extra={"knudge": {"source": asked.source, "event_id": asked.id}})
                is_said = True
            await asyncio.sleep(POLL_S)
        if held.runs > 1:
            done = [each["policy"] for each in held.outcome]
            _log.warning("an earlier run did not finish", extra={"knudge": {"run": held.runs, "refitted": done}})
        return held

    @asynccontextmanager
    async def _renewed(self, held: Held) -> AsyncIterator[None]:
        """Hold the training for as long as the block takes."""

        async def renew() -> None:
            while True:
                await asyncio.sleep(self._trainings.lease_s / _RENEWALS_PER_LEASE)
                with suppress(Unavailable):  # the work itself finds that out too, and says so
                    if not await self._trainings.renew(held):
                        return

        renewing = asyncio.create_task(renew())
        try:
            yield
        finally:
            renewing.cancel()
            with suppress(asyncio.CancelledError):
                await renewing

    async def _work(self, held: Held, names: list[str]) -> TrainingFinished:
        done = {each["policy"] for each in held.outcome}
        failed: list[Exception] = []
        for name in names:
            if name not in done:
                try:
                    await self._refit(held, name)
                except Unavailable:
                    raise
                except Exception as error:  # the others are trained; this one asks to be tried again
                    _log.exception("a policy is not refitted", extra={"knudge": {"policy": name}})
                    failed.append(error)
        if failed:
            raise failed[0]
        outcome, duration_s = await self._trainings.finish(held)
        policies = msgspec.convert(outcome, tuple[TrainedPolicy, ...])
        for each in policies:
            await publish_missing(self._pool, self._client, each.policy, each.snapshot_version)
        request = RequestIdentity(held.asked.source, held.asked.id)
        finished = TrainingFinished(request, "refitted", policies, duration_s)
        identity = content_identity(f"{request.source}\0{request.id}".encode())
        if self._has_sink and not await self._sink.send(TRAINING_FINISHED, finished, event_id=identity):
            raise Unavailable(f"the sink did not take {TRAINING_FINISHED}; everything else is done")
        await self._trainings.announce(held)
        return finished

    async def _refit(self, held: Held, policy: str) -> None:
        began = monotonic()
        async with connection(self._pool) as lent, lent.transaction():
            await lent.execute(f"set local idle_in_transaction_session_timeout = '{_IDLE_S}s'".encode())
            work = LearningTransaction(lent, policy)
            state = await work.lock()
            locked = monotonic()
            posterior = await work.refit(state, max(self._clock(), state.posterior.as_of))
            learned = await work.store(state.spec, posterior, state.snapshot_version + 1, Learned(policy))
            trained = TrainedPolicy(
                policy, learned.policy_version, learned.snapshot_version, work.fitted, monotonic() - locked
            )
            await self._trainings.note(lent, held, trained)
        _log.info(
            "refitted", extra={"knudge": {**msgspec.structs.asdict(trained), "waited_s": round(locked - began, 3)}}
        )
