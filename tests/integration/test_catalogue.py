"""The catalogue in Redis: a newer one replaces an older one only, and a watch survives a Redis that is away or wiped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from functions.local.servers import LocalServers
from shared.storage.redis_catalogue import CatalogueWatch, publish_catalogue
from shared.storage.redis_connection import connect
from shared.storage.redis_snapshots import mark_bootstrapped


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110 - nothing says when
            await asyncio.sleep(0.02)


def test_an_older_catalogue_never_replaces_a_newer(own_servers: LocalServers) -> None:
    """Publication compares versions as numbers; without the content, even an older one is put."""

    async def play() -> None:
        client = connect(own_servers.redis_url)
        assert await publish_catalogue(client, 9, b"nine")
        assert await publish_catalogue(client, 10, b"ten")
        assert not await publish_catalogue(client, 10, b"again")
        assert not await publish_catalogue(client, 9, b"older")
        assert await client.get("knudge:catalogue") == b"ten"
        await client.delete("knudge:catalogue")
        assert await publish_catalogue(client, 9, b"what is left")
        await client.aclose()

    asyncio.run(play())


def test_a_watch_holds_the_newest_catalogue_through_everything(own_servers: LocalServers) -> None:
    """It finds what is published, keeps it while Redis is wiped, leaves what cannot be read, and goes on."""

    def compiled(content: bytes) -> str:
        return content.decode()

    async def play() -> None:
        client = connect(own_servers.redis_url)
        watch = CatalogueWatch(client, 0.02, compiled, "")
        await watch.start()
        assert (watch.held(), watch.found) == ("", False)
        await mark_bootstrapped(client)
        await _until(lambda: watch.found)
        await publish_catalogue(client, 1, b"one")
        await _until(lambda: watch.held() == "one")
        await client.flushall()
        await publish_catalogue(client, 2, b"\xff")
        await asyncio.sleep(0.2)
        assert watch.held() == "one"
        await publish_catalogue(client, 3, b"three")
        await _until(lambda: watch.held() == "three")
        await client.flushall()
        await publish_catalogue(client, 2, b"restored from an older copy")
        await asyncio.sleep(0.2)
        assert watch.held() == "three"
        await watch.stop()
        late = CatalogueWatch(client, 0.02, compiled, "")
        await late.start()
        assert late.held() == "restored from an older copy"
        await late.stop()
        await client.aclose()

    asyncio.run(play())
