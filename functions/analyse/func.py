"""The edge of `analyse`: results by HTTP, analyses by event. A functions-framework target (`--target analyse --asgi`)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import time

import msgspec

from functions.analyse.handler import Analyst
from shared.edge.decoding import decode, decode_arguments
from shared.edge.function import Call, EventRoute, Function, Route
from shared.edge.http import HttpRequest, Reply, json_reply
from shared.edge.result_contracts import AnalysisDue, Results, ResultsAsked
from shared.edge.sink import Sink
from shared.events.cloudevents import Event
from shared.events.types import ANALYSIS_DUE, PING
from shared.observability.metrics import Metrics
from shared.settings import Settings
from shared.storage.postgres_connection import open_pool
from shared.storage.redis_connection import connect

_due = msgspec.json.Decoder(AnalysisDue)
_encode = msgspec.json.Encoder().encode
_POOL = 4


@asynccontextmanager
async def _opening(settings: Settings, metrics: Metrics) -> AsyncIterator[Analyst]:
    client = connect(settings.redis_url)
    sink = Sink("analyse", settings, metrics)
    async with open_pool(settings.database_url, _POOL) as pool:
        try:
            yield Analyst(settings, pool, client, sink, time)
        finally:
            await sink.close()
            await client.aclose()


async def _results(analyst: Analyst, call: Call) -> Reply:
    asked = decode_arguments(ResultsAsked, call.arguments)
    return json_reply(_encode(await analyst.results(call.variables["key"], asked.phase)))


async def _analysis_due(analyst: Analyst, events: list[Event]) -> None:
    [event] = events
    experiment = decode(_due, event.data or b"{}").experiment
    if experiment is None:
        await analyst.analyse_all()
    else:
        await analyst.analyse(experiment)


async def _ping(analyst: Analyst, events: list[Event]) -> None:
    del events
    await analyst.analyse_all()


door = Function(
    "analyse",
    needs=("redis_url", "database_url"),
    opening=_opening,
    routes=[Route("GET", "/v1/experiments/{key}/results", _results, None, Results, asks=ResultsAsked)],
    events=[EventRoute(ANALYSIS_DUE, _analysis_due), EventRoute(PING, _ping)],
)


async def analyse(request: HttpRequest) -> Reply:
    """Answer one request: the functions-framework target."""
    return await door(request)
