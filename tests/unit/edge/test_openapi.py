"""The OpenAPI document: valid in structure, complete in routes, and true to design.md's field names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import pytest

from functions.assignment.func import door as assignment
from functions.control.func import door as control
from functions.feedback.func import door as feedback
from functions.learn.func import door as learn
from functions.recommend.func import door as recommend
from shared.edge.function import Function
from shared.edge.openapi import document
from shared.edge.problems import STATUSES

FUNCTIONS: list[Function[Any]] = [assignment, recommend, feedback, learn, control]
METHODS = {"get", "put", "post", "delete", "head", "options", "patch", "trace"}
SCHEMA_TYPES = {"object", "array", "string", "number", "integer", "boolean", "null"}

REQUIRED, OPTIONAL = True, False
REQUESTS: Mapping[tuple[str, str], Mapping[str, Mapping[str, bool]]] = {
    ("/v1/recommend", "post"): {
        "RecommendRequest": {
            "policy": REQUIRED,
            "user_id": OPTIONAL,
            "session_id": OPTIONAL,
            "context": OPTIONAL,
            "actions": OPTIONAL,
            "count": OPTIONAL,
            "exclude": OPTIONAL,
            "request_id": OPTIONAL,
            "defer_activation": OPTIONAL,
            "default_action": OPTIONAL,
        }
    },
    ("/v1/recommend/batch", "post"): {"RecommendBatch": {"requests": REQUIRED}},
    ("/v1/feedback", "post"): {
        "FeedbackIn": {
            "decision_id": OPTIONAL,
            "kind": REQUIRED,
            "value": OPTIONAL,
            "action": OPTIONAL,
            "event_id": OPTIONAL,
            "occurred_at": OPTIONAL,
            "user_id": OPTIONAL,
        },
        "FeedbackBatch": {"events": REQUIRED},
    },
    ("/v1/decisions", "post"): {
        "LoggedDecisions": {"decisions": REQUIRED},
        "LoggedDecision": {
            "policy": REQUIRED,
            "action": REQUIRED,
            "propensity": REQUIRED,
            "context": REQUIRED,
            "occurred_at": REQUIRED,
            "actions": OPTIONAL,
            "user_id": OPTIONAL,
            "session_id": OPTIONAL,
            "position": OPTIONAL,
            "decision_id": OPTIONAL,
        },
    },
    ("/v1/assignments", "post"): {
        "AssignmentRequest": {"user_id": REQUIRED, "attributes": OPTIONAL, "experiments": OPTIONAL, "expose": OPTIONAL},
    },
    ("/v1/exposures", "post"): {
        "ExposureIn": {
            "experiment": REQUIRED,
            "user_id": OPTIONAL,
            "variation": OPTIONAL,
            "attributes": OPTIONAL,
            "occurred_at": OPTIONAL,
        },
        "ExposureBatch": {"exposures": REQUIRED},
    },
    ("/v1/policies/{name}", "put"): {
        "PolicyIn": {
            "kind": REQUIRED,
            "parameters": OPTIONAL,
            "actions": OPTIONAL,
            "reward": REQUIRED,
            "reward_range": OPTIONAL,
            "default_reward": OPTIONAL,
            "reward_window_s": OPTIONAL,
            "expected_delay_s": OPTIONAL,
            "half_life_s": OPTIONAL,
            "exploration_floor": OPTIONAL,
            "features": OPTIONAL,
            "diversity": OPTIONAL,
            "steering": OPTIONAL,
            "mode": OPTIONAL,
            "baseline": OPTIONAL,
            "state": OPTIONAL,
            "session_timeout_s": OPTIONAL,
        },
        "Baseline": {"share": REQUIRED, "serve": OPTIONAL, "policy": OPTIONAL},
        "Steering": {"weight": REQUIRED, "minimum_visits": OPTIONAL},
        "Diversity": {"weight": REQUIRED, "features": OPTIONAL},
        "Cells": {"bins": OPTIONAL, "categories": OPTIONAL},
        "FeatureSpec": {
            "per_action": OPTIONAL,
            "shared": OPTIONAL,
            "interactions": OPTIONAL,
            "hash_dimension": OPTIONAL,
            "expansion": OPTIONAL,
        },
        "ActionIn": {"id": REQUIRED, "features": OPTIONAL},
    },
    ("/v1/experiments/{key}", "put"): {
        "ExperimentIn": {
            "variations": REQUIRED,
            **dict.fromkeys(
                (
                    "phase",
                    "status",
                    "kind",
                    "weights",
                    "coverage",
                    "ranges",
                    "hash_attribute",
                    "fallback_attribute",
                    "hash_version",
                    "seed",
                    "layer",
                    "filters",
                    "holdout",
                    "condition",
                    "prerequisites",
                    "forced",
                    "sticky",
                    "bucket_version",
                    "minimum_bucket_version",
                    "policy",
                    "default",
                    "released",
                    "analysis",
                ),
                OPTIONAL,
            ),
        },
        "Variation": {"key": REQUIRED, "value": OPTIONAL, "name": OPTIONAL},
        "Layer": {"name": REQUIRED, "low": OPTIONAL, "high": OPTIONAL},
        "Prerequisite": {"key": REQUIRED, "condition": REQUIRED},
    },
    ("/v1/experiments/{key}/stop", "post"): {"ExperimentStop": {"released": OPTIONAL}},
    ("/v1/flags/{key}", "put"): {"FlagIn": {"default_value": OPTIONAL, "rules": OPTIONAL}},
}
ANSWERS: Mapping[tuple[str, str], Mapping[str, set[str]]] = {
    ("/v1/recommend", "post"): {
        "RecommendAnswer": {
            "decision_id",
            "policy",
            "policy_version",
            "snapshot_version",
            "items",
            "degraded",
            "served_by",
            "experiment",
        },
        "SeenVariation": {"key", "variation"},
        "Item": {"action", "propensity", "score"},
    },
    ("/v1/recommend/batch", "post"): {"RecommendBatchAnswer": {"results"}},
    ("/v1/assignments", "post"): {
        "AssignmentAnswer": {"assignments", "degraded"},
        "AssignmentOut": {"experiment", "variation", "value", "in_experiment", "reason"},
    },
    ("/v1/exposures", "post"): {"ExposureAnswer": {"accepted", "duplicates", "outside", "degraded"}},
    ("/v1/feedback", "post"): {"FeedbackAnswer": {"accepted", "duplicates"}},
    ("/v1/decisions", "post"): {"LoggedAnswer": {"accepted", "duplicates", "decision_ids"}},
}
EVENTS = {("/v1/dead-letters", "post")}
"""What takes an event by its path."""
TO_COME = {"PolicyIn": {"profile_features", "rules"}}
"""Fields that the design names and that a later stage brings: allowed, not yet required."""


@pytest.fixture(scope="module")
def api() -> dict[str, Any]:
    """Make the document of all functions together, as a host of all of them shows it."""
    made: dict[str, Any] = msgspec.json.decode(document(FUNCTIONS))
    return made


def nodes(value: Any) -> Iterator[dict[str, Any]]:
    """Yield every object within a document."""
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from nodes(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from nodes(inner)


def operations(api: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield path, method and operation of everything in a document."""
    for path, item in api["paths"].items():
        for method, operation in item.items():
            yield path, method, operation


def reached(api: Mapping[str, Any], schema: Any) -> set[str]:
    """Return the names of the components that a schema leads to."""
    names: set[str] = set()
    waiting = [schema]
    while waiting:
        for node in nodes(waiting.pop()):
            name = node.get("$ref", "").rpartition("/")[2]
            if name and name not in names:
                names.add(name)
                waiting.append(api["components"]["schemas"][name])
    return names


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.name)
def test_every_function_describes_itself(function: Function[Any]) -> None:
    """Each function alone gives a document with all of its own routes and no other function's."""
    made = msgspec.json.decode(document([function]))
    ours = {(route.path, route.method.lower()) for route in function.routes}
    health = {("/health/live", "get"), ("/health/ready", "get")}
    assert {(path, method) for path, method, _ in operations(made)} == ours | health


def test_every_route_of_every_function_is_there(api: dict[str, Any]) -> None:
    """The document of all functions holds every route, and says which function answers it."""
    for function in FUNCTIONS:
        for route in function.routes:
            operation = api["paths"][route.path][route.method.lower()]
            assert operation["tags"] == [function.name]
            assert ("requestBody" in operation) == (route.takes is not None)


def test_the_structure_is_that_of_openapi_3_1(api: dict[str, Any]) -> None:
    """What the specification requires of the document, its operations, parameters and responses is there."""
    assert re.fullmatch(r"3\.1\.\d+", api["openapi"])
    assert set(api) <= {"openapi", "info", "paths", "components", "servers", "tags", "security", "externalDocs"}
    assert {"title", "version"} <= set(api["info"])
    for path, method, operation in operations(api):
        assert path.startswith("/")
        assert method in METHODS
        assert operation["responses"]
        for status, response in operation["responses"].items():
            assert re.fullmatch(r"[1-5]\d\d|default", status)
            assert response["description"]
            for media, content in response.get("content", {}).items():
                assert "/" in media
                assert content["schema"]
        declared = {p["name"] for p in operation.get("parameters", []) if p["in"] == "path"}
        assert declared == set(re.findall(r"{(\w+)}", path))
        for parameter in operation.get("parameters", []):
            assert parameter["schema"]
            assert parameter["in"] in {"path", "query", "header", "cookie"}
            assert parameter["in"] != "path" or parameter["required"] is True
        if "requestBody" in operation:
            media = "application/cloudevents+json" if (path, method) in EVENTS else "application/json"
            assert operation["requestBody"]["content"][media]["schema"]
    ids = [operation["operationId"] for *_, operation in operations(api) if "operationId" in operation]
    assert len(ids) == len(set(ids))


def test_every_reference_resolves(api: dict[str, Any]) -> None:
    """No `$ref` leads nowhere, and no component stands there that nothing leads to."""
    schemas = api["components"]["schemas"]
    references = {node["$ref"] for node in nodes(api) if isinstance(node.get("$ref"), str)}
    assert references
    assert references == {f"#/components/schemas/{name}" for name in schemas}


def test_schemas_are_json_schema(api: dict[str, Any]) -> None:
    """Types are JSON Schema's, and what is required is described."""
    for schema in nodes(api["components"]["schemas"]):
        kind = schema.get("type")
        if isinstance(kind, str):
            assert kind in SCHEMA_TYPES
        if isinstance(schema.get("required"), list):
            assert set(schema["required"]) <= set(schema["properties"])
        for either in ("anyOf", "oneOf", "allOf"):
            assert schema.get(either, [{}])
    assert "nullable" not in {key for node in nodes(api) for key in node}  # that was OpenAPI 3.0


def test_every_error_is_a_problem_detail(api: dict[str, Any]) -> None:
    """Each operation names each status that an error can have, with the members that RFC 9457 gives it."""
    for path, _, operation in operations(api):
        if path.startswith("/v1/"):
            for status in STATUSES.values():
                content = operation["responses"][str(status)]["content"]
                assert set(content) == {"application/problem+json"}
                assert content["application/problem+json"]["schema"] == {"$ref": "#/components/schemas/Problem"}
        elif path.startswith("/ofrep/"):
            for refused in ("400", "404", "429", "500", "503"):
                content = operation["responses"][refused]["content"]
                assert content == {"application/json": {"schema": {"$ref": "#/components/schemas/EvaluationFailure"}}}
    problem = api["components"]["schemas"]["Problem"]
    assert set(problem["properties"]) == {"type", "title", "status", "detail", "field", "errors"}
    assert set(problem["required"]) == {"type", "title", "status", "detail"}


@pytest.mark.parametrize(("path", "method"), REQUESTS)
def test_request_fields_are_the_designs(api: dict[str, Any], path: str, method: str) -> None:
    """A request takes the fields that design.md names, requires those that it requires, and takes no others."""
    schema = api["paths"][path][method]["requestBody"]["content"]["application/json"]["schema"]
    for name, fields in REQUESTS[path, method].items():
        assert name in reached(api, schema)
        described = api["components"]["schemas"][name]
        assert set(described["properties"]) - TO_COME.get(name, set()) == set(fields)
        assert set(described.get("required", [])) == {field for field, required in fields.items() if required}
        assert described["additionalProperties"] is False


@pytest.mark.parametrize(("path", "method"), ANSWERS)
def test_answer_fields_are_the_designs(api: dict[str, Any], path: str, method: str) -> None:
    """An answer has the fields that design.md names."""
    schema = api["paths"][path][method]["responses"]["200"]["content"]["application/json"]["schema"]
    for name, fields in ANSWERS[path, method].items():
        assert name in reached(api, schema)
        described = set(api["components"]["schemas"][name]["properties"])
        assert described - TO_COME.get(name, set()) == fields


def test_a_single_event_and_a_batch_are_told_apart(api: dict[str, Any]) -> None:
    """The one route that takes either shows both."""
    schema = api["paths"]["/v1/feedback"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert {entry["$ref"].rpartition("/")[2] for entry in schema["anyOf"]} == {"FeedbackIn", "FeedbackBatch"}


def test_a_new_policy_is_a_201(api: dict[str, Any]) -> None:
    """PUT shows both statuses with which it succeeds, what takes an event an empty 204; others show 200 alone."""
    for path, method, operation in operations(api):
        succeeded = {status for status in operation["responses"] if status.startswith("2")}
        wanted = {"204"} if (path, method) in EVENTS else {"200", "201"} if method == "put" else {"200"}
        assert succeeded == wanted, (path, method)
        assert "content" not in operation["responses"].get("204", {})


def test_the_arguments_of_a_query_are_there(api: dict[str, Any]) -> None:
    """What a list of dead letters can be asked for is described with its type and bounds, and none of it is required."""
    parameters = api["paths"]["/v1/dead-letters"]["get"]["parameters"]
    asked = {each["name"]: each for each in parameters if each["in"] == "query"}
    assert set(asked) == {"type", "since", "open", "before", "limit"}
    assert asked["limit"]["schema"] == {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}
    assert not any(each.get("required") for each in asked.values())


def test_the_document_is_the_same_every_time() -> None:
    """It is made from types alone, so two processes show the same bytes."""
    assert document(FUNCTIONS) == document(FUNCTIONS)
