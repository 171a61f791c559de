"""The edge of `train`: events that ask for a training. A functions-framework target (`--target train --asgi`).

In a cluster each event starts a Job, whose process is `functions.train.job`: it hands the event to this same door.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import time

import msgspec

from functions.train.handler import Trainer
from shared.edge.decoding import decode
from shared.edge.function import EventRoute, Function
from shared.edge.http import HttpRequest, Reply
from shared.edge.learning_contracts import TrainingRequested
from shared.edge.sink import Sink
from shared.events.cloudevents import Event
from shared.events.types import PING, TRAINING_REQUESTED
from shared.observability.metrics import Metrics
from shared.settings import Settings
from shared.storage.postgres_connection import open_pool
from shared.storage.postgres_trainings import Asked
from shared.storage.redis_connection import connect

_requested = msgspec.json.Decoder(TrainingRequested)
_POOL = 3


@asynccontextmanager
async def _opening(settings: Settings, metrics: Metrics) -> AsyncIterator[Trainer]:
    client = connect(settings.redis_url)
    sink = Sink("train", settings, metrics)
    async with open_pool(settings.database_url, _POOL) as pool:
        try:
            yield Trainer(settings, pool, client, sink, time)
        finally:
            await sink.close()
            await client.aclose()


async def _training_requested(trainer: Trainer, events: list[Event]) -> None:
    [event] = events
    policy = decode(_requested, event.data or b"{}").policy
    await trainer.train(Asked(event.source, event.id, policy, event.source))


async def _ping(trainer: Trainer, events: list[Event]) -> None:
    [event] = events
    await trainer.train(Asked(event.source, event.id, None, event.source))


door = Function(
    "train",
    needs=("redis_url", "database_url"),
    opening=_opening,
    routes=[],
    events=[EventRoute(TRAINING_REQUESTED, _training_requested), EventRoute(PING, _ping)],
)


async def train(request: HttpRequest) -> Reply:
    """Answer one request: the functions-framework target."""
    return await door(request)
