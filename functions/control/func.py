"""The edge of `control`, the operators' door. A functions-framework target (`--target control --asgi`)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import time

import msgspec

from functions.control.handler import Operators
from shared.edge.contracts import Policies, PolicyIn, PolicyOut, Versions
from shared.edge.decoding import decode
from shared.edge.function import Call, Function, Route
from shared.edge.http import HttpRequest, Reply, json_reply
from shared.edge.sink import Sink
from shared.errors import InvalidInput
from shared.observability.metrics import Metrics
from shared.settings import Settings
from shared.storage.postgres_connection import open_pool
from shared.storage.redis_connection import connect

_policy = msgspec.json.Decoder(PolicyIn)
_encode = msgspec.json.Encoder().encode
_POOL = 4


@asynccontextmanager
async def _opening(settings: Settings, metrics: Metrics) -> AsyncIterator[Operators]:
    client = connect(settings.redis_url)
    sink = Sink("control", settings, metrics)
    async with open_pool(settings.database_url, _POOL) as pool:
        try:
            yield Operators(settings, pool, client, sink, time)
        finally:
            await sink.close()
            await client.aclose()


async def _put(operators: Operators, call: Call) -> Reply:
    policy, new = await operators.write(call.variables["name"], decode(_policy, call.body), call.caller)
    return json_reply(_encode(policy), 201 if new else 200)


async def _get(operators: Operators, call: Call) -> Reply:
    return json_reply(_encode(await operators.read(call.variables["name"])))


async def _all(operators: Operators, call: Call) -> Reply:
    del call
    return json_reply(_encode(await operators.all()))


async def _versions(operators: Operators, call: Call) -> Reply:
    return json_reply(_encode(await operators.versions(call.variables["name"])))


async def _promote(operators: Operators, call: Call) -> Reply:
    version = call.variables["version"]
    if not version.isascii() or not version.isdigit() or len(version) > _DIGITS:
        detail = "must be the number of a version"
        raise InvalidInput(detail, field="version")
    return json_reply(_encode(await operators.promote(call.variables["name"], int(version), call.caller)))


_DIGITS = 9

door = Function(
    "control",
    needs=("redis_url", "database_url"),
    opening=_opening,
    routes=[
        Route("GET", "/v1/policies", _all, None, Policies),
        Route("PUT", "/v1/policies/{name}", _put, PolicyIn, PolicyOut),
        Route("GET", "/v1/policies/{name}", _get, None, PolicyOut),
        Route("GET", "/v1/policies/{name}/versions", _versions, None, Versions),
        Route("POST", "/v1/policies/{name}/versions/{version}/promote", _promote, None, PolicyOut),
    ],
    events=[],
)


async def control(request: HttpRequest) -> Reply:
    """Answer one request: the functions-framework target."""
    return await door(request)
