"""The edge of `assignment`: decode, call, encode. A functions-framework target (`--target assignment --asgi`)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import time

import msgspec

from functions.assignment.handler import Assigner
from functions.assignment.ofrep import STATUSES, bulk_reply, read_request, refusal, single_reply
from shared.edge.assignment_contracts import (
    AssignmentAnswer,
    AssignmentMade,
    AssignmentRequest,
    ExposureAnswer,
    ExposureBatch,
    ExposureIn,
)
from shared.edge.decoding import decode, decode_each, decode_one_or_many, decode_time
from shared.edge.function import Call, EventRoute, Function, Refusals, Route
from shared.edge.http import HttpRequest, Reply, json_reply
from shared.edge.learning_contracts import RequestIdentity
from shared.edge.ofrep_contracts import BulkEvaluationOut, EvaluationFailure, EvaluationOut, EvaluationRequest
from shared.edge.sink import Sink
from shared.errors import Unavailable
from shared.events.cloudevents import Event, new_event
from shared.events.types import ASSIGNMENT_MADE, ASSIGNMENT_REQUESTED, EXPOSURE_RECORDED
from shared.observability.metrics import Metrics
from shared.observability.tracing import current_trace
from shared.settings import Settings
from shared.storage.redis_catalogue import CatalogueWatch
from shared.storage.redis_connection import connect
from shared.storage.redis_exposures import ExposureWriter
from shared.storage.redis_sticky import StickyStore
from shared.vocabulary import Caller

_request = msgspec.json.Decoder(AssignmentRequest)
_exposure = msgspec.json.Decoder(ExposureIn)
_exposures_in = msgspec.json.Decoder(ExposureBatch)
_encode = msgspec.json.Encoder().encode


@asynccontextmanager
async def _opening(settings: Settings, metrics: Metrics) -> AsyncIterator[Assigner]:
    client, asking = connect(settings.redis_url), connect(settings.redis_url)
    watch = CatalogueWatch(client, settings.snapshot_poll_ms / 1000)
    await watch.start()
    wait_s = settings.journal_wait_ms / 1000
    journal = ExposureWriter(
        client, metrics, wait_s=wait_s, buffer=settings.journal_buffer, buffer_bytes=settings.journal_buffer_bytes
    )
    sink = Sink("assignment", settings, metrics)
    stickies = StickyStore(asking, wait_s)
    try:
        yield Assigner(settings, metrics, catalogues=watch, journal=journal, stickies=stickies, wakes=sink, clock=time)
    finally:
        await journal.close()
        await sink.close()
        await watch.stop()
        await asking.aclose()
        await client.aclose()


async def _assignments(assigner: Assigner, call: Call) -> Reply:
    return json_reply(_encode(await assigner.assign(decode(_request, call.body), call.caller)))


async def _exposures(assigner: Assigner, call: Call) -> Reply:
    given = decode_one_or_many(_exposure, _exposures_in, call.body, "exposures")
    exposures, place = (given.exposures, "exposures[{}].") if isinstance(given, ExposureBatch) else ([given], "")
    return json_reply(_encode(await assigner.record(exposures, [call.caller] * len(exposures), place=place)))


async def _flag(assigner: Assigner, call: Call) -> Reply:
    user_id, attributes = read_request(call.body)
    return single_reply(call, await assigner.evaluate(user_id, attributes, call.caller, call.variables["key"]))


async def _flags(assigner: Assigner, call: Call) -> Reply:
    user_id, attributes = read_request(call.body)
    return bulk_reply(call, await assigner.evaluate(user_id, attributes, call.caller, None))


async def _requested(assigner: Assigner, events: list[Event]) -> Event:
    [event] = events
    answer = await assigner.assign(decode(_request, event.data), Caller(event.source))
    made = AssignmentMade(RequestIdentity(event.source, event.id), answer.assignments, answer.degraded)
    trace = current_trace.get()
    return new_event(ASSIGNMENT_MADE, "assignment", made, traceparent=trace.traceparent if trace else None)


async def _recorded(assigner: Assigner, events: list[Event]) -> None:
    given = decode_each(_exposure, [event.data for event in events])
    for event, one in zip(events, given, strict=True):
        if one.occurred_at is None and event.time is not None:
            one.occurred_at = decode_time(event.time)
    place = "[{}]." if len(events) > 1 else ""
    answer = await assigner.record(given, [Caller(event.source) for event in events], place=place)
    if answer.degraded:
        raise Unavailable("the journal does not answer; sent again, an exposure counts once")


_OFREP = Refusals(refusal, EvaluationFailure, STATUSES)
door = Function(
    "assignment",
    needs=("redis_url", "server_key"),
    opening=_opening,
    routes=[
        Route("POST", "/v1/assignments", _assignments, AssignmentRequest, AssignmentAnswer),
        Route("POST", "/v1/exposures", _exposures, ExposureIn | ExposureBatch, ExposureAnswer),
        Route("POST", "/ofrep/v1/evaluate/flags", _flags, EvaluationRequest, BulkEvaluationOut, refuses=_OFREP),
        Route("POST", "/ofrep/v1/evaluate/flags/{key}", _flag, EvaluationRequest, EvaluationOut, refuses=_OFREP),
    ],
    events=[EventRoute(ASSIGNMENT_REQUESTED, _requested), EventRoute(EXPOSURE_RECORDED, _recorded, batch=True)],
)


async def assignment(request: HttpRequest) -> Reply:
    """Answer one request: the functions-framework target."""
    return await door(request)
