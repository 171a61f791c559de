"""The edge of `control`, the operators' door. A functions-framework target (`--target control --asgi`)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import time
from typing import NamedTuple

import msgspec

from functions.control.dead_letters import Letters
from functions.control.experiments import Experimenters
from functions.control.explaining import Explainer
from functions.control.handler import Operators
from shared.edge.contracts import Policies, PolicyIn, PolicyOut, Versions
from shared.edge.decoding import decode, decode_arguments
from shared.edge.experiment_contracts import (
    ExperimentAsked,
    ExperimentIn,
    ExperimentOut,
    Experiments,
    ExperimentStop,
    ExperimentVersions,
    FlagIn,
    FlagOut,
    Flags,
)
from shared.edge.explanations import Explanation, WatchedPropensities
from shared.edge.function import Call, Function, Route
from shared.edge.http import HttpRequest, Reply, json_reply
from shared.edge.letters import CloudEventIn, DeadLetterOut, DeadLetterReplayed, DeadLetters, DeadLettersAsked
from shared.edge.sink import Sink
from shared.errors import InvalidInput
from shared.events.envelopes import header_text, read_events
from shared.observability.metrics import Metrics
from shared.settings import Settings
from shared.storage.postgres_connection import open_pool
from shared.storage.redis_connection import connect

_policy = msgspec.json.Decoder(PolicyIn)
_experiment = msgspec.json.Decoder(ExperimentIn)
_stop = msgspec.json.Decoder(ExperimentStop)
_flag = msgspec.json.Decoder(FlagIn)
_encode = msgspec.json.Encoder().encode
_POOL = 4


class Desk(NamedTuple):
    """What operators work with."""

    policies: Operators
    experiments: Experimenters
    letters: Letters
    explainer: Explainer


@asynccontextmanager
async def _opening(settings: Settings, metrics: Metrics) -> AsyncIterator[Desk]:
    client = connect(settings.redis_url)
    sink = Sink("control", settings, metrics)
    async with open_pool(settings.database_url, _POOL) as pool:
        try:
            yield Desk(
                Operators(settings, pool, client, sink, time),
                Experimenters(settings, pool, client, sink),
                Letters(settings, metrics, pool, sink),
                Explainer(settings, pool),
            )
        finally:
            await sink.close()
            await client.aclose()


async def _put(desk: Desk, call: Call) -> Reply:
    policy, new = await desk.policies.write(call.variables["name"], decode(_policy, call.body), call.caller)
    return json_reply(_encode(policy), 201 if new else 200)


async def _get(desk: Desk, call: Call) -> Reply:
    return json_reply(_encode(await desk.policies.read(call.variables["name"])))


async def _all(desk: Desk, call: Call) -> Reply:
    del call
    return json_reply(_encode(await desk.policies.all()))


async def _versions(desk: Desk, call: Call) -> Reply:
    return json_reply(_encode(await desk.policies.versions(call.variables["name"])))


async def _promote(desk: Desk, call: Call) -> Reply:
    version = _number(call, "version")
    return json_reply(_encode(await desk.policies.promote(call.variables["name"], version, call.caller)))


async def _put_experiment(desk: Desk, call: Call) -> Reply:
    body = decode(_experiment, call.body)
    experiment, new = await desk.experiments.write(call.variables["key"], body, call.caller)
    return json_reply(_encode(experiment), 201 if new else 200)


async def _stop_experiment(desk: Desk, call: Call) -> Reply:
    released = decode(_stop, call.body or b"{}").released
    return json_reply(_encode(await desk.experiments.stop(call.variables["key"], released, call.caller)))


async def _experiment_read(desk: Desk, call: Call) -> Reply:
    version = decode_arguments(ExperimentAsked, call.arguments).version
    return json_reply(_encode(await desk.experiments.read(call.variables["key"], version)))


async def _all_experiments(desk: Desk, call: Call) -> Reply:
    del call
    return json_reply(_encode(await desk.experiments.all()))


async def _experiment_versions(desk: Desk, call: Call) -> Reply:
    return json_reply(_encode(await desk.experiments.versions(call.variables["key"])))


async def _put_flag(desk: Desk, call: Call) -> Reply:
    flag, new = await desk.experiments.write_flag(call.variables["key"], decode(_flag, call.body), call.caller)
    return json_reply(_encode(flag), 201 if new else 200)


async def _flag_read(desk: Desk, call: Call) -> Reply:
    return json_reply(_encode(await desk.experiments.read_flag(call.variables["key"])))


async def _all_flags(desk: Desk, call: Call) -> Reply:
    del call
    return json_reply(_encode(await desk.experiments.all_flags()))


async def _explain(desk: Desk, call: Call) -> Reply:
    return json_reply(_encode(await desk.explainer.explain(call.variables["decision_id"])))


async def _propensities(desk: Desk, call: Call) -> Reply:
    return json_reply(_encode(await desk.explainer.propensities(call.variables["name"])))


async def _keep_letters(desk: Desk, call: Call) -> Reply:
    headers = {name.decode("latin-1"): header_text(value) for name, value in call.headers.items()}
    await desk.letters.keep(read_events(headers, call.body), call.caller)
    return Reply(204)


async def _letters(desk: Desk, call: Call) -> Reply:
    return json_reply(_encode(await desk.letters.page(decode_arguments(DeadLettersAsked, call.arguments))))


async def _letter(desk: Desk, call: Call) -> Reply:
    return json_reply(_encode(await desk.letters.read(_number(call, "id"))))


async def _replay(desk: Desk, call: Call) -> Reply:
    return json_reply(_encode(await desk.letters.replay(_number(call, "id"), call.caller)))


def _number(call: Call, name: str) -> int:
    number = call.variables[name]
    if not number.isascii() or not number.isdigit() or len(number) > _DIGITS:
        detail = "must be a number"
        raise InvalidInput(detail, field=name)
    return int(number)


_DIGITS = 9

door = Function(
    "control",
    needs=("redis_url", "database_url", "server_key"),
    opening=_opening,
    routes=[
        Route("GET", "/v1/policies", _all, None, Policies),
        Route("PUT", "/v1/policies/{name}", _put, PolicyIn, PolicyOut),
        Route("GET", "/v1/policies/{name}", _get, None, PolicyOut),
        Route("GET", "/v1/policies/{name}/versions", _versions, None, Versions),
        Route("POST", "/v1/policies/{name}/versions/{version}/promote", _promote, None, PolicyOut),
        Route("GET", "/v1/policies/{name}/propensities", _propensities, None, WatchedPropensities),
        Route("GET", "/v1/experiments", _all_experiments, None, Experiments),
        Route("PUT", "/v1/experiments/{key}", _put_experiment, ExperimentIn, ExperimentOut),
        Route("GET", "/v1/experiments/{key}", _experiment_read, None, ExperimentOut, asks=ExperimentAsked),
        Route("GET", "/v1/experiments/{key}/versions", _experiment_versions, None, ExperimentVersions),
        Route("POST", "/v1/experiments/{key}/stop", _stop_experiment, ExperimentStop, ExperimentOut),
        Route("GET", "/v1/flags", _all_flags, None, Flags),
        Route("PUT", "/v1/flags/{key}", _put_flag, FlagIn, FlagOut),
        Route("GET", "/v1/flags/{key}", _flag_read, None, FlagOut),
        Route("GET", "/v1/decisions/{decision_id}/explanation", _explain, None, Explanation),
        Route("POST", "/v1/dead-letters", _keep_letters, CloudEventIn, media="application/cloudevents+json"),
        Route("GET", "/v1/dead-letters", _letters, None, DeadLetters, asks=DeadLettersAsked),
        Route("GET", "/v1/dead-letters/{id}", _letter, None, DeadLetterOut),
        Route("POST", "/v1/dead-letters/{id}/replay", _replay, None, DeadLetterReplayed),
    ],
    events=[],
)


async def control(request: HttpRequest) -> Reply:
    """Answer one request: the functions-framework target."""
    return await door(request)
