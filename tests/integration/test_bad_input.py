"""Nothing that a caller sends gives a 500, goes unnamed, or harms another request."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import time
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from functions.local.servers import LocalServers
from shared.edge import decoding
from shared.edge.http import Request
from shared.experiments.experiment import ExperimentSpec, Variation
from tests.stage import TARGETS, Answer, Stage, run

PATIENT = {"journal_wait_ms": 2_000}
"""So that no answer is degraded because the machine is busy."""
POLICY = "poisoned"
NOW = time.time()
DEEP = 100_000

_numbers_of_events = itertools.count()

Route = tuple[str, str, str, str | None]
"""Function, method, path, and the type of event where the route is `POST /`."""

RECOMMEND = "dev.knudge.recommendation.requested.v1"
FEEDBACK = "dev.knudge.feedback.given.v1"
LOGGED = "dev.knudge.decision.logged.v1"
LEARNING = "dev.knudge.learning.due.v1"
ASSIGNMENT = "dev.knudge.assignment.requested.v1"
EXPOSURE = "dev.knudge.exposure.recorded.v1"
EXPERIMENT = ExperimentSpec(
    "poisoned", 1, (Variation("off"), Variation("on", True)), condition={"plan.seats": {"$gt": 1}}
)

TEXT_POISON: Mapping[str, bytes] = {
    "an escaped NUL": rb'"a\u0000b"',
    "a raw NUL": b'"a\x00b"',
    "a lone surrogate": rb'"\ud800"',
    "a lone surrogate in UTF-8": b'"\xed\xa0\x80"',
    "half a character": b'"\xe2\x82"',
    "a byte that is no UTF-8": b'"\xff"',
}
OTHER_POISON: Mapping[str, bytes] = {
    "NaN": b"NaN",
    "Infinity": b"-Infinity",
    "1e400": b"1e400",
    "-1e400": b"-1e400",
    "a number of 400 digits": b"1" + b"0" * 400,
    "a number of 5000 digits": b"-1" + b"0" * 5_000,
    "an object deep as a well": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    "a list deep as a well": b"[" * DEEP + b"]" * DEEP,
    "an unclosed list": b"[" * DEEP,
    "an object in an object": b'{"a": {"b": {}}}',
    "a comment": b"/* */ 1",
}
ODD_VALUES: Mapping[str, bytes] = {
    "2^63": b"9223372036854775808",
    "2^64": b"18446744073709551616",
    "-2^63 - 1": b"-9223372036854775809",
    "1e308": b"1e308",
    "the smallest number": b"5e-324",
    "zero": b"0",
    "minus one": b"-1",
    "true": b"true",
    "null": b"null",
    "an empty list": b"[]",
    "an empty object": b"{}",
    "a list of null": b"[null]",
    "an empty text": b'""',
    "a long text": b'"' + b"x" * 100_000 + b'"',
    "text that looks like NUL": rb'"\\u0000"',
    "quotes": b'"\'; drop table feedback; --"',
    "the year 0": b'"0000-01-01T00:00:00Z"',
    "the first moment, far east": b'"0001-01-01T00:00:00+23:59"',
    "the last moment, far west": b'"9999-12-31T23:59:59.999999-23:59"',
    "the year 10000": b'"10000-01-01T00:00:00Z"',
    "the 30th of February": b'"2024-02-30T00:00:00Z"',
    "a leap second": b'"2016-12-31T23:59:60Z"',
    "hour 24": b'"2024-01-01T24:00:00Z"',
    "no zone": b'"2024-01-01T00:00:00"',
    "an impossible zone": b'"2024-01-01T00:00:00+99:99"',
}
BODIES: Mapping[str, bytes] = {
    "nothing": b"",
    "no JSON": b"hello",
    "half of it": b'{"policy": "poi',
    "a form": b"policy=poisoned",
    "null": b"null",
    "a number": b"1",
    "a text": b'"text"',
    "a list": b"[]",
    "two of them": b"{}{}",
    "UTF-16": '{"policy": "poisoned"}'.encode("utf-16"),
    "a byte order mark": b'\xef\xbb\xbf{"policy": "poisoned"}',
    "gzip": b"\x1f\x8b\x08\x00\x00\x00\x00\x00",
    "NULs": b"\x00" * 1_000,
    "invalid UTF-8": b'{"\xff": 1}',
    "a well of objects": b'{"a":' * DEEP,
    "a well of lists": b"[" * 1_000_000,
    "a single quote": b"{'policy': 'poisoned'}",
    "an unknown field": b'{"unheard_of": 1}',
    "a field named NUL": rb'{"\u0000": 1}',
    "a field named by half a character": rb'{"\ud800": 1}',
    "an object that names a field twice": b'{"policy": 1, "policy": 2}',
}


def goods(decision: str) -> dict[Route, dict[str, Any]]:
    """Return a good body, every field given, for each route that takes one."""
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(NOW - 60))
    features = {"colour": "red", "price": 2.5, "tags": ["x"]}
    request = {
        "policy": POLICY,
        "user_id": "u",
        "session_id": "s",
        "context": {"age": 30, "city": "Bern", "tags": ["a"]},
        "actions": ["a", {"id": "b", "features": features}],
        "count": 1,
        "exclude": ["c"],
        "request_id": None,
        "defer_activation": False,
        "default_action": "a",
    }
    event = {
        "decision_id": decision,
        "kind": "click",
        "value": 1.0,
        "action": "a",
        "event_id": "e",
        "occurred_at": at,
    }
    logged = {
        "policy": POLICY,
        "action": "a",
        "propensity": 0.5,
        "context": {"age": 30},
        "occurred_at": at,
        "actions": ["a", {"id": "b", "features": features}],
        "user_id": "u",
        "session_id": "s",
        "position": 1,
        "decision_id": "d",
    }
    assignment = {
        "user_id": "u",
        "attributes": {"age": 30, "tags": ["x"], "plan": {"seats": [1, {"row": "a"}]}, "none": None},
        "experiments": [EXPERIMENT.key, "unheard-of"],
        "expose": True,
    }
    exposure = {
        "experiment": EXPERIMENT.key,
        "user_id": "u",
        "variation": "on",
        "attributes": {"age": 30, "plan": {"seats": [1, {"row": "a"}]}},
        "occurred_at": at,
    }
    policy = {
        "kind": "thompson",
        "parameters": {"prior_alpha": 1.0},
        "actions": ["a", {"id": "b", "features": features}],
        "reward": {"click": 1.0, "dwell": {"weight": 0.5, "saturation": 10, "combine": "sum"}},
        "reward_range": [0, 1],
        "default_reward": 0.0,
        "reward_window_s": 3600,
        "expected_delay_s": 60,
        "half_life_s": 1000,
        "exploration_floor": 0.01,
    }
    return {
        ("recommend", "POST", "/v1/recommend", None): request,
        ("recommend", "POST", "/v1/recommend/batch", None): {"requests": [request, request]},
        ("recommend", "POST", "/", RECOMMEND): request,
        ("feedback", "POST", "/v1/feedback", None): event,
        ("feedback", "POST", "/v1/feedback#batch", None): {"events": [event, event | {"event_id": "f"}]},
        ("feedback", "POST", "/v1/decisions", None): {"decisions": [logged, logged | {"decision_id": "e"}]},
        ("feedback", "POST", "/", FEEDBACK): event,
        ("feedback", "POST", "/", LOGGED): logged,
        ("learn", "POST", "/", LEARNING): {"policy": POLICY},
        ("assignment", "POST", "/v1/assignments", None): assignment,
        ("assignment", "POST", "/v1/exposures", None): exposure,
        ("assignment", "POST", "/v1/exposures#batch", None): {"exposures": [exposure, exposure | {"user_id": "v"}]},
        ("assignment", "POST", "/", ASSIGNMENT): assignment,
        ("assignment", "POST", "/", EXPOSURE): exposure,
        ("control", "PUT", "/v1/policies/poisoned-too", None): policy,
    }


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterable[tuple[Any, ...]]:
    """Yield the path of everything within a body."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        yield (*path, key)
        if isinstance(inner, dict | list):
            yield from places(inner, (*path, key))


def poisoned(body: Any, path: tuple[Any, ...], poison: bytes) -> bytes:
    """Return a body with raw JSON text in one place."""

    def put(value: Any, rest: tuple[Any, ...]) -> Any:
        if not rest:
            return "@poison@"
        items = value.items() if isinstance(value, dict) else enumerate(value)
        changed = {key: put(inner, rest[1:]) if key == rest[0] else inner for key, inner in items}
        return changed if isinstance(value, dict) else list(changed.values())

    return json.dumps(put(body, path)).encode().replace(b'"@poison@"', poison)


def may_nest(path: tuple[Any, ...], poison: str) -> bool:
    """Tell whether what is poison elsewhere is none in this place: the attributes of a unit may be nested."""
    return poison == "an object in an object" and "attributes" in path


async def send(
    stage: Stage, route: Route, body: bytes, headers: Iterable[tuple[bytes, bytes]] = (), query: bytes = b""
) -> Answer:
    """Send bytes as they are; an event goes in binary mode unless `headers` say otherwise."""
    function, method, path, event = route
    given = list(headers)
    if event is not None and not given:
        given = [
            (b"ce-specversion", b"1.0"),
            (b"ce-id", b"%d" % next(_numbers_of_events)),
            (b"ce-source", b"bad-input"),
            (b"ce-type", event.encode()),
            (b"content-type", b"application/json"),
        ]

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    scope = {
        "type": "http",
        "method": method,
        "path": path.partition("#")[0],
        "query_string": query,
        "headers": given,
    }
    reply = await TARGETS[function](Request(scope, receive))
    decoded = json.loads(reply.body) if reply.body else None
    return Answer(reply.status, decoded, {name.decode(): value.decode() for name, value in reply.headers})


def check(answer: Answer, sent: object) -> Answer:
    """Check that an answer is a success, or a refusal of the caller's input that names the field."""
    assert answer.status < 500, (sent, answer)
    if answer.status >= 400:
        assert {"type", "title", "status", "detail", "field"} == set(answer.body), (sent, answer)
        assert answer.body["status"] == answer.status
        assert isinstance(answer.body["field"], str), (sent, answer)
        assert answer.body["field"], (sent, answer)
        assert answer.headers["content-type"] == "application/problem+json"
    return answer


async def check_well(stage: Stage) -> None:
    """Check that good requests are still answered, stored and learned."""
    answer = await stage.recommend(POLICY)
    assert await stage.feedback(answer["decision_id"]) == {"accepted": 1, "duplicates": 0}
    await stage.learn(POLICY)
    snapshot = await stage.snapshot(POLICY)
    assert all(math.isfinite(action["weight"]) for action in snapshot["actions"].values())
    rows = stage.sql("select 1 from feedback where decision_id = %s", answer["decision_id"])
    assert len(rows) == 1
    assert stage.sql("select 1 from pending where decision_id = %s", answer["decision_id"]) == []


async def prepared(stage: Stage) -> dict[Route, dict[str, Any]]:
    """Write the policy and return good bodies."""
    await stage.policy(POLICY, kind="thompson")
    await stage.publish(EXPERIMENT)
    return goods((await stage.recommend(POLICY))["decision_id"])


def test_good_bodies_are_good(servers: LocalServers) -> None:
    """The bodies that the other tests poison are answered with success, so it is the poison that is refused."""

    async def play(stage: Stage) -> None:
        for route, body in (await prepared(stage)).items():
            answer = await send(stage, route, json.dumps(body).encode())
            assert answer.status < 300, (route, answer)

    run(servers, play, **PATIENT)


def test_a_body_that_is_none_is_refused(servers: LocalServers) -> None:
    """Whatever is no JSON object of the right kind is a 400 at every route that takes a body."""

    async def play(stage: Stage) -> None:
        for route in await prepared(stage):
            for name, body in BODIES.items():
                answer = check(await send(stage, route, body), (route, name))
                takes_more = route[0] == "learn" and answer.status == 204  # no policy: a sweep; unknown fields: ignored
                assert takes_more or answer.status == 400, (route, name, answer)
        await check_well(stage)

    run(servers, play, **PATIENT)


def test_text_that_cannot_be_stored_is_refused_everywhere(servers: LocalServers) -> None:
    """NUL, lone surrogates and broken UTF-8 are a 400 in every place of every body."""

    async def play(stage: Stage) -> None:
        for route, body in (await prepared(stage)).items():
            for path in places(body):
                for name, poison in TEXT_POISON.items():
                    sent = poisoned(body, path, poison)
                    answer = check(await send(stage, route, sent), (route, path, name))
                    assert answer.status == 400, (route, path, name, answer)
        await check_well(stage)

    run(servers, play, **PATIENT)


def test_numbers_and_depths_beyond_bounds_are_refused_everywhere(servers: LocalServers) -> None:
    """NaN, 1e400, endless numbers and endless nesting are a 400 in every place of every body."""

    async def play(stage: Stage) -> None:
        for route, body in (await prepared(stage)).items():
            for path in places(body):
                for name, poison in OTHER_POISON.items():
                    sent = poisoned(body, path, poison)
                    answer = check(await send(stage, route, sent), (route, path, name))
                    assert answer.status == 400 or may_nest(path, name), (route, path, name, answer)
        await check_well(stage)

    run(servers, play, **PATIENT)


def test_odd_values_are_taken_or_refused_by_name(servers: LocalServers) -> None:
    """A value of a wrong type, sign, size or century is never a fault, and what is taken can be learned."""

    async def play(stage: Stage) -> None:
        for route, body in (await prepared(stage)).items():
            for path in places(body):
                for name, odd in ODD_VALUES.items():
                    check(await send(stage, route, poisoned(body, path, odd)), (route, path, name))
        await stage.learn()
        await check_well(stage)

    run(servers, play, **PATIENT)


def test_the_field_at_fault_is_named(servers: LocalServers) -> None:
    """A refusal names the field that holds the poison, as a path from the top of the body."""

    async def play(stage: Stage) -> None:
        good = {route[2] + (route[3] or ""): (route, body) for route, body in (await prepared(stage)).items()}
        for key, path, poison, field in [
            ("/v1/recommend", ("policy",), b"1", "policy"),
            ("/v1/recommend", ("context", "city"), rb'"\u0000"', "context.city"),
            ("/v1/recommend", ("context",), rb'{"a\u0000": 1}', "context.a\0"),
            ("/v1/recommend", ("actions", 1, "id"), rb'"\u0000"', "actions[1].id"),
            ("/v1/recommend", ("actions", 1, "features", "tags"), rb'["\u0000"]', "actions[1].features.tags[0]"),
            ("/v1/recommend", ("exclude", 0), b"5", "exclude[0]"),
            ("/v1/recommend/batch", ("requests", 1, "count"), b'"2"', "requests[1].count"),
            ("/v1/feedback", ("kind",), rb'"\u0000"', "kind"),
            ("/v1/feedback", ("occurred_at",), b'"0000-01-01T00:00:00Z"', "occurred_at"),
            ("/v1/feedback", ("occurred_at",), b'"9999-12-31T23:59:59Z"', "occurred_at"),
            ("/v1/feedback#batch", ("events", 1, "value"), b"1e13", "events[1].value"),
            ("/v1/decisions", ("decisions", 1, "occurred_at"), b'"9999-12-31T23:59:59Z"', "decisions[1].occurred_at"),
            ("/v1/decisions", ("decisions", 0, "propensity"), b"1e-400", "decisions[0].propensity"),
            ("/" + FEEDBACK, ("value",), b'"1"', "value"),
            ("/" + LEARNING, ("policy",), b"{}", "policy"),
            ("/v1/policies/poisoned-too", ("reward_window_s",), b"1e308", "reward_window_s"),
        ]:
            route, body = good[key]
            answer = check(await send(stage, route, poisoned(body, path, poison)), (key, path))
            assert (answer.status, answer.body["field"]) == (400, field), (key, path, answer)

    run(servers, play, **PATIENT)


def test_what_is_too_large_is_a_413(servers: LocalServers) -> None:
    """Every bound of the settings holds, and the answer names what exceeds it."""

    async def play(stage: Stage) -> None:
        good = {route[2] + (route[3] or ""): (route, body) for route, body in (await prepared(stage)).items()}
        names = [f"a{number}" for number in range(1_001)]
        wide = {f"f{number}": 1 for number in range(257)}
        request = good["/v1/recommend"][1]
        event = good["/v1/feedback"][1]
        logged = good["/v1/decisions"][1]["decisions"][0]
        bounds: list[tuple[str, dict[str, Any], str]] = [
            ("/v1/recommend", {"policy": "p" * 257}, "policy"),
            ("/v1/recommend", {"request_id": "é" * 257}, "request_id"),
            ("/v1/recommend", {"actions": names}, "actions"),
            ("/v1/recommend", {"actions": ["x" * 257]}, "actions[0]"),
            ("/v1/recommend", {"actions": [{"id": "x", "features": wide}]}, "actions[0].features"),
            ("/v1/recommend", {"exclude": names}, "exclude"),
            ("/v1/recommend", {"context": wide}, "context"),
            ("/v1/recommend", {"context": {"city": "x" * 257}}, "context.city"),
            ("/v1/recommend", {"context": {"tags": ["x"] * 257}}, "context.tags"),
            ("/v1/recommend/batch", {"requests": [{"policy": POLICY}] * 1_001}, "requests"),
            ("/v1/feedback", {"kind": "k" * 257}, "kind"),
            ("/v1/feedback", {"event_id": "k" * 257}, "event_id"),
            ("/v1/feedback#batch", {"events": [event] * 1_001}, "events"),
            ("/v1/decisions", {"decisions": [logged] * 1_001}, "decisions"),
            ("/v1/decisions", {"decisions": [logged | {"actions": [*names, "a"]}]}, "decisions[0].actions"),
            ("/v1/policies/poisoned-too", {"actions": names}, "actions"),
            ("/v1/policies/poisoned-too", {"actions": [{"id": "a", "features": wide}]}, "actions[0].features"),
        ]
        for key, changes, field in bounds:
            route, body = good[key]
            answer = check(await send(stage, route, json.dumps(body | changes).encode()), (key, field))
            assert (answer.status, answer.body["field"]) == (413, field), (key, answer)
        limit = stage.settings.body_limit
        for route, body in good.values():
            full = json.dumps(body).encode().ljust(limit)
            assert check(await send(stage, route, full), route).status < 300
            answer = check(await send(stage, route, full + b" "), route)
            assert (answer.status, answer.body["field"]) == (413, "body")
        check(await send(stage, good["/v1/recommend"][0], json.dumps(request | {"count": 51}).encode()), "count")

    run(servers, play, **PATIENT)


def test_odd_paths_methods_and_queries_are_no_fault(servers: LocalServers) -> None:
    """Whatever stands in a request's first line, the answer is a refusal that names it."""
    paths = ["/v1/policies/\0", "/v1/policies/a\0b/versions", "/v1/decisions/\0/activate", "/v1/policies/\ufffd"]
    paths += ["//", "/v1//policies", "/v1/policies/", "/v1/policies/../x", "/v1/policies/" + "é" * 5_000, "", "*"]
    paths += ["/v1/policies/{name}", "/v1/policies/a/versions/\0/promote", "/health/\0", "/v1/policies/%00"]

    async def play(stage: Stage) -> None:
        for function in TARGETS:
            for path in paths:
                for method in ("GET", "POST", "PUT", "HEAD", "BREW", ""):
                    answer = check(await send(stage, (function, method, path, None), b"{}"), (function, method, path))
                    assert 400 <= answer.status < 500, (function, method, path, answer)
        for query in (b"a=%00", b"\xff", b"=&=&%zz", b"a" * 10_000):
            answer = await send(stage, ("control", "GET", "/v1/policies", None), b"", query=query)
            assert answer.status == 200

    run(servers, play, **PATIENT)


def test_odd_headers_are_no_fault(servers: LocalServers) -> None:
    """A trace header that is none is ignored; a caller's name that is none is refused; others do not matter."""
    ignored = [
        (b"traceparent", value)
        for value in (b"", b"00", b"\xff\xfe", b"00-" + b"0" * 32 + b"-b7ad6b7169203331-01", b"ff" + b"-a" * 99)
    ]
    ignored += [(b"tracestate", b"\xff"), (b"content-type", b"\xff"), (b"content-type", b"image/png"), (b"x-a", b"\0")]
    refused = [(b"x-client-id", value) for value in (b"", "ü".encode(), "ü".encode("latin-1"), b"a" * 129, b"a\tb")]

    async def play(stage: Stage) -> None:
        for route, body in (await prepared(stage)).items():
            if route[3] is None:
                sent = json.dumps(body).encode()
                for header in ignored:
                    assert (await send(stage, route, sent, [header])).status < 300, (route, header)
                for header in refused:
                    answer = check(await send(stage, route, sent, [header]), (route, header))
                    assert (answer.status, answer.body["field"]) == (400, "X-Client-Id")

    run(servers, play, **PATIENT)


def envelope(event_type: str, data: Any, **changes: Any) -> dict[str, Any]:
    """Return an event in structured mode."""
    return {"specversion": "1.0", "id": "1", "source": "tests", "type": event_type, "data": data} | changes


def test_events_with_poisoned_envelopes_are_refused(servers: LocalServers) -> None:
    """Attributes that are missing, doubled, of a wrong type or cannot be stored are a 400, and no fault."""
    structured = [(b"content-type", b"application/cloudevents+json")]
    batched = [(b"content-type", b"application/cloudevents-batch+json")]

    async def play(stage: Stage) -> None:
        for route, body in (await prepared(stage)).items():
            if route[3] is None:
                continue
            whole = envelope(route[3], body)
            for missing in ("specversion", "id", "source", "type"):
                headers = [
                    (f"ce-{name}".encode(), str(value).encode())
                    for name, value in whole.items()
                    if name not in {missing, "data"}
                ]
                partial = {name: value for name, value in whole.items() if name != missing}
                for mode, sent in ((headers, body), (structured, partial)):
                    answer = check(await send(stage, route, json.dumps(sent).encode(), mode), (route, missing))
                    assert answer.status == 400, (route, missing, answer)
            for attribute in ("id", "source", "type", "specversion", "time"):
                poisons = [*TEXT_POISON.values(), *OTHER_POISON.values(), b"1", b"null", b"[]", b'""', b'"\xc3\xbc"']
                for poison in [*poisons, b'"' + b"x" * 300 + b'"']:
                    sent_raw = poisoned(whole | {attribute: 0}, (attribute,), poison)
                    check(await send(stage, route, sent_raw, structured), (route, attribute, poison[:30]))
                    check(await send(stage, route, b"[" + sent_raw + b"]", batched), (route, attribute, poison[:30]))
            for name, poison in {**TEXT_POISON, **OTHER_POISON, **ODD_VALUES, **BODIES}.items():
                check(await send(stage, route, poison, structured), (route, name))
                check(await send(stage, route, poison, batched), (route, name))
            doubled = [(b"ce-specversion", b"1.0"), (b"ce-source", b"s"), (b"ce-type", route[3].encode())]
            doubled += [(b"ce-id", b"1"), (b"ce-id", b"2"), (b"content-type", b"application/json")]
            assert check(await send(stage, route, json.dumps(body).encode(), doubled), route).status < 300
        await check_well(stage)

    run(servers, play, **PATIENT)


def test_events_with_poisoned_data_are_refused(servers: LocalServers) -> None:
    """What a function refuses in a request it refuses in an event's data too, in structured mode as in binary mode."""
    structured = [(b"content-type", b"application/cloudevents+json")]

    async def play(stage: Stage) -> None:
        for route, body in (await prepared(stage)).items():
            if route[3] is None:
                continue
            for path in places(body):
                for name, poison in {**TEXT_POISON, **OTHER_POISON}.items():
                    sent = poisoned(envelope(route[3], body), ("data", *path), poison)
                    answer = check(await send(stage, route, sent, structured), (route, path, name))
                    assert answer.status == 400 or may_nest(path, name), (route, path, name, answer)
            for changes in ({"data_base64": "!"}, {"data_base64": 1}, {"data_base64": "AAAA"}):
                sent = json.dumps(envelope(route[3], body, **changes)).encode()
                check(await send(stage, route, sent, structured), (route, changes))
            for data in (b"null", b"1", b'"text"', b"[]", b"[[]]"):
                sent = poisoned(envelope(route[3], 0), ("data",), data)
                answer = check(await send(stage, route, sent, structured), (route, data))
                assert answer.status == 400, (route, data, answer)
        await check_well(stage)

    run(servers, play, **PATIENT)


def test_a_poison_row_harms_only_itself(servers: LocalServers, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that passes the edge and that PostgreSQL refuses fails its own request; those that share its commit are stored."""
    monkeypatch.setattr(decoding, "_refuse_nul", lambda value, path: None)

    async def play(stage: Stage) -> None:
        await stage.policy(POLICY)
        decisions = [(await stage.recommend(POLICY))["decision_id"] for _ in range(60)]
        calls = [
            stage.call(
                "feedback", "POST", "/v1/feedback", {"decision_id": name, "kind": "cl\0ick" if at % 6 == 5 else "click"}
            )
            for at, name in enumerate(decisions)
        ]
        answers = await asyncio.gather(*calls)
        assert [answer.status for answer in answers] == [400 if at % 6 == 5 else 200 for at in range(60)]
        assert all(answer.body["field"] for answer in answers if answer.status == 400)
        rows = stage.sql(
            "select decision_id::text as name from feedback where decision_id = any(%s::uuid[])", decisions
        )
        assert {row["name"] for row in rows} == {name for at, name in enumerate(decisions) if at % 6 != 5}

    run(servers, play, **PATIENT)


def test_poison_beside_good_requests_leaves_them_answered(servers: LocalServers) -> None:
    """Good requests that arrive among poisoned ones of every kind are all answered and stored."""

    async def play(stage: Stage) -> None:
        good = await prepared(stage)
        poison = [
            send(stage, route, poisoned(body, path, TEXT_POISON["an escaped NUL"]))
            for route, body in good.items()
            for path in places(body)
        ]
        decisions = [(await stage.recommend(POLICY))["decision_id"] for _ in range(50)]
        answers = await asyncio.gather(
            *(stage.feedback(name) for name in decisions[:25]),
            *poison,
            *(stage.feedback(name) for name in decisions[25:]),
            *(stage.recommend(POLICY) for _ in range(25)),
        )
        assert sum(answer == {"accepted": 1, "duplicates": 0} for answer in answers) == 50
        rows = stage.sql("select 1 from feedback where decision_id = any(%s::uuid[])", decisions)
        assert len(rows) == 50

    run(servers, play, **PATIENT)


def test_text_that_looks_like_poison_is_stored_as_it_is(servers: LocalServers) -> None:
    r"""A backslash, a 'u' and four zeros are six characters, and quotes are quotes."""

    async def play(stage: Stage) -> None:
        await stage.policy(POLICY)
        decision = (await stage.recommend(POLICY))["decision_id"]
        for kind in ("\\u0000", "'; drop table feedback; --", "\x7f\u2028\U0001f600", '{"a": 1}', "%s %(rows)s"):
            await stage.feedback(decision, kind)
            assert len(stage.sql("select 1 from feedback where decision_id = %s and kind = %s", decision, kind)) == 1

    run(servers, play, **PATIENT)


# Fuzzing

_text = st.text(st.characters(exclude_categories=()), max_size=8)
_numbers = st.integers() | st.integers(-(10**400), 10**400) | st.floats()
_json: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | _numbers | _text | st.sampled_from(["a", "b", "click", "thompson", POLICY]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_text, inner, max_size=4),
    max_leaves=8,
)


@st.composite
def _edits(draw: st.DrawFn) -> tuple[int, dict[int, Any], bytes | None]:
    """Draw a route, values for some places of its body, and sometimes a byte to insert."""
    edits = draw(st.dictionaries(st.integers(0, 40), _json, min_size=1, max_size=3))
    return draw(st.integers(0, 9)), edits, draw(st.none() | st.binary(min_size=1, max_size=2))


def edited(body: dict[str, Any], edits: dict[int, Any], inserted: bytes | None) -> bytes:
    """Return a body with values replaced at numbered places and bytes inserted."""
    whole = json.loads(json.dumps(body))
    for number, value in edits.items():
        paths = list(places(whole))
        if paths:
            path = paths[number % len(paths)]
            inner = whole
            for step in path[:-1]:
                inner = inner[step]
            inner[path[-1]] = value
    sent = json.dumps(whole).encode()
    at = sum(edits) % len(sent)
    return sent if inserted is None else sent[:at] + inserted + sent[at:]


def test_fuzzed_bodies_are_no_fault(servers: LocalServers) -> None:
    """Good bodies with anything at all in some of their places are answered or refused by name, at every route."""
    with asyncio.Runner() as runner:
        stage = Stage(servers, **PATIENT)
        runner.run(stage.__aenter__())
        routes = list(runner.run(prepared(stage)).items())

        @settings(
            max_examples=150,
            derandomize=True,
            database=None,
            suppress_health_check=[HealthCheck.too_slow],
        )
        @given(_edits())
        def fuzz(edit: tuple[int, dict[int, Any], bytes | None]) -> None:
            number, edits, inserted = edit
            route, body = routes[number % len(routes)]
            sent = edited(body, edits, inserted)
            answer = check(runner.run(send(stage, route, sent)), (route, sent))
            if route[1] == "PUT" and answer.status < 300:
                runner.run(check_policy(stage, "poisoned-too"))

        try:
            fuzz()
            runner.run(check_well(stage))
        finally:
            runner.run(stage.__aexit__(None, None, None))


async def check_policy(stage: Stage, policy: str) -> None:
    """Check that a policy that was accepted can be read, decide and learn."""
    answer = await stage.call("recommend", "POST", "/v1/recommend", {"policy": policy, "actions": ["a", "b", "q"]})
    assert answer.status == 200, answer
    assert all(0 < item["propensity"] <= 1 for item in answer.body["items"])
    await stage.feedback(answer.body["decision_id"], value=1e12)
    await stage.feedback(answer.body["decision_id"], "dwell", value=-1e12)
    await stage.learn(policy)
    read = await stage.call("control", "GET", f"/v1/policies/{policy}")
    assert read.status == 200, read
    again = await stage.call("recommend", "POST", "/v1/recommend", {"policy": policy, "actions": ["a", "b", "q"]})
    assert again.status == 200, again


EXTREMES: list[dict[str, Any]] = [
    {"exploration_floor": 0},
    {"exploration_floor": 0.9999999},
    {"half_life_s": 10, "expected_delay_s": 5e-324},
    {"half_life_s": 1.7e308, "expected_delay_s": 366 * 86400, "reward_window_s": 366 * 86400},
    {"reward_window_s": 1, "expected_delay_s": 366 * 86400},
    {"reward_range": None, "default_reward": 1e12, "reward": {"click": 1e12, "dwell": -1e12}},
    {"reward_range": [-1e12, 1e12], "default_reward": -1e12, "reward": {"click": {"saturation": 5e-324}}},
    {"reward_range": [0, 5e-324], "default_reward": 0},
    {"reward_range": [1e11, 1.0000000001e11], "default_reward": 1e11},
    {"parameters": {"prior_alpha": 1e-3, "prior_beta": 1e6}},
    {"parameters": {"prior_scale": 1e-6, "noise_scale": 1e9}, "reward_range": None},
    {"parameters": {"prior_scale": 1e9, "noise_scale": 1e-6, "prior_mean": -1e9}, "reward_range": None},
    {"kind": "epsilon_greedy", "parameters": {"epsilon": 1}},
    {"kind": "epsilon_greedy", "parameters": {"epsilon": 0}, "exploration_floor": 0},
    {"kind": "ucb1", "exploration_floor": 0},
    {"actions": []},
    {"actions": ["a"]},
    {"actions": [f"a{number}" for number in range(1_000)]},
]


def test_a_policy_at_the_edge_of_the_bounds_works(servers: LocalServers) -> None:
    """Every policy that `control` accepts decides and learns, however extreme its numbers."""

    async def play(stage: Stage) -> None:
        for number, changes in enumerate(EXTREMES):
            policy = await stage.policy(f"extreme-{number}", **changes)
            await check_policy(stage, policy)
            await stage.policy(policy, **(changes | {"default_reward": changes.get("default_reward", 0)}))
            await check_policy(stage, policy)

    run(servers, play, **PATIENT)
