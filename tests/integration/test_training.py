"""Training on real servers: once for each event, equal to what was learned on the way, whatever dies in between."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from functions.local.servers import LocalServers
from functions.train.handler import Trainer
from shared.edge.sink import Sink
from shared.errors import Unavailable
from shared.identity import policy_key
from shared.observability.metrics import Metrics
from shared.policies.posterior import advance, snapshot_of
from shared.storage.postgres_connection import connection, open_pool
from shared.storage.postgres_learning import _LOCKS, LearningTransaction
from shared.storage.postgres_trainings import Asked, Trainings
from shared.vocabulary import Snapshot
from tests.hosted import ROOT, free_port
from tests.integration.test_cloudevents import sending
from tests.integration.test_rules_of_learning import assert_same_numbers, refitted, traffic
from tests.stage import Stage, run

REQUESTED = "dev.knudge.training.requested.v1"
FINISHED = "dev.knudge.training.finished.v1"
PING = "dev.knative.sources.ping"
END_S = 30.0


async def running(stage: Stage, policy: str, as_of: float | None = None) -> tuple[Snapshot, float]:
    """Return what the stored posterior says, seen from `as_of` where that is given, and its own `as_of`."""
    async with (
        open_pool(stage.servers.database_url, 1) as pool,
        connection(pool) as lent,
        lent.transaction(force_rollback=True),
    ):
        state = await LearningTransaction(lent, policy).lock()
    posterior = advance(state.posterior, state.spec, as_of or 0.0)
    return snapshot_of(posterior, state.spec, 1), state.posterior.as_of


def row_of(stage: Stage, event_id: str) -> dict[str, Any]:
    """Return the row of a training."""
    [row] = stage.sql("select *, lease_until - now() as left from trainings where event_id = %s", event_id)
    return row


def requested(folder: Path, event_id: str, data: object, event_type: str = REQUESTED, source: str = "/tests") -> Path:
    """Leave an event as a JobSink does; return what `K_EVENT_PATH` names."""
    folder.mkdir(exist_ok=True)
    event: dict[str, object] = {"specversion": "1.0", "id": event_id, "source": source, "type": event_type}
    event |= {"datacontenttype": "application/json", "data": data}
    (folder / "event").write_text(json.dumps(event))
    return folder


def environment(servers: LocalServers, folder: Path | None, **changes: str) -> dict[str, str]:
    """Return the environment of a Job."""
    given = {
        "PATH": os.environ["PATH"],
        "KNUDGE_REDIS_URL": servers.redis_url,
        "KNUDGE_DATABASE_URL": servers.database_url,
        "KNUDGE_TRAINING_LEASE_S": "1",
        **{name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")},
    }
    return given | ({"K_EVENT_PATH": str(folder)} if folder else {}) | changes


def start(servers: LocalServers, folder: Path, *module: str, **changes: str) -> subprocess.Popen[str]:
    """Start the Job's process."""
    return subprocess.Popen(
        [sys.executable, "-m", *(module or ("functions.train.job",))],
        cwd=ROOT,
        env=environment(servers, folder, **changes),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, list[dict[str, Any]]]:
    """Wait for a Job's end; return its exit code and what it logged."""
    try:
        said, _ = process.communicate(timeout=END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        said, _ = process.communicate()
        pytest.fail(f"the job hangs:\n{said}")
    return process.returncode, [json.loads(line) for line in said.splitlines() if line.startswith("{")]


async def job(servers: LocalServers, folder: Path, *module: str, **changes: str) -> tuple[int, list[dict[str, Any]]]:
    """Run a Job to its end."""
    return await asyncio.to_thread(ended, start(servers, folder, *module, **changes))


@contextlib.contextmanager
def locked(stage: Stage, policy: str) -> Iterator[None]:
    """Hold the lock of a policy."""
    import psycopg

    key = policy_key(policy)
    with psycopg.connect(stage.servers.database_url) as holding:
        holding.execute("select pg_advisory_xact_lock(%s, %s)", [_LOCKS, key - (1 << 32) if key >= 1 << 31 else key])
        yield


async def until_waiting(stage: Stage, seconds: float = 15.0) -> None:
    """Return once somebody waits for an advisory lock."""
    async with asyncio.timeout(seconds):
        while not stage.sql("select 1 from pg_locks where locktype = 'advisory' and not granted"):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


# What it makes


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"half_life_s": 10.0},
        {"expected_delay_s": 1.0, "reward_window_s": 2.0, "half_life_s": 20.0, "default_reward": 0.25},
        {"kind": "epsilon_greedy", "reward_range": None, "reward": {"click": 2.5}},
    ],
)
def test_a_training_gives_what_was_learned_on_the_way(servers: LocalServers, spec: dict[str, Any]) -> None:
    """The refitted posterior equals the running one to 1e-9, is the next snapshot, and is published byte for byte."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy(**spec)
        await traffic(stage, policy, 30, count=2)
        before = (await stage.snapshot(policy))["snapshot_version"]
        rewards = stage.sql(
            "select * from rewards join decisions using (decided_at, decision_id) where policy = %s", policy
        )
        held, _ = await running(stage, policy)
        stage.sql(
            "update posteriors set statistics = '\\x82a561735f6f6600a76275636b65747380' where policy = %s", policy
        )
        assert all(e.weight == 0 for e in (await running(stage, policy))[0].estimates), "nothing stored is looked at"
        answer = await stage.event("train", REQUESTED, {"policy": policy}, id=f"fit-{policy}")
        assert (answer.status, answer.body) == (204, None)
        fitted, as_of = await running(stage, policy)
        assert as_of > held.as_of
        if spec.get("half_life_s") is None:
            assert_same_numbers(held, fitted)
        assert_same_numbers(*await refitted(stage, policy))
        after = await stage.snapshot(policy)
        assert after["snapshot_version"] == before + 1
        [row] = stage.sql(
            "select content from snapshots where policy = %s and snapshot_version = %s", policy, before + 1
        )
        assert await stage.published(policy) == row["content"]
        again = stage.sql(
            "select * from rewards join decisions using (decided_at, decision_id) where policy = %s", policy
        )
        assert sorted(map(str, again)) == sorted(map(str, rewards))
        training = row_of(stage, f"fit-{policy}")
        assert (training["state"], training["runs"], training["policy"]) == ("announced", 1, policy)
        assert (training["actor"], training["source"]) == ("tests", "tests")
        [trained] = training["outcome"]
        assert (trained["policy"], trained["snapshot_version"], trained["decisions"]) == (policy, before + 1, 30)

    run(servers, play)


def test_forgetting_goes_on_to_the_moment_of_the_training(servers: LocalServers) -> None:
    """With a half-life the refit equals the running posterior as it would have aged, to 1e-9."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy(half_life_s=10.0)
        await traffic(stage, policy, 20)
        async with (
            open_pool(stage.servers.database_url, 1) as pool,
            connection(pool) as lent,
            lent.transaction(force_rollback=True),
        ):
            before = await LearningTransaction(lent, policy).lock()
        await asyncio.sleep(0.5)
        assert (await stage.event("train", REQUESTED, {"policy": policy})).status == 204
        fitted, as_of = await running(stage, policy)
        aged = advance(before.posterior, before.spec, as_of)
        assert as_of - before.posterior.as_of > 0.4
        assert_same_numbers(snapshot_of(aged, before.spec, 1), fitted)

    run(servers, play)


def test_training_under_traffic_loses_nothing(servers: LocalServers) -> None:
    """Decisions, feedback and learning go on while a policy is trained again and again: all counts once, versions rise."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy()
        told: dict[str, list[float]] = {}
        stopping = asyncio.Event()

        async def user(name: int) -> None:
            number = 0
            while not stopping.is_set():
                number += 1
                decision = await stage.recommend(policy, user_id=f"{name}")
                if number % 4 == 0:
                    await stage.call("feedback", "POST", f"/v1/decisions/{decision['decision_id']}/activate")
                value = (number % 3) / 2
                told.setdefault(decision["items"][0]["action"], []).append(value)
                if value:
                    await stage.feedback(decision["decision_id"], value=value)
                await asyncio.sleep(0)

        async def learner() -> None:
            while not stopping.is_set():
                await stage.learn(policy)

        working = [asyncio.create_task(each) for each in (user(1), user(2), user(3), learner())]
        versions = []
        for number in range(12):
            assert (await stage.event("train", REQUESTED, {"policy": policy}, id=f"{policy}-{number}")).status == 204
            versions.append(row_of(stage, f"{policy}-{number}")["outcome"][0]["snapshot_version"])
            await asyncio.sleep(0.1)
        stopping.set()
        await asyncio.gather(*working)
        await stage.learn(policy)
        assert versions == sorted(set(versions))
        assert versions[-1] - versions[0] > 11, "the learner stored snapshots in between"
        known = (await stage.snapshot(policy))["actions"]
        assert sum(len(values) for values in told.values()) > 100
        for action, values in told.items():
            assert known[action]["weight"] == len(values)
            assert known[action]["mean"] * len(values) == pytest.approx(sum(values), abs=1e-9)
        assert_same_numbers(*await refitted(stage, policy))

    run(servers, play)


def test_a_ping_trains_every_policy(own_servers: LocalServers, tmp_path: Path) -> None:
    """The event of a schedule is for every policy; the Job says what it did, and `knudge train` does the same."""

    async def play(stage: Stage) -> None:
        policies = sorted([await stage.policy() for _ in range(3)])
        before = [(await stage.snapshot(policy))["snapshot_version"] for policy in policies]
        code, said = await job(own_servers, requested(tmp_path / "ping", "ping-1", {}, PING))
        assert code == 0, said
        lines = [line for line in said if line["message"] == "refitted"]
        assert [line["policy"] for line in lines] == policies
        assert {line["function"] for line in said} == {"train"}
        after = [(await stage.snapshot(policy))["snapshot_version"] for policy in policies]
        assert after == [version + 1 for version in before]
        assert [each["policy"] for each in row_of(stage, "ping-1")["outcome"]] == policies

        command = [sys.executable, "-m", "functions.console.main", "train"]
        for more, wanted in [([], 0), (["--policy", policies[0]], 0), (["--policy", "nobody"], 2)]:
            done = await asyncio.to_thread(
                subprocess.run, [*command, *more], cwd=ROOT, env=environment(own_servers, tmp_path / "ping"),
                capture_output=True, text=True, check=False, timeout=END_S,
            )  # fmt: skip
            assert done.returncode == wanted, done
        assert "nobody" in done.stdout
        assert [(await stage.snapshot(policy))["snapshot_version"] for policy in policies] == [
            before[0] + 3,
            before[1] + 2,
            before[2] + 2,
        ]

    run(own_servers, play)


# Once for each event


def test_a_repeated_event_changes_nothing(servers: LocalServers, tmp_path: Path) -> None:
    """The same source and id, delivered again, is done at once; another source's is another training."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy()
        before = (await stage.snapshot(policy))["snapshot_version"]
        folder = requested(tmp_path / "one", f"repeat-{policy}", {"policy": policy})
        assert (await job(servers, folder))[0] == 0
        code, said = await job(servers, folder)
        assert code == 0
        assert "trained before" in [line["message"] for line in said]
        for _ in range(2):
            event = await stage.event("train", REQUESTED, {"policy": policy}, id=f"repeat-{policy}", source="/tests")
            assert event.status == 204
        assert (await stage.snapshot(policy))["snapshot_version"] == before + 1
        event = await stage.event("train", REQUESTED, {"policy": policy}, id=f"repeat-{policy}", source="/else")
        assert event.status == 204
        assert (await stage.snapshot(policy))["snapshot_version"] == before + 2

    run(servers, play)


def test_the_same_event_at_once_trains_once(servers: LocalServers) -> None:
    """Of many that are given the same event at the same time one trains, and all end when it has."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy()
        before = (await stage.snapshot(policy))["snapshot_version"]
        asked = Asked("/tests", f"at-once-{policy}", policy, "/tests")
        async with open_pool(servers.database_url, 8) as pool:
            sink = Sink("train", stage.settings, Metrics())
            trainers = [Trainer(stage.settings, pool, stage.redis, sink, time.time) for _ in range(5)]
            results = await asyncio.gather(*(trainer.train(asked) for trainer in trainers))
        assert sum(result is not None for result in results) == 1
        assert (await stage.snapshot(policy))["snapshot_version"] == before + 1
        assert row_of(stage, asked.id)["runs"] == 1

    run(servers, play)


def test_a_lease_keeps_others_out_until_it_ends(servers: LocalServers) -> None:
    """Held and renewed, a training is nobody else's; not renewed, it is taken, and the first can note nothing more."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy()
        asked = Asked("/tests", f"lease-{policy}", policy, "/tests")
        async with open_pool(servers.database_url, 4) as pool:
            first, second = Trainings(pool, 0.6), Trainings(pool, 30.0)
            held = await first.hold(asked)
            assert held is not None
            for _ in range(4):
                assert await second.hold(asked) is None
                left = await second.held_s(asked)
                assert left is not None
                assert 0 < left <= 0.6
                await asyncio.sleep(0.3)
                assert await first.renew(held)
            await asyncio.sleep(0.7)
            taken = await second.hold(asked)
            assert taken is not None
            assert taken.runs == 2
            assert not await first.renew(held)
            async with connection(pool) as lent:
                with pytest.raises(Unavailable):
                    async with lent.transaction():
                        await first.note(lent, held, {"policy": policy})
            with pytest.raises(Unavailable):
                await first.finish(held)
            await first.announce(held)
            await first.release(held)
            left = await second.held_s(asked)
            assert left is not None
            assert left > 10
            assert row_of(stage, asked.id)["outcome"] == []

    run(servers, play)


@pytest.mark.parametrize(
    ("moment", "noted"),
    [
        ("between-refit-and-commit", False),
        ("between-commit-and-finish", True),
        ("between-finish-and-publish", True),
        ("between-publish-and-announce", True),
    ],
)
def test_a_job_killed_at_the_worst_moment_is_repeated(
    servers: LocalServers, tmp_path: Path, moment: str, noted: bool
) -> None:
    """Killed there, the Job leaves all or nothing; the same event again ends what was begun, and nothing counts twice."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy()
        rewards = await traffic(stage, policy, 20)
        decision = await stage.recommend(policy)
        await stage.learn(policy)
        await stage.feedback(decision["decision_id"], value=0.5)  # pending still
        rewards.setdefault(decision["items"][0]["action"], []).append(0.5)
        before = (await stage.snapshot(policy))["snapshot_version"]
        folder = requested(tmp_path / "event", f"{moment}-{policy}", {"policy": policy})
        code, said = await job(servers, folder, "tests.crashing", moment, "train")
        assert code == -signal.SIGKILL, said
        row = row_of(stage, f"{moment}-{policy}")
        assert ([each["policy"] for each in row["outcome"]], row["state"] == "announced") == ([policy] * noted, False)
        assert (await stage.snapshot(policy))["snapshot_version"] == before + noted
        began = time.monotonic()
        code, said = await job(servers, folder)
        assert code == 0, said
        assert time.monotonic() - began < 10
        assert "an earlier run did not finish" in [line["message"] for line in said]
        row = row_of(stage, f"{moment}-{policy}")
        assert (row["state"], row["runs"], len(row["outcome"])) == ("announced", 2, 1)
        shown = await stage.snapshot(policy)
        assert shown["snapshot_version"] == before + 1
        [stored] = stage.sql(
            "select content from snapshots where policy = %s and snapshot_version = %s", policy, before + 1
        )
        assert await stage.published(policy) == stored["content"]
        await stage.learn(policy)
        for action, values in rewards.items():
            known = (await stage.snapshot(policy))["actions"][action]
            assert known["weight"] == len(values)
            assert known["mean"] * len(values) == pytest.approx(sum(values), abs=1e-9)
        assert_same_numbers(*await refitted(stage, policy))

    run(servers, play)


def test_sigterm_rolls_back_and_lets_go(servers: LocalServers, tmp_path: Path) -> None:
    """Told to stop while it trains, the Job ends with 1, nothing has happened, and the next need not wait for the lease."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy()
        before = (await stage.snapshot(policy))["snapshot_version"]
        folder = requested(tmp_path / "event", f"sigterm-{policy}", {"policy": policy})
        with locked(stage, policy):
            process = start(servers, folder, KNUDGE_TRAINING_LEASE_S="600")
            await until_waiting(stage)
            process.send_signal(signal.SIGTERM)
            code, said = await asyncio.to_thread(ended, process)
        assert code == 1, said
        assert [line["level"] for line in said if "rolled back" in line["message"]] == ["warning"]
        assert not [line for line in said if "exception" in line]
        row = row_of(stage, f"sigterm-{policy}")
        assert (row["state"], row["outcome"]) == ("under way", [])
        assert row["left"].total_seconds() <= 0
        assert (await stage.snapshot(policy))["snapshot_version"] == before
        assert (await job(servers, folder))[0] == 0
        assert (await stage.snapshot(policy))["snapshot_version"] == before + 1

    run(servers, play)


def test_one_waits_for_another_and_takes_over(servers: LocalServers, tmp_path: Path) -> None:
    """While one Job renews its lease a second one waits; when the first is killed the second trains."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy()
        before = (await stage.snapshot(policy))["snapshot_version"]
        folder = requested(tmp_path / "event", f"wait-{policy}", {"policy": policy})
        with locked(stage, policy):
            first = start(servers, folder)
            await until_waiting(stage)
            second = start(servers, folder)
            await asyncio.sleep(2.5)
            assert second.poll() is None, "the first has renewed its lease of a second"
            assert row_of(stage, f"wait-{policy}")["runs"] == 1
            first.kill()
            first.communicate()
        code, said = await asyncio.to_thread(ended, second)
        assert code == 0
        messages = [line["message"] for line in said]
        assert messages.index("another run is training") < messages.index("refitted")
        assert (await stage.snapshot(policy))["snapshot_version"] == before + 1
        assert row_of(stage, f"wait-{policy}")["runs"] == 2

    run(servers, play)


# What goes wrong


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no event can be read"),
        ("nonsense", "not a CloudEvent"),
        ('{"specversion": "1.0", "id": "1", "source": "s", "type": "dev.knudge.else.v1", "data": {}}', "takes"),
        ({"policy": "nobody-has-this-name"}, "there is no policy"),
        ({"polcy": "x"}, "polcy"),
        ({"policy": 7}, "policy"),
        ([], "object"),
    ],
)
def test_a_poison_event_ends_with_2(servers: LocalServers, tmp_path: Path, content: object, words: str) -> None:
    """What will never work is told apart from what may work later, and says why."""
    folder = tmp_path / "event"
    if isinstance(content, str):
        folder.mkdir()
        (folder / "event").write_text(content)
    elif content is not None:
        requested(folder, "poison", content)
    process = start(servers, folder)
    said, _ = process.communicate(timeout=END_S)
    assert process.returncode == 2, said
    assert words in said
    assert "Traceback" not in said


def test_settings_that_are_missing_end_with_2(tmp_path: Path) -> None:
    """A Job without its stores says which settings it needs."""
    done = subprocess.run(
        [sys.executable, "-m", "functions.train.job"], cwd=ROOT, env={"PATH": os.environ["PATH"]},
        capture_output=True, text=True, check=False, timeout=END_S,
    )  # fmt: skip
    assert done.returncode == 2
    assert "KNUDGE_REDIS_URL" in done.stderr
    assert "KNUDGE_DATABASE_URL" in done.stderr


def test_without_postgresql_it_is_to_be_tried_again(servers: LocalServers, tmp_path: Path) -> None:
    """A database that does not answer ends the Job with 1."""
    url = f"postgresql://x:y@127.0.0.1:{free_port()}/z"
    folder = requested(tmp_path / "event", "no-postgres", {})
    code, said = ended(start(servers, folder, KNUDGE_DATABASE_URL=url))
    assert code == 1
    assert [line["type"] for line in said if line["level"] == "error"] == ["urn:knudge:problem:unavailable"]


def test_without_redis_the_rest_is_done_when_it_comes_again(servers: LocalServers, tmp_path: Path) -> None:
    """Redis away after the commit ends the Job with 1; the same event again publishes, and refits nothing anew."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy()
        before = (await stage.snapshot(policy))["snapshot_version"]
        folder = requested(tmp_path / "event", f"no-redis-{policy}", {"policy": policy})
        code, said = await job(servers, folder, KNUDGE_REDIS_URL=f"redis://127.0.0.1:{free_port()}/0")
        assert code == 1, said
        assert row_of(stage, f"no-redis-{policy}")["state"] == "finished"
        published = await stage.published(policy)
        code, said = await job(servers, folder)
        assert code == 0, said
        assert "refitted" not in [line["message"] for line in said]
        assert (await stage.snapshot(policy))["snapshot_version"] == before + 1
        [stored] = stage.sql(
            "select content from snapshots where policy = %s and snapshot_version = %s", policy, before + 1
        )
        assert await stage.published(policy) == stored["content"] != published

    run(servers, play)


def test_the_sink_is_told_what_was_done(servers: LocalServers) -> None:
    """`training.finished` names request, policies, versions and decisions; refused, it is sent again under the same id."""

    async def main() -> None:
        async with sending(servers) as (stage, sink):
            policy = await stage.policy()
            await traffic(stage, policy, 5)
            before = (await stage.snapshot(policy))["snapshot_version"]
            trace = "0af7651916cd43dd8448eb211c80319c"
            more = {"id": f"sink-{policy}", "traceparent": f"00-{trace}-b7ad6b7169203331-01"}
            sink.status = 503
            answer = await stage.event("train", REQUESTED, {"policy": policy}, **more)
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
            sink.status = 202
            assert (await stage.event("train", REQUESTED, {"policy": policy}, **more)).status == 204
            assert (await stage.event("train", REQUESTED, {"policy": policy}, **more)).status == 204
            [(refused, _), (headers, body)] = await sink.wait_for(FINISHED, 2)
            assert refused["ce-id"] == headers["ce-id"]
            assert headers["ce-source"] == "knudge/train"
            assert trace in headers["ce-traceparent"]
            finished = json.loads(body)
            assert finished.pop("duration_s") >= 0
            [trained] = finished.pop("policies")
            assert finished == {"request": {"source": "tests", "id": f"sink-{policy}"}, "outcome": "refitted"}
            assert 0 < trained.pop("duration_s") < 10
            assert trained == {
                "policy": policy,
                "policy_version": 1,
                "snapshot_version": before + 1,
                "decisions": 5,
            }
            assert (await stage.snapshot(policy))["snapshot_version"] == before + 1

    asyncio.run(main())


def test_old_trainings_are_dropped_with_the_history(servers: LocalServers) -> None:
    """The retention takes the rows of trainings that began before it, and no others."""
    from shared.storage.postgres_retention import drop_expired

    async def play(stage: Stage) -> None:
        policy = await stage.policy()
        for name in ("old", "new"):
            assert (await stage.event("train", REQUESTED, {"policy": policy}, id=f"{name}-{policy}")).status == 204
        stage.sql("update trainings set started_at = 'epoch' where event_id = %s", f"old-{policy}")
        async with open_pool(servers.database_url, 1) as pool, connection(pool) as lent:
            await drop_expired(lent, 86_400.0)
        left = stage.sql("select event_id from trainings where policy = %s", policy)
        assert left == [{"event_id": f"new-{policy}"}]

    run(servers, play)
