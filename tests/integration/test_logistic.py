"""Logistic Thompson sampling on real servers: batches learned once, in an order that a refit repeats, and open ones ahead."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from functions.local.servers import LocalServers
from shared.policies.linear_fit import decode_model
from shared.policies.logistic_weights import unpack
from shared.storage import postgres_ordered
from shared.storage.postgres_connection import connection, open_pool
from shared.storage.postgres_retention import drop_expired
from shared.storage.redis_snapshots import decode_snapshot
from tests.integration.test_contextual import ACTIONS, LIKES, USERS, play_rounds
from tests.integration.test_sessions import DAY_S, at, models
from tests.stage import Stage, run

POLICY: dict[str, Any] = {"kind": "logistic_thompson", "actions": ACTIONS, "features": {"hash_dimension": 8}}
SHORT: dict[str, Any] = POLICY | {"reward_window_s": 1}


async def logged(stage: Stage, policy: str, begin: float, count: int, prefix: str) -> list[str]:
    """Report decisions that were made elsewhere, a second apart, each rewarded if its user likes it; return the ids."""
    rows: list[dict[str, Any]] = []
    for number in range(count):
        action = ["run", "read", "rest"][number % 7 % 3]
        rows.append(
            {
                "policy": policy,
                "action": action,
                "propensity": 1 / 3,
                "context": USERS[number % len(USERS)] | {"age": 20 + number},
                "occurred_at": at(begin + number),
                "decision_id": f"{prefix}-{number}",
            }
        )
    answer = await stage.call("feedback", "POST", "/v1/decisions", {"decisions": rows})
    assert answer.status == 200, answer
    ids: list[str] = answer.body["decision_ids"]
    for number, (row, decision) in enumerate(zip(rows, ids, strict=True)):
        if row["action"] == LIKES[number % len(USERS)]:
            await stage.feedback(decision, occurred_at=row["occurred_at"])
    return ids


async def closed(stage: Stage, policy: str) -> None:
    """Learn what has been reported, once the learner looks for closed decisions again."""
    await stage.learn(policy)
    await asyncio.sleep(0.1)
    await stage.learn(policy)


def known(content: bytes | None) -> float:
    """Return how many rewards the model of a published snapshot was learned from."""
    model = decode_snapshot(content or b"").model
    assert model is not None
    return decode_model(model).rewards


@pytest.mark.parametrize("change", [{}, {"half_life_s": 600.0}])
def test_a_refit_repeats_the_batches(servers: LocalServers, change: dict[str, Any]) -> None:
    """Learned in several batches, with late feedback and features that appear late: a refit gives the same bytes."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy(**(SHORT | change))
        begin = time.time() - 7200.0
        for batch in range(4):
            ids = await logged(stage, policy, begin + 30.0 * batch, 20 + batch, prefix=f"batch-{batch}")
            await closed(stage, policy)
        running, sealed = await models(stage, policy)
        assert running is not None
        assert sealed is None
        assert len(unpack(running).sums.actions) == 3
        await stage.feedback(ids[2], value=1.0, occurred_at=at(begin + 92.0))
        await closed(stage, policy)
        assert (await models(stage, policy))[0] == running, "what is learned is learned once"
        assert (await models(stage, policy, refit=True))[0] == running
        rows = stage.sql("select place, ends from learned_order where policy = %s order by place", policy)
        assert [row["place"] for row in rows] == list(range(1, 87))
        assert rows[-1]["ends"]
        assert 1 <= [row["ends"] for row in rows].count(True) <= 8, "a batch ends once"

    run(servers, play)


def test_what_is_open_is_known_before_its_window_is_over(servers: LocalServers) -> None:
    """With a window of a day the snapshot knows every decision at once, and nothing is learned for good."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy(**POLICY)
        assert known(await stage.published(policy)) == 0.0
        await play_rounds(stage, policy, 60)
        assert known(await stage.published(policy)) == 60.0
        assert (await models(stage, policy))[0] is None
        for user, liked in zip(USERS, LIKES, strict=True):
            answer = await stage.recommend(policy, context=user, count=3)
            scores = {item["action"]: item["score"] for item in answer["items"]}
            assert max(scores, key=lambda action: scores[action]) == liked
            assert all(0.0 < score < 1.0 for score in scores.values())

    run(servers, play)


def test_a_snapshot_looks_at_the_newest_of_what_is_open(servers: LocalServers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond so many, older open decisions wait until they are closed: a snapshot takes a bounded time to make."""
    monkeypatch.setattr(postgres_ordered, "MOST_AHEAD", 10)

    async def play(stage: Stage) -> None:
        policy = await stage.policy(**POLICY)
        await logged(stage, policy, time.time() - 100.0, 30, prefix="many")
        await stage.learn(policy)
        content = await stage.published(policy)
        assert known(content) == 10.0
        model = decode_model(decode_snapshot(content or b"").model or b"")
        [age] = [number for number in model.encoding.own.numbers if number.name == "age"]
        assert age.centre == pytest.approx(44.5), "of the last ten, aged 40 to 49"

    run(servers, play)


def test_a_wiped_redis_gets_the_weights_back(own_servers: LocalServers) -> None:
    """What was closed and what is open come back byte for byte."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy(**SHORT)
        await logged(stage, policy, time.time() - 7200.0, 30, prefix="old")
        await closed(stage, policy)
        await stage.recommend(policy, context=USERS[0])
        await stage.learn(policy)
        before = await stage.published(policy)
        assert known(before) == 31.0
        await stage.redis.flushall()
        await stage.learn(policy)
        assert await stage.published(policy) == before

    run(own_servers, play)


def test_what_retention_drops_is_sealed_into_the_weights(servers: LocalServers) -> None:
    """Weeks go with the order of their decisions; the sealed weights and what is left give the running ones, bit for bit."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy(**SHORT)
        now = time.time()
        for batch, days in enumerate((40, 20, 30, 0.1)):  # learned in another order than decided
            await logged(stage, policy, now - days * DAY_S, 12, prefix=f"days-{batch}")
            await closed(stage, policy)
        running, nothing = await models(stage, policy)
        assert nothing is None
        async with open_pool(stage.servers.database_url, 2) as pool, connection(pool) as lent:
            assert await drop_expired(lent, now - 10 * DAY_S) >= 2
        assert stage.sql("select count(*) from learned_order where policy = %s", policy)[0]["count"] == 12
        again, sealed = await models(stage, policy, refit=True)
        assert again == running
        assert sealed is not None
        assert unpack(sealed).moments.gram[0, 0, 0] == 36.0

    run(servers, play)


def test_a_linear_policy_becomes_logistic_and_back(servers: LocalServers) -> None:
    """Either learns the other's history; another ridge walks the stored order again, another exploration inherits."""

    async def play(stage: Stage) -> None:
        linear: dict[str, Any] = {
            "kind": "lin_thompson",
            "actions": ACTIONS,
            "reward": {"click": 1.0},
            "reward_window_s": 1,
        }
        policy = await stage.policy(**linear)
        await logged(stage, policy, time.time() - 7200.0, 30, prefix="linear")
        await stage.learn(policy)
        logistic = linear | {"kind": "logistic_thompson"}
        changes: list[tuple[dict[str, Any], str]] = [
            (logistic, "refitting"),
            (logistic | {"parameters": {"ridge": 2.0}}, "refitting"),
            (logistic | {"parameters": {"ridge": 2.0, "exploration": 1.0}}, "inherited"),
            (linear, "refitting"),
        ]
        for body, learning in changes:
            answer = await stage.call("control", "PUT", f"/v1/policies/{policy}", body)
            assert answer.body["learning"] == learning, body
            await closed(stage, policy)
            assert known(await stage.published(policy)) == 30.0
            if body["kind"] == "logistic_thompson":
                running, _ = await models(stage, policy)
                assert (await models(stage, policy, refit=True))[0] == running

    run(servers, play)


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("parameters.ridge", {"parameters": {"ridge": 0.0}}),
        ("parameters.exploration", {"parameters": {"exploration": -1.0}}),
        ("parameters.epsilon", {"parameters": {"epsilon": 0.1}}),
        ("reward_range", {"reward_range": None}),
        ("features.hash_dimension", {"features": {"hash_dimension": 0}}),
    ],
)
def test_what_cannot_be_is_refused_by_name(servers: LocalServers, field: str, change: dict[str, Any]) -> None:
    """The field at fault is named, and nothing is written."""

    async def play(stage: Stage) -> None:
        body = POLICY | {"reward": {"click": 1.0}} | change
        answer = await stage.call("control", "PUT", "/v1/policies/refused-logistic", body)
        assert answer.status == 400, answer
        assert answer.body["field"] == field
        assert (await stage.call("control", "GET", "/v1/policies/refused-logistic")).status == 404

    run(servers, play)
