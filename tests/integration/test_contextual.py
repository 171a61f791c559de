"""Policies that look at features, on real servers: they learn who likes what, from what is stored, and can be learned again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from functions.local.servers import LocalServers
from shared.policies.kinds import CONTEXTUAL_KINDS
from shared.policies.linear_model import LinearPredictor
from shared.policies.posterior import encode_posterior
from shared.storage.postgres_connection import connection, open_pool
from shared.storage.postgres_learning import LearningTransaction
from shared.storage.postgres_retention import drop_expired
from shared.storage.redis_snapshots import decode_snapshot
from shared.vocabulary import Context, Snapshot
from tests.integration.test_rules_of_learning import DAY_S, assert_same_numbers, refitted
from tests.stage import Stage, run

ACTIONS = [
    {"id": "run", "features": {"price": 20, "tags": ["sport"]}},
    {"id": "read", "features": {"price": 5.5}},
    "rest",
]
USERS: list[Context] = [
    {"age": 25, "device": "phone", "fit": True},
    {"age": 61, "device": "desk", "fit": False, "tags": ["calm", "slow"]},
    {"device": "phone", "fit": True},
]
LIKES = ["run", "read", "run"]


async def play_rounds(stage: Stage, policy: str, rounds: int, **body: Any) -> None:
    """Recommend to the users in turn; each clicks what it likes. Learn now and then."""
    for number in range(rounds):
        user = number % len(USERS)
        answer = await stage.recommend(policy, context=USERS[user], user_id=f"user-{number}", **body)
        for item in answer["items"]:
            if item["action"] == LIKES[user]:
                await stage.feedback(answer["decision_id"], action=item["action"])
        if number % 10 == 0:
            await stage.learn(policy)
    await stage.learn(policy)


def assert_same_beliefs(one: Snapshot, other: Snapshot) -> None:
    """Compare what two snapshots predict for every user, with their actions and an unknown one, to 1e-9."""
    assert_same_numbers(one, other)
    for context in [*USERS, {}]:
        mine, theirs = (LinearPredictor(each).predict(context, ["run", "read", "rest", "new"]) for each in (one, other))
        for ours, its in zip(mine, theirs, strict=True):
            np.testing.assert_allclose(np.abs(ours), np.abs(its), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", [*CONTEXTUAL_KINDS])
def test_a_contextual_policy_learns_who_likes_what(servers: LocalServers, kind: str) -> None:
    """After some rounds every user's favourite is thought the best for that user, and is the most probable."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy(kind=kind, actions=ACTIONS, features={"hash_dimension": 8})
        await play_rounds(stage, policy, 90)
        for user, liked in zip(USERS, LIKES, strict=True):
            answers = [await stage.recommend(policy, context=user, count=3) for _ in range(3)]
            scores = {item["action"]: item["score"] for item in answers[0]["items"]}
            assert max(scores, key=lambda action: scores[action]) == liked

    run(servers, play)


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"half_life_s": 20.0},
        {"expected_delay_s": 1.0, "reward_window_s": 2.0, "default_reward": 0.25},
        {"features": {"per_action": ["age"], "shared": ["action.*"], "interactions": [["device", "action.price"]]}},
    ],
)
def test_a_refit_of_features_equals_the_running_posterior(servers: LocalServers, spec: dict[str, Any]) -> None:
    """What is stored of contexts, of callers' actions and of the policy's own gives the same beliefs again, to 1e-9."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy(kind="lin_thompson", actions=ACTIONS, **spec)
        await play_rounds(stage, policy, 25, count=2)
        await play_rounds(stage, policy, 10, actions=["read", {"id": "new", "features": {"price": 9.0}}, "run"])
        changed = [{"id": "run", "features": {"price": 1.0}}, *ACTIONS[1:]]
        await stage.policy(policy, kind="lin_thompson", actions=changed, **spec)
        await play_rounds(stage, policy, 25)
        assert_same_beliefs(*await refitted(stage, policy))

    run(servers, play)


def test_a_wiped_redis_gets_the_same_model_back(servers: LocalServers) -> None:
    """One sweep publishes the snapshot again, to the bit."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy(kind="lin_ucb", actions=ACTIONS)
        await play_rounds(stage, policy, 20)
        before = await stage.published(policy)
        await stage.redis.flushall()
        await stage.learn()
        assert before is not None
        assert await stage.published(policy) == before

    run(servers, play)


def test_other_features_are_learned_from_the_history(servers: LocalServers) -> None:
    """A version that looks at other features is refitted; one that only chooses otherwise inherits."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy(kind="lin_thompson", actions=ACTIONS, features={"per_action": ["age"]})
        await play_rounds(stage, policy, 20)
        body = {"kind": "lin_thompson", "actions": ACTIONS, "reward": {"click": 1.0}, "features": {}}
        answer = await stage.call("control", "PUT", f"/v1/policies/{policy}", body)
        assert answer.body["learning"] == "refitting"
        await stage.learn(policy)
        assert_same_beliefs(*await refitted(stage, policy))
        answer = await stage.call("control", "PUT", f"/v1/policies/{policy}", body | {"kind": "square_cb"})
        assert answer.body["learning"] == "inherited"
        answer = await stage.call(
            "control", "PUT", f"/v1/policies/{policy}", body | {"kind": "thompson", "features": None}
        )
        assert answer.body["learning"] == "refitting"

    run(servers, play)


def test_an_id_alone_has_the_features_of_the_policys_action(servers: LocalServers) -> None:
    """What is stored of a request that names the policy's own actions holds their features."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy(kind="lin_ucb", actions=ACTIONS)
        answer = await stage.recommend(policy, context=USERS[0], actions=["run", "unheard of"])
        await stage.learn(policy)
        [row] = stage.sql("select eligible from decisions where decision_id = %s", answer["decision_id"])
        assert row["eligible"] == [{"id": "run", "features": {"price": 20.0, "tags": ["sport"]}}, {"id": "unheard of"}]

    run(servers, play)


def test_dropped_weeks_still_count(servers: LocalServers) -> None:
    """What is sealed of features into the base, and the history that is left, give the running posterior."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy(kind="lin_thompson", actions=ACTIONS)
        await play_rounds(stage, policy, 20)
        async with open_pool(stage.servers.database_url, 2) as pool, connection(pool) as lent, lent.transaction():
            work = LearningTransaction(lent, policy)
            state = await work.lock()
            running = encode_posterior(state.posterior)
            await drop_expired(lent, state.posterior.as_of + 14 * DAY_S)
        assert stage.sql("select 1 from decisions where policy = %s", policy) == []
        assert encode_posterior((await _state(stage, policy)).posterior) == running
        await play_rounds(stage, policy, 20)
        assert_same_beliefs(*await refitted(stage, policy))

    run(servers, play)


async def _state(stage: Stage, policy: str) -> Any:
    async with open_pool(stage.servers.database_url, 2) as pool, connection(pool) as lent, lent.transaction():
        return await LearningTransaction(lent, policy).lock()


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("features", {"kind": "ucb1", "features": {}}),
        ("features.per_action[0]", {"features": {"per_action": ["action.price"]}}),
        ("features.hash_dimension", {"features": {"hash_dimension": 0}}),
        ("features.hash_dimension", {"features": {"hash_dimension": 257}}),
        ("features.expansion", {"features": {"expansion": -1}}),
        ("features.expansion", {"features": {"expansion": 257}}),
        ("features.interactions", {"features": {"interactions": [["a", "b"]] * 65}}),
        ("features.interactions[0][1]", {"features": {"interactions": [["a", ""]]}}),
        ("features.other", {"features": {"other": 1}}),
        ("parameters.epsilon", {"parameters": {"epsilon": 0.1}}),
        ("parameters.ridge", {"parameters": {"ridge": 0.0}}),
        ("kind", {"kind": "lin_reg"}),
    ],
)
def test_features_that_cannot_be_are_refused_by_name(servers: LocalServers, field: str, change: dict[str, Any]) -> None:
    """The field at fault is named, and nothing is written."""

    async def play(stage: Stage) -> None:
        body = {"kind": "lin_ucb", "actions": ["a"], "reward": {"click": 1.0}} | change
        answer = await stage.call("control", "PUT", "/v1/policies/refused", body)
        assert answer.status in {400, 413}, answer
        assert answer.body["field"] == field
        assert (await stage.call("control", "GET", "/v1/policies/refused")).status == 404

    run(servers, play)


def test_a_model_is_read_back_as_it_was_published(servers: LocalServers) -> None:
    """What Redis holds decides as what PostgreSQL holds, and shows what it looks at."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy(kind="lin_thompson", actions=ACTIONS)
        await play_rounds(stage, policy, 12)
        content = await stage.published(policy)
        assert content is not None
        assert decode_snapshot(content).features is not None
        answer = await stage.call("control", "GET", f"/v1/policies/{policy}")
        assert answer.body["features"] == {}

    run(servers, play)
