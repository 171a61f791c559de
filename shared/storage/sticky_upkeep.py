"""What sticks to units goes from Redis to PostgreSQL, and after Redis was wiped back (`learn`).

The stream is read from its start, under a lock, and trimmed after the commit: what is read twice is kept once, and the newest wins.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from shared.errors import Unavailable
from shared.experiments.exposure import StickyAssignment
from shared.storage.postgres_connection import Connection, Pool, connection
from shared.storage.queries import queries
from shared.storage.redis_connection import RESTORED, STICKY_RESTORED, Redis, RedisError, sticky_key
from shared.storage.redis_drain import read_sticky, trim_sticky


async def keep_up_sticky(pool: Pool, client: Redis) -> int:
    """Store what sticks since the last time, and give an empty Redis what is stored; return how many were read.

    Raises `Unavailable`.
    """
    stored = 0
    more = True
    while more:
        async with connection(pool) as lent, lent.transaction():
            await lent.execute(queries("sticky")["lock"])
            kept, last, more = await read_sticky(client, _AT_ONCE)
            await keep(lent, kept)
            if not more:
                await _restore(lent, client)
        if last is not None:
            await trim_sticky(client, last)
        stored += len(kept)
    return stored


async def keep(connection: Connection, kept: Iterable[StickyAssignment]) -> None:
    """Store what sticks; of what sticks to the same unit, under the same key, the last. The caller opens and commits."""
    by_unit: dict[tuple[str, str], dict[str, str]] = {}
    for each in kept:
        by_unit.setdefault((each.attribute, each.unit), {})[each.key] = each.variation
    if by_unit:
        rows = [
            {"attribute": attribute, "unit": unit, "assignments": held} for (attribute, unit), held in by_unit.items()
        ]
        await connection.execute(queries("sticky")["keep"], {"rows": msgspec.json.encode(rows).decode()})


async def _restore(connection: Connection, client: Redis) -> None:
    """Put all that is stored into a Redis that does not say that it holds it. Raises `Unavailable`."""
    try:
        if await client.get(STICKY_RESTORED) == RESTORED:
            return
        await client.set(STICKY_RESTORED, b"begun")
        after = ("", "")
        while True:
            parameters = {"attribute": after[0], "unit": after[1], "most": _AT_ONCE}
            rows = await (await connection.execute(queries("sticky")["page"], parameters)).fetchall()
            pipeline = client.pipeline(transaction=False)
            for row in rows:
                pipeline.hset(sticky_key(row["attribute"], row["unit"]), mapping=row["assignments"])
            await pipeline.execute()
            if len(rows) < _AT_ONCE:
                break
            after = (rows[-1]["attribute"], rows[-1]["unit"])
        await client.set(STICKY_RESTORED, RESTORED, xx=True)  # a Redis that was wiped meanwhile is restored next time
    except RedisError as error:
        detail = f"Redis does not answer: {error}"
        raise Unavailable(detail) from error


_AT_ONCE = 2_000
