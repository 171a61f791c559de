"""Processes that are killed at the worst moment, and stores that go away: nothing acknowledged is lost or counted twice."""

from __future__ import annotations

import random
import threading
import time
from typing import Any

import msgspec
import psycopg
import pytest
import redis

from functions.local.servers import LocalServers
from shared.experiments.exposure import Exposure
from shared.storage.redis_connection import EXPOSURES
from tests.hosted import Hosted, free_port

LEARNING_DUE = "dev.knudge.learning.due.v1"


def put_policy(servers: LocalServers, name: str, **body: Any) -> None:
    """Write a policy through a `control` that lives for that long."""
    spec = {"kind": "thompson", "actions": ["a", "b", "c"], "reward": {"click": 1.0}} | body
    with Hosted("control", servers) as control:
        status, answer = control.request("PUT", f"/v1/policies/{name}", spec)
        assert status == 201, answer
        assert control.stop() == 0


def snapshot(servers: LocalServers, name: str) -> dict[str, Any]:
    """Return what `control` shows of a policy's newest snapshot, actions by id."""
    with Hosted("control", servers) as control:
        shown: dict[str, Any] = control.request("GET", f"/v1/policies/{name}")[1]["snapshot"]
    return shown | {"actions": {action["action"]: action for action in shown["actions"]}}


def sql(servers: LocalServers, query: str, *values: Any) -> list[tuple[Any, ...]]:
    """Ask PostgreSQL directly."""
    with psycopg.connect(servers.database_url, autocommit=True) as connection:
        return connection.execute(query.encode(), values).fetchall()


class Acknowledged:
    """What callers were told, by action."""

    def __init__(self) -> None:
        """Start with nothing."""
        self.shown: dict[str, int] = {}
        self.clicked: dict[str, int] = {}
        self.degraded = 0
        self.refused = 0
        self.decisions: list[str] = []
        self._lock = threading.Lock()

    def decided(self, answer: dict[str, Any]) -> str:
        """Count a decision; return its action."""
        action: str = answer["items"][0]["action"]
        with self._lock:
            self.shown[action] = self.shown.get(action, 0) + 1
            self.degraded += answer["degraded"]
            self.decisions.append(answer["decision_id"])
        return action

    def click(self, action: str) -> None:
        """Count an acknowledged click."""
        with self._lock:
            self.clicked[action] = self.clicked.get(action, 0) + 1

    def refuse(self) -> None:
        """Count a request that was answered with an error."""
        with self._lock:
            self.refused += 1


def traffic(
    recommend: Hosted,
    feedback: Hosted,
    policy: str,
    told: Acknowledged,
    stop: threading.Event,
    *,
    most: int = 100_000,
) -> None:
    """Decide and click until told to stop; repeat a click until it is acknowledged, as an event source does."""
    number = 0
    while not stop.is_set() and number < most:
        number += 1
        status, answer = recommend.request("POST", "/v1/recommend", {"policy": policy, "user_id": f"u{number % 50}"})
        assert status == 200, answer
        action = told.decided(answer)
        if number % 3 == 0:
            body = {"decision_id": answer["decision_id"], "kind": "click", "event_id": "click"}
            for _ in range(200):
                status, answer = feedback.request("POST", "/v1/feedback", body)
                if status == 200:
                    told.click(action)
                    break
                assert status == 503, answer
                told.refuse()
                time.sleep(0.1)


def assert_all_counted(servers: LocalServers, policy: str, told: Acknowledged) -> None:
    """Compare PostgreSQL and the posterior with what was acknowledged: equal, exactly."""
    archived = sql(servers, "select count(*), count(distinct decision_id) from decisions where policy = %s", policy)
    assert archived == [(len(told.decisions), len(set(told.decisions)))]
    query = "select count(*) from feedback join decisions using (decided_at, decision_id) where policy = %s"
    assert sql(servers, query, policy) == [(sum(told.clicked.values()),)]
    known = snapshot(servers, policy)["actions"]
    for action in "abc":
        assert known[action]["weight"] == told.shown.get(action, 0)
        assert (known[action]["mean"] or 0.0) * known[action]["weight"] == pytest.approx(
            told.clicked.get(action, 0), abs=1e-9
        )


@pytest.mark.parametrize(
    "moment", ["between-drain-and-commit", "between-commit-and-trim", "between-commit-and-publish"]
)
def test_learn_killed_at_the_worst_moment(servers: LocalServers, moment: str) -> None:
    """Killed there, `learn` neither loses nor repeats anything: its next run ends what was begun."""
    policy = f"crash-{moment}"
    put_policy(servers, policy)
    told = Acknowledged()
    with Hosted("recommend", servers) as recommend, Hosted("feedback", servers) as feedback:
        traffic(recommend, feedback, policy, told, threading.Event(), most=30)
        with Hosted("learn", servers, module=("tests.crashing", moment)) as doomed:
            with pytest.raises(OSError, match=r"."):
                doomed.event(LEARNING_DUE, {"policy": policy})
            assert doomed.process.wait(timeout=10) == -9
        with Hosted("learn", servers) as learn:
            assert learn.event(LEARNING_DUE, {"policy": policy}) == 204
            assert_all_counted(servers, policy, told)
            version = snapshot(servers, policy)["snapshot_version"]
            for _ in range(100):
                if recommend.request("POST", "/v1/recommend", {"policy": policy})[1]["snapshot_version"] == version:
                    break
                time.sleep(0.05)
            else:
                raise AssertionError("the snapshot that the killed process committed was never served")


@pytest.mark.parametrize("moment", ["between-exposures-and-commit", "between-exposures-and-trim"])
def test_learn_killed_while_it_records_exposures(servers: LocalServers, moment: str) -> None:
    """Killed there, `learn` leaves every exposure in the journal or in PostgreSQL, and its next run records each once."""
    experiment = f"crash-{moment}"
    block = [
        Exposure(experiment, 1, "a" if at % 2 else "b", f"unit-{at % 40}", None, 1e9 + at, {}, None, "r", "me")
        for at in range(100)
    ]
    with redis.Redis.from_url(servers.redis_url) as client:
        client.xadd(EXPOSURES, {"block": msgspec.msgpack.encode(block[:50])})
        client.xadd(EXPOSURES, {"block": msgspec.msgpack.encode(block[50:])})
    with Hosted("learn", servers, module=("tests.crashing", moment)) as doomed:
        with pytest.raises(OSError, match=r"."):
            doomed.event(LEARNING_DUE, {"exposures": True})
        assert doomed.process.wait(timeout=10) == -9
    count = "select count(*), sum(extract(epoch from exposed_at)::float8) from exposures where experiment = %s"
    assert sql(servers, count, experiment)[0][0] == (40 if moment == "between-exposures-and-trim" else 0)
    with Hosted("learn", servers) as learn:
        assert learn.event(LEARNING_DUE, {"exposures": True}) == 204
    assert sql(servers, count, experiment) == [(40, sum(1e9 + at for at in range(40)))]
    with redis.Redis.from_url(servers.redis_url) as client:
        assert client.xlen(EXPOSURES) == 0


def test_feedback_killed_between_commit_and_wake_up(servers: LocalServers) -> None:
    """The commit stands although no wake-up was sent: the sweep learns it, and the caller's repeat is a duplicate."""
    policy = "crash-feedback"
    put_policy(servers, policy)
    with Hosted("recommend", servers) as recommend:
        _, decision = recommend.request("POST", "/v1/recommend", {"policy": policy})
    click = {"decision_id": decision["decision_id"], "kind": "click", "event_id": "one"}
    with Hosted("feedback", servers, module=("tests.crashing", "between-commit-and-wake-up")) as doomed:
        with pytest.raises(OSError, match=r"."):
            doomed.request("POST", "/v1/feedback", click)
        assert doomed.process.wait(timeout=10) == -9
    with Hosted("feedback", servers) as feedback, Hosted("learn", servers) as learn:
        assert feedback.request("POST", "/v1/feedback", click) == (200, {"accepted": 0, "duplicates": 1})
        assert learn.event(LEARNING_DUE, {}) == 204
    chosen = snapshot(servers, policy)["actions"][decision["items"][0]["action"]]
    assert (chosen["weight"], chosen["mean"]) == (1.0, 1.0)


def kill_learn(servers: LocalServers, policy: str, kills: int, seed: int) -> Acknowledged:
    """Kill `learn` at random moments under traffic, then let it finish; return what was acknowledged."""
    put_policy(servers, policy)
    told, stop, port = Acknowledged(), threading.Event(), free_port()
    sink = {"K_SINK": f"http://127.0.0.1:{port}/", "KNUDGE_WAKE_UP_MS": "20"}
    moments = random.Random(seed)
    with (
        Hosted("recommend", servers, environment=sink) as recommend,
        Hosted("feedback", servers, environment=sink) as feedback,
    ):
        callers = [threading.Thread(target=traffic, args=(recommend, feedback, policy, told, stop)) for _ in range(2)]
        with Hosted("learn", servers, port=port, environment={"KNUDGE_LEARNING_INTERVAL_MS": "0"}) as learn:
            for caller in callers:
                caller.start()
            try:
                for _ in range(kills):
                    time.sleep(moments.uniform(0.0, 0.15))
                    learn.kill()
                    learn.restart()
            finally:
                stop.set()
                for caller in callers:
                    caller.join(timeout=60)
            assert learn.event(LEARNING_DUE, {}) == 204
            assert recommend.stop() == 0
            assert learn.event(LEARNING_DUE, {"policy": policy}) == 204
    return told


def test_learn_killed_again_and_again_under_traffic(servers: LocalServers) -> None:
    """Fifteen kills at random moments: counts and posterior equal what was acknowledged, exactly."""
    told = kill_learn(servers, "crash-random", kills=15, seed=1)
    assert len(told.decisions) > 100
    assert_all_counted(servers, "crash-random", told)


@pytest.mark.slow
def test_learn_killed_two_hundred_times(servers: LocalServers) -> None:
    """Two hundred kills at random moments: counts and posterior equal what was acknowledged, exactly."""
    told = kill_learn(servers, "crash-200", kills=200, seed=2)
    print(f"{len(told.decisions)} decisions, {sum(told.clicked.values())} clicks acknowledged")
    assert_all_counted(servers, "crash-200", told)


def test_recommend_outlives_redis(own_servers: LocalServers) -> None:
    """With Redis killed, answers go on, degraded; once it is back they are journalled and nothing of them is lost."""
    policy = "outage-redis"
    put_policy(own_servers, policy)
    told, stop = Acknowledged(), threading.Event()
    with Hosted("recommend", own_servers) as recommend, Hosted("feedback", own_servers) as feedback:
        caller = threading.Thread(target=traffic, args=(recommend, feedback, policy, told, stop))
        caller.start()
        try:
            time.sleep(0.5)
            own_servers.redis.kill()
            time.sleep(1.5)
            assert told.degraded > 0
            own_servers.redis.restart()
            time.sleep(3.0)
            degraded = told.degraded
            time.sleep(0.5)
            assert told.degraded == degraded, "answers are no longer degraded once Redis is back"
        finally:
            stop.set()
            caller.join(timeout=30)
        assert recommend.stop() == 0
    with Hosted("learn", own_servers) as learn:
        assert learn.event(LEARNING_DUE, {"policy": policy}) == 204
    # everysec: what Redis held for less than a second or two when it died may be gone, what was answered since is not
    archived = sql(own_servers, "select count(*) from decisions where policy = %s", policy)[0][0]
    lost = len(told.decisions) - archived
    per_s = len(told.decisions) / 5.5
    assert 0 <= lost <= 2.0 * per_s
    assert len(set(told.decisions)) == len(told.decisions)


def test_a_process_that_starts_without_redis_answers(own_servers: LocalServers) -> None:
    """Without any snapshot it answers uniformly over the caller's actions, and says 503 where there are none."""
    own_servers.redis.stop()
    with Hosted("recommend", own_servers) as recommend:
        status, answer = recommend.request("POST", "/v1/recommend", {"policy": "p", "actions": ["x", "y"]})
        assert (status, answer["snapshot_version"], answer["degraded"]) == (200, 0, True)
        assert answer["items"][0]["propensity"] == 0.5
        status, answer = recommend.request("POST", "/v1/recommend", {"policy": "p"})
        assert (status, answer["type"]) == (503, "urn:knudge:problem:not-bootstrapped")
        assert recommend.request("GET", "/health/ready")[0] == 200


def test_postgresql_stopped_for_ten_seconds_under_load(own_servers: LocalServers) -> None:
    """Recommendations go on undisturbed, feedback is refused with 503 and taken when repeated: all of it counts once."""
    policy = "outage-postgres"
    put_policy(own_servers, policy)
    told, stop, port = Acknowledged(), threading.Event(), free_port()
    sink = {"K_SINK": f"http://127.0.0.1:{port}/"}
    with (
        Hosted("recommend", own_servers, environment=sink) as recommend,
        Hosted("feedback", own_servers, environment=sink) as feedback,
        Hosted("learn", own_servers, port=port) as learn,
    ):
        callers = [threading.Thread(target=traffic, args=(recommend, feedback, policy, told, stop)) for _ in range(3)]
        for caller in callers:
            caller.start()
        try:
            time.sleep(1.0)
            own_servers.postgres.stop()
            until = time.monotonic() + 10.0
            while time.monotonic() < until:
                status, answer = recommend.request("POST", "/v1/recommend", {"policy": policy})
                assert status == 200, answer
                told.decided(answer)
                time.sleep(0.05)
            own_servers.postgres.start()
            time.sleep(2.0)
        finally:
            stop.set()
            for caller in callers:
                caller.join(timeout=60)
        assert told.refused > 0
        assert told.degraded <= 0.05 * len(told.decisions), "only a busy machine makes one miss its 20 ms"
        assert recommend.stop() == 0
        for _ in range(20):
            if learn.event(LEARNING_DUE, {"policy": policy}) == 204:
                break
            time.sleep(0.2)
        assert_all_counted(own_servers, policy, told)
