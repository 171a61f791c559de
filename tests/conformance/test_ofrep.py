"""OpenFeature remote evaluation against the protocol's own OpenAPI document (OFREP 0.3): answers, errors, tags."""

from __future__ import annotations

import json
import os
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from functions.assignment.func import door
from functions.local.servers import LocalServers
from shared.experiments.experiment import ExperimentSpec, Prerequisite, Variation
from shared.experiments.flags import FlagSpec, Rule
from tests.conformance.rendering import ROOT
from tests.integration.test_bad_input import BODIES, ODD_VALUES, OTHER_POISON, TEXT_POISON, places, poisoned
from tests.stage import Answer, Stage, run

DOCUMENT = Path(os.environ.get("KNUDGE_CONFORMANCE", ROOT / "../shared/conformance")) / "ofrep/openapi.yaml"
FLAGS, FLAG = "/ofrep/v1/evaluate/flags", "/ofrep/v1/evaluate/flags/{key}"
ADA: dict[str, Any] = {"context": {"targetingKey": "ada", "country": "DE", "plan": {"seats": 3}}}
TWO = (Variation("off", False), Variation("on", True))
EXPERIMENTS = (
    ExperimentSpec("split", 1, TWO),
    ExperimentSpec("everybody", 1, (Variation("a", 1), Variation("b", 2)), weights=(0.0, 1.0)),
    ExperimentSpec("nobody", 1, (Variation("a", "red"), Variation("b", "blue")), coverage=0.0),
    ExperimentSpec("elsewhere", 1, TWO, condition={"country": "AT"}),
    ExperimentSpec("by-device", 1, TWO, hash_attribute="device"),
    ExperimentSpec("needs", 1, TWO, prerequisites=(Prerequisite("elsewhere", {"value": True}),)),
    ExperimentSpec("stopped", 1, TWO, status="stopped"),
    ExperimentSpec("released", 1, TWO, status="stopped", released="on"),
    ExperimentSpec("drafted", 1, TWO, status="draft"),
    ExperimentSpec("held-out", 1, TWO, kind="holdout"),
    ExperimentSpec("nothing", 1, (Variation("a"), Variation("b"))),
)
SPECS = (
    FlagSpec("plain", 1, "text"),
    FlagSpec("number", 1, 7),
    FlagSpec("real", 1, 0.5),
    FlagSpec("object", 1, {"a": [1, {"b": None}]}),
    FlagSpec("null", 1, None),
    FlagSpec("ruled", 1, "default", (Rule(id="germans", value="servus", condition={"country": "DE"}),)),
    FlagSpec("unruled", 1, "default", (Rule(value="pfiat di", condition={"country": "AT"}),)),
    FlagSpec("rolled-out", 1, "default", (Rule(value="some", coverage=1.0),)),
    FlagSpec("experimented", 1, False, (Rule(experiment="split"),)),
)
EXPECTED: dict[str, tuple[str, set[Any], set[str]]] = {
    "split": ("SPLIT", {True, False}, {"on", "off"}),
    "everybody": ("SPLIT", {2}, {"b"}),
    "nobody": ("SPLIT", {"red"}, {"a"}),
    "elsewhere": ("UNKNOWN", {False}, {"off"}),
    "by-device": ("UNKNOWN", {False}, {"off"}),
    "needs": ("UNKNOWN", {False}, {"off"}),
    "stopped": ("DISABLED", {False}, {"off"}),
    "released": ("STATIC", {True}, {"on"}),
    "drafted": ("DISABLED", {False}, {"off"}),
    "plain": ("STATIC", {"text"}, {"default"}),
    "ruled": ("TARGETING_MATCH", {"servus"}, {"germans"}),
    "unruled": ("UNKNOWN", {"default"}, {"default"}),
    "rolled-out": ("SPLIT", {"some"}, {"rule-1"}),
    "experimented": ("SPLIT", {True, False}, {"on", "off"}),
}
"""Reason, possible values and variants of some flags for the context above."""


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """Read the protocol's document; skips the test where it is absent."""
    if not DOCUMENT.is_file():
        pytest.skip(f"the protocol's document is not at {DOCUMENT}: set KNUDGE_CONFORMANCE")
    read: dict[str, Any] = yaml.safe_load(DOCUMENT.read_text())
    return read


def usable(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document with a success that can be met.

    As published a value must match exactly one of its types, of which `codeDefaultFlag` takes any object and a whole number is both
    integer and float. Here `codeDefaultFlag` has no value, as its description says, and one or more of the types must match.
    """
    usable = deepcopy(document)
    schemas = usable["components"]["schemas"]
    schemas["codeDefaultFlag"]["not"] = {"required": ["value"]}
    types = schemas["evaluationSuccess"]["allOf"][1]
    types["anyOf"] = types.pop("oneOf")
    return usable


def check(document: dict[str, Any], path: str, answer: Answer) -> Any:
    """Hold an answer against what the document says of its path and status; return its body."""
    described = document["paths"][path]["post"]["responses"][str(answer.status)]
    if "content" not in described:
        assert answer.body is None
        return None
    assert answer.headers["content-type"] == "application/json"
    schema = described["content"]["application/json"]["schema"]
    validator = Draft202012Validator(schema | {"components": usable(document)["components"]})
    assert [error.message for error in validator.iter_errors(answer.body)] == [], answer
    return answer.body


async def evaluate(stage: Stage, key: str | None, body: Any, **headers: str) -> Answer:
    """Evaluate one flag, or with None all of them."""
    path = FLAGS if key is None else f"{FLAGS}/{key}"
    return await stage.call("assignment", "POST", path, body, headers)


def test_the_published_document_admits_no_value(document: dict[str, Any]) -> None:
    """The reason for reading it more kindly: taken by the letter, no flag with a value is valid."""
    schema = {"$ref": "#/components/schemas/serverEvaluationSuccess", "components": document["components"]}
    answer = {"key": "k", "reason": "STATIC", "variant": "v"}
    assert Draft202012Validator(schema).is_valid(answer)
    assert not Draft202012Validator(schema).is_valid(answer | {"value": True})
    kindly = schema | {"components": usable(document)["components"]}
    for value, valid in ((True, True), ("t", True), (7, True), (0.5, True), ({}, True), (None, False), ([], False)):
        assert Draft202012Validator(kindly).is_valid(answer | {"value": value}) == valid


def test_answers_are_the_protocols(servers: LocalServers, document: dict[str, Any]) -> None:
    """Every flag and experiment, singly and in bulk, with variant and reason; one that is not known is not found."""

    async def play(stage: Stage) -> None:
        await stage.publish(*EXPERIMENTS, flags=SPECS)
        single = {}
        for spec in (*EXPERIMENTS, *SPECS):
            answer = await evaluate(stage, spec.key, ADA)
            assert answer.status == 200
            single[spec.key] = body = check(document, FLAG, answer)
            assert body["key"] == spec.key
            assert body["variant"]
            if spec.key in EXPECTED:
                reason, values, variants = EXPECTED[spec.key]
                assert (body["reason"], body["value"] in values, body["variant"] in variants) == (reason, True, True), (
                    body
                )
        assert single["null"].keys() == single["nothing"].keys() == {"key", "reason", "variant", "metadata"}
        assert single["experimented"]["value"] == single["split"]["value"]
        metadata = {
            "source": "experiment",
            "experiment": "everybody",
            "phase": 1,
            "inExperiment": True,
            "reason": "assigned",
        }
        assert single["everybody"]["metadata"] == metadata
        body = check(document, FLAGS, await evaluate(stage, None, ADA))
        assert [each["key"] for each in body["flags"]] == sorted(set(single) - {"drafted", "held-out"})
        assert all(each == single[each["key"]] for each in body["flags"])
        answer = await evaluate(stage, "unheard-of", ADA)
        body = check(document, FLAG, answer)
        assert (answer.status, body["errorCode"], body["key"]) == (404, "FLAG_NOT_FOUND", "unheard-of")
        assert "unheard-of" in body["errorDetails"]

    run(servers, play)


BAD: list[tuple[Any, str, str]] = [
    (b"", "PARSE_ERROR", "body"),
    (b"{", "PARSE_ERROR", "body"),
    (b"\xff", "PARSE_ERROR", "body"),
    ([], "PARSE_ERROR", "body"),
    ({}, "INVALID_CONTEXT", "context"),
    ({"context": None}, "INVALID_CONTEXT", "context"),
    ({"context": "ada"}, "INVALID_CONTEXT", "context"),
    ({"context": {}}, "TARGETING_KEY_MISSING", "context.targetingKey"),
    ({"context": {"targetingKey": None}}, "TARGETING_KEY_MISSING", "context.targetingKey"),
    ({"context": {"targetingKey": ""}}, "TARGETING_KEY_MISSING", "context.targetingKey"),
    ({"context": {"targetingKey": 7}}, "INVALID_CONTEXT", "context.targetingKey"),
    ({"context": {"targetingKey": "u" * 257}}, "INVALID_CONTEXT", "context.targetingKey"),
    ({"context": {"targetingKey": "u", "user_id": "v"}}, "INVALID_CONTEXT", "context.user_id"),
    ({"context": {"targetingKey": "u", "a": "\0"}}, "INVALID_CONTEXT", "context.a"),
    ({"context": {"targetingKey": "u", "a": ["x" * 257]}}, "INVALID_CONTEXT", "context.a[0]"),
    ({"context": {"targetingKey": "u", "a": {"b": 2**64}}}, "INVALID_CONTEXT", "context.a.b"),
    ({"context": {"targetingKey": "u"} | {str(n): n for n in range(257)}}, "INVALID_CONTEXT", "context"),
    (b'{"context": {"targetingKey": "u", "a": "' + b"x" * (1 << 20) + b'"}}', "GENERAL", "body"),
]


def test_every_bad_request_says_what_is_wrong(servers: LocalServers, document: dict[str, Any]) -> None:
    """A 400 has a code and details that name the field, singly and in bulk; only what has a key names one."""

    async def play(stage: Stage) -> None:
        await stage.publish(*EXPERIMENTS)
        for body, code, field in BAD:
            for key, path in (("split", FLAG), (None, FLAGS)):
                answer = await evaluate(stage, key, body)
                failure = check(document, path, answer)
                assert (answer.status, failure["errorCode"], failure.get("key")) == (400, code, key), (body, answer)
                assert failure["errorDetails"].startswith(f"{field}: "), failure
        answer = await evaluate(stage, "split", ADA, **{"X-Client-Id": "\t"})
        failure = check(document, FLAG, answer)
        assert (answer.status, failure["errorCode"]) == (400, "GENERAL")
        assert (await stage.call("assignment", "GET", FLAGS)).status == 405

    run(servers, play)


def test_no_context_is_a_fault(servers: LocalServers, document: dict[str, Any]) -> None:
    """Whatever stands in any place of a request is evaluated, or refused in the protocol's words."""

    async def play(stage: Stage) -> None:
        await stage.publish(*EXPERIMENTS, flags=SPECS)
        body = {"context": {"targetingKey": "ada", "country": "DE", "plan": {"seats": [3, {"row": "a"}]}}}
        statuses = set()
        for path in places(body):
            for name, poison in {**TEXT_POISON, **OTHER_POISON, **ODD_VALUES}.items():
                sent = poisoned(body, path, poison)
                for key, route in (("elsewhere", FLAG), (None, FLAGS)):
                    answer = await evaluate(stage, key, sent)
                    assert answer.status in {200, 400}, (path, name, answer)
                    if key is not None or answer.status == 400:
                        check(document, route, answer)
                    statuses.add(answer.status)
        for sent in BODIES.values():
            answer = await evaluate(stage, "split", sent)
            assert answer.status == 400
            assert check(document, FLAG, answer)["errorDetails"]
        assert statuses == {200, 400}

    run(servers, play)


def test_a_tag_covers_answer_and_context(servers: LocalServers) -> None:
    """The same context and answer are not sent twice; another context, or another answer, is."""

    async def play(stage: Stage) -> None:
        await stage.publish(*EXPERIMENTS)
        for key in (None, "nobody"):
            first = await evaluate(stage, key, ADA)
            tag = first.headers["etag"]
            assert tag.startswith('"')
            respelled = json.dumps({"context": dict(reversed(ADA["context"].items()))}, indent=2).encode()
            for body, held in _pairs((ADA, tag), (respelled, tag), (ADA, f'"other", W/{tag}'), (ADA, tag.strip('"'))):
                answer = await evaluate(stage, key, body, **{"If-None-Match": held})
                assert (answer.status, answer.body, answer.headers) == (304, None, {"etag": tag})
            older = {"context": ADA["context"] | {"age": 3}}
            for body, held in _pairs((ADA, '"other"'), (ADA, "*"), (older, tag)):
                answer = await evaluate(stage, key, body, **{"If-None-Match": held})
                assert answer.status == 200
                assert (answer.headers["etag"] == tag) == (body is ADA)
        old = (await evaluate(stage, None, ADA)).headers["etag"]
        await stage.publish(ExperimentSpec("split", 1, (Variation("off", "changed"), Variation("on", "changed"))))
        assert (await evaluate(stage, None, ADA, **{"If-None-Match": old})).status == 200

    run(servers, play)


def _pairs(*pairs: tuple[Any, str]) -> tuple[tuple[Any, str], ...]:
    return pairs


def test_a_single_evaluation_exposes_and_a_bulk_one_does_not(servers: LocalServers) -> None:
    """What a flag shows of an experiment is an exposure to that experiment, also where the answer is not sent again."""

    async def play(stage: Stage) -> None:
        shown = ExperimentSpec("shown", 1, TWO)
        await stage.publish(shown, flags=[FlagSpec("shows", 1, None, (Rule(experiment="shown"),))])
        bulk = await evaluate(stage, None, ADA)
        assert await stage.exposures("shown") == []
        single = await evaluate(stage, "shows", ADA)
        assert single.body in bulk.body["flags"]
        [exposure] = await stage.exposures("shown")
        assert exposure.variation == single.body["variant"]
        other = {"context": {"targetingKey": "bob"}}
        tag = (await evaluate(stage, "shown", other | {"unheard": 1})).headers["etag"]
        assert (await evaluate(stage, "shown", other, **{"If-None-Match": tag})).status == 304
        assert len(await stage.exposures("shown")) == 2

    run(servers, play)


def test_overload_and_absence_say_when_to_come_again(own_servers: LocalServers, document: dict[str, Any]) -> None:
    """Too many requests are 429, a provider that has no catalogue is not ready: both with Retry-After in seconds."""

    async def play(stage: Stage) -> None:
        for key in ("split", None):
            answer = await evaluate(stage, key, ADA)
            assert (answer.status, answer.body["errorCode"]) == (503, "PROVIDER_NOT_READY")
            assert int(answer.headers["retry-after"]) >= 1
        await stage.publish(*EXPERIMENTS)
        door._under_way += stage.settings.concurrency_limit
        try:
            for key, path in (("split", FLAG), (None, FLAGS)):
                answer = await evaluate(stage, key, ADA)
                assert answer.status == 429
                assert int(answer.headers["retry-after"]) >= 1
                assert "content" not in document["paths"][path]["post"]["responses"]["429"]
                assert answer.body["errorCode"] == "GENERAL"
        finally:
            door._under_way -= stage.settings.concurrency_limit
        assert (await evaluate(stage, "split", ADA)).status == 200

    run(own_servers, play)
