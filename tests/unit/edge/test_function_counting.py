"""What a function counts of its requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from shared.edge.function import Call, Function, Route
from shared.edge.http import Reply, Scope, WholeRequest
from shared.observability.metrics import Metrics
from shared.settings import Settings


@asynccontextmanager
async def nothing(settings: Settings, metrics: Metrics) -> AsyncIterator[None]:
    """Open nothing."""
    yield None


async def slow(_state: None, call: Call) -> Reply:
    """Answer after 60 ms."""
    await asyncio.sleep(0.06)
    return Reply(204)


def test_requests_are_counted_and_timed_but_for_health_checks() -> None:
    """An answer is one request of one latency, whatever its status; a probe is neither, not even a 503 while draining."""
    function: Function[None] = Function(
        "slow", needs=(), opening=nothing, routes=[Route("POST", "/v1/slow", slow)], events=[]
    )

    async def call(method: str, path: str) -> int:
        scope: Scope = {"type": "http", "method": method, "path": path, "headers": [], "query_string": b""}
        return (await function(WholeRequest(scope, b"", keep_alive=True))).status

    async def play() -> list[int]:
        await function.start(Settings())
        answered = [await call("POST", "/v1/slow"), await call("GET", "/v1/slow"), await call("GET", "/health/ready")]
        await function.stop()
        return [*answered, await call("GET", "/health/ready"), await call("GET", "/health/live")]

    assert asyncio.run(play()) == [204, 405, 200, 503, 200]
    assert dict(function.metrics.requests.values) == {("204",): 1, ("405",): 1}
    latencies = function.metrics.requested
    assert sum(latencies.counts) == 2
    assert 0.06 <= latencies.sum_s < 5
