"""Diverse slates on real servers: declared on the policy, served over HTTP, recomputed from what is stored."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from functions.local.servers import LocalServers
from shared.identity import uniform
from shared.policies.choosing import Chooser
from shared.storage.redis_snapshots import decode_snapshot
from shared.vocabulary import Action
from tests.stage import Stage, run

ACTIONS = [
    {
        "id": f"a{at}",
        "features": {"topic": f"t{at % 3}", "price": 1.0 + at, "tags": ["new"] if at % 2 else ["old", "cheap"]},
    }
    for at in range(9)
]
DIVERSITY = {"weight": 0.5, "features": ["topic", "tags"]}


def recomputed(stage: Stage, decision_id: str) -> tuple[list[str], list[float]]:
    """Decide a stored decision again, from the snapshot that it names, its context, its actions and the server's key."""
    [row] = stage.sql("select * from decisions where decision_id = %s", decision_id)
    [kept] = stage.sql(
        "select content from snapshots where policy = %s and snapshot_version = %s",
        row["policy"],
        row["snapshot_version"],
    )
    eligible = None if row["eligible"] is None else msgspec.convert(row["eligible"], list[Action])
    key = stage.settings.server_key.encode()
    draws = [uniform(key, row["policy"], decision_id, at) for at in range(len(row["actions"]))]
    items = Chooser(decode_snapshot(kept["content"])).choose(row["context"], eligible, draws)
    assert [item.action for item in items] == row["actions"]
    return row["actions"], [item.propensity for item in items]


@pytest.mark.parametrize("kind", ["thompson", "softmax", "lin_thompson", "square_cb", "rand_ucb", "logistic_thompson"])
def test_a_diverse_slate_is_recomputed_from_what_is_stored(servers: LocalServers, kind: str) -> None:
    """Slates of the policy's actions and of the caller's, with features of their own, after some learning."""

    async def play(stage: Stage) -> None:
        features: dict[str, Any] = {"features": {}} if kind == "softmax" else {}
        policy = await stage.policy(kind=kind, actions=ACTIONS, diversity=DIVERSITY, **features)
        answers: list[Any] = []
        for number in range(30):
            theirs = [*ACTIONS[:3], "a7", {"id": "theirs", "features": {"topic": "t1"}}]
            body = {"actions": theirs} if number % 3 == 0 else {}
            answer = await stage.recommend(policy, count=4, context={"age": number}, **body)
            answers.append(answer)
            await stage.feedback(answer["decision_id"], action=answer["items"][number % 4]["action"])
            if number % 10 == 9:
                await stage.learn(policy)
        for answer in answers:
            actions, propensities = recomputed(stage, answer["decision_id"])
            assert [item["action"] for item in answer["items"]] == actions
            assert [item["propensity"] for item in answer["items"]] == pytest.approx(propensities, abs=1e-9)

    run(servers, play)


def test_a_heavy_weight_shows_every_topic_before_any_twice(servers: LocalServers) -> None:
    """With a weight far above what rewards differ by, and no floor, three items are of three topics."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy(
            actions=ACTIONS, diversity={"weight": 100, "features": ["topic"]}, exploration_floor=0
        )
        plain = await stage.policy(actions=ACTIONS, exploration_floor=0)
        repeats = {policy: 0, plain: 0}
        for name in repeats:
            for _ in range(40):
                answer = await stage.recommend(name, count=3)
                topics = {int(item["action"][1:]) % 3 for item in answer["items"]}
                repeats[name] += len(topics) < 3
        assert repeats[policy] == 0
        assert repeats[plain] > 10

    run(servers, play)


def test_diversity_is_read_back_and_its_change_is_inherited(servers: LocalServers) -> None:
    """`GET` shows it; a version that differs only in it goes on with what was learned."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy(actions=ACTIONS, diversity=DIVERSITY)
        answer = await stage.call("control", "GET", f"/v1/policies/{policy}")
        assert answer.body["diversity"] == DIVERSITY
        body = {"kind": "thompson", "actions": ACTIONS, "reward": {"click": 1.0}}
        answer = await stage.call("control", "PUT", f"/v1/policies/{policy}", body)
        assert answer.body["learning"] == "inherited"
        assert answer.body["diversity"] is None

    run(servers, play)


def test_a_wrong_diversity_is_refused_by_field(servers: LocalServers) -> None:
    """Each mistake names what is wrong, and nothing is written."""
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"weight": 0}, "diversity.weight"),
        ({"weight": -0.1}, "diversity.weight"),
        ({"weight": 101}, "diversity.weight"),
        ({"weight": "much"}, "diversity.weight"),
        ({}, "diversity.weight"),
        ({"weight": 1, "features": []}, "diversity.features"),
        ({"weight": 1, "features": ["topic", "action.topic"]}, "diversity.features[1]"),
        ({"weight": 1, "features": [3]}, "diversity.features[0]"),
        ({"weight": 1, "measure": "cosine"}, "diversity.measure"),
    ]

    async def play(stage: Stage) -> None:
        for diversity, field in wrong:
            body = {"kind": "thompson", "actions": ACTIONS, "reward": {"click": 1.0}, "diversity": diversity}
            answer = await stage.call("control", "PUT", "/v1/policies/refused-slates", body)
            assert (answer.status, answer.body["field"]) == (400, field), answer
        assert (await stage.call("control", "GET", "/v1/policies/refused-slates")).status == 404

    run(servers, play)
