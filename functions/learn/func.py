"""The edge of `learn`: wake-ups and sweeps. A functions-framework target (`--target learn --asgi`)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import time

import msgspec

from functions.learn.handler import Learner
from shared.edge.decoding import decode
from shared.edge.function import EventRoute, Function
from shared.edge.http import HttpRequest, Reply
from shared.edge.learning_contracts import LearningDue
from shared.errors import UnknownPolicy
from shared.events.cloudevents import Event
from shared.events.types import LEARNING_DUE, PING
from shared.observability.metrics import Metrics
from shared.settings import Settings
from shared.storage.postgres_connection import open_pool
from shared.storage.redis_connection import connect

_due = msgspec.json.Decoder(LearningDue)
_POOL = 8


@asynccontextmanager
async def _opening(settings: Settings, metrics: Metrics) -> AsyncIterator[Learner]:
    client = connect(settings.redis_url)
    async with open_pool(settings.database_url, _POOL) as pool:
        try:
            yield Learner(settings, metrics, pool, client, time)
        finally:
            await client.aclose()


async def _learning_due(learner: Learner, events: list[Event]) -> None:
    [event] = events
    due = decode(_due, event.data or b"{}")
    policy = due.policy
    if due.exposures:
        await learner.drain_exposures()
        if policy is None:
            return
    if policy is None:
        await learner.sweep()
        return
    try:
        await learner.learn(policy)
    except UnknownPolicy:
        await learner.sweep()  # the sender guessed: Redis may be empty, and nothing else says so


async def _ping(learner: Learner, events: list[Event]) -> None:
    del events
    await learner.sweep()


door = Function(
    "learn",
    needs=("redis_url", "database_url"),
    opening=_opening,
    routes=[],
    events=[EventRoute(LEARNING_DUE, _learning_due), EventRoute(PING, _ping)],
)


async def learn(request: HttpRequest) -> Reply:
    """Answer one request: the functions-framework target."""
    return await door(request)
