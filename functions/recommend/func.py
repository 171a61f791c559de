"""The edge of `recommend`: decode, call, encode. A functions-framework target (`--target recommend --asgi`)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from functions.recommend.handler import Recommender
from shared.edge.contracts import RecommendAnswer, RecommendBatch, RecommendBatchAnswer, RecommendRequest
from shared.edge.decoding import decode
from shared.edge.function import Call, EventRoute, Function, Route
from shared.edge.http import HttpRequest, Reply, json_reply
from shared.edge.sink import Sink
from shared.events.cloudevents import Event, new_event
from shared.events.types import RECOMMENDATION_MADE, RECOMMENDATION_REQUESTED
from shared.observability.metrics import Metrics
from shared.observability.tracing import current_trace
from shared.settings import Settings
from shared.storage.redis_catalogue import CatalogueWatch
from shared.storage.redis_connection import connect
from shared.storage.redis_journal import JournalWriter
from shared.storage.redis_snapshots import SnapshotWatch
from shared.vocabulary import Caller

_request = msgspec.json.Decoder(RecommendRequest)
_batch = msgspec.json.Decoder(RecommendBatch)
_encode = msgspec.json.Encoder().encode


@asynccontextmanager
async def _opening(settings: Settings, metrics: Metrics) -> AsyncIterator[Recommender]:
    client, asking = connect(settings.redis_url), connect(settings.redis_url)
    watch = SnapshotWatch(client, settings.snapshot_poll_ms / 1000)
    catalogues = CatalogueWatch(client, settings.snapshot_poll_ms / 1000)
    await asyncio.gather(watch.start(), catalogues.start())
    journal = JournalWriter(
        client,
        asking,
        metrics,
        wait_s=settings.journal_wait_ms / 1000,
        buffer=settings.journal_buffer,
        buffer_bytes=settings.journal_buffer_bytes,
    )
    sink = Sink("recommend", settings, metrics)
    try:
        yield Recommender(settings, metrics, watch, journal, sink, catalogues=catalogues)
    finally:
        await journal.close()
        await sink.close()
        await catalogues.stop()
        await watch.stop()
        await asking.aclose()
        await client.aclose()


async def _recommend(recommender: Recommender, call: Call) -> Reply:
    return json_reply(_encode(await recommender.recommend(decode(_request, call.body), call.caller)))


async def _recommend_batch(recommender: Recommender, call: Call) -> Reply:
    requests = decode(_batch, call.body).requests
    return json_reply(_encode(RecommendBatchAnswer(await recommender.recommend_batch(requests, call.caller))))


async def _requested(recommender: Recommender, events: list[Event]) -> Event:
    [event] = events
    request = decode(_request, event.data)
    if request.request_id is None:
        request.request_id = event.id  # the broker may deliver twice: the answer is the same
    answer = await recommender.recommend(request, Caller(event.source))
    trace = current_trace.get()
    return new_event(RECOMMENDATION_MADE, "recommend", answer, traceparent=trace.traceparent if trace else None)


door = Function(
    "recommend",
    needs=("redis_url", "server_key"),
    opening=_opening,
    routes=[
        Route("POST", "/v1/recommend", _recommend, RecommendRequest, RecommendAnswer),
        Route("POST", "/v1/recommend/batch", _recommend_batch, RecommendBatch, RecommendBatchAnswer),
    ],
    events=[EventRoute(RECOMMENDATION_REQUESTED, _requested)],
)


async def recommend(request: HttpRequest) -> Reply:
    """Answer one request: the functions-framework target."""
    return await door(request)
