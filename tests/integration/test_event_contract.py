"""What Knative's broker is answered, by every function and for every event that it takes, over HTTP as in production.

Functions and their event types are found; each must have an example here. `verdict` is the broker's reading of an answer
(Knative Eventing, `pkg/kncloudevents/event_dispatcher.go`, `retries.go` and `pkg/broker/filter/filter_handler.go`).
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cloudevents.exceptions import GenericException
from cloudevents.http import from_http

from functions.local.ports import ReservedPort
from functions.local.servers import LocalServers
from shared.edge.function import Function
from shared.edge.hosting import load
from shared.events import types
from tests.hosted import Hosted
from tests.stage import Stage, run

ROOT = Path(__file__).resolve().parents[2]
FUNCTIONS = sorted(path.parent.name for path in ROOT.glob("functions/*/func.py") if load(path.parent.name)[1]._events)
ROUTES = [(name, event_type) for name in FUNCTIONS for event_type in load(name)[1]._events]
JOBS = {path.parent.name for path in ROOT.glob("functions/*/job.py")}
"""Functions that a cluster starts as a Job for each event: there is no load on their door."""
SERVED = [(name, event_type) for name, event_type in ROUTES if name not in JOBS]
TRIED_AGAIN = {404, 408, 409, 429}
FROM_A_BROKER = {
    "prefer": "reply",
    "kn-namespace": "knudge",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "tracestate": "",
    "user-agent": "Go-http-client/1.1",
    "accept-encoding": "gzip",
}
AT_ONCE = 40
_numbers = count(1)


class World(NamedTuple):
    """What examples may speak of."""

    policy: str
    decision: str
    experiment: str = "contract"

    def logged(self, **changes: Any) -> dict[str, Any]:
        """Return a decision as another system logs it."""
        at = (datetime.now(UTC) - timedelta(minutes=1)).isoformat()
        decision = {"policy": self.policy, "action": "a", "propensity": 0.5, "context": {}, "occurred_at": at}
        return decision | changes


class Example(NamedTuple):
    """Data that a function uses, data that it never can, and what it replies."""

    good: Callable[[World], Any]
    poison: Callable[[World], list[Any]] = lambda _: []
    reply: str | None = None


NO_OBJECT = [[], "text", 7, b"{", b"\xff\xfe", b"nonsense"]
EXAMPLES: dict[tuple[str, str], Example] = {
    ("recommend", types.RECOMMENDATION_REQUESTED): Example(
        lambda world: {"policy": world.policy, "user_id": "u"},
        lambda world: [
            *NO_OBJECT,
            b"",
            {},
            {"policy": "nobody"},
            {"policy": world.policy, "count": "many"},
            {"policy": world.policy, "unheard": 1},
            {"policy": world.policy, "context": {"c": "\ud800"}},
        ],
        types.RECOMMENDATION_MADE,
    ),
    ("feedback", types.FEEDBACK_GIVEN): Example(
        lambda world: {"decision_id": world.decision, "kind": "click"},
        lambda world: [
            *NO_OBJECT,
            b"",
            {},
            {"decision_id": "nonsense", "kind": "click"},
            {"decision_id": world.decision, "kind": "click", "value": "high"},
            {"decision_id": world.decision, "kind": "\0"},
            b'{"decision_id": "%b", "kind": "click", "value": 1e400}' % world.decision.encode(),
        ],
    ),
    ("feedback", types.DECISION_LOGGED): Example(
        lambda world: world.logged(),
        lambda world: [*NO_OBJECT, b"", {}, world.logged(propensity=2), world.logged(policy="nobody")],
    ),
    ("assignment", types.ASSIGNMENT_REQUESTED): Example(
        lambda world: {"user_id": "u", "experiments": [world.experiment], "attributes": {"plan": {"seats": 3}}},
        lambda world: [
            *NO_OBJECT,
            b"",
            {},
            {"user_id": ""},
            {"user_id": "u", "experiments": []},
            {"user_id": "u", "unheard": 1},
            {"user_id": "u", "attributes": {"a": "\ud800"}},
        ],
        types.ASSIGNMENT_MADE,
    ),
    ("assignment", types.EXPOSURE_RECORDED): Example(
        lambda world: {"experiment": world.experiment, "user_id": "u", "variation": "new"},
        lambda world: [
            *NO_OBJECT,
            b"",
            {},
            {"experiment": "nothing", "user_id": "u"},
            {"experiment": world.experiment},
            {"experiment": world.experiment, "user_id": "u", "variation": "nothing"},
            {"experiment": world.experiment, "user_id": "u", "variation": "new", "occurred_at": "tomorrow"},
        ],
    ),
    ("learn", types.LEARNING_DUE): Example(
        lambda world: {"policy": world.policy},
        lambda world: [*NO_OBJECT, {"policy": 7}, {"policy": ["a"]}],
    ),
    ("learn", types.PING): Example(lambda _: {}),
    ("train", "dev.knudge.training.requested.v1"): Example(
        lambda world: {"policy": world.policy},
        lambda world: [*NO_OBJECT, {"policy": 7}, {"policy": "nobody"}, {"policy": world.policy, "unheard": 1}],
    ),
    ("train", types.PING): Example(lambda _: {}),
    ("analyse", types.ANALYSIS_DUE): Example(
        lambda world: {"experiment": world.experiment},
        lambda _: [*NO_OBJECT, {"experiment": 7}, {"experiment": "nobody"}, {"unheard": 1}],
    ),
    ("analyse", types.PING): Example(lambda _: {}),
}


class Answer(NamedTuple):
    """An answer as it came; names of headers in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


def verdict(answer: Answer) -> str:
    """Return what Knative's broker does after an answer: "done", "reply", "again" or "dead letter"."""
    if answer.status >= 500 or answer.status in TRIED_AGAIN:
        return "again"
    if not 200 <= answer.status < 300:
        return "dead letter"
    content_type = answer.headers.get("content-type", "")
    if content_type.startswith("application/cloudevents") or "ce-specversion" in answer.headers:
        try:
            from_http(answer.headers, answer.body)
        except GenericException:
            return "again"
        return "reply"
    return "again" if answer.body else "done"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Answer(200, {"content-type": "text/plain"}, b"OK"), "again"),
        (Answer(200, {"content-type": "application/json", "ce-specversion": "1.0"}, b"{}"), "again"),
        (Answer(202, {}, b""), "done"),
        (Answer(409, {}, b""), "again"),
        (Answer(410, {}, b""), "dead letter"),
        (Answer(503, {}, b""), "again"),
    ],
)
def test_what_a_broker_makes_of_answers(answer: Answer, expected: str) -> None:
    """A body that is no event is a failure to a broker, and so is half an event."""
    assert verdict(answer) == expected


def attributes(event_type: str, **changes: str) -> dict[str, str]:
    """Return the attributes of an event with an id of its own."""
    return {"specversion": "1.0", "id": f"c-{next(_numbers)}", "source": "/contract", "type": event_type} | changes


def binary(given: dict[str, str], data: Any) -> tuple[dict[str, str], bytes]:
    """Return headers and body of an event in binary mode."""
    headers = {f"ce-{name}": value for name, value in given.items()}
    return headers | {"content-type": "application/json"}, encoded(data)


def structured(given: dict[str, str], data: Any) -> tuple[dict[str, str], bytes]:
    """Return headers and body of an event in structured mode."""
    return {"content-type": "application/cloudevents+json"}, json.dumps(given | {"data": data}).encode()


def batched(*events: dict[str, Any]) -> tuple[dict[str, str], bytes]:
    """Return headers and body of a batch."""
    return {"content-type": "application/cloudevents-batch+json"}, json.dumps(events).encode()


def encoded(data: Any) -> bytes:
    """Return data as it is sent; bytes as they are."""
    return data if isinstance(data, bytes) else json.dumps(data).encode()


def deliver(port: int, headers: dict[str, str], body: bytes, path: str = "/") -> Answer:
    """Send an event as a broker does."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("POST", path, body, headers | FROM_A_BROKER)
        answer = connection.getresponse()
        return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
    finally:
        connection.close()


def deliver_at_once(port: int, requests: list[tuple[dict[str, str], bytes]]) -> list[Answer]:
    """Send events side by side, each on a connection of its own."""
    with contextlib.ExitStack() as stack:
        connections = [http.client.HTTPConnection("127.0.0.1", port, timeout=20) for _ in requests]
        for connection in connections:
            stack.callback(connection.close)
            connection.connect()
        for connection, (headers, body) in zip(connections, requests, strict=True):
            connection.request("POST", "/", body, headers | FROM_A_BROKER)
        answers = [connection.getresponse() for connection in connections]
        return [Answer(a.status, {k.lower(): v for k, v in a.getheaders()}, a.read()) for a in answers]


def check_put_off(answer: Answer) -> None:
    """Check that an answer asks for another try, and says when."""
    assert answer.status in {429, 503}, answer
    assert int(answer.headers["retry-after"]) >= 1
    assert json.loads(answer.body)["status"] == answer.status


def check_given_up(answer: Answer) -> dict[str, Any]:
    """Check that an answer sends its event to the dead letters and says what is wrong with it; return what it says."""
    assert verdict(answer) == "dead letter", answer
    problem: dict[str, Any] = json.loads(answer.body)
    assert problem["field"], problem
    assert problem["detail"], problem
    return problem


def check_taken(answer: Answer, example: Example) -> Any:
    """Check that an answer ends a delivery, with the reply that is due; return the reply's data."""
    if example.reply is None:
        assert (answer.status, answer.body) == (204, b""), answer
        assert "content-length" not in answer.headers
        return None
    assert (answer.status, verdict(answer)) == (200, "reply"), answer
    event = from_http(answer.headers, answer.body)
    assert (event["type"], event["specversion"]) == (example.reply, "1.0")
    assert event["id"]
    assert event["source"]
    assert answer.headers["content-type"] == "application/json"
    return event.get_data()


@pytest.fixture(scope="module")
def world(servers: LocalServers) -> World:
    """Make a policy, a decision and an experiment, the only one: a ping has all that there are analysed."""
    made: list[str] = []

    async def write(stage: Stage) -> None:
        made.append(await stage.policy("contract"))
        made.append((await stage.recommend("contract"))["decision_id"])
        stage.sql("truncate experiments cascade")
        written = {"variations": [{"key": "control"}, {"key": "new", "value": True}]}
        answer = await stage.call("control", "PUT", "/v1/experiments/contract", written)
        assert answer.status in {200, 201}, answer
        await stage.assigning("contract")

    run(servers, write)
    return World(*made)


@pytest.fixture(scope="module")
def ports(servers: LocalServers, world: World) -> Iterator[dict[str, int]]:
    """Serve every function that takes events; return their ports."""
    with contextlib.ExitStack() as stack:
        hosts = {name: stack.enter_context(Hosted(name, servers)) for name in FUNCTIONS}
        yield {name: host.port for name, host in hosts.items()}


def door(name: str) -> Function[Any]:
    """Return a function."""
    return load(name)[1]


def test_every_event_that_a_function_takes_has_an_example() -> None:
    """What is not shown here is not checked here."""
    assert set(ROUTES) <= set(EXAMPLES)
    assert {"assignment", "recommend", "feedback", "learn"} <= set(FUNCTIONS)


@pytest.mark.parametrize(("name", "event_type"), ROUTES)
def test_an_event_is_taken_in_every_mode(name: str, event_type: str, ports: dict[str, int], world: World) -> None:
    """Binary and structured events are taken; a batch is where the function says so, and else is given up at once."""
    example = EXAMPLES[name, event_type]
    data = example.good(world)
    for mode in (binary, structured):
        check_taken(deliver(ports[name], *mode(attributes(event_type), data)), example)
    batch = batched(*(attributes(event_type) | {"data": data} for _ in range(2)))
    answer = deliver(ports[name], *batch)
    if door(name)._events[event_type].batch:
        check_taken(answer, example)
    else:
        assert check_given_up(answer)["field"] == "content-type"


@pytest.mark.parametrize(("name", "event_type"), ROUTES)
def test_a_duplicate_is_taken_like_the_first(name: str, event_type: str, ports: dict[str, int], world: World) -> None:
    """A broker delivers at least once: the second time is a success too, with the same data in its reply."""
    example = EXAMPLES[name, event_type]
    given, data = attributes(event_type), example.good(world)
    first, second, third = (
        check_taken(deliver(ports[name], *mode(given, data)), example) for mode in (binary, binary, structured)
    )
    assert first == second == third


@pytest.mark.parametrize(("name", "event_type"), ROUTES)
def test_a_poison_event_is_given_up(name: str, event_type: str, ports: dict[str, int], world: World) -> None:
    """Data that no attempt will ever use is a 4xx that no broker repeats, and the answer names the field."""
    example = EXAMPLES[name, event_type]
    for data in example.poison(world):
        check_given_up(deliver(ports[name], *binary(attributes(event_type), data)))
        if not isinstance(data, bytes):
            check_given_up(deliver(ports[name], *structured(attributes(event_type), data)))
    check_taken(deliver(ports[name], *binary(attributes(event_type), example.good(world))), example)


@pytest.mark.parametrize(("name", "event_type"), ROUTES)
def test_a_malformed_envelope_is_given_up(name: str, event_type: str, ports: dict[str, int], world: World) -> None:
    """An event without what makes it one is given up, whatever its data."""
    data = EXAMPLES[name, event_type].good(world)
    for changes in (
        {"specversion": "9.9"},
        {"id": ""},
        {"id": "i" * 300},
        {"source": ""},
        {"type": ""},
        {"id": "\0"},
    ):
        given = attributes(event_type, **changes)
        check_given_up(deliver(ports[name], *structured(given, data)))
        if "\0" not in given["id"]:
            check_given_up(deliver(ports[name], *binary(given, data)))
    for missing in ("specversion", "id", "source", "type"):
        given = attributes(event_type)
        del given[missing]
        check_given_up(deliver(ports[name], *structured(given, data)))
        check_given_up(deliver(ports[name], *binary(given, data)))
    for body in (b"", b"{", b"[]", b"null", b"\xff"):
        check_given_up(deliver(ports[name], {"content-type": "application/cloudevents+json"}, body))
    for body in (b"", b"{}", b"[]", b"[1]", b"[{}]"):
        check_given_up(deliver(ports[name], {"content-type": "application/cloudevents-batch+json"}, body))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_an_unknown_type_is_given_up_by_name(name: str, ports: dict[str, int]) -> None:
    """A type that a function does not take is named in a 4xx that no broker repeats."""
    given = attributes("com.example.else")
    for headers, body in (binary(given, {}), structured(given, {}), batched(given | {"data": {}})):
        problem = check_given_up(deliver(ports[name], headers, body))
        assert problem["field"] == "type"
        assert "com.example.else" in problem["detail"]


@pytest.mark.parametrize(("name", "event_type"), SERVED)
def test_an_overload_is_put_off(name: str, event_type: str, servers: LocalServers, world: World) -> None:
    """More events at once than a process takes are put off with a time to come again; the others are taken, and all then."""
    example = EXAMPLES[name, event_type]
    requests = [binary(attributes(event_type), example.good(world)) for _ in range(AT_ONCE)]
    with Hosted(name, servers, environment={"KNUDGE_CONCURRENCY_LIMIT": "2"}) as host:
        answers = deliver_at_once(host.port, requests)
        put_off = [at for at, answer in enumerate(answers) if verdict(answer) == "again"]
        assert 0 < len(put_off) < AT_ONCE
        for at, answer in enumerate(answers):
            if at in put_off:
                check_put_off(answer)
            else:
                check_taken(answer, example)
        for at in put_off[:3]:
            check_taken(deliver(host.port, *requests[at]), example)


@pytest.mark.parametrize(("name", "event_type"), SERVED)
def test_many_events_at_once_are_all_taken(name: str, event_type: str, ports: dict[str, int], world: World) -> None:
    """What is no overload is taken side by side; wake-ups of a learner share its runs."""
    example = EXAMPLES[name, event_type]
    requests = [binary(attributes(event_type), example.good(world)) for _ in range(AT_ONCE)]
    for answer in deliver_at_once(ports[name], requests):
        check_taken(answer, example)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_store_that_is_away_puts_events_off(name: str, servers: LocalServers, world: World) -> None:
    """Without PostgreSQL and Redis each event is put off with a time to come again, unless it can be answered all the same."""
    closed = ReservedPort()
    away = {
        "KNUDGE_REDIS_URL": f"redis://127.0.0.1:{closed.number}/0",
        "KNUDGE_DATABASE_URL": f"postgresql://u:p@127.0.0.1:{closed.number}/x",
    }
    try:
        with Hosted(name, servers, environment=away) as host:
            for event_type in door(name)._events:
                answer = deliver(host.port, *binary(attributes(event_type), EXAMPLES[name, event_type].good(world)))
                check_put_off(answer)
            assert host.stop() == 0
    finally:
        closed.release()


def test_the_dead_letter_sink_is_answered_likewise(servers: LocalServers) -> None:
    """Letters are taken in every mode and twice, what is no event is given up, and a PostgreSQL that is away puts them off."""
    failed = {"knativeerrordest": "http://feedback.knudge.svc/", "knativeerrorcode": "422", "knativeerrordata": "e30="}
    given = attributes(types.FEEDBACK_GIVEN) | failed
    letter, empty = "/v1/dead-letters", Example(lambda _: {})
    closed = ReservedPort()
    away = {"KNUDGE_DATABASE_URL": f"postgresql://u:p@127.0.0.1:{closed.number}/x"}
    try:
        with Hosted("control", servers) as host, Hosted("control", servers, environment=away) as without:
            for mode in (binary, binary, structured):
                check_taken(deliver(host.port, *mode(given, {"kind": "click"}), letter), empty)
            check_taken(
                deliver(host.port, *batched(given | {"data": {}}, given | {"id": "2", "data": 1}), letter), empty
            )
            for missing in ("specversion", "id", "source", "type"):
                part = {name: value for name, value in given.items() if name != missing}
                check_given_up(deliver(host.port, *binary(part, {}), letter))
                check_given_up(deliver(host.port, *structured(part, {}), letter))
            check_put_off(deliver(without.port, *binary(given, {}), letter))
    finally:
        closed.release()


def test_a_broker_that_hangs_up_is_delivered_to_again(ports: dict[str, int], world: World) -> None:
    """A delivery that a broker gave up waiting for may have been done: the next attempt is a duplicate like any other."""
    headers, body = binary(attributes(types.FEEDBACK_GIVEN), {"decision_id": world.decision, "kind": "click"})
    head = "".join(f"{name}: {value}\r\n" for name, value in (headers | FROM_A_BROKER).items())
    request = f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n{head}\r\n".encode() + body
    with socket.create_connection(("127.0.0.1", ports["feedback"]), timeout=5) as connection:
        connection.sendall(request)
    check_taken(deliver(ports["feedback"], headers, body), EXAMPLES["feedback", types.FEEDBACK_GIVEN])
