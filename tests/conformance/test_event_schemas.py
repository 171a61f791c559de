"""Events against their schemas: what the functions really send and take, and that decoders refuse what schemas refuse."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from jsonschema import Draft202012Validator, FormatChecker

from functions.local.servers import LocalServers
from knative.checks.event_schemas import DATA, FOLDER, file_name, schema, written
from knative.checks.json_schema import strict
from shared.edge.hosting import load
from shared.events import types
from shared.experiments.experiment import ExperimentSpec, Variation
from tests.conformance.rendering import ROOT, rendered
from tests.experiment_world import HOUR_S, World, spec
from tests.integration.test_cloudevents import HttpSink, sending
from tests.stage import Answer, Stage, run

OURS = {value for name, value in vars(types).items() if name.isupper()} - {types.PING}
TAKERS = {
    event_type: name
    for folder in sorted((ROOT / "functions").iterdir())
    if (folder / "func.py").exists()
    for name in [folder.name]
    for event_type in load(name)[1]._events
    if event_type != types.PING
}
"""Which function takes a type."""
EXPERIMENT = ExperimentSpec("schemas", 1, (Variation("off", [1, "two"]), Variation("on", {"three": 3})))
REQUIRED = ("id", "source", "specversion", "type")
_ATTRIBUTE = re.compile(r"[a-z0-9]{1,20}")
_formats = FormatChecker(formats=[])


@_formats.checks("date-time", raises=ValueError)
def _is_date_time(text: object) -> bool:
    return not isinstance(text, str) or datetime.fromisoformat(text).tzinfo is not None


def validator(event_type: str, *, closed: bool = False) -> Draft202012Validator:
    """Return what holds data against its schema; `closed` allows no field that the schema does not name."""
    content = json.loads((FOLDER / file_name(event_type)).read_text())
    if closed:
        content["$defs"] = {name: strict(definition) for name, definition in content["$defs"].items()}
    Draft202012Validator.check_schema(content)
    return Draft202012Validator(content, format_checker=_formats)


def check_sent(headers: Mapping[str, str], body: bytes) -> str:
    """Hold an event in binary mode against CloudEvents 1.0 and its own schema; return its type."""
    attributes = {name.removeprefix("ce-"): value for name, value in headers.items() if name.startswith("ce-")}
    for name in REQUIRED:
        assert attributes.get(name), f"{name} is missing"
    for name in attributes:
        assert _ATTRIBUTE.fullmatch(name), name
    assert attributes["specversion"] == "1.0"
    assert urlsplit(attributes["source"]).path.startswith("knudge/")
    assert datetime.fromisoformat(attributes["time"].upper()).tzinfo is not None
    assert headers["content-type"] == "application/json"
    errors = [error.message for error in validator(attributes["type"], closed=True).iter_errors(json.loads(body))]
    assert errors == [], attributes["type"]
    return attributes["type"]


def examples(policy: str, decision: str) -> dict[str, dict[str, Any]]:
    """Return data of each type that functions take, with every field that it may have."""
    at = (datetime.now(UTC) - timedelta(minutes=1)).isoformat()
    return {
        types.RECOMMENDATION_REQUESTED: {
            "policy": policy, "user_id": "u", "session_id": "s", "context": {"age": 30, "new": True, "tags": ["x"]},
            "actions": ["a", {"id": "b", "features": {"price": 2.5}}], "count": 2, "exclude": [], "request_id": "r",
            "defer_activation": False, "default_action": "a",
        },
        types.FEEDBACK_GIVEN: {
            "decision_id": decision, "kind": "click", "value": 1.0, "action": None, "event_id": "f", "occurred_at": at,
            "user_id": None,
        },
        types.DECISION_LOGGED: {
            "policy": policy, "action": "a", "propensity": 0.5, "context": {}, "occurred_at": at, "actions": ["a", "b"],
            "user_id": "u", "session_id": "s", "position": 0, "decision_id": None,
        },
        types.ASSIGNMENT_REQUESTED: {
            "user_id": "u", "attributes": {"country": "DE", "plan": {"seats": [1, 2]}}, "experiments": [EXPERIMENT.key],
            "expose": True,
        },
        types.EXPOSURE_RECORDED: {
            "experiment": EXPERIMENT.key, "user_id": "u", "variation": "on", "attributes": {"age": 30}, "occurred_at": at,
        },
        types.LEARNING_DUE: {"policy": policy, "exposures": False},
        types.TRAINING_REQUESTED: {"policy": policy},
        types.ANALYSIS_DUE: {"experiment": policy},
    }  # fmt: skip


REFUSED: list[tuple[str, str, Any]] = [
    (types.RECOMMENDATION_REQUESTED, "policy", 1),
    (types.RECOMMENDATION_REQUESTED, "count", 0),
    (types.RECOMMENDATION_REQUESTED, "context", {"nested": {"a": 1}}),
    (types.RECOMMENDATION_REQUESTED, "actions", [{"features": {}}]),
    (types.RECOMMENDATION_REQUESTED, "user", "misspelt"),
    (types.FEEDBACK_GIVEN, "decision_id", None),
    (types.FEEDBACK_GIVEN, "value", "1"),
    (types.FEEDBACK_GIVEN, "occurred_at", "2026-01-01T00:00:00"),
    (types.FEEDBACK_GIVEN, "comment", "unknown"),
    (types.DECISION_LOGGED, "propensity", 0),
    (types.DECISION_LOGGED, "propensity", 1.5),
    (types.DECISION_LOGGED, "position", -1),
    (types.DECISION_LOGGED, "occurred_at", "yesterday"),
    (types.ASSIGNMENT_REQUESTED, "user_id", None),
    (types.ASSIGNMENT_REQUESTED, "attributes", ["country"]),
    (types.ASSIGNMENT_REQUESTED, "experiments", "all"),
    (types.ASSIGNMENT_REQUESTED, "user", "misspelt"),
    (types.EXPOSURE_RECORDED, "experiment", 7),
    (types.EXPOSURE_RECORDED, "variation", True),
    (types.EXPOSURE_RECORDED, "comment", "unknown"),
    (types.LEARNING_DUE, "policy", ["p"]),
    (types.TRAINING_REQUESTED, "policy", 7),
    (types.TRAINING_REQUESTED, "policies", ["p"]),
    (types.ANALYSIS_DUE, "experiment", 7),
    (types.ANALYSIS_DUE, "experiments", ["e"]),
]
"""A type, a field, and what must not stand there."""


# The files


def test_every_type_has_a_schema() -> None:
    """There is a schema for each type of ours, and no file besides."""
    assert set(DATA) == OURS
    assert {file.name for file in FOLDER.iterdir()} == {file_name(event_type) for event_type in OURS}


@pytest.mark.parametrize("event_type", sorted(DATA))
def test_schemas_are_up_to_date(event_type: str) -> None:
    """The file is what `make schemas` writes, and a valid schema of JSON Schema 2020-12."""
    assert (FOLDER / file_name(event_type)).read_text() == written(event_type)
    Draft202012Validator.check_schema(schema(event_type))


def test_event_types_name_their_schemas() -> None:
    """Each EventType's annotation names the file of its own type."""
    declared = {
        next(attribute["value"] for attribute in one.spec["attributes"] if attribute["name"] == "type"): one
        for one in rendered("prod")
        if one.kind == "EventType"
    }
    assert set(declared) == OURS
    for event_type, one in declared.items():
        assert one.annotations["knudge.dev/schema"] == f"eventing/schemas/{file_name(event_type)}"
        assert (ROOT / one.annotations["knudge.dev/schema"]).is_file()


# What is sent


def test_what_functions_send_is_what_the_schemas_say(servers: LocalServers) -> None:
    """Every type that functions send, replies among them, with attributes as CloudEvents has them and data of its schema."""

    async def main() -> None:
        async with sending(servers, wake_up_ms=20) as (stage, sink):
            sent = await _everything(stage, sink)
            assert {check_sent(headers, body) for headers, body in sent} == OURS - {
                types.ASSIGNMENT_REQUESTED, types.EXPOSURE_RECORDED, types.RECOMMENDATION_REQUESTED, types.FEEDBACK_GIVEN, types.DECISION_LOGGED, types.TRAINING_REQUESTED,
                types.ANALYSIS_DUE,
            }  # fmt: skip

    asyncio.run(main())


async def _everything(stage: Stage, sink: HttpSink) -> list[tuple[Mapping[str, str], bytes]]:
    """Have the functions send all that they send: wake-ups, a promotion, a training's end, a verdict, a reply."""
    policy = await stage.policy()
    await stage.policy(policy, kind="epsilon_greedy")
    assert (await stage.call("control", "POST", f"/v1/policies/{policy}/versions/1/promote")).status == 200
    decision = (await stage.recommend(policy, count=2))["decision_id"]
    await stage.feedback(decision, action="a")
    await stage.learn()
    assert (await stage.event("train", types.TRAINING_REQUESTED, {"policy": policy})).status == 204
    with World(stage.servers.database_url) as world:
        refused = world.experiment(spec(weights=(1.0, 0.0)), time.time() - HOUR_S)
        world.expose(refused, "nobody was to see it", "on", time.time() - HOUR_S)
    assert (await stage.event("analyse", types.ANALYSIS_DUE, {"experiment": refused.key})).status == 204
    replies = [
        await stage.event("recommend", types.RECOMMENDATION_REQUESTED, data)
        for data in ({"policy": policy}, {"policy": policy, "count": 2}, {"policy": policy, "actions": ["x"]})
    ]
    await stage.publish(EXPERIMENT)
    replies += [
        await stage.event("assignment", types.ASSIGNMENT_REQUESTED, {"user_id": user} | named)
        for user, named in (("a", {}), ("b", {"experiments": [EXPERIMENT.key, "unknown"]}))
    ]
    assert [reply.status for reply in replies] == [200] * 5
    for event_type in (types.LEARNING_DUE, types.POLICY_PROMOTED, types.TRAINING_FINISHED, types.EXPERIMENT_DECIDED):
        await sink.wait_for(event_type)
    return [*sink.received, *((reply.headers, json.dumps(reply.body).encode()) for reply in replies)]


# What is taken


def test_every_type_that_is_taken_has_an_example() -> None:
    """The examples below are of each type that a function takes, and name every field of its schema."""
    given = examples("p", "d")
    assert set(given) == set(TAKERS)
    for event_type, data in given.items():
        [properties] = [
            definition["properties"]
            for definition in schema(event_type)["$defs"].values()
            if definition["title"] == DATA[event_type].__name__
        ]
        assert set(data) == set(properties)
    assert {event_type for event_type, _, _ in REFUSED} == set(TAKERS)


def test_functions_take_what_the_schemas_allow(servers: LocalServers) -> None:
    """Data that names every field is valid by its schema, and the function that takes its type takes it."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy()
        await stage.publish(EXPERIMENT)
        decision = (await stage.recommend(policy))["decision_id"]
        with World(servers.database_url) as world:
            world.experiment(spec(policy), time.time())
        for event_type, data in examples(policy, decision).items():
            validator(event_type).validate(data)
            answer = await stage.event(TAKERS[event_type], event_type, data)
            assert answer.status in {200, 204}, (event_type, answer)

    run(servers, play)


def test_functions_refuse_what_the_schemas_refuse(servers: LocalServers) -> None:
    """Data that a schema refuses is a 400 that names the field, or the one in it that is at fault."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy()
        await stage.publish(EXPERIMENT)
        decision = (await stage.recommend(policy))["decision_id"]
        for event_type, name, value in REFUSED:
            data = examples(policy, decision)[event_type] | {name: value}
            assert not validator(event_type).is_valid(data), (event_type, name)
            _check_refused(await stage.event(TAKERS[event_type], event_type, data), name)
            left_out = {key: member for key, member in data.items() if key != name}
            if not validator(event_type).is_valid(left_out):
                _check_refused(await stage.event(TAKERS[event_type], event_type, left_out), name)

    run(servers, play)


def _check_refused(answer: Answer, name: str) -> None:
    assert answer.status == 400, (name, answer)
    assert name in answer.body["field"], (name, answer.body)
