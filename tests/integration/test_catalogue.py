"""The catalogue in Redis: a newer one replaces an older one only, and a watch survives a Redis that is away or wiped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from functions.local.redis_server import RedisServer
from shared.experiments.assigning import PublishedCatalogue
from shared.experiments.experiment import ExperimentSpec, Variation
from shared.storage.redis_catalogue import CatalogueWatch, encode_catalogue, publish_catalogue
from shared.storage.redis_connection import Redis, connect
from shared.storage.redis_snapshots import mark_bootstrapped


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110 - nothing says when
            await asyncio.sleep(0.02)


def test_an_older_catalogue_never_replaces_a_newer(own_redis: RedisServer) -> None:
    """Publication compares versions as numbers; without the content, even an older one is put."""

    async def play() -> None:
        client = connect(own_redis.url)
        assert await publish_catalogue(client, 9, b"nine")
        assert await publish_catalogue(client, 10, b"ten")
        assert not await publish_catalogue(client, 10, b"again")
        assert not await publish_catalogue(client, 9, b"older")
        assert await client.get("knudge:catalogue") == b"ten"
        await client.delete("knudge:catalogue")
        assert await publish_catalogue(client, 9, b"what is left")
        await client.aclose()

    asyncio.run(play())


def test_a_watch_holds_the_newest_catalogue_through_everything(own_redis: RedisServer) -> None:
    """It finds what is published, keeps it while Redis is wiped, leaves what cannot be read, and goes on."""

    async def publish(client: Redis, version: int) -> None:
        experiment = ExperimentSpec(f"experiment-{version}", 1, (Variation("off", False), Variation("on", True)))
        assert await publish_catalogue(client, version, encode_catalogue(PublishedCatalogue(version, (experiment,))))

    async def play() -> None:
        client = connect(own_redis.url)
        watch = CatalogueWatch(client, 0.02)
        await watch.start()
        assert (watch.held().version, watch.found) == (0, False)
        await mark_bootstrapped(client)
        await _until(lambda: watch.found)
        await publish(client, 1)
        await _until(lambda: "experiment-1" in watch.held().experiments)
        await client.flushall()
        await publish_catalogue(client, 2, b"nonsense")
        await asyncio.sleep(0.2)
        assert watch.held().version == 1
        await publish(client, 3)
        await _until(lambda: watch.held().version == 3)
        assert list(watch.held().experiments) == ["experiment-3"]
        await client.flushall()
        await publish(client, 2)  # restored from an older copy
        await asyncio.sleep(0.2)
        assert watch.held().version == 3
        await watch.stop()
        late = CatalogueWatch(client, 0.02)
        await late.start()
        assert late.held().version == 2
        await late.stop()
        await client.aclose()

    asyncio.run(play())
