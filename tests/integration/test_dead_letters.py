"""Dead letters at `control`'s door, on a real PostgreSQL: kept without names, found, and sent again to the same effect."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote

import psycopg
import pytest

from functions.control.func import door
from functions.local.servers import LocalServers
from shared.identity import SEAL, pseudonym
from shared.observability.metrics import Metrics
from shared.storage.migrate import migrate
from shared.storage.redis_drain import read_journal
from tests.stage import Answer, Stage, run
from tests.subscriber import Response, Subscriber

PATH = "/v1/dead-letters"
STRUCTURED = {"content-type": "application/cloudevents+json"}
BATCHED = {"content-type": "application/cloudevents-batch+json"}
REQUESTED = "dev.knudge.recommendation.requested.v1"
LOGGED = "dev.knudge.decision.logged.v1"
GIVEN = "dev.knudge.feedback.given.v1"
EXPOSED = "dev.knudge.exposure.recorded.v1"
PATIENT = {"journal_wait_ms": 2_000}
FAILURE = {
    "knativeerrordest": "http://feedback.knudge.svc.cluster.local/",
    "knativeerrorcode": "422",
    "knativeerrordata": base64.b64encode(b'{"detail": "no such policy"}').decode(),
    "knativebrokerttl": "254",
    "knativearrivaltime": "2026-11-25T04:00:00.1Z",
}
"""What Knative's broker adds to a dead letter."""


def event(data: Any = None, event_type: str = LOGGED, **attributes: Any) -> dict[str, Any]:
    """Return a dead letter as JSON; its id is fresh unless given."""
    given = {"specversion": "1.0", "id": f"e-{time.monotonic_ns()}", "source": "/shop", "type": event_type}
    return given | FAILURE | attributes | {"data": {} if data is None else data}


async def bury(stage: Stage, letter: dict[str, Any], mode: str = "binary") -> Answer:
    """Give `control` a dead letter; data that is bytes goes as it is."""
    if mode == "structured":
        return await stage.call("control", "POST", PATH, letter, STRUCTURED)
    if mode == "batched":
        return await stage.call("control", "POST", PATH, [letter], BATCHED)
    headers = {f"ce-{name}": str(value) for name, value in letter.items() if name != "data"}
    return await stage.call("control", "POST", PATH, letter["data"], {"content-type": "application/json"} | headers)


def rows(stage: Stage, letter: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what is kept of an event."""
    query = "select * from dead_letters where source = %s and event_id = %s order by id"
    return stage.sql(query, letter["source"], letter["id"])


async def buried(stage: Stage, letter: dict[str, Any]) -> int:
    """Bury a letter that must be kept; return its number."""
    answer = await bury(stage, letter)
    assert (answer.status, answer.body) == (204, None), answer
    return int(rows(stage, letter)[-1]["id"])


async def list_of(stage: Stage, **arguments: Any) -> list[dict[str, Any]]:
    """Return a page of letters."""
    answer = await stage.call("control", "GET", PATH, query=arguments)
    assert answer.status == 200, answer
    letters: list[dict[str, Any]] = answer.body["letters"]
    return letters


@contextmanager
def sink(answer: Response = (202, {}, b"")) -> Iterator[Subscriber]:
    """Run a sink that answers always the same."""
    subscriber = Subscriber(lambda _: answer)
    with subscriber.serving():
        yield subscriber


def sent_event(subscriber: Subscriber) -> tuple[dict[str, str], bytes]:
    """Return the attributes and the body of the last event that a sink was sent."""
    _, headers, body = subscriber.requests[-1]
    return {n.removeprefix("ce-"): unquote(v) for n, v in headers.items() if n.startswith("ce-")}, body


async def deliver(stage: Stage, function: str, subscriber: Subscriber) -> Answer:
    """Deliver the last event that a sink was sent to a function, as the broker would."""
    _, headers, body = subscriber.requests[-1]
    given = {name: value for name, value in headers.items() if name.startswith("ce-") or name == "content-type"}
    return await stage.call(function, "POST", "/", body, given)


# Kept


@pytest.mark.parametrize("mode", ["binary", "structured", "batched"])
def test_any_event_is_kept(servers: LocalServers, mode: str) -> None:
    """A type that nobody knows, in every mode: an empty 204 after the commit, and all that is worth keeping in a row."""

    async def play(stage: Stage) -> None:
        letter = event(
            {"a": [1, 2.5, "täglich"]}, "com.example.nobody", subject="order 7", time="2026-11-25T04:00:00Z", shard="7"
        )
        answer = await bury(stage, letter, mode)
        assert (answer.status, answer.body) == (204, None)
        [row] = rows(stage, letter)
        assert (row["type"], row["source"], row["time"]) == (letter["type"], "/shop", "2026-11-25T04:00:00Z")
        assert json.loads(row["data"]) == letter["data"]
        assert row["attributes"] == {"shard": "7"}
        assert row["subject"].startswith(SEAL)
        assert (row["destination"], row["error_code"]) == (FAILURE["knativeerrordest"], 422)
        assert row["error_data"] == '{"detail": "no such policy"}'
        assert (row["actor"], row["arrivals"], row["replays"], row["replayed_at"]) == ("anonymous", 1, 0, None)
        [line] = [line for line in await list_of(stage, type=letter["type"]) if line["event_id"] == letter["id"]]
        assert (line["id"], line["open"], line["data_kept"], line["error_code"]) == (row["id"], True, True, 422)
        shown = (await stage.call("control", "GET", f"{PATH}/{row['id']}")).body
        assert shown["data"] == letter["data"]
        assert datetime.fromisoformat(shown["received_at"]) == row["received_at"]

    run(servers, play)


def test_a_letter_is_kept_once_for_each_place_where_it_failed(servers: LocalServers) -> None:
    """Brought twice it has failed twice; another place, source or id is another letter."""

    async def play(stage: Stage) -> None:
        before = dict(door.metrics.dead_letters.values)
        letter = event({"n": 1})
        again = letter | {"knativeerrorcode": "503", "data": {"n": 2}}
        for each in (letter, again, letter | {"knativeerrordest": "http://learn/"}, letter | {"source": "/else"}):
            assert (await bury(stage, each)).status == 204
        first, elsewhere = rows(stage, letter)
        assert (first["arrivals"], first["error_code"], json.loads(first["data"])) == (2, 503, {"n": 1})
        assert first["failed_at"] > first["received_at"]
        assert (elsewhere["arrivals"], elsewhere["destination"]) == (1, "http://learn/")
        counted = {key: value - before.get(key, 0) for key, value in door.metrics.dead_letters.values.items()}
        assert (counted["kept",], counted["repeated",]) == (3, 1)

    run(servers, play)


def test_a_batch_is_kept_together_or_not_at_all(servers: LocalServers) -> None:
    """Letters of any types come in one batch; one that is no event keeps the others out, and is named by its place."""

    async def play(stage: Stage) -> None:
        letters = [event({"n": n}, f"type.{n}") for n in range(3)]
        assert (await stage.call("control", "POST", PATH, [*letters, letters[0]], BATCHED)).status == 204
        assert [len(rows(stage, letter)) for letter in letters] == [1, 1, 1]
        others = [event({"n": n}) for n in range(2)]
        answer = await stage.call("control", "POST", PATH, [*others, {"id": "x"}], BATCHED)
        assert (answer.status, answer.body["field"][:3]) == (400, "[2]")
        assert (await stage.call("control", "POST", PATH, [], BATCHED)).status == 400
        many = [event() for _ in range(stage.settings.batch_limit + 1)]
        assert (await stage.call("control", "POST", PATH, many, BATCHED)).status == 413
        assert [rows(stage, letter) for letter in others] == [[], []]

    run(servers, play)


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({}, b""),
        ({"content-type": "application/json"}, b"{}"),
        (STRUCTURED, b"nonsense"),
        (STRUCTURED, b"{}"),
        (STRUCTURED, b'{"specversion": "0.3", "id": "1", "source": "s", "type": "t"}'),
        (STRUCTURED, rb'{"specversion": "1.0", "id": "\u0000", "source": "s", "type": "t"}'),
        (STRUCTURED, rb'{"specversion": "1.0", "id": "\ud800", "source": "s", "type": "t"}'),
        ({"ce-specversion": "1.0", "ce-id": "1", "ce-type": "t"}, b"{}"),
    ],
)
def test_what_is_no_event_is_a_400(servers: LocalServers, headers: dict[str, str], body: bytes) -> None:
    """A malformed event is refused for good, with the attribute at fault."""

    async def play(stage: Stage) -> None:
        answer = await stage.call("control", "POST", PATH, body, headers)
        assert (answer.status, answer.body["type"]) == (400, "urn:knudge:problem:invalid-input")
        assert answer.body["field"]

    run(servers, play)


@pytest.mark.parametrize(
    "changes",
    [
        {"time": "yesterday"},
        {"id": "x" * 1_000},
        {"source": "s" * 8_000},
        {"type": "täglich " + "t" * 300},
        {"knativeerrorcode": "many"},
        {"knativeerrorcode": "9" * 50},
        {"knativeerrordata": "plain text, which older brokers send"},
        {"knativeerrordata": base64.b64encode(b"\xc3\xa9" * 400).decode()[:1023]},
        {"knativeerrordata": base64.b64encode(b"a\x00b").decode()},
        {"datacontenttype": "text/xml"},
    ],
)
def test_what_a_function_refuses_is_kept_all_the_same(servers: LocalServers, changes: dict[str, str]) -> None:
    """Impossible times, long attributes, a failure that is told otherwise: dead letters are exactly those."""

    async def play(stage: Stage) -> None:
        letter = event({"n": 1}, **changes)
        assert (await bury(stage, letter, "structured")).status == 204
        [row] = rows(stage, letter)
        assert (row["type"], row["time"]) == (letter["type"], changes.get("time"))
        assert row["error_data"]
        assert (await stage.call("control", "GET", f"{PATH}/{row['id']}")).body["event_id"] == letter["id"]

    run(servers, play)


def test_a_letter_without_failure_is_kept(servers: LocalServers) -> None:
    """A broker does not always say where and how an event failed."""

    async def play(stage: Stage) -> None:
        letter = {name: value for name, value in event().items() if name not in FAILURE}
        await buried(stage, letter)
        await buried(stage, letter)
        [row] = rows(stage, letter)
        assert (row["destination"], row["error_code"], row["error_data"], row["arrivals"]) == (None, None, None, 2)

    run(servers, play)


def test_letters_are_bounded_like_every_body(servers: LocalServers) -> None:
    """Data up to the bound of a body is kept, beyond it and with endless attributes refused for good."""

    async def play(stage: Stage) -> None:
        limit = stage.settings.body_limit
        letter = event(b'"' + b"x" * (limit - 4) + b'"')
        letter["data"] = b"[" + letter["data"] + b"]"
        assert len(letter["data"]) == limit
        number = await buried(stage, letter)
        assert stage.sql("select octet_length(data) as n from dead_letters where id = %s", number)[0]["n"] == limit
        for changes in ({"data": letter["data"] + b" "}, {"data": b"{}", "shard": "x" * 17_000}):
            answer = await bury(stage, event() | changes)
            assert (answer.status, answer.body["field"]) == (413, "body")

    run(servers, play)


def test_without_postgresql_a_letter_is_put_off(servers: LocalServers, closed_port: int) -> None:
    """The broker is told to come again; nothing of it is kept."""

    async def play(stage: Stage) -> None:
        before = dict(door.metrics.dead_letters.values)
        answers = await asyncio.gather(
            *(bury(stage, event(), mode) for mode in ("binary", "structured", "batched")),
            stage.call("control", "GET", PATH),
        )
        for answer in answers:
            assert (answer.status, answer.body["type"]) == (503, "urn:knudge:problem:unavailable")
            assert answer.headers["retry-after"]
        assert dict(door.metrics.dead_letters.values) == before

    run(servers, play, database_url=f"postgresql://nobody@127.0.0.1:{closed_port}/nothing")


# Nothing personal


def test_nothing_personal_is_kept_in_the_clear(servers: LocalServers) -> None:
    """No name stands in any column of the row, nor in what is shown of it, wherever the event held it."""

    async def play(stage: Stage) -> None:
        said = base64.b64encode(b"no user 'Ada-7f3c' here (sess-Qx1)").decode()
        letter = event(
            {"user_id": "Ada-7f3c", "context": {"user_id": "Ada-7f3c"}, "more": [{"sessionId": "sess-Qx1"}]},
            subject="Ada-7f3c",
            partitionkey="sess-Qx1",
            knativeerrordata=said,
        )
        number = await buried(stage, letter)
        [row] = rows(stage, letter)
        [as_text] = stage.sql("select d::text as row from dead_letters d where id = %s", number)
        shown = json.dumps((await stage.call("control", "GET", f"{PATH}/{number}")).body)
        for text in (as_text["row"], row["data"].decode(), shown, json.dumps(await list_of(stage))):
            assert "Ada-7f3c" not in text
            assert "sess-Qx1" not in text
        assert row["error_data"] == "no user '…' here (…)"
        ada = pseudonym(servers.server_key.encode(), "user", "Ada-7f3c")
        assert json.loads(row["data"])["user_id"].startswith(f"{SEAL}{ada}:")

    run(servers, play)


@pytest.mark.parametrize("data", [b"user_id=Ada-7f3c", b"\xff\x00", b'"Ada-7f3c"', b'{"value": NaN}'])
def test_data_that_is_no_json_is_not_kept(servers: LocalServers, data: bytes) -> None:
    """Its length and a keyed hash are; the letter cannot be sent again, and says so."""

    async def play(stage: Stage) -> None:
        letter = event(data)
        number = await buried(stage, letter)
        [row] = rows(stage, letter)
        assert (row["data"], row["data_bytes"]) == (None, len(data))
        assert row["data_hash"] == pseudonym(servers.server_key.encode(), "data", data.hex())
        answer = await stage.call("control", "GET", f"{PATH}/{number}")
        assert (answer.body["data"], answer.body["data_kept"]) == (None, False)
        with sink() as subscriber:
            answer = await stage.call("control", "POST", f"{PATH}/{number}/replay")
            assert (answer.status, answer.body["type"]) == (409, "urn:knudge:problem:not-kept")
            assert subscriber.requests == []

    run(servers, play)


# Listed


def test_letters_are_listed_newest_first_in_pages(servers: LocalServers) -> None:
    """By type and moment, a page at a time, without their data; what is asked wrongly is named."""

    async def play(stage: Stage) -> None:
        kind = f"type.{time.monotonic_ns()}"
        numbers = [await buried(stage, event({"n": n}, kind)) for n in range(5)]
        seen: list[int] = []
        before: dict[str, Any] = {}
        for size in (2, 2, 1):
            answer = await stage.call("control", "GET", PATH, query={"type": kind, "limit": 2} | before)
            assert len(answer.body["letters"]) == size
            assert all("data" not in line for line in answer.body["letters"])
            seen += [line["id"] for line in answer.body["letters"]]
            before = {"before": answer.body["next"]}
        assert answer.body["next"] is None
        assert seen == numbers[::-1]
        moment = rows_of(stage, numbers[3])["failed_at"].isoformat()
        assert [line["id"] for line in await list_of(stage, type=kind, since=moment)] == numbers[:2:-1]
        later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
        assert await list_of(stage, type=kind, since=later) == []
        assert len(await list_of(stage, type=kind, open="true")) == 5
        assert await list_of(stage, type=kind, open="false") == []
        for query in ({"limit": 0}, {"since": "yesterday"}, {"kind": "x"}):
            answer = await stage.call("control", "GET", PATH, query=query)
            assert (answer.status, answer.body["field"]) == (400, next(iter(query)))

    run(servers, play)


def rows_of(stage: Stage, number: int) -> dict[str, Any]:
    """Return the row of a letter."""
    return stage.sql("select * from dead_letters where id = %s", number)[0]


# Sent again


def test_a_replayed_letter_is_the_event_that_it_was(servers: LocalServers) -> None:
    """Type, source, id, time and extensions are the original's, the broker's own attributes are gone, and it is noted."""
    with sink() as subscriber:

        async def play(stage: Stage) -> None:
            before = door.metrics.dead_letters.values["replayed",]
            trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
            letter = event(
                {"a": "täglich"}, id="café 1", time="2026-11-25T04:00:00.123456Z", shard="7", traceparent=trace
            )
            stage.sql("delete from dead_letters where event_id = 'café 1'")
            assert (await bury(stage, letter, "structured")).status == 204
            number = rows(stage, letter)[0]["id"]
            path = f"{PATH}/{number}/replay"
            answer = await stage.call("control", "POST", path, headers={"x-client-id": "operator-7"})
            assert (answer.status, answer.body) == (200, {"id": number, "replays": 1})
            attributes, body = sent_event(subscriber)
            assert attributes == {
                "specversion": "1.0",
                "type": LOGGED,
                "source": "/shop",
                "id": "café 1",
                "time": letter["time"],
                "shard": "7",
                "traceparent": trace,
            }
            assert json.loads(body) == letter["data"]
            assert subscriber.requests[-1][1]["content-type"] == "application/json"
            row = rows_of(stage, number)
            assert (row["replays"], row["replayed_by"]) == (1, "operator-7")
            [line] = [line for line in await list_of(stage) if line["id"] == number]
            assert line["open"] is False
            assert (await stage.call("control", "POST", path)).body == {"id": number, "replays": 2}
            assert door.metrics.dead_letters.values["replayed",] == before + 2
            assert (await bury(stage, letter, "structured")).status == 204  # it failed once more
            [line] = [line for line in await list_of(stage, open="true") if line["id"] == number]
            assert (line["replays"], line["arrivals"]) == (2, 2)

        run(servers, play, k_sink=subscriber.url)


def test_an_event_without_a_time_gets_that_of_its_arrival(servers: LocalServers) -> None:
    """Feedback that named no moment happened when it came, not when somebody sends it again."""
    with sink() as subscriber:

        async def play(stage: Stage) -> None:
            number = await buried(stage, event(b"", "type.empty"))
            assert (await stage.call("control", "POST", f"{PATH}/{number}/replay")).status == 200
            attributes, body = sent_event(subscriber)
            assert datetime.fromisoformat(attributes["time"]) == rows_of(stage, number)["received_at"]
            assert body == b""

        run(servers, play, k_sink=subscriber.url)


@pytest.mark.parametrize("answer", [(503, {}, b""), (400, {}, b""), (302, {}, b"")])
def test_what_the_sink_does_not_take_is_not_noted(servers: LocalServers, answer: Response) -> None:
    """Then the letter is as it was, and the operator is told to come again."""
    with sink(answer) as subscriber:

        async def play(stage: Stage) -> None:
            number = await buried(stage, event())
            refused = await stage.call("control", "POST", f"{PATH}/{number}/replay")
            assert (refused.status, refused.body["type"]) == (503, "urn:knudge:problem:sink-unavailable")
            assert str(answer[0]) in refused.body["detail"]
            assert refused.headers["retry-after"]
            row = rows_of(stage, number)
            assert (row["replays"], row["replayed_at"], row["replayed_by"]) == (0, None, None)

        run(servers, play, k_sink=subscriber.url)
        assert subscriber.requests


def test_without_a_sink_nothing_can_be_sent(servers: LocalServers, closed_port: int) -> None:
    """No K_SINK, or nobody there: 503, and nothing is noted. A letter that nobody has is a 404, nonsense a 400."""

    async def play(stage: Stage) -> None:
        number = await buried(stage, event())
        answer = await stage.call("control", "POST", f"{PATH}/{number}/replay")
        assert (answer.status, answer.body["type"]) == (503, "urn:knudge:problem:sink-unavailable")
        assert rows_of(stage, number)["replays"] == 0
        for method, path in [("GET", f"{PATH}/999999999"), ("POST", f"{PATH}/999999999/replay")]:
            answer = await stage.call("control", method, path)
            assert (answer.status, answer.body["type"]) == (404, "urn:knudge:problem:unknown-dead-letter")
        for method, path in [("GET", f"{PATH}/x"), ("POST", f"{PATH}/-1/replay"), ("GET", f"{PATH}/{'9' * 30}")]:
            answer = await stage.call("control", method, path)
            assert (answer.status, answer.body["field"]) == (400, "id")

    run(servers, play)
    run(servers, play, k_sink=f"http://127.0.0.1:{closed_port}/")


def test_a_replayed_logged_decision_is_stored_like_the_original(servers: LocalServers) -> None:
    """A decision for a policy that was not there yet: once it is, the letter is taken once, with the user's own pseudonym."""
    with sink() as subscriber:

        async def play(stage: Stage) -> None:
            moment = (datetime.now(UTC) - timedelta(minutes=1)).isoformat()
            name = f"late-{time.monotonic_ns()}"
            data = {"policy": name, "action": "a", "propensity": 0.5, "context": {"n": 1}, "occurred_at": moment}
            letter = event(data | {"user_id": "ada", "session_id": "s-1"})
            refused = await stage.event("feedback", LOGGED, letter["data"], id=letter["id"], source="/shop")
            assert refused.status == 422
            number = await buried(stage, letter)
            await stage.policy(name)
            for _ in range(2):
                assert (await stage.call("control", "POST", f"{PATH}/{number}/replay")).status == 200
                assert (await deliver(stage, "feedback", subscriber)).status == 204
            other = event(data | {"user_id": "ada", "session_id": "s-1"})
            assert (await stage.event("feedback", LOGGED, other["data"], id=other["id"], source="/shop")).status == 204
            # the original after its replay is a repeat
            assert (
                await stage.event("feedback", LOGGED, letter["data"], id=letter["id"], source="/shop")
            ).status == 204
            replayed, original = (
                {column: value for column, value in row.items() if column != "decision_id"}
                for row in stage.sql("select * from decisions where policy = %s", name)
            )
            assert replayed == original
            key = servers.server_key.encode()
            assert replayed["user_pseudonym"] == pseudonym(key, "user", "ada")
            assert replayed["session_pseudonym"] == pseudonym(key, "session", "s-1")

        run(servers, play, k_sink=subscriber.url)


def test_a_replayed_request_is_decided_like_the_original(servers: LocalServers) -> None:
    """Its decision is journalled for the user's own pseudonym; one that had been answered is given the same answer."""
    with sink() as subscriber:

        async def play(stage: Stage) -> None:
            policy = await stage.policy()
            letter = event({"policy": policy, "user_id": "ada", "session_id": "s-1", "context": {"n": 1}}, REQUESTED)
            number = await buried(stage, letter)
            assert (await stage.call("control", "POST", f"{PATH}/{number}/replay")).status == 200
            first = await deliver(stage, "recommend", subscriber)
            original = await stage.event("recommend", REQUESTED, letter["data"], id=letter["id"], source="/shop")
            assert (first.status, original.status) == (200, 200)
            assert first.body == original.body
            [decision] = (await read_journal(stage.redis, policy, 10))[0]
            key = servers.server_key.encode()
            assert decision.user == pseudonym(key, "user", "ada")
            assert decision.session == pseudonym(key, "session", "s-1")
            assert decision.actor == "/shop"
            await stage.recommend(policy, user_id=f"{SEAL}{pseudonym(key, 'user', 'ada')}:{'0' * 32}")
            decisions, *_ = await read_journal(stage.redis, policy, 10)
            assert decisions[-1].user not in {decision.user, None}

        run(servers, play, k_sink=subscriber.url, **PATIENT)


def test_a_replayed_exposure_is_of_the_unit_that_it_was_of(servers: LocalServers) -> None:
    """What an experiment splits by is kept as a sealed name, a number too, and the exposure that is sent again is the unit's."""
    with sink() as subscriber:

        async def play(stage: Stage) -> None:
            written = {"variations": [{"key": "old"}, {"key": "new"}], "hash_attribute": "device_id"}
            answer = await stage.call("control", "PUT", "/v1/experiments/letters", written)
            assert answer.status in {200, 201}, answer
            await stage.assigning("letters")
            key = servers.server_key.encode()
            for device in ("dev-Zk81", 7_301_554):
                attributes = {"device_id": device, "country": "DE", "size": {"device_id": "kept"}}
                data = {"experiment": "letters", "variation": "new", "user_id": "ada", "attributes": attributes}
                number = await buried(stage, event(data, EXPOSED))
                kept = (await stage.call("control", "GET", f"{PATH}/{number}")).body["data"]
                assert str(device) not in json.dumps(kept)
                unit = pseudonym(key, "unit:device_id", str(device))
                assert kept["attributes"].pop("device_id").startswith(f"{SEAL}{unit}:")
                assert kept["attributes"] == {"country": "DE", "size": {"device_id": "kept"}}
                assert (await stage.call("control", "POST", f"{PATH}/{number}/replay")).status == 200
                assert (await deliver(stage, "assignment", subscriber)).status == 204
                exposure = (await stage.exposures("letters"))[-1]
                assert (exposure.unit, exposure.user) == (unit, pseudonym(key, "user", "ada"))
            kept = dict(data, attributes={"device_id": f"{SEAL}{unit}:{'0' * 32}"}, variation=None)
            answer = await stage.event("assignment", EXPOSED, kept)
            assert (answer.status, answer.body["field"]) == (400, "variation")

        run(servers, play, k_sink=subscriber.url, **PATIENT)


@pytest.mark.parametrize("changes", [{"user_id": "x" * 300}, {"user_id": 7}, {"user_id": ""}, {"userid": "ada"}])
def test_what_was_refused_for_its_name_remains_so(servers: LocalServers, changes: dict[str, Any]) -> None:
    """A sealed name is as long as the name, and what was no text is none: a replay is refused as the original was."""
    with sink() as subscriber:

        async def play(stage: Stage) -> None:
            policy = await stage.policy()
            letter = event({"policy": policy} | changes, REQUESTED)
            original = await stage.event("recommend", REQUESTED, letter["data"])
            number = await buried(stage, letter)
            assert (await stage.call("control", "POST", f"{PATH}/{number}/replay")).status == 200
            replayed = await deliver(stage, "recommend", subscriber)
            assert (replayed.status, replayed.body["field"]) == (original.status, original.body["field"])
            assert 400 <= replayed.status < 500

        run(servers, play, k_sink=subscriber.url, **PATIENT)


# Dropped


def test_the_sweep_drops_old_letters(servers: LocalServers) -> None:
    """A letter that last failed before the retention goes, a younger one stays."""

    async def play(stage: Stage) -> None:
        old, young, again = [await buried(stage, event()) for _ in range(3)]
        age = "update dead_letters set received_at = received_at - interval '8 days' where id = any(%s)"
        stage.sql(age, [old, young, again])
        stage.sql("update dead_letters set failed_at = failed_at - interval '8 days' where id = %s", old)
        await stage.learn()
        left = stage.sql("select id from dead_letters where id = any(%s) order by id", [old, young, again])
        assert [row["id"] for row in left] == [young, again]

    run(servers, play, retention_days=7)


def test_letters_come_to_a_database_that_was_there_before(own_servers: LocalServers) -> None:
    """The migration only adds: run over a database of the first release it makes the table, and once."""
    with psycopg.connect(own_servers.database_url, autocommit=True) as connection:
        connection.execute("drop table dead_letters")
        connection.execute("delete from migrations where name = '0002_dead_letters'")
    assert migrate(own_servers.database_url) == ["0002_dead_letters"]
    assert migrate(own_servers.database_url) == []


def test_the_count_of_letters_is_shown() -> None:
    """What was kept and replayed is among the metrics, by outcome."""
    families, _ = Metrics().families()
    assert "dead_letters" in {family.name for family in families}
