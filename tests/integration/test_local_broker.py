"""The local broker over real HTTP: what Knative's rules promise to senders and subscribers."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from urllib.parse import unquote

import pytest

from functions.local.broker import BODY_LIMIT, Broker
from functions.local.http_client import Answer, HttpClient
from functions.local.ports import ReservedPort
from functions.local.triggers import DeadLetterSink, Delivery, Trigger
from shared.edge.server import Server
from shared.events.envelopes import BATCHED, STRUCTURED
from tests.subscriber import Response, Subscriber

FAST = Delivery(retry=3, backoff_policy="exponential", backoff_delay_s=0.01, timeout_s=1.0)
ASKED, MADE = "test.asked", "test.made"
WAIT_S = 10.0


def event(type_: str = ASKED, **attributes: str) -> dict[str, str]:
    """Return the headers of an event in binary mode."""
    given = {"specversion": "1.0", "id": "1", "source": "/test", "type": type_} | attributes
    return {f"ce-{name}": value for name, value in given.items()} | {"content-type": "application/json"}


def with_sink() -> list[Trigger]:
    """Return a trigger whose dead letters go to the service `control`."""
    return [Trigger("asked", {"type": ASKED}, "asked", FAST, DeadLetterSink("control", "/v1/dead-letters"))]


def late(pause_s: float) -> Response:
    """Take an event after a pause."""
    time.sleep(pause_s)
    return 204, {}, b""


@dataclass
class Stage:
    """A broker that is served, and a client to speak to it."""

    broker: Broker
    url: str
    client: HttpClient

    async def post(self, headers: Mapping[str, str], body: bytes = b"{}") -> Answer:
        """Post an event."""
        return await self.client.request("POST", self.url, headers, body, timeout_s=WAIT_S)


@contextlib.asynccontextmanager
async def stage(
    addresses: Mapping[str, str], triggers: list[Trigger] | None = None, *, capacity: int = 100
) -> AsyncIterator[Stage]:
    """Serve a broker whose triggers give `test.asked` to the service `asked`, and `test.made` to `made`."""
    if triggers is None:
        triggers = [Trigger("asked", {"type": ASKED}, "asked", FAST), Trigger("made", {"type": MADE}, "made", FAST)]
    broker = Broker(triggers, lambda name: addresses[name], capacity=capacity)
    listening = socket.create_server(("127.0.0.1", 0))
    server = Server(broker.answer, lambda: BODY_LIMIT)
    serving = asyncio.create_task(server.serve(listening=listening))
    client = HttpClient()
    try:
        yield Stage(broker, f"http://127.0.0.1:{listening.getsockname()[1]}/", client)
    finally:
        await broker.stop(1.0)
        client.close()
        server.stop()
        await serving


def test_an_event_reaches_its_subscriber_and_no_other() -> None:
    """An event is answered 202 and delivered once, in binary mode, with its extensions."""

    async def run() -> None:
        async with stage({"asked": asked.url, "made": made.url}) as on:
            assert (await on.post(event(traceparent="00-a-b-01", subject="x y"), b'{"a": 1}')).status == 202
            assert await on.broker.drain(WAIT_S)

    asked, made = Subscriber(lambda _: (204, {}, b"")), Subscriber(lambda _: (204, {}, b""))
    with asked.serving(), made.serving():
        asyncio.run(run())
    [(_, headers, body)] = asked.requests
    assert body == b'{"a": 1}'
    assert headers["ce-traceparent"] == "00-a-b-01"
    assert headers["ce-subject"] == "x%20y"
    assert headers["content-type"] == "application/json"
    assert made.requests == []


def test_structured_and_batched_events_arrive_in_binary_mode() -> None:
    """Whatever mode an event comes in, subscribers see one event a request."""

    async def run() -> None:
        async with stage({"asked": asked.url}, [Trigger("asked", {"type": ASKED}, "asked", FAST)]) as on:
            members = {"specversion": "1.0", "source": "/test", "type": ASKED, "data": {"n": 1}}
            one = json.dumps(members | {"id": "one"}).encode()
            many = json.dumps([members | {"id": f"many-{n}"} for n in range(3)]).encode()
            assert (await on.post({"content-type": STRUCTURED}, one)).status == 202
            assert (await on.post({"content-type": BATCHED}, many)).status == 202
            assert await on.broker.drain(WAIT_S)

    asked = Subscriber(lambda _: (204, {}, b""))
    with asked.serving():
        asyncio.run(run())
    assert {headers["ce-id"] for _, headers, _ in asked.requests} == {"one", "many-0", "many-1", "many-2"}
    assert {json.loads(body)["n"] for _, _, body in asked.requests} == {1}


def test_a_malformed_event_is_refused_with_its_fault() -> None:
    """A malformed event gets problem details with the attribute at fault, and is delivered to nobody."""

    async def run() -> None:
        async with stage({}) as on:
            headers = event()
            del headers["ce-id"]
            answer = await on.post(headers)
            assert answer.status == 400
            assert answer.headers["content-type"] == "application/problem+json"
            assert json.loads(answer.body)["field"] == "id"
            half = [{"specversion": "1.0", "id": "1", "source": "/s", "type": ASKED}, {}]
            assert (await on.post({"content-type": BATCHED}, json.dumps(half).encode())).status == 400
            assert on.broker.held == 0

    asyncio.run(run())


@pytest.mark.parametrize("status", [404, 408, 409, 429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again(status: int) -> None:
    """A subscriber that recovers gets the event again."""

    async def run() -> None:
        async with stage({"asked": asked.url}) as on:
            await on.post(event())
            assert await on.broker.drain(WAIT_S)
            assert on.broker.counts["delivered"] == 1

    asked = Subscriber(lambda n: (204 if n == 3 else status, {}, b""))
    with asked.serving():
        asyncio.run(run())
    assert len(asked.requests) == 3


@pytest.mark.parametrize("status", [301, 400, 401, 403, 413, 415, 422])
def test_a_poison_event_is_given_up_at_once(status: int) -> None:
    """Every other status is final: one request, one dead letter that holds nothing personal."""

    async def run() -> None:
        async with stage({"asked": asked.url}) as on:
            await on.post(event(subject="ada"), b'{"user_id": "ada"}')
            assert await on.broker.drain(WAIT_S)
            [letter] = on.broker.dead_letters
            assert (letter.trigger, letter.id, letter.attempts, letter.status) == ("asked", "1", 1, status)
            assert "ada" not in str(letter)

    asked = Subscriber(lambda _: (status, {}, b""))
    with asked.serving():
        asyncio.run(run())
    assert len(asked.requests) == 1


def test_a_poison_event_goes_to_the_dead_letter_sink() -> None:
    """The event comes there as it was, with the attributes by which Knative says where it failed and what was answered."""

    async def run() -> None:
        async with stage({"asked": asked.url, "control": sink.url}, with_sink()) as on:
            await on.post(event(subject="ada", shard="7", knativeerrorcode="1"), b'{"user_id": "ada"}')
            assert await on.broker.drain(WAIT_S)
            [letter] = on.broker.dead_letters
            assert (letter.kept, letter.attempts, letter.status) == (True, 1, 422)
            assert (on.broker.counts["dead"], on.broker.counts["dead letters kept"]) == (1, 1)

    problem = b'{"detail": "' + b"x" * 2_000 + b'"}'
    asked, sink = Subscriber(lambda _: (422, {}, problem)), Subscriber(lambda _: (204, {}, b""))
    with asked.serving(), sink.serving():
        asyncio.run(run())
    [(_, headers, body)] = sink.requests
    assert sink.paths == ["/v1/dead-letters"]
    assert body == b'{"user_id": "ada"}'
    assert (headers["ce-id"], headers["ce-type"], headers["ce-subject"], headers["ce-shard"]) == (
        "1",
        ASKED,
        "ada",
        "7",
    )
    assert (headers["ce-knativeerrordest"], headers["ce-knativeerrorcode"]) == (asked.url, "422")
    assert base64.b64decode(unquote(headers["ce-knativeerrordata"])) == problem[:768]


def test_no_answer_is_a_500_with_the_reason() -> None:
    """Where nobody answers, the status is 500 and the reason stands for the answer, as Knative has it."""

    async def run() -> None:
        nobody = ReservedPort()
        async with stage({"asked": f"http://127.0.0.1:{nobody.number}/", "control": sink.url}, with_sink()) as on:
            await on.post(event())
            assert await on.broker.drain(WAIT_S)
        nobody.release()

    sink = Subscriber(lambda _: (204, {}, b""))
    with sink.serving():
        asyncio.run(run())
    [(_, headers, _)] = sink.requests
    assert headers["ce-knativeerrorcode"] == "500"
    assert base64.b64decode(unquote(headers["ce-knativeerrordata"])).startswith(b"dispatch error: no answer")


@pytest.mark.parametrize(
    ("refusals", "answer", "requests", "kept"),
    [
        (2, (503, {}, b""), 3, True),
        (9, (503, {}, b""), 4, False),
        (9, (400, {}, b""), 1, False),
        (9, (200, {"content-type": "text/plain"}, b"OK"), 4, False),
        (0, (200, event(MADE), b"{}"), 1, True),
    ],
    ids=["recovers", "stays away", "refuses", "says OK", "replies"],
)
def test_the_dead_letter_sink_is_tried_as_hard_as_the_subscriber(
    refusals: int, answer: Response, requests: int, kept: bool
) -> None:
    """A sink that recovers has the letter; what it never takes is lost and logged; a reply of its is nobody's."""

    async def run() -> None:
        async with stage({"asked": asked.url, "control": sink.url}, with_sink()) as on:
            await on.post(event())
            assert await on.broker.drain(WAIT_S)
            assert [letter.kept for letter in on.broker.dead_letters] == [kept]
            assert on.broker.counts["dead letters kept"] == kept
            assert on.broker.counts["replies"] == 0

    asked = Subscriber(lambda _: (400, {}, b""))
    sink = Subscriber(lambda n: answer if n <= refusals or not refusals else (204, {}, b""))
    with asked.serving(), sink.serving():
        asyncio.run(run())
    assert len(sink.requests) == requests


def test_retry_after_is_waited_for() -> None:
    """A subscriber that asks for a second is left alone for a second."""

    async def run() -> None:
        async with stage({"asked": asked.url}) as on:
            await on.post(event())
            assert await on.broker.drain(WAIT_S)

    asked = Subscriber(lambda n: (429, {"retry-after": "1"}, b"") if n == 1 else (204, {}, b""))
    with asked.serving():
        asyncio.run(run())
    (first, *_), (second, *_) = asked.requests
    assert second - first >= 1.0


def test_nobody_there_and_nobody_answering_become_dead_letters() -> None:
    """No connection and no answer in time are tried again, then given up."""

    async def run() -> None:
        nobody = ReservedPort()
        triggers = [
            Trigger("asked", {"type": ASKED}, "asked", Delivery(2, "linear", 0.01, 1.0)),
            Trigger("slow", {"type": ASKED}, "slow", Delivery(1, "linear", 0.01, 0.1)),
        ]
        async with stage({"asked": f"http://127.0.0.1:{nobody.number}/", "slow": slow.url}, triggers) as on:
            await on.post(event())
            assert await on.broker.drain(WAIT_S)
            letters = {letter.trigger: letter for letter in on.broker.dead_letters}
            assert letters["asked"].attempts == 3
            assert letters["slow"].attempts == 2
            assert "0.1 s" in letters["slow"].reason
        nobody.release()

    slow = Subscriber(lambda _: late(0.4))
    with slow.serving():
        asyncio.run(run())


def test_a_reply_comes_back_to_the_broker() -> None:
    """A reply event is delivered by the triggers like any other."""

    async def run() -> None:
        async with stage({"asked": asked.url, "made": made.url}) as on:
            await on.post(event())
            assert await on.broker.drain(WAIT_S)
            assert on.broker.counts["replies"] == 1

    asked = Subscriber(lambda _: (200, event(MADE, id="2", shard="7"), b'{"made": true}'))
    made = Subscriber(lambda _: (204, {}, b""))
    with asked.serving(), made.serving():
        asyncio.run(run())
    [(_, headers, body)] = made.requests
    assert (headers["ce-id"], headers["ce-shard"], body) == ("2", "7", b'{"made": true}')


def test_a_reply_that_is_no_event_is_a_failure() -> None:
    """A 200 with the body OK is tried again and ends as a dead letter, as on Knative."""

    async def run() -> None:
        async with stage({"asked": asked.url}) as on:
            await on.post(event())
            assert await on.broker.drain(WAIT_S)
            [letter] = on.broker.dead_letters
            assert letter.attempts == 4
            assert "no CloudEvent" in letter.reason

    asked = Subscriber(lambda _: (200, {"content-type": "text/plain"}, b"OK"))
    with asked.serving():
        asyncio.run(run())


def test_replies_that_go_in_circles_are_cut() -> None:
    """Two functions that answer one another for ever are stopped."""

    async def run() -> None:
        async with stage({"asked": asked.url, "made": made.url}) as on:
            await on.post(event())
            assert await on.broker.drain(WAIT_S)
            assert on.broker.counts["circles cut"] == 1

    asked = Subscriber(lambda _: (200, event(MADE), b""))
    made = Subscriber(lambda _: (200, event(ASKED), b""))
    with asked.serving(), made.serving():
        asyncio.run(run())
    assert len(asked.requests) + len(made.requests) == 256


def test_a_full_broker_asks_to_come_back() -> None:
    """Beyond its capacity the broker takes nothing, says so with Retry-After, and takes again later."""

    async def run() -> None:
        async with stage({"asked": asked.url}, [Trigger("asked", {"type": ASKED}, "asked", FAST)], capacity=2) as on:
            assert [(await on.post(event(id=str(n)))).status for n in range(2)] == [202, 202]
            answer = await on.post(event(id="2"))
            assert answer.status == 503
            assert "retry-after" in answer.headers
            gate.set()
            assert await on.broker.drain(WAIT_S)
            assert (await on.post(event(id="3"))).status == 202
            assert await on.broker.drain(WAIT_S)

    gate = threading.Event()
    asked = Subscriber(lambda _: (204 if gate.wait(0.5) else 503, {}, b""))
    with asked.serving():
        asyncio.run(run())
    assert {headers["ce-id"] for _, headers, _ in asked.requests} == {"0", "1", "3"}


def test_stopping_finishes_what_is_under_way_and_gives_up_the_rest() -> None:
    """A delivery under way is finished; one that waits for another attempt is a dead letter; nothing more is taken."""

    async def run() -> None:
        triggers = [
            Trigger("asked", {"type": ASKED}, "asked", FAST),
            Trigger("made", {"type": MADE}, "made", Delivery(5, "linear", 60.0, 1.0)),
        ]
        async with stage({"asked": asked.url, "made": made.url}, triggers) as on:
            await on.post(event(MADE))
            while len(made.requests) < 2:  # noqa: ASYNC110 - the list grows in another thread
                await asyncio.sleep(0.005)
            await on.post(event())
            await on.broker.stop(0.6)
            assert on.broker.counts["delivered"] == 1
            assert [letter.trigger for letter in on.broker.dead_letters] == ["made"]
            assert (await on.post(event())).status == 503

    asked = Subscriber(lambda _: late(0.2))
    made = Subscriber(lambda _: (500, {}, b""))
    with asked.serving(), made.serving():
        asyncio.run(run())


def test_a_subscriber_that_fails_holds_up_nobody_else() -> None:
    """A healthy subscriber of the same event gets it once, and soon."""

    async def run() -> None:
        triggers = [Trigger(name, {"type": ASKED}, name, FAST) for name in ("asked", "made")]
        async with stage({"asked": asked.url, "made": made.url}, triggers) as on:
            await asyncio.gather(*(on.post(event(id=str(n))) for n in range(20)))
            assert await on.broker.drain(WAIT_S)

    asked = Subscriber(lambda _: (500, {}, b""))
    made = Subscriber(lambda _: (204, {}, b""))
    with asked.serving(), made.serving():
        asyncio.run(run())
    assert sorted(int(headers["ce-id"]) for _, headers, _ in made.requests) == list(range(20))


def test_a_kept_connection_that_was_closed_is_replaced() -> None:
    """A subscriber that restarts between two events gets both."""

    async def run() -> None:
        async with stage({"asked": asked.url}) as on:
            for n in range(3):
                await on.post(event(id=str(n)))
                assert await on.broker.drain(WAIT_S)
            assert on.broker.counts["delivered"] == 3

    asked = Subscriber(lambda _: (200, {"connection": "close"}, b""))
    with asked.serving():
        asyncio.run(run())
