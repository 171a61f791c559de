"""A function behind Knative's queue-proxy: restarted under load, not one request fails and nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Iterator
from typing import Any

import uvloop

from functions.local.servers import LocalServers
from shared.storage.redis_drain import read_journal
from tests.hosted import Hosted, crowded
from tests.performance.client import Client
from tests.performance.http1 import get, post
from tests.queue_proxy import QueueProxy
from tests.restarts import QUIET_S, Queue, Restarts
from tests.stage import Stage, run

PER_S = 500
LIMIT = 200
"""`containerConcurrency`, far above what is under way at once."""
RESTARTS = 20
SLOWEST_S = 2.0
"""Far above what a restart does to a request, below what a caller gives up at."""
PLAY_S = 120.0
WAKE_UP = {"specversion": "1.0", "id": "1", "source": "/tests", "type": "dev.knudge.learning.due.v1"}


def queue(port: int) -> Queue:
    """Return the queue of a pod."""
    return QueueProxy(port, quiet_s=QUIET_S, limit=LIMIT)


def restarted(
    name: str, servers: LocalServers, requests: Iterator[bytes], restarts: int, **environment: str
) -> Restarts:
    """Restart a function under load and check what a caller and Kubernetes see of it."""
    play = Restarts(name, servers, queue, environment)

    async def main() -> None:
        async with asyncio.timeout(PLAY_S):
            await play.play(requests, PER_S, restarts)

    began = time.monotonic()
    uvloop.run(main())
    summary = play.summary()
    print(name, f"{time.monotonic() - began:.1f} s", summary)
    assert play.faults == [], summary
    assert {status for status, _ in play.answers} == {200}, summary
    assert len(play.answers) == play.sent > PER_S
    assert play.exit_codes == [0] * (restarts + 2), summary
    if not crowded():
        assert max(play.latencies_s) < SLOWEST_S, summary
        assert play.sent / play.took_s > 0.9 * PER_S, summary
        assert play.probes_in_a_row_failed < 3, summary  # after three, Kubernetes would take a pod out
    return play


def test_recommend_is_restarted_under_load(own_servers: LocalServers) -> None:
    """Through 20 restarts at 500 requests per second every request is answered, and every decision is in the journal."""
    names: list[str] = []

    async def write(stage: Stage) -> None:
        names.append(await stage.policy())

    run(own_servers, write)
    request = post("/v1/recommend", json.dumps({"policy": names[0], "user_id": "u"}).encode())
    play = restarted("recommend", own_servers, itertools.repeat(request), RESTARTS, KNUDGE_JOURNAL_WAIT_MS="20")
    given = [json.loads(body)["decision_id"] for _, body in play.answers]
    assert len(set(given)) == len(given)

    async def look(stage: Stage) -> None:
        journal = await read_journal(stage.redis, names[0], 1_000_000)
        assert set(given) <= {decision.decision_id for decision in journal.decisions}

    run(own_servers, look)


def test_feedback_is_restarted_under_load(own_servers: LocalServers) -> None:
    """Every feedback that was acknowledged through ten restarts is in PostgreSQL, once."""
    decisions: list[str] = []

    async def write(stage: Stage) -> None:
        policy = await stage.policy()
        decisions.extend([(await stage.recommend(policy))["decision_id"] for _ in range(50)])

    run(own_servers, write)

    def requests() -> Iterator[bytes]:
        for number in itertools.count():
            body: dict[str, Any] = {"decision_id": decisions[number % 50], "kind": "click", "event_id": f"r{number}"}
            yield post("/v1/feedback", json.dumps(body).encode())

    play = restarted("feedback", own_servers, requests(), RESTARTS // 2)
    assert all(json.loads(body) == {"accepted": 1, "duplicates": 0} for _, body in play.answers)

    async def look(stage: Stage) -> None:
        rows = stage.sql("select event_id from feedback where decision_id = any(%s::uuid[])", decisions)
        assert {row["event_id"] for row in rows} == {f"r{number}" for number in range(play.sent)}
        assert len(rows) == play.sent

    run(own_servers, look)


def test_the_queue_answers_probes_itself_until_it_drains(servers: LocalServers) -> None:
    """What asks the queue is answered after a probe of the function, and refused while requests are still passed on."""

    async def main() -> None:
        with Hosted("recommend", servers) as process:
            pod = QueueProxy(process.port, quiet_s=1.0)
            await pod.start()
            prober = b"\r\nUser-Agent: Knative-Activator-Probe\r\nK-Network-Probe: queue\r\n\r\n"
            asking = get("/").replace(b"\r\n\r\n", prober)
            client = await Client.connect(pod.port)
            assert await client.send(asking) == (200, b"queue")
            draining = asyncio.create_task(pod.drain())
            await asyncio.sleep(0)
            assert (await client.send(asking))[0] == 503
            assert (await client.send(get("/health/live")))[0] == 200
            assert not draining.done()
            began = time.monotonic()
            await draining
            assert 0.8 < time.monotonic() - began < 3
            await pod.stop()
            assert process.stop() == 0
            assert pod.faults == []

    asyncio.run(main())


def test_a_full_queue_puts_wake_ups_off(servers: LocalServers) -> None:
    """With two places and twenty that may wait, thirty wake-ups at once are 22 runs and eight to come again."""

    async def main() -> None:
        with Hosted("learn", servers, environment={"KNUDGE_LEARNING_INTERVAL_MS": "1000"}) as process:
            pod = QueueProxy(process.port, quiet_s=1.0, limit=2)
            await pod.start()
            event = post("/", b"{}", headers=[f"ce-{name}: {value}" for name, value in WAKE_UP.items()])
            clients = [await Client.connect(pod.port) for _ in range(30)]
            answers = await asyncio.gather(*(client.send(event) for client in clients))
            assert sorted(status for status, _ in answers) == [204] * 22 + [503] * 8
            await pod.stop()
            assert process.stop() == 0

    asyncio.run(main())
