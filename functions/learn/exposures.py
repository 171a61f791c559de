"""The other journals that `learn` drains: who was shown which variation of an experiment, and what is to stick to whom."""

from __future__ import annotations

import logging
from time import monotonic

from shared.edge.runs import Runs
from shared.storage.postgres_connection import Pool, connection
from shared.storage.postgres_exposures import record
from shared.storage.redis_connection import Redis
from shared.storage.redis_drain import read_exposures, trim_exposures
from shared.storage.sticky_upkeep import keep_up_sticky

_log = logging.getLogger(__name__)

EXPOSURES_AT_ONCE = 5_000


class ExposureDrain:
    """Takes exposures from their journal to PostgreSQL, each once."""

    def __init__(self, pool: Pool, client: Redis, interval_s: float) -> None:
        """Run at most once in `interval_s`."""
        self._pool = pool
        self._client = client
        self._interval_s = interval_s
        self._runs = Runs[None, int](self._run)

    async def drain(self) -> int:
        """Return after a run that began after this call: how many exposures were new. Raises `Unavailable`."""
        return await self._runs.asked(None)

    async def _run(self, _: None) -> int:
        self._runs.rest_until(None, monotonic() + self._interval_s)
        new = 0
        while True:
            portion = await read_exposures(self._client, EXPOSURES_AT_ONCE)
            if portion.last is None:
                break
            async with connection(self._pool) as lent, lent.transaction():
                new += await record(lent, portion.exposures)
            await trim_exposures(self._client, portion.last)
            if not portion.more:
                break
        await keep_up_sticky(self._pool, self._client)
        if new:
            _log.info("exposures recorded", extra={"knudge": {"exposures": new}})
        return new
