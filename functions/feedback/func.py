"""The edge of `feedback`: decode, call, encode. A functions-framework target (`--target feedback --asgi`)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import time

import msgspec

from functions.feedback.handler import Taker
from shared.edge.contracts import (
    ActivationAnswer,
    FeedbackAnswer,
    FeedbackBatch,
    FeedbackIn,
    LoggedAnswer,
    LoggedDecision,
    LoggedDecisions,
)
from shared.edge.decoding import decode, decode_each, decode_one_or_many, decode_time
from shared.edge.function import Call, EventRoute, Function, Route
from shared.edge.http import HttpRequest, Reply, json_reply
from shared.edge.sink import Sink
from shared.events.cloudevents import Event
from shared.events.types import DECISION_LOGGED, FEEDBACK_GIVEN
from shared.observability.metrics import Metrics
from shared.settings import Settings
from shared.storage.postgres_connection import open_pool
from shared.storage.postgres_feedback import FeedbackStore
from shared.vocabulary import Caller

_single = msgspec.json.Decoder(FeedbackIn)
_batch = msgspec.json.Decoder(FeedbackBatch)
_logged = msgspec.json.Decoder(LoggedDecisions)
_logged_one = msgspec.json.Decoder(LoggedDecision)
_encode = msgspec.json.Encoder().encode
_POOL = 8


@asynccontextmanager
async def _opening(settings: Settings, metrics: Metrics) -> AsyncIterator[Taker]:
    sink = Sink("feedback", settings, metrics)
    async with open_pool(settings.database_url, _POOL) as pool:
        store = FeedbackStore(pool, time)
        try:
            yield Taker(settings, metrics, store, sink, time)
        finally:
            await store.close()
            await sink.close()


async def _feedback(taker: Taker, call: Call) -> Reply:
    given = decode_one_or_many(_single, _batch, call.body)
    events, place = (given.events, "events[{}].") if isinstance(given, FeedbackBatch) else ([given], "")
    return json_reply(_encode(await taker.take_feedback(events, call.caller, place=place)))


async def _decisions(taker: Taker, call: Call) -> Reply:
    decisions = decode(_logged, call.body).decisions
    return json_reply(_encode(await taker.take_decisions(decisions, call.caller, place="decisions[{}].")))


async def _activate(taker: Taker, call: Call) -> Reply:
    return json_reply(_encode(await taker.activate(call.variables["decision_id"], call.caller)))


async def _given(taker: Taker, events: list[Event]) -> None:
    given = decode_each(_single, [event.data for event in events])
    for event, one in zip(events, given, strict=True):
        if one.occurred_at is None and event.time is not None:
            one.occurred_at = decode_time(event.time)
    identities = [(event.source, event.id) for event in events]
    await taker.take_feedback(given, Caller(events[0].source), identities, place=_place(events))


async def _decision_logged(taker: Taker, events: list[Event]) -> None:
    identities = [(event.source, event.id) for event in events]
    decisions = decode_each(_logged_one, [event.data for event in events])
    await taker.take_decisions(decisions, Caller(events[0].source), identities, place=_place(events))


def _place(events: list[Event]) -> str:
    return "[{}]." if len(events) > 1 else ""


door = Function(
    "feedback",
    needs=("database_url", "server_key"),
    opening=_opening,
    routes=[
        Route("POST", "/v1/feedback", _feedback, FeedbackIn | FeedbackBatch, FeedbackAnswer),
        Route("POST", "/v1/decisions", _decisions, LoggedDecisions, LoggedAnswer),
        Route("POST", "/v1/decisions/{decision_id}/activate", _activate, None, ActivationAnswer),
    ],
    events=[
        EventRoute(FEEDBACK_GIVEN, _given, batch=True),
        EventRoute(DECISION_LOGGED, _decision_logged, batch=True),
    ],
)


async def feedback(request: HttpRequest) -> Reply:
    """Answer one request: the functions-framework target."""
    return await door(request)
