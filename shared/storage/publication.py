"""Redis is derived: snapshots and the catalogue are published again, byte for byte, wherever they are missing."""

from __future__ import annotations

from typing import cast

from shared.errors import Unavailable
from shared.storage.postgres_connection import Pool, Row, connection
from shared.storage.postgres_experiments import published
from shared.storage.queries import queries
from shared.storage.redis_catalogue import publish_catalogue
from shared.storage.redis_connection import VERSIONS, Redis, RedisError
from shared.storage.redis_snapshots import is_bootstrapped, mark_bootstrapped, publish


async def publish_all(pool: Pool, client: Redis) -> int:
    """Publish the newest snapshot of every policy, and the catalogue; return how many of them Redis did not have.

    Raises `Unavailable`.
    """
    put = int(await publish_experiments(pool, client))
    for row in await _newest(pool, None):
        put += await publish(client, row["policy"], row["policy_version"], row["snapshot_version"], row["content"])
    await mark_bootstrapped(client)
    return put


async def publish_experiments(pool: Pool, client: Redis) -> bool:
    """Publish the catalogue where Redis has none or an older one; return whether it was put. Raises `Unavailable`."""
    version, content = await published(pool)
    return await publish_catalogue(client, version, content)


async def publish_missing(pool: Pool, client: Redis, policy: str, snapshot_version: int) -> None:
    """Publish a policy's snapshot where Redis has none of this version, and all of them where it was wiped."""
    if not await is_bootstrapped(client):
        await publish_all(pool, client)
        return
    try:
        held = cast("bytes | None", await client.hget(VERSIONS, policy))
    except RedisError as error:
        detail = f"Redis does not answer: {error}"
        raise Unavailable(detail) from error
    if held is None or int(held.rpartition(b".")[2]) < snapshot_version:
        for row in await _newest(pool, policy):
            await publish(client, policy, row["policy_version"], row["snapshot_version"], row["content"])


async def _newest(pool: Pool, policy: str | None) -> list[Row]:
    async with connection(pool) as lent:
        cursor = await lent.execute(queries("learning")["newest_snapshots"], {"policy": policy})
        return await cursor.fetchall()
