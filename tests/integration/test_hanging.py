"""Stores, sinks and callers that are there and say nothing: what waits for them is bounded, in time and in memory."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import redis

from functions.local.servers import LocalServers
from shared.storage.redis_connection import connect
from shared.storage.redis_drain import read_journal
from shared.storage.redis_snapshots import decode_snapshot, encode_snapshot
from tests.hosted import Hosted
from tests.stage import Stage, run

MIB = 1 << 20


def put_policies(servers: LocalServers, *names: str) -> None:
    """Write policies of three actions."""

    async def write(stage: Stage) -> None:
        for name in names:
            await stage.policy(name)

    run(servers, write)


def resident(process: Hosted) -> int:
    """Return the resident memory of a process in bytes."""
    pages = int(Path(f"/proc/{process.process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@contextlib.contextmanager
def frozen(*pids: int) -> Iterator[None]:
    """Stop processes where they stand, and let them go on at the end."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


async def side_by_side(port: int, bodies: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Ask for recommendations all at once, on as many connections."""

    async def one(body: dict[str, Any]) -> dict[str, Any]:
        content = json.dumps(body).encode()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            b"POST /v1/recommend HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%b"
            % (len(content), content)
        )
        answer = await reader.read()
        writer.close()
        decoded: dict[str, Any] = json.loads(answer.partition(b"\r\n\r\n")[2])
        return decoded

    return await asyncio.gather(*map(one, bodies))


def test_large_decisions_fill_no_memory_while_redis_hangs(own_servers: LocalServers) -> None:
    """Decisions of almost 1 MiB each are held within the buffer's bytes, and appended in small entries afterwards."""
    put_policies(own_servers, "large", "small")
    client: Any = redis.Redis.from_url(own_servers.redis_url)
    context = {f"feature-{number}": ["x" * 250] * 64 for number in range(56)}
    with Hosted("recommend", own_servers, environment={"KNUDGE_JOURNAL_BUFFER_BYTES": str(8 * MIB)}) as recommend:
        for policy in ("large", "small"):
            assert recommend.request("POST", "/v1/recommend", {"policy": policy})[0] == 200
        before = resident(recommend)
        with frozen(client.info()["process_id"]):
            for _ in range(200):
                status, answer = recommend.request("POST", "/v1/recommend", {"policy": "large", "context": context})
                assert (status, answer["degraded"]) == (200, True)
            assert resident(recommend) - before < 90 * MIB
        deadline = time.monotonic() + 10
        while recommend.request("POST", "/v1/recommend", {"policy": "small"})[1]["degraded"]:
            assert time.monotonic() < deadline, "the journal has not recovered"
            time.sleep(0.05)
        assert recommend.stop() == 0
    entries = client.xrange("knudge:journal:large")
    assert max(len(fields[b"block"]) for _, fields in entries) < 2 * MIB
    client.close()

    async def look(stage: Stage) -> None:
        portion = await read_journal(stage.redis, "large", 1_000)
        # the first one, and what the buffer held; an append that was given up may have been made all the same
        assert 8 <= len({decision.decision_id for decision in portion.decisions}) <= 11
        assert not portion.more

    run(own_servers, look)


def test_a_redis_command_can_be_cancelled_at_any_moment(servers: LocalServers) -> None:
    """A loop of commands ends by one cancellation wherever it meets it: connecting, sending, reading or between."""
    moments = random.Random(7)

    async def ask_for_ever(client: Any) -> None:
        while True:
            await client.hmget("versions", ["a", "b"])

    async def main() -> None:
        for _ in range(200):
            client = connect(servers.redis_url)
            for _ in range(3):
                asking = asyncio.create_task(ask_for_ever(client))
                for _ in range(moments.randrange(40)):
                    await asyncio.sleep(0)
                asking.cancel()
                await asyncio.wait({asking}, timeout=1.0)
                assert asking.cancelled()
            await client.aclose()

    asyncio.run(main())


def test_request_ids_side_by_side_are_answered_alike(servers: LocalServers) -> None:
    """Two hundred pairs of requests with one request_id each, all at once: each pair is one decision."""
    put_policies(servers, "pairs")
    with Hosted("recommend", servers, environment={"KNUDGE_JOURNAL_WAIT_MS": "5000"}) as recommend:
        recommend.request("POST", "/v1/recommend", {"policy": "pairs"})
        bodies = [{"policy": "pairs", "request_id": f"page-{number}"} for number in range(200)]
        answers = asyncio.run(side_by_side(recommend.port, bodies + bodies))
    assert not any(answer["degraded"] for answer in answers)
    assert [answer["decision_id"] for answer in answers[:200]] == [answer["decision_id"] for answer in answers[200:]]
    assert len({answer["decision_id"] for answer in answers}) == 200


def test_a_sink_that_says_nothing_holds_nobody_up(servers: LocalServers) -> None:
    """A sink that accepts and never answers keeps no snapshot from being served, and no process from ending."""
    names = [f"sunk-{number}" for number in range(12)]
    put_policies(servers, *names)
    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        environment = {"K_SINK": url, "KNUDGE_WAKE_UP_MS": "10", "KNUDGE_JOURNAL_WAIT_MS": "2000"}
        with Hosted("recommend", servers, environment=environment) as recommend:
            for name in names[:-1]:
                recommend.request("POST", "/v1/recommend", {"policy": name})
            time.sleep(0.3)
            status, answer = recommend.request("POST", "/v1/recommend", {"policy": names[-1]})
            assert (status, answer["degraded"]) == (200, False)
            began = time.monotonic()
            assert recommend.stop() == 0
            assert time.monotonic() - began < 15


def test_postgresql_that_says_nothing_is_given_up(own_servers: LocalServers) -> None:
    """Feedback behind a frozen PostgreSQL is refused with 503 within a bound, and taken once when it is repeated."""
    put_policies(own_servers, "frozen")
    with Hosted("recommend", own_servers) as recommend:
        decision = recommend.request("POST", "/v1/recommend", {"policy": "frozen"})[1]["decision_id"]
    click = {"decision_id": decision, "kind": "click"}
    with Hosted("feedback", own_servers) as feedback:
        assert feedback.request("POST", "/v1/feedback", click | {"event_id": "0"})[0] == 200
        pids: list[int] = []

        async def find(stage: Stage) -> None:
            rows = stage.sql("select pid from pg_stat_activity where application_name = 'knudge'")
            pids.extend(row["pid"] for row in rows)

        run(own_servers, find)
        assert pids
        with frozen(*pids):
            began = time.monotonic()
            status, answer = feedback.request("POST", "/v1/feedback", click | {"event_id": "1"})
            assert (status, answer["type"]) == (503, "urn:knudge:problem:unavailable")
            assert time.monotonic() - began < 9
            # the server itself is well: another connection is
            assert feedback.request("POST", "/v1/feedback", click | {"event_id": "1"})[1]["accepted"] == 1
            began = time.monotonic()
            assert feedback.stop() == 0
            assert time.monotonic() - began < 10


def test_a_dead_letter_behind_what_says_nothing_is_put_off(own_servers: LocalServers) -> None:
    """A frozen PostgreSQL, and a sink that never answers: 503 within a bound, and the letter is kept once and still open."""
    headers = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/shop", "ce-type": "type.frozen"}
    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        with Hosted("control", own_servers, environment={"K_SINK": url}) as control:
            assert control.request("POST", "/v1/dead-letters", {}, headers)[0] == 204
            pids: list[int] = []

            async def find(stage: Stage) -> None:
                rows = stage.sql("select pid from pg_stat_activity where application_name = 'knudge'")
                pids.extend(row["pid"] for row in rows)

            run(own_servers, find)
            assert pids
            with frozen(*pids):
                began = time.monotonic()
                status, answer = control.request("POST", "/v1/dead-letters", {}, headers)
                assert (status, answer["type"]) == (503, "urn:knudge:problem:unavailable")
                assert time.monotonic() - began < 9
                assert control.request("POST", "/v1/dead-letters", {}, headers)[0] == 204
            [letter] = control.request("GET", "/v1/dead-letters")[1]["letters"]
            began = time.monotonic()
            status, answer = control.request("POST", f"/v1/dead-letters/{letter['id']}/replay")
            assert (status, answer["type"]) == (503, "urn:knudge:problem:sink-unavailable")
            assert time.monotonic() - began < 9
            [after] = control.request("GET", "/v1/dead-letters")[1]["letters"]
            assert (after["replays"], after["open"]) == (0, True)
            assert control.stop() == 0


def test_an_unreadable_snapshot_harms_only_its_policy(own_servers: LocalServers) -> None:
    """Other policies go on being renewed; its own is served as it was, or uniformly by who never held it."""
    put_policies(own_servers, "broken", "sound")
    client: Any = redis.Redis.from_url(own_servers.redis_url)
    with Hosted("recommend", own_servers) as holding, Hosted("recommend", own_servers) as cold:
        for policy in ("broken", "sound"):
            assert holding.request("POST", "/v1/recommend", {"policy": policy})[1]["snapshot_version"] == 1
        client.set("knudge:snapshot:broken", b"\xffgarbage")
        client.hset("knudge:versions", "broken", "1.99")
        time.sleep(0.3)
        newer = msgspec.structs.replace(
            decode_snapshot(client.get("knudge:snapshot:sound") or b""), snapshot_version=60
        )
        client.set("knudge:snapshot:sound", encode_snapshot(newer))
        client.hset("knudge:versions", "sound", "1.60")
        deadline = time.monotonic() + 5
        while holding.request("POST", "/v1/recommend", {"policy": "sound"})[1]["snapshot_version"] != 60:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert holding.request("POST", "/v1/recommend", {"policy": "broken"})[1]["snapshot_version"] == 1
        status, answer = cold.request("POST", "/v1/recommend", {"policy": "broken", "actions": ["a", "b"]})
        assert (status, answer["snapshot_version"], answer["degraded"]) == (200, 0, True)
        assert answer["items"][0]["propensity"] == 0.5
    client.close()


def test_a_batch_is_bounded_by_the_items_it_asks_for(servers: LocalServers) -> None:
    """Many slates weigh as many items: one too many refuses the batch, whatever the number of its requests."""
    put_policies(servers, "batched")
    with Hosted("recommend", servers) as recommend:
        recommend.request("POST", "/v1/recommend", {"policy": "batched"})
        slates = {"requests": [{"policy": "batched", "count": 3}] * 334}
        status, answer = recommend.request("POST", "/v1/recommend/batch", slates)
        assert (status, answer["field"]) == (413, "requests")
        slates["requests"].pop()
        status, answer = recommend.request("POST", "/v1/recommend/batch", slates)
        assert status == 200
        assert len(answer["results"]) == 333
