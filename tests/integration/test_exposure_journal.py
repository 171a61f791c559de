"""The journal of exposures on a real Redis: each once, remembered for a while, nothing lost while Redis is away."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from functions.local.redis_server import RedisServer
from shared.experiments.exposure import Exposure
from shared.observability.metrics import Metrics
from shared.storage import redis_exposures
from shared.storage.redis_connection import connect
from shared.storage.redis_drain import read_exposures, trim_exposures
from shared.storage.redis_exposures import ExposureWriter


def exposure(unit: str, variation: str = "a") -> tuple[str, Exposure]:
    """Return an exposure to an experiment, with its key."""
    return unit + variation, Exposure(
        "e", 1, variation, unit, unit, 1.5, {"country": "DE", "tags": ["x"]}, None, "local", "anonymous"
    )


def writer(client: Any, **changes: Any) -> tuple[ExposureWriter, Metrics]:
    """Return a writer and its metrics."""
    metrics = Metrics()
    given: dict[str, Any] = {"wait_s": 1.0, "buffer": 1_000, "buffer_bytes": 1 << 20} | changes
    return ExposureWriter(client, metrics, **given), metrics


def test_an_exposure_is_written_once_and_read_in_order(own_redis: RedisServer) -> None:
    """What is known is not written again, also while it is under way; another variation is another exposure."""

    async def play() -> None:
        client = connect(own_redis.url)
        written, _ = writer(client)
        both = await asyncio.gather(written.record([exposure("u")]), written.record([exposure("u")]))
        assert sorted(each.new[0] for each in both) == [False, True]
        assert all(each.held for each in both)
        recorded = await written.record([exposure("u"), exposure("u", "b"), exposure("v")])
        assert (recorded.new, recorded.held) == ([False, True, True], True)
        found = await read_exposures(client, 100)
        assert found.exposures == [exposure("u")[1], exposure("u", "b")[1], exposure("v")[1]]
        assert found.last is not None
        assert not found.more
        await trim_exposures(client, found.last)
        assert (await read_exposures(client, 100)).exposures == []
        await written.close()
        await client.aclose()

    asyncio.run(play())


def test_what_is_remembered_has_bounds(own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest of too many are forgotten, and everything after a time; both are then written again."""

    async def play() -> None:
        client = connect(own_redis.url)
        written, _ = writer(client, remembered=4)
        for unit in "abcde":
            assert (await written.record([exposure(unit)])).new == [True]
        for unit, new in (("c", False), ("d", False), ("e", False), ("a", True), ("b", True), ("c", True)):
            assert (await written.record([exposure(unit)])).new == [new], unit
        assert len(written._young) + len(written._old) <= 4
        await written.close()
        monkeypatch.setattr(redis_exposures, "REMEMBER_S", 0.1)
        written, _ = writer(client)
        assert (await written.record([exposure("x")])).new == [True]
        assert (await written.record([exposure("x")])).new == [False]
        await asyncio.sleep(0.06)
        assert (await written.record([exposure("y")])).new == [True]
        await asyncio.sleep(0.06)
        assert (await written.record([exposure("x")])).new == [True]
        await written.close()
        await client.aclose()

    asyncio.run(play())


def test_nothing_is_lost_while_redis_is_away(own_redis: RedisServer) -> None:
    """Answers are degraded, a full buffer drops and counts, and what it held arrives; then nothing is degraded any more."""

    async def play() -> None:
        client = connect(own_redis.url)
        written, metrics = writer(client, wait_s=0.1, buffer=3)
        own_redis.stop()
        for unit, new in (("a", True), ("b", True), ("a", False), ("c", True), ("d", True), ("d", True)):
            recorded = await written.record([exposure(unit)])
            assert (recorded.new, recorded.held) == ([new], False), unit
        assert metrics.exposures_dropped.values[()] == 2
        own_redis.start()
        async with asyncio.timeout(20):
            while not (await written.record([exposure("a")])).held:  # noqa: ASYNC110 - Redis sets no event
                await asyncio.sleep(0.05)
        found = await read_exposures(client, 100)
        assert [each.unit for each in found.exposures] == ["a", "b", "c"]
        recorded = await written.record([exposure("a"), exposure("d")])
        assert (recorded.new, recorded.held) == ([False, True], True)
        await written.close()
        await client.aclose()

    asyncio.run(play())
