"""What sticks to units, in Redis: a hash for each value of an attribute, `experiment__bucket version` -> variation.

PostgreSQL is behind it (`shared.storage.sticky_upkeep`): what is kept goes, in one transaction, into the unit's hash and into a stream
that is drained there. A mark says that Redis holds all that PostgreSQL does; without it nothing is to be had here, since
what is missing may only be missing in Redis.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from shared.experiments.assigning import Kept
from shared.experiments.exposure import StickyAssignment
from shared.storage.redis_connection import RESTORED, STICKY_JOURNAL, STICKY_RESTORED, Redis, RedisError, sticky_key

_encoder = msgspec.msgpack.Encoder()
_log = logging.getLogger(__name__)


class StickyStore:
    """Reads and keeps what sticks; whoever asks never waits longer than `wait_s`, nor for a Redis that was away a moment ago."""

    def __init__(self, client: Redis, wait_s: float) -> None:
        """Ask through `client`."""
        self._client = client
        self._wait_s = wait_s
        self._away_until = 0.0

    async def read(self, units: Mapping[str, str]) -> Kept | None:
        """Return what sticks, by attribute; None where it is not to be had.

        `units`: attribute -> pseudonym of the unit's value.
        """
        pipeline = self._client.pipeline(transaction=False)
        pipeline.get(STICKY_RESTORED)
        for attribute, unit in units.items():
            pipeline.hgetall(sticky_key(attribute, unit))
        found = await self._asked(pipeline)
        if found is None or found[0] != RESTORED:
            return None
        return {
            attribute: {key.decode(): variation.decode() for key, variation in held.items()}
            for attribute, held in zip(units, found[1:], strict=True)
        }

    async def keep(self, kept: Sequence[StickyAssignment]) -> bool:
        """Keep what sticks; return whether Redis holds it. What it does not hold is found again by the same hash, and kept then."""
        pipeline = self._client.pipeline(transaction=True)
        for each in kept:
            pipeline.hset(sticky_key(each.attribute, each.unit), each.key, each.variation)
        pipeline.xadd(STICKY_JOURNAL, {"block": _encoder.encode(kept)})
        return await self._asked(pipeline) is not None

    async def _asked(self, pipeline: Any) -> list[Any] | None:  # noqa: ANN401 - redis-py's pipeline
        loop = asyncio.get_running_loop()
        if loop.time() < self._away_until:
            return None
        try:
            async with asyncio.timeout(self._wait_s):
                answers: list[Any] = await pipeline.execute()
        except (RedisError, OSError) as error:
            self._away_until = loop.time() + _AWAY_S
            _log.warning("what sticks is not to be had", extra={"knudge": {"error": str(error)}})
            return None
        return answers


_AWAY_S = 0.2
