"""The rules of the loop on real servers: truth, identity, order, orphans, retention."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import Any

import msgspec
import psycopg
import pytest

from functions.local.servers import LocalServers
from shared.policies.posterior import snapshot_of
from shared.storage.postgres_connection import connection, open_pool
from shared.storage.postgres_learning import LearningTransaction
from shared.storage.postgres_retention import drop_expired
from shared.vocabulary import Snapshot
from tests.stage import Stage, run

DAY_S = 86_400.0


async def refitted(stage: Stage, policy: str) -> tuple[Snapshot, Snapshot]:
    """Return the snapshot of the running posterior and that of one fitted from history, both as of the former."""
    async with (
        open_pool(stage.servers.database_url, 2) as pool,
        connection(pool) as lent,
        lent.transaction(force_rollback=True),
    ):
        work = LearningTransaction(lent, policy)
        state = await work.lock()
        fitted = await work.refit(state, state.posterior.as_of)
        for ours, theirs in ((state.posterior.delays, fitted.delays), (fitted.delays, state.posterior.delays)):
            for bucket, counts in ours.items():
                for bin_, weight in counts.items():
                    other = theirs.get(bucket, {}).get(bin_, 0.0)
                    assert weight == pytest.approx(other, rel=1e-9, abs=1e-9)
        return snapshot_of(state.posterior, state.spec, 1), snapshot_of(fitted, state.spec, 1)


def assert_same_numbers(one: Snapshot, other: Snapshot) -> None:
    """Compare every estimate to 1e-9."""
    assert [e.action for e in one.estimates] == [e.action for e in other.estimates]
    for ours, theirs in zip(one.estimates, other.estimates, strict=True):
        for field in ("weight", "total", "squares"):
            assert getattr(ours, field) == pytest.approx(getattr(theirs, field), rel=1e-9, abs=1e-9)


async def traffic(stage: Stage, policy: str, decisions: int, **body: Any) -> dict[str, list[float]]:
    """Decide and react a little at a time, learning in between; return rewards by action as they were acknowledged."""
    rewards: dict[str, list[float]] = {}
    for number in range(decisions):
        decision = await stage.recommend(policy, user_id=f"user-{number}", **body)
        for item in decision["items"]:
            value = (number % 3) / 2
            rewards.setdefault(item["action"], []).append(value)
            if value:
                await stage.feedback(decision["decision_id"], action=item["action"], value=value)
        if number % 7 == 0:
            await stage.learn(policy)
    await stage.learn(policy)
    return rewards


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"half_life_s": 10.0},
        {"expected_delay_s": 5.0, "reward_window_s": 60.0},
        {"expected_delay_s": 1.0, "reward_window_s": 2.0, "half_life_s": 20.0, "default_reward": 0.25},
        {"kind": "epsilon_greedy", "reward_range": None, "reward": {"click": 2.5}},
    ],
)
def test_a_refit_equals_the_running_posterior(servers: LocalServers, spec: dict[str, Any]) -> None:
    """Learning from history gives what learning on the way gave, to 1e-9."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy(**spec)
        await traffic(stage, policy, 40, count=2)
        assert_same_numbers(*await refitted(stage, policy))

    run(servers, play)


def test_delays_of_slow_rewards_are_learned_and_revised(servers: LocalServers) -> None:
    """An event that occurred earlier and came later moves the delay, though the reward stays; a refit agrees."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy(expected_delay_s=600.0, reward_window_s=3_600.0, half_life_s=DAY_S)
        now = time.time()
        ids = await logged(stage, policy, [now - 7_200.0, now - 5_400.0, now - 3_000.0])
        for decision in ids:
            await stage.feedback(decision, occurred_at=moment(now - 2_700.0))
        await stage.learn(policy)
        assert await delays(stage, policy) == [300.0, 2_700.0]
        await stage.feedback(ids[1], occurred_at=moment(now - 5_340.0))
        await stage.learn(policy)
        assert await delays(stage, policy) == [60.0, 300.0]
        assert_same_numbers(*await refitted(stage, policy))

    run(servers, play)


def test_a_posterior_without_delays_is_refitted_once(servers: LocalServers) -> None:
    """What was learned before delays were counted gets them from history at the next run, as a refit would."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy(expected_delay_s=600.0, reward_window_s=3_600.0)
        now = time.time()
        ids = await logged(stage, policy, [now - 7_200.0, now - 3_000.0])
        for decision in ids:
            await stage.feedback(decision, occurred_at=moment(now - 2_700.0))
        await stage.learn(policy)
        (row,) = stage.sql("select statistics from posteriors where policy = %s", policy)
        statistics = msgspec.msgpack.decode(row["statistics"])
        assert sum(sum(counts.values()) for counts in statistics.pop("delays").values()) == 1.0
        stage.sql(
            "update posteriors set statistics = %s where policy = %s returning 1",
            msgspec.msgpack.encode(statistics),
            policy,
        )
        stage.sql("update rewards set delay_s = null where decision_id = any(%s::uuid[]) returning 1", ids)
        await stage.learn(policy)
        assert await delays(stage, policy) == [300.0]
        assert_same_numbers(*await refitted(stage, policy))

    run(servers, play)


async def logged(stage: Stage, policy: str, times: list[float]) -> list[str]:
    """Report one decision for each of these times; return their ids."""
    rows: list[dict[str, Any]] = [
        {
            "policy": policy,
            "action": "a",
            "propensity": None,
            "context": {},
            "occurred_at": moment(at),
            "decision_id": f"{policy}-{at}",
        }
        for at in times
    ]
    answer = await stage.call("feedback", "POST", "/v1/decisions", {"decisions": rows})
    return list(answer.body["decision_ids"])


def moment(at: float) -> str:
    """Return a time as events state it, in whole seconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))


async def delays(stage: Stage, policy: str) -> list[float]:
    """Return the delays of the rewards as they are counted, in order."""
    rows = stage.sql(
        "select delay_s from rewards join decisions using (decided_at, decision_id) where policy = %s order by 1",
        policy,
    )
    return [row["delay_s"] for row in rows]


def test_learned_counts_are_exact(servers: LocalServers) -> None:
    """Without forgetting, weights and totals equal what was acknowledged, exactly."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy()
        rewards = await traffic(stage, policy, 30)
        known = (await stage.snapshot(policy))["actions"]
        for action, values in rewards.items():
            assert known[action]["weight"] == len(values)
            assert known[action]["mean"] * len(values) == pytest.approx(sum(values), abs=1e-12)

    run(servers, play)


def test_a_sweep_learns_what_is_committed_while_redis_is_away(own_servers: LocalServers) -> None:
    """Without Redis a sweep asks to be tried again, and has learned from what PostgreSQL holds."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy()
        decision = (await stage.recommend(policy))["decision_id"]
        await stage.learn(policy)
        await stage.feedback(decision)
        stage.servers.redis.stop()
        answer = await stage.event("learn", "dev.knudge.learning.due.v1", {})
        assert answer.status == 503
        assert [row["reward"] for row in stage.sql("select reward from rewards where decision_id = %s", decision)] == [
            1.0
        ]
        assert stage.sql("select 1 from pending where decision_id = %s", decision) == []

    run(own_servers, play)


def test_a_wiped_redis_is_republished_bit_for_bit(own_servers: LocalServers) -> None:
    """After Redis lost everything one learning run puts back the very bytes, of all policies."""

    async def play(stage: Stage) -> None:
        policies = [await stage.policy() for _ in range(3)]
        await traffic(stage, policies[0], 10)
        before = {policy: await stage.published(policy) for policy in policies}
        await stage.redis.flushall()
        answer = await stage.call("recommend", "POST", "/v1/recommend", {"policy": "not-seen", "actions": ["x"]})
        assert answer.status == 200, "an empty Redis is not bootstrapped, not without the policy"
        assert answer.body["snapshot_version"] == 0
        await stage.learn(policies[0])
        assert {policy: await stage.published(policy) for policy in policies} == before
        answer = await stage.call("recommend", "POST", "/v1/recommend", {"policy": "not-seen", "actions": ["x"]})
        assert answer.status == 404

    run(own_servers, play)


def test_an_older_snapshot_never_replaces_a_newer(servers: LocalServers) -> None:
    """Publishing is compare-and-set on the version."""

    async def play(stage: Stage) -> None:
        from shared.storage.redis_snapshots import publish

        policy = await stage.policy()
        await traffic(stage, policy, 3)
        newest = await stage.published(policy)
        assert not await publish(stage.redis, policy, 1, 1, b"old")
        assert await stage.published(policy) == newest

    run(servers, play)


def test_feedback_in_any_order_gives_the_same_reward(servers: LocalServers) -> None:
    """The reward depends on the set of events: two policies get the same ones in opposite order."""

    async def play(stage: Stage) -> None:
        means = []
        for reverse in (False, True):
            policy = await stage.policy(reward={"rating": {"weight": 0.2, "combine": "last"}}, actions=["only"])
            decision = await stage.recommend(policy)
            now = time.time()
            stamps = [time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now + n)) + ".5Z" for n in range(3)]
            events = [{"value": float(n + 1), "occurred_at": stamp} for n, stamp in enumerate(stamps)]
            for number, event in sorted(enumerate(events), reverse=reverse):
                await stage.feedback(decision["decision_id"], "rating", event_id=f"e{number}", **event)
                await stage.learn(policy)
            means.append((await stage.snapshot(policy))["actions"]["only"]["mean"])
        assert means[0] == means[1] == pytest.approx(0.6)

    run(servers, play)


def test_feedback_before_its_decision_waits(servers: LocalServers) -> None:
    """Feedback that is learned before its decision is archived counts as soon as that is."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy(actions=["only"])
        decision = await stage.recommend(policy)
        key = f"knudge:journal:{policy}"
        [(entry, fields)] = await stage.redis.xrange(key)
        await stage.redis.xdel(key, entry)
        await stage.feedback(decision["decision_id"])
        await stage.learn(policy)
        assert (await stage.snapshot(policy))["actions"]["only"]["weight"] == 0
        assert stage.sql("select waiting from pending where decision_id = %s", decision["decision_id"])[0]["waiting"]
        await stage.redis.xadd(key, fields)
        await stage.learn(policy)
        only = (await stage.snapshot(policy))["actions"]["only"]
        assert (only["weight"], only["mean"]) == (1.0, 1.0)
        assert not stage.sql("select 1 from pending where decision_id = %s", decision["decision_id"])

    run(servers, play)


def test_a_block_that_was_journalled_twice_counts_once(servers: LocalServers) -> None:
    """An append whose outcome was unknown may be repeated."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy(actions=["only"])
        await stage.recommend(policy)
        key = f"knudge:journal:{policy}"
        [(_, fields)] = await stage.redis.xrange(key)
        await stage.redis.xadd(key, fields)
        await stage.learn(policy)
        await stage.redis.xadd(key, fields)
        await stage.learn(policy)
        assert (await stage.snapshot(policy))["actions"]["only"]["weight"] == 1.0
        assert await stage.redis.xlen(key) == 0

    run(servers, play)


def test_a_repeat_counts_once_and_one_from_another_client_counts(servers: LocalServers) -> None:
    """Identity is the client and its event id."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy(reward={"click": {"weight": 0.25, "combine": "sum"}}, actions=["only"])
        decision = (await stage.recommend(policy))["decision_id"]
        event = {"decision_id": decision, "kind": "click", "event_id": "one"}
        counts = []
        for client in ("shop", "shop", "mail"):
            answer = await stage.call("feedback", "POST", "/v1/feedback", event, {"X-Client-Id": client})
            counts.append((answer.body["accepted"], answer.body["duplicates"]))
        assert counts == [(1, 0), (0, 1), (1, 0)]
        await stage.learn(policy)
        assert (await stage.snapshot(policy))["actions"]["only"]["mean"] == 0.5

    run(servers, play)


def test_orphans_are_given_up_kept_and_taken_back(servers: LocalServers) -> None:
    """A day after the window feedback without a decision is marked; if the decision comes after all, it counts."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy(actions=["only"], reward_window_s=60.0)
        decision = (await stage.recommend(policy))["decision_id"]
        key = f"knudge:journal:{policy}"
        [(entry, fields)] = await stage.redis.xrange(key)
        await stage.redis.xdel(key, entry)
        await stage.feedback(decision)
        await stage.learn(policy)
        await stage.learn()
        assert stage.sql("select 1 from pending where decision_id = %s", decision), "given up too early"
        assert not stage.sql("select 1 from feedback where decision_id = %s and orphaned_at is not null", decision)
        from functions.learn.func import door

        learner = await door.start()
        learner._clock = lambda: time.time() + 2 * DAY_S
        try:
            await learner.sweep()
        finally:
            learner._clock = time.time
        assert not stage.sql("select 1 from pending where decision_id = %s", decision)
        assert stage.sql("select 1 from feedback where decision_id = %s and orphaned_at is not null", decision)
        await stage.redis.xadd(key, fields)
        await stage.learn(policy)
        assert (await stage.snapshot(policy))["actions"]["only"]["mean"] == 1.0

    run(servers, play)


def test_deferred_decisions_count_when_activated(servers: LocalServers) -> None:
    """Neither the decision nor its feedback counts before the activation, both do after; a second one changes nothing."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy(actions=["only"])
        decision = (await stage.recommend(policy, defer_activation=True))["decision_id"]
        await stage.feedback(decision)
        await stage.learn(policy)
        assert (await stage.snapshot(policy))["actions"]["only"]["weight"] == 0
        for expected in (True, False):
            answer = await stage.call("feedback", "POST", f"/v1/decisions/{decision}/activate")
            assert (answer.status, answer.body["activated"]) == (200, expected)
            await stage.learn(policy)
            only = (await stage.snapshot(policy))["actions"]["only"]
            assert (only["weight"], only["mean"]) == (1.0, 1.0)
        assert_same_numbers(*await refitted(stage, policy))

    run(servers, play)


def test_logged_decisions_are_learned_once(servers: LocalServers) -> None:
    """Decisions of another system count like our own, whatever order they and their feedback come in."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 3600))
        rows = [
            {
                "policy": policy,
                "action": "abc"[n % 3],
                "propensity": 1 / 3 if n % 2 else None,
                "context": {"n": float(n)},
                "occurred_at": stamp,
                "decision_id": f"log-{n}",
            }
            for n in range(9)
        ]
        first = await stage.call("feedback", "POST", "/v1/decisions", {"decisions": rows})
        again = await stage.call("feedback", "POST", "/v1/decisions", {"decisions": rows})
        assert (first.body["accepted"], again.body["duplicates"]) == (9, 9)
        assert first.body["decision_ids"] == again.body["decision_ids"]
        for decision in first.body["decision_ids"][:3]:
            await stage.feedback(decision)
        await stage.learn(policy)
        await stage.learn(policy)
        actions = (await stage.snapshot(policy))["actions"]
        assert [actions[a]["weight"] for a in "abc"] == [3.0, 3.0, 3.0]
        assert [actions[a]["mean"] for a in "abc"] == [pytest.approx(1 / 3)] * 3
        assert_same_numbers(*await refitted(stage, policy))

    run(servers, play)


@pytest.mark.parametrize("spec", [{}, {"expected_delay_s": 3_600.0}], ids=["at once", "slow"])
def test_what_retention_drops_still_counts(servers: LocalServers, spec: dict[str, Any]) -> None:
    """A dropped week is sealed into the base: base plus what is left equals the running posterior."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy(half_life_s=30 * DAY_S, **spec)
        now = time.time()
        moments = itertools.cycle([now - 40 * DAY_S, now - 20 * DAY_S, now - 3600])
        rows: list[dict[str, Any]] = [
            {
                "policy": policy,
                "action": "abc"[n % 3],
                "propensity": None,
                "context": {},
                "occurred_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(next(moments))),
                "decision_id": f"log-{n}",
            }
            for n in range(30)
        ]
        answer = await stage.call("feedback", "POST", "/v1/decisions", {"decisions": rows})
        for decision in answer.body["decision_ids"][::2]:
            await stage.feedback(decision, occurred_at=rows[answer.body["decision_ids"].index(decision)]["occurred_at"])
        await stage.learn(policy)
        kept = stage.sql("select count(*) from decisions where policy = %s", policy)[0]["count"]
        async with open_pool(stage.servers.database_url, 2) as pool, connection(pool) as lent:
            assert await drop_expired(lent, now - 10 * DAY_S) >= 2
        left = stage.sql("select count(*) from decisions where policy = %s", policy)[0]["count"]
        assert (kept, left) == (30, 10)
        assert_same_numbers(*await refitted(stage, policy))

    run(servers, play)


def test_learners_side_by_side_learn_everything_once(servers: LocalServers) -> None:
    """Several runs of one policy at once, on connections of their own, take turns by the lock."""

    async def play(stage: Stage) -> None:
        from functions.learn.handler import Learner
        from shared.observability.metrics import Metrics

        policy = await stage.policy(actions=["only"])
        for number in range(20):
            decision = await stage.recommend(policy, user_id=str(number))
            await stage.feedback(decision["decision_id"])
        async with open_pool(stage.servers.database_url, 8) as pool:
            learners = [Learner(stage.settings, Metrics(), pool, stage.redis, time.time) for _ in range(6)]
            await asyncio.gather(*(learner.learn(policy) for learner in learners))
        only = (await stage.snapshot(policy))["actions"]["only"]
        assert (only["weight"], only["mean"]) == (20.0, 1.0)

    run(servers, play)


def test_many_wake_ups_are_few_runs(servers: LocalServers) -> None:
    """Whoever asks is answered after a run that began after it asked; a hundred at once share two."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy(actions=["only"])
        decision = await stage.recommend(policy)
        before = (await stage.snapshot(policy))["snapshot_version"]
        await stage.feedback(decision["decision_id"])
        await asyncio.gather(*(stage.learn(policy) for _ in range(100)))
        snapshot = await stage.snapshot(policy)
        assert snapshot["actions"]["only"]["mean"] == 1.0
        assert snapshot["snapshot_version"] - before <= 2

    run(servers, play)


def test_changed_rewards_are_counted_anew(servers: LocalServers) -> None:
    """A version with another reward is refitted from the raw feedback; one that learns alike inherits."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy(actions=["only"])
        decision = await stage.recommend(policy)
        await stage.feedback(decision["decision_id"])
        await stage.feedback(decision["decision_id"], "purchase")
        await stage.learn(policy)
        body = {"kind": "thompson", "actions": ["only"], "reward": {"click": 0.5, "purchase": 0.25}}
        answer = await stage.call("control", "PUT", f"/v1/policies/{policy}", body)
        assert answer.body["learning"] == "refitting"
        await stage.learn(policy)
        assert (await stage.snapshot(policy))["actions"]["only"]["mean"] == 0.75
        answer = await stage.call("control", "PUT", f"/v1/policies/{policy}", body | {"kind": "ucb1"})
        assert answer.body["learning"] == "inherited"
        assert (await stage.snapshot(policy))["actions"]["only"]["mean"] == 0.75

    run(servers, play)


def test_nothing_personal_is_stored_in_the_clear(servers: LocalServers) -> None:
    """A user id and a session id reach neither PostgreSQL nor Redis; their pseudonyms do."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy()
        personal = "ada.lovelace@example.org"
        await stage.recommend(policy, user_id=personal, session_id=f"session of {personal}")
        journal = b"".join(fields[b"block"] for _, fields in await stage.redis.xrange(f"knudge:journal:{policy}"))
        assert personal.encode() not in journal
        await stage.learn(policy)
        with psycopg.connect(stage.servers.database_url) as direct:
            rows = direct.execute("select decisions::text from decisions where policy = %s", [policy]).fetchall()
        assert rows
        assert personal not in str(rows)
        assert stage.sql("select user_pseudonym from decisions where policy = %s", policy)[0]["user_pseudonym"]

    run(servers, play)
