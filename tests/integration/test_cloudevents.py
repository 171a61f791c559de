"""CloudEvents in and out: every content mode, identity, replies, what is refused and what is put off, traces."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from cloudevents.http import CloudEvent, from_http

from functions.local.servers import LocalServers
from shared.identity import decision_id, policy_key
from shared.storage.redis_drain import read_journal
from tests.stage import DOORS, Answer, Stage, run

REQUESTED = "dev.knudge.recommendation.requested.v1"
MADE = "dev.knudge.recommendation.made.v1"
GIVEN = "dev.knudge.feedback.given.v1"
LOGGED = "dev.knudge.decision.logged.v1"
DUE = "dev.knudge.learning.due.v1"
PROMOTED = "dev.knudge.policy.promoted.v1"
PING = "dev.knative.sources.ping"
TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE}-b7ad6b7169203331-01"
PATIENT = {"journal_wait_ms": 2_000}
"""So that no answer is degraded because the machine is busy."""


def envelope(event_type: str, data: Any, **attributes: Any) -> dict[str, Any]:
    """Return an event as JSON; its id is fresh unless given."""
    given = {"specversion": "1.0", "id": f"e-{time.monotonic_ns()}", "source": "/tests", "type": event_type}
    return given | attributes | {"data": data}


async def send(stage: Stage, function: str, event: dict[str, Any], mode: str = "binary") -> Answer:
    """Send an event in binary, structured or batched mode."""
    if mode == "binary":
        headers = {f"ce-{name}": value for name, value in event.items() if name != "data"}
        return await stage.call(
            function,
            "POST",
            "/",
            event["data"],
            headers | {"content-type": event.get("datacontenttype", "application/json")},
        )
    if mode == "structured":
        return await stage.call(
            function, "POST", "/", event, {"content-type": "application/cloudevents+json; charset=utf-8"}
        )
    return await stage.call(function, "POST", "/", [event], {"content-type": "application/cloudevents-batch+json"})


def parsed(answer: Answer) -> tuple[CloudEvent, dict[str, Any]]:
    """Return the CloudEvent that an answer is, as the SDK reads it, and its data."""
    event = from_http(answer.headers, json.dumps(answer.body).encode())
    data = event.get_data()
    assert isinstance(data, dict)
    return event, data


def logged(policy: str, **changes: Any) -> dict[str, Any]:
    """Return a decision as another system logs it."""
    at = (datetime.now(UTC) - timedelta(minutes=1)).isoformat()
    return {"policy": policy, "action": "a", "propensity": 0.5, "context": {}, "occurred_at": at} | changes


# In and out


@pytest.mark.parametrize("mode", ["binary", "structured"])
def test_a_requested_recommendation_is_a_reply_event(servers: LocalServers, mode: str) -> None:
    """`recommend` answers an event with a CloudEvent that the SDK reads back, and the decision is journalled for its source."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy()
        asked = envelope(REQUESTED, {"policy": policy, "user_id": "u", "count": 2}, traceparent=TRACEPARENT)
        answer = await send(stage, "recommend", asked, mode)
        assert answer.status == 200, answer
        reply, data = parsed(answer)
        assert (reply["type"], reply["source"], reply["specversion"]) == (MADE, "knudge/recommend", "1.0")
        assert reply["id"] not in {"", asked["id"]}
        assert reply["traceparent"].split("-")[1] == TRACE
        assert abs(datetime.fromisoformat(reply["time"]).timestamp() - time.time()) < 10
        assert data["policy"] == policy
        assert len(data["items"]) == 2
        [decision] = (await read_journal(stage.redis, policy, 10))[0]
        assert (decision.decision_id, decision.actor) == (data["decision_id"], "/tests")

    run(servers, play, **PATIENT)


def test_a_redelivered_request_gets_the_same_decision(servers: LocalServers) -> None:
    """The broker may deliver twice, in any mode: one source and id are one decision, another source is another."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy()
        asked = envelope(REQUESTED, {"policy": policy})
        replies = [
            parsed(await send(stage, "recommend", asked | more, mode))
            for more, mode in [({}, "binary"), ({}, "binary"), ({}, "structured"), ({"source": "/else"}, "binary")]
        ]
        first, second, third, theirs = (data["decision_id"] for _, data in replies)
        assert first == second == third != theirs
        assert len((await read_journal(stage.redis, policy, 10))[0]) == 2

    run(servers, play, **PATIENT)


@pytest.mark.parametrize("mode", ["binary", "structured", "batched"])
def test_feedback_comes_as_an_event(servers: LocalServers, mode: str) -> None:
    """`feedback` takes events in every mode, answers an empty 204, and keeps source, id and time of each."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy()
        decision = (await stage.recommend(policy))["decision_id"]
        at = datetime.fromtimestamp(round(time.time() - 3), UTC)
        event = envelope(GIVEN, {"decision_id": decision, "kind": "click", "value": 0.5}, time=at.isoformat())
        answer = await send(stage, "feedback", event, mode)
        assert (answer.status, answer.body) == (204, None)
        [row] = stage.sql("select * from feedback where decision_id = %s", decision)
        assert (row["source"], row["event_id"], row["occurred_at"]) == ("/tests", event["id"], at)
        assert (row["kind"], row["value"], row["actor"]) == ("click", 0.5, "/tests")

    run(servers, play, **PATIENT)


def test_feedback_events_are_counted_once(servers: LocalServers) -> None:
    """An event is its source and id: repeats in any mode change nothing, another source's event counts."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy(reward={"click": {"combine": "sum"}}, reward_range=[0, 10])
        decision = await stage.recommend(policy)
        event = envelope(GIVEN, {"decision_id": decision["decision_id"], "kind": "click"})
        for mode in ("binary", "structured", "batched", "binary"):
            assert (await send(stage, "feedback", event, mode)).status == 204
        assert (await send(stage, "feedback", event | {"source": "/else"})).status == 204
        repeated = [event, event | {"source": "/third"}, event | {"source": "/third"}]
        batch = {"content-type": "application/cloudevents-batch+json"}
        assert (await stage.call("feedback", "POST", "/", repeated, batch)).status == 204
        rows = stage.sql("select source from feedback where decision_id = %s", decision["decision_id"])
        assert sorted(row["source"] for row in rows) == ["/else", "/tests", "/third"]
        await stage.learn(policy)
        assert (await stage.snapshot(policy))["actions"][decision["items"][0]["action"]]["mean"] == 3.0

    run(servers, play, **PATIENT)


@pytest.mark.parametrize("mode", ["binary", "structured", "batched"])
def test_logged_decisions_come_as_events(servers: LocalServers, mode: str) -> None:
    """A logged decision is taken once per source and id, in every mode, and is learned from."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy()
        event = envelope(LOGGED, logged(policy))
        for sent in (event, event, event | {"source": "/else"}):
            answer = await send(stage, "feedback", sent, mode)
            assert (answer.status, answer.body) == (204, None)
        rows = stage.sql("select actor, origin from decisions where policy = %s order by actor", policy)
        assert [(row["actor"], row["origin"]) for row in rows] == [("/else", "logged"), ("/tests", "logged")]
        await stage.learn(policy)
        assert (await stage.snapshot(policy))["actions"]["a"]["weight"] == 2.0

    run(servers, play, **PATIENT)


def test_sources_in_one_batch_keep_their_own_decisions(servers: LocalServers) -> None:
    """A decision's own name belongs to its source, also where events of two sources come in one batch."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy()
        data = logged(policy, decision_id="one")
        events = [envelope(LOGGED, data, source=source) for source in ("/x", "/y", "/x")]
        answer = await stage.call(
            "feedback", "POST", "/", events, {"content-type": "application/cloudevents-batch+json"}
        )
        assert answer.status == 204
        rows = stage.sql("select actor from decisions where policy = %s order by actor", policy)
        assert [row["actor"] for row in rows] == ["/x", "/y"]

    run(servers, play, **PATIENT)


@pytest.mark.parametrize("mode", ["binary", "structured"])
def test_learn_is_woken_by_events(servers: LocalServers, mode: str) -> None:
    """A wake-up for a policy and a sweep for all of them, by either type, answer after the learning is done."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy()
        for number, (event_type, data) in enumerate([(DUE, {"policy": policy}), (DUE, {}), (PING, {}), (PING, "x")]):
            await stage.recommend(policy)
            answer = await send(stage, "learn", envelope(event_type, data), mode)
            assert (answer.status, answer.body) == (204, None), (event_type, data, answer)
            weights = [action["weight"] for action in (await stage.snapshot(policy))["actions"].values()]
            assert sum(weights) == number + 1

    run(servers, play, **PATIENT)


def test_a_wake_up_for_a_policy_that_nobody_knows_is_taken(servers: LocalServers) -> None:
    """A sender may have guessed: the wake-up is answered 204, or the broker would repeat it for nothing."""

    async def play(stage: Stage) -> None:
        assert (await send(stage, "learn", envelope(DUE, {"policy": "never-written"}))).status == 204

    run(servers, play, **PATIENT)


# What is refused


@pytest.mark.parametrize("function", ["recommend", "feedback", "learn", "control"])
def test_an_event_of_another_type_is_refused_by_name(servers: LocalServers, function: str) -> None:
    """A type that a function cannot use is a 4xx that no broker repeats, and the answer names the type."""

    async def play(stage: Stage) -> None:
        for mode in ("binary", "structured", "batched"):
            answer = await send(stage, function, envelope("dev.knudge.else.v1", {}), mode)
            assert (answer.status, answer.body["field"]) == (422, "type")
            assert "dev.knudge.else.v1" in answer.body["detail"]
            assert answer.body["type"] == "urn:knudge:problem:unknown-event-type"

    run(servers, play, **PATIENT)


def test_what_is_no_event_is_a_400(servers: LocalServers) -> None:
    """A POST to `/` without an event, or with half of one, is malformed at every function."""

    async def play(stage: Stage) -> None:
        for function in DOORS:
            for headers, body in [
                ({}, b""),
                ({}, b"{}"),
                ({"content-type": "application/cloudevents+json"}, b"{}"),
                ({"content-type": "application/cloudevents+json"}, b"nonsense"),
                ({"content-type": "application/cloudevents-batch+json"}, b"{}"),
                ({"content-type": "application/cloudevents-batch+json"}, b"[]"),
                ({"content-type": "application/cloudevents-batch+json"}, b"[{}]"),
                ({"ce-specversion": "1.0"}, b"{}"),
                ({"ce-specversion": "9.9", "ce-id": "1", "ce-source": "s", "ce-type": PING}, b"{}"),
            ]:
                answer = await stage.call(function, "POST", "/", body, headers)
                assert answer.status == 400, (function, headers, body, answer)
                assert answer.body["field"], answer

    run(servers, play, **PATIENT)


def test_what_a_broker_must_not_repeat_is_no_404_or_409(servers: LocalServers) -> None:
    """An unknown policy and a conflict are a 422 to an event, because brokers try 404 and 409 again."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy()
        asked = envelope(REQUESTED, {"policy": policy})
        await send(stage, "recommend", asked)
        for function, event, slug in [
            ("recommend", envelope(REQUESTED, {"policy": "nobody"}), "unknown-policy"),
            ("feedback", envelope(LOGGED, logged("nobody")), "unknown-policy"),
            ("recommend", asked | {"data": {"policy": policy, "count": 2}}, "conflict"),
        ]:
            answer = await send(stage, function, event)
            assert (answer.status, answer.body["status"]) == (422, 422)
            assert answer.body["type"] == f"urn:knudge:problem:{slug}"

    run(servers, play, **PATIENT)


def test_a_faulty_event_keeps_its_batch_out(servers: LocalServers) -> None:
    """The faulty event of a batch is named by its index, mixed types are refused, and nothing of either is taken."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy()
        decision = (await stage.recommend(policy))["decision_id"]
        good = envelope(GIVEN, {"decision_id": decision, "kind": "click"})
        batch = {"content-type": "application/cloudevents-batch+json"}
        for faulty, status, field in [
            (envelope(GIVEN, {"decision_id": decision, "kind": 1}), 400, "[1].kind"),
            (envelope(GIVEN, {"decision_id": decision, "kind": ""}), 400, "[1].kind"),
            (envelope(GIVEN, {"decision_id": decision, "kind": "k" * 300}), 413, "[1].kind"),
            (envelope(GIVEN, {"decision_id": "nonsense", "kind": "click"}), 400, "[1].decision_id"),
            (envelope(GIVEN, {"decision_id": decision, "kind": "click"}, id=""), 400, "[1].id"),
            (envelope(LOGGED, logged(policy)), 422, "type"),
            (1, 400, "[1]"),
        ]:
            answer = await stage.call("feedback", "POST", "/", [good, faulty], batch)
            assert (answer.status, answer.body["field"]) == (status, field), answer
        assert stage.sql("select 1 from feedback where decision_id = %s", decision) == []

    run(servers, play, **PATIENT)


def test_only_feedback_takes_batches(servers: LocalServers) -> None:
    """A batch for a function that answers or works for each event is refused, and the answer says why."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy()
        for function, event in [
            ("recommend", envelope(REQUESTED, {"policy": policy})),
            ("learn", envelope(DUE, {"policy": policy})),
        ]:
            answer = await send(stage, function, event, "batched")
            assert (answer.status, answer.body["field"]) == (400, "content-type")
            assert "one at a time" in answer.body["detail"]

    run(servers, play, **PATIENT)


def test_an_impossible_time_is_refused(servers: LocalServers) -> None:
    """The attribute `time` says when feedback happened; one that is none, or lies ahead, is named."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy()
        decision = (await stage.recommend(policy))["decision_id"]
        for at in ("yesterday", "2024-01-01T00:00:00", "0000-01-01T00:00:00Z", "9999-12-31T23:59:59Z"):
            event = envelope(GIVEN, {"decision_id": decision, "kind": "click"}, time=at)
            for mode in ("binary", "structured"):
                answer = await send(stage, "feedback", event, mode)
                assert answer.status == 400, answer
                assert answer.body["field"] in {"time", "occurred_at"}

    run(servers, play, **PATIENT)


# What is put off


@asynccontextmanager
async def without(servers: LocalServers, **settings: str) -> AsyncIterator[Stage]:
    """Open a stage whose settings point elsewhere."""
    stage = Stage(servers)
    stage.settings = msgspec.structs.replace(stage.settings, **settings)
    async with stage:
        yield stage


def check_put_off(answer: Answer) -> None:
    """Check that an answer is a 503 that says when to come back."""
    assert answer.status == 503, answer
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.body["status"] == 503


def test_without_postgresql_events_are_put_off(servers: LocalServers, closed_port: int) -> None:
    """What needs PostgreSQL is a 503 with Retry-After while it is away, within seconds, and nothing is lost by saying 2xx."""

    async def main() -> None:
        async with without(servers, database_url=f"postgresql://u:p@127.0.0.1:{closed_port}/x") as stage:
            decision = decision_id(policy_key("p"), time.time_ns() // 1000, 7, several=False)
            began = time.monotonic()
            answers = await asyncio.gather(
                send(stage, "feedback", envelope(GIVEN, {"decision_id": decision, "kind": "click"})),
                send(stage, "learn", envelope(DUE, {"policy": "p"})),
                send(stage, "learn", envelope(PING, {})),
                stage.call("feedback", "POST", "/v1/feedback", {"decision_id": decision, "kind": "click"}),
                stage.call("feedback", "POST", f"/v1/decisions/{decision}/activate"),
                stage.call("control", "GET", "/v1/policies"),
            )
            assert time.monotonic() - began < 8
            for answer in answers:
                check_put_off(answer)
            logged_answer = await send(stage, "feedback", envelope(LOGGED, logged("p")))
            check_put_off(logged_answer)

    asyncio.run(main())


def test_without_redis_events_are_put_off_or_degraded(servers: LocalServers, closed_port: int) -> None:
    """Without Redis `learn` is a 503; `recommend` answers uniformly over given actions, degraded, and else is a 503."""

    async def main() -> None:
        async with without(servers, redis_url=f"redis://127.0.0.1:{closed_port}/0") as stage:
            check_put_off(await send(stage, "learn", envelope(PING, {})))
            check_put_off(await send(stage, "recommend", envelope(REQUESTED, {"policy": "p"})))
            answer = await send(stage, "recommend", envelope(REQUESTED, {"policy": "p", "actions": ["a", "b"]}))
            _, data = parsed(answer)
            assert (answer.status, data["degraded"], data["snapshot_version"]) == (200, True, 0)
            assert data["items"][0]["propensity"] == 0.5

    asyncio.run(main())


def test_an_overload_is_put_off(servers: LocalServers) -> None:
    """What exceeds the concurrency limit is a 503 with Retry-After; what is within is answered; health is not refused."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy()
        decision = (await stage.recommend(policy))["decision_id"]
        events = [envelope(GIVEN, {"decision_id": decision, "kind": "click"}, id=f"o{n}") for n in range(10)]
        answers = await asyncio.gather(
            *(send(stage, "feedback", event) for event in events), stage.call("feedback", "GET", "/health/ready")
        )
        *answers, health = answers
        assert health.status == 200
        taken = [answer for answer in answers if answer.status == 204]
        assert 2 <= len(taken) < 10
        for answer in answers:
            if answer not in taken:
                check_put_off(answer)
        assert len(stage.sql("select 1 from feedback where decision_id = %s", decision)) == len(taken)
        assert (await send(stage, "feedback", events[-1])).status == 204

    run(servers, play, concurrency_limit=2, **PATIENT)


# What functions send


class HttpSink:
    """A `$K_SINK` on a free port; notes what it is sent."""

    def __init__(self, status: int) -> None:
        """Answer everything with `status`."""
        self.status = status
        self.received: list[tuple[dict[str, str], bytes]] = []
        self.news = asyncio.Event()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take one request."""
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        self.received.append((headers, body))
        self.news.set()
        writer.write(f"HTTP/1.1 {self.status} Whatever\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    def of(self, event_type: str) -> list[tuple[dict[str, str], bytes]]:
        """Return what came of one type."""
        return [(headers, body) for headers, body in self.received if headers["ce-type"] == event_type]

    async def wait_for(self, event_type: str, count: int = 1) -> list[tuple[dict[str, str], bytes]]:
        """Return the events of a type once there are `count` of them."""
        async with asyncio.timeout(5):
            while len(self.of(event_type)) < count:
                self.news.clear()
                await self.news.wait()
        return self.of(event_type)


@asynccontextmanager
async def sending(servers: LocalServers, status: int = 202, **settings: Any) -> AsyncIterator[tuple[Stage, HttpSink]]:
    """Open a stage whose functions send to a sink of ours; the sink outlives the stage."""
    sink = HttpSink(status)
    server = await asyncio.start_server(sink.handle, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()
        async with Stage(servers, k_sink=f"http://{host}:{port}/in", **(PATIENT | settings)) as stage:
            yield stage, sink
        await asyncio.sleep(0)


def test_functions_wake_the_learner_by_event(servers: LocalServers) -> None:
    """A decision and a feedback each send `learning.due` in binary mode, within their caller's trace."""

    async def main() -> None:
        async with sending(servers, wake_up_ms=20) as (stage, sink):
            policy = await stage.policy()
            await sink.wait_for(DUE)
            sink.received.clear()
            trace = {"traceparent": TRACEPARENT}
            decision = await stage.call("recommend", "POST", "/v1/recommend", {"policy": policy}, trace)
            [first] = await sink.wait_for(DUE)
            sink.received.clear()
            body = {"decision_id": decision.body["decision_id"], "kind": "click"}
            await stage.call("feedback", "POST", "/v1/feedback", body, trace)
            [second] = await sink.wait_for(DUE)
            for (headers, data), function in ((first, "recommend"), (second, "feedback")):
                event = from_http(headers, data)
                assert (event["source"], event["specversion"]) == (f"knudge/{function}", "1.0")
                assert event.get_data() == {"policy": policy}
                assert headers["content-type"] == "application/json"
                assert headers["traceparent"] == headers["ce-traceparent"]
                version, trace_id, span, flags = headers["traceparent"].split("-")
                assert (version, trace_id, flags) == ("00", TRACE, "01")
                assert span != TRACEPARENT.split("-")[2]
            assert first[0]["ce-id"] != second[0]["ce-id"]

    asyncio.run(main())


def test_an_events_own_trace_is_continued(servers: LocalServers) -> None:
    """A traceparent that comes as an attribute of the event is passed on like one that comes as a header."""

    async def main() -> None:
        async with sending(servers, wake_up_ms=20) as (stage, sink):
            policy = await stage.policy()
            decision = (await stage.recommend(policy))["decision_id"]
            await asyncio.sleep(0.1)
            sink.received.clear()
            event = envelope(GIVEN, {"decision_id": decision, "kind": "click"}, traceparent=TRACEPARENT)
            await send(stage, "feedback", event, "structured")
            [(headers, _)] = await sink.wait_for(DUE)
            assert headers["ce-traceparent"].split("-")[1] == TRACE

    asyncio.run(main())


def test_requests_without_a_trace_send_none(servers: LocalServers) -> None:
    """A malformed traceparent is dropped, not passed on, and a trace does not leak into the next request."""

    async def main() -> None:
        async with sending(servers, wake_up_ms=20) as (stage, sink):
            policy = await stage.policy()
            await stage.call("recommend", "POST", "/v1/recommend", {"policy": policy}, {"traceparent": TRACEPARENT})
            await asyncio.sleep(0.1)
            for headers in ({"traceparent": "00-nonsense"}, {}):
                sink.received.clear()
                await stage.call("recommend", "POST", "/v1/recommend", {"policy": policy}, headers)
                [(sent, _)] = await sink.wait_for(DUE)
                assert "traceparent" not in sent
                assert "ce-traceparent" not in sent

    asyncio.run(main())


def test_wake_ups_are_coalesced_and_flushed(servers: LocalServers) -> None:
    """Many decisions within the interval are one wake-up, and a function that stops sends what is still due."""

    async def main() -> None:
        async with sending(servers, wake_up_ms=60_000) as (stage, sink):
            policies = [await stage.policy(), await stage.policy()]
            for _ in range(10):
                for policy in policies:
                    await stage.recommend(policy)
            assert sink.of(DUE) == []
            await DOORS["recommend"].stop()
            sent = [json.loads(body)["policy"] for _, body in sink.of(DUE)]
            assert sorted(sent) == sorted(policies)

    asyncio.run(main())


def test_an_activated_version_is_told(servers: LocalServers) -> None:
    """`control` sends `policy.promoted` with the policy, the version and who did it."""

    async def main() -> None:
        async with sending(servers) as (stage, sink):
            policy = await stage.policy()
            await stage.policy(policy)
            await stage.call(
                "control", "POST", f"/v1/policies/{policy}/versions/1/promote", None, {"X-Client-Id": "operator"}
            )
            told = [from_http(headers, body) for headers, body in await sink.wait_for(PROMOTED, 3)]
            assert [event.get_data() for event in told] == [
                {"policy": policy, "version": 1, "actor": "anonymous"},
                {"policy": policy, "version": 2, "actor": "anonymous"},
                {"policy": policy, "version": 1, "actor": "operator"},
            ]
            assert {event["source"] for event in told} == {"knudge/control"}

    asyncio.run(main())


def test_a_sink_that_refuses_harms_no_request(servers: LocalServers) -> None:
    """An event that the sink does not take is counted; the request that caused it is answered as ever."""

    async def main() -> None:
        failed = DOORS["feedback"].metrics.events_failed.values
        before = failed[(DUE,)]
        async with sending(servers, status=500, wake_up_ms=1) as (stage, sink):
            policy = await stage.policy()
            decision = (await stage.recommend(policy))["decision_id"]
            assert await stage.feedback(decision) == {"accepted": 1, "duplicates": 0}
            await sink.wait_for(DUE, 2)
        assert failed[(DUE,)] == before + 1

    asyncio.run(main())
