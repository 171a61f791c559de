"""A permanent baseline and apprentice mode, on real servers: who decides, with which propensity, and what comes of it."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import numpy as np
import pytest

from functions.learn.func import door as learn_door
from functions.local.servers import LocalServers
from functions.recommend.func import door as recommend_door
from shared.identity import place, pseudonym, uniform
from shared.policies.arms import stand_in
from shared.policies.choosing import Chooser, without_snapshot
from shared.policies.posterior import Posterior, decode_posterior
from shared.storage.postgres_connection import connection, open_pool
from shared.storage.postgres_learning import LearningTransaction
from shared.storage.postgres_retention import drop_expired
from shared.storage.redis_snapshots import decode_snapshot
from shared.vocabulary import Action
from tests.integration.test_rules_of_learning import DAY_S
from tests.stage import Stage, run

ACTIONS = ["a", "b", "c"]
HALF = {"share": 0.5}


async def play_users(stage: Stage, policy: str, users: int, **body: Any) -> list[Any]:
    """Recommend to users in turn, who click on c; return the answers. Learn now and then."""
    answers = []
    for number in range(users):
        answer = await stage.recommend(policy, user_id=f"user-{number}", **body)
        for item in answer["items"]:
            if item["action"] == "c":
                await stage.feedback(answer["decision_id"], action="c")
        answers.append(answer)
        if number % 20 == 19:
            await stage.learn(policy)
    await stage.learn(policy)
    return answers


async def renewed(stage: Stage, policy: str) -> None:
    """Learn, and wait until `recommend` decides by what came of it."""
    await stage.learn(policy)
    newest = (await stage.snapshot(policy))["snapshot_version"]
    recommender = await recommend_door.start()
    for _ in range(200):
        chooser = recommender._snapshots.held(policy)
        if chooser is None or chooser.snapshot.snapshot_version >= newest:
            return
        await asyncio.sleep(0.02)
    pytest.fail("recommend never looked")


def who(answer: Any) -> str:
    """Return who decided."""
    served: str = answer.get("served_by", "policy")
    return served


async def comparison(stage: Stage, policy: str) -> Any:
    """Return how a policy does beside its baseline, as `control` shows it."""
    answer = await stage.call("control", "GET", f"/v1/policies/{policy}")
    return answer.body["comparison"]


def decided_again(stage: Stage, decision_id: str) -> tuple[list[str], list[float], list[float]]:
    """Return actions, propensities and the policy's own propensities, from what is stored of a decision."""
    [row] = stage.sql("select * from decisions where decision_id = %s", decision_id)

    def chooser(policy: str, version: int) -> Chooser:
        query = "select content from snapshots where policy = %s and snapshot_version = %s"
        return Chooser(decode_snapshot(stage.sql(query, policy, version)[0]["content"]))

    key = stage.settings.server_key.encode()
    draws = [uniform(key, row["policy"], decision_id, at) for at in range(len(row["actions"]))]
    eligible = None if row["eligible"] is None else msgspec.convert(row["eligible"], list[Action])
    own, served = chooser(row["policy"], row["snapshot_version"]), row["served_by"]
    if served is None:
        items = own.choose(row["context"], eligible, draws)
        assert row["propensities"] == pytest.approx([item.propensity for item in items], abs=1e-9)
        return [item.action for item in items], row["propensities"], row["propensities"]
    decider: Chooser | str = Chooser(without_snapshot(""))
    if served.get("policy"):
        decider = chooser(served["policy"], served["snapshot_version"])
    elif row["default_action"] is not None:
        decider = row["default_action"]
    items, own_propensities, gains = stand_in(own, decider, row["context"], eligible, draws)
    assert row["actions"] == [item.action for item in items]
    assert row["propensities"] == pytest.approx([item.propensity for item in items], abs=1e-9)
    assert served["own_propensities"] == pytest.approx(own_propensities, abs=1e-9)
    assert served["gains"] == pytest.approx(gains, abs=1e-9)
    return row["actions"], row["propensities"], served["own_propensities"]


def test_users_stay_on_their_side_and_know_their_propensity(servers: LocalServers) -> None:
    """A user is always served by the same; the baseline's propensities are uniform, the policy's its own; all are recomputed."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy(kind="epsilon_greedy", parameters={"epsilon": 0.0}, baseline=HALF)
        first = await play_users(stage, policy, 40, count=2)
        second = await play_users(stage, policy, 40, count=2)
        assert [who(answer) for answer in first] == [who(answer) for answer in second]
        key = stage.settings.server_key.encode()
        for number, answer in enumerate(second):
            stands = place(key, policy, pseudonym(key, "user", f"user-{number}"))
            assert who(answer) == ("baseline" if stands < 0.5 else "policy")
            propensities = [item["propensity"] for item in answer["items"]]
            if who(answer) == "baseline":
                assert propensities == pytest.approx([1 / 3, 1 / 2], abs=1e-12)
            else:
                greedy = 0.99 if answer["items"][0]["action"] == "c" else 0.0  # the floor may draw any action
                assert propensities[0] == pytest.approx(greedy + 0.01 / 3, abs=1e-12)
        for answer in [*first, *second]:
            actions, stored, _ = decided_again(stage, answer["decision_id"])
            assert actions == [item["action"] for item in answer["items"]]
            assert stored == pytest.approx([item["propensity"] for item in answer["items"]], abs=1e-12)

    run(servers, play)


def test_the_share_is_kept_and_differs_between_policies(servers: LocalServers) -> None:
    """Among 20,000 users the share is what was asked for, grows by adding users, and is another one for another policy."""
    key = servers.server_key.encode()
    places = {name: np.array([place(key, name, f"{user:032x}") for user in range(20_000)]) for name in ("one", "other")}
    for share in (0.01, 0.05, 0.5):
        small = {name: places[name] < share for name in places}
        deviation = (share * (1 - share) / 20_000) ** 0.5
        assert small["one"].mean() == pytest.approx(share, abs=4 * deviation)
        assert (small["one"] & small["other"]).mean() == pytest.approx(share**2, abs=4 * deviation)


def test_without_a_user_each_decision_falls_anew(servers: LocalServers) -> None:
    """Decisions without a user id are served by either."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy(baseline=HALF)
        served = [who(await stage.recommend(policy, session_id="one")) for _ in range(60)]
        assert 12 <= served.count("baseline") <= 48

    run(servers, play)


def test_the_uplift_and_its_interval_are_shown(servers: LocalServers) -> None:
    """A policy that knows what is liked earns more than uniform draws: the interval holds the truth, 2/3, and excludes 0."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy(kind="epsilon_greedy", parameters={"epsilon": 0.0}, baseline=HALF)
        assert "uplift" in await comparison(stage, policy)
        await play_users(stage, policy, 400)
        found = await comparison(stage, policy)
        arms = found["arms"]
        assert arms["policy"]["items"] + arms["baseline"]["items"] == 400
        rows = stage.sql(
            "select served_by is null as own, count(*) as n, count(r.reward) as clicks from decisions d left join rewards r "
            "using (decided_at, decision_id) where policy = %s group by 1",
            policy,
        )
        for row in rows:
            arm = arms["policy" if row["own"] else "baseline"]
            assert arm == {"items": row["n"], "mean_reward": pytest.approx(row["clicks"] / row["n"], abs=1e-12)}
        uplift = found["uplift"]
        assert uplift["value"] == pytest.approx(
            arms["policy"]["mean_reward"] - arms["baseline"]["mean_reward"], abs=1e-12
        )
        assert 0 < uplift["low"] < 2 / 3 < uplift["high"]
        metrics = learn_door.metrics
        assert metrics.uplift.values[policy, "low"] == uplift["low"]

    run(servers, play)


@pytest.mark.parametrize("kind", ["thompson", "lin_thompson"])
def test_arms_are_learned_again_from_what_is_stored(servers: LocalServers, kind: str) -> None:
    """A refit, and a week sealed into the base, give the running sums; the policy learns from all of its decisions."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy(kind=kind, baseline=HALF, default_reward=0.25)
        answers = await play_users(stage, policy, 80, count=2)
        await stage.feedback(answers[3]["decision_id"], "click", action=answers[3]["items"][0]["action"], value=0.5)
        await stage.learn(policy)
        async with open_pool(stage.servers.database_url, 2) as pool, connection(pool) as lent:
            work = LearningTransaction(lent, policy)
            async with lent.transaction():
                state = await work.lock()
                running = state.posterior
                again = await work.refit(state, running.as_of)
                assert_same_sums(again, running)
                await drop_expired(lent, running.as_of + 14 * DAY_S)
                assert_same_sums(await work.refit(state, running.as_of), running)
        snapshot = await stage.snapshot(policy)
        assert sum(action["weight"] for action in snapshot["actions"].values()) == pytest.approx(160.0)

    run(servers, play)


def assert_same_sums(one: Posterior, other: Posterior) -> None:
    """Compare the sums of arms of two posteriors to 1e-9."""
    assert one.arms is not None
    assert other.arms is not None
    assert sorted(one.arms.sums) == sorted(other.arms.sums) == ["baseline", "policy"]
    for arm, sums in one.arms.sums.items():
        np.testing.assert_allclose(sums, other.arms.sums[arm], rtol=1e-9, atol=1e-9)


def test_another_baseline_begins_anew_and_the_first_is_found_again(servers: LocalServers) -> None:
    """What was earned under one baseline does not count for another; back at the first, its history does."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy(baseline=HALF)
        await play_users(stage, policy, 40)
        before = await comparison(stage, policy)
        await stage.policy(policy, baseline={"share": 0.25})
        await renewed(stage, policy)
        await play_users(stage, policy, 40)
        found = await comparison(stage, policy)
        assert sum(arm["items"] for arm in found["arms"].values()) == 40
        await stage.policy(policy, kind="ucb1", baseline=HALF)
        await stage.learn(policy)
        assert (await comparison(stage, policy))["arms"] == before["arms"]
        await stage.policy(policy)
        await stage.learn(policy)
        answer = await stage.call("control", "GET", f"/v1/policies/{policy}")
        assert "comparison" not in answer.body
        [row] = stage.sql("select statistics from posteriors where policy = %s", policy)
        assert decode_posterior(row["statistics"]).arms is None

    run(servers, play)


def test_another_policy_may_serve_the_baseline(servers: LocalServers) -> None:
    """Its snapshot decides among the actions of the policy that was asked, with its propensities; it does not learn from it."""

    async def play(stage: Stage) -> None:
        other = await stage.policy(
            kind="epsilon_greedy", parameters={"epsilon": 0.3}, actions=["x", "b"], exploration_floor=0
        )
        for _ in range(4):
            answer = await stage.recommend(other, actions=["b"])
            await stage.feedback(answer["decision_id"])
        await renewed(stage, other)
        policy = await stage.policy(baseline={"share": 0.5, "serve": "policy", "policy": other})
        answers = await play_users(stage, policy, 60)
        mine = [answer for answer in answers if who(answer) == "baseline"]
        assert 10 < len(mine) < 50
        for answer in mine:
            [item] = answer["items"]
            assert item["action"] in ACTIONS
            assert item["propensity"] == pytest.approx(0.8 if item["action"] == "b" else 0.1, abs=1e-12)
            decided_again(stage, answer["decision_id"])
        await stage.learn(other)
        snapshot = await stage.snapshot(other)
        assert sum(action["weight"] for action in snapshot["actions"].values()) == 4.0

    run(servers, play)


def test_a_baseline_whose_policy_is_not_at_hand_is_served_uniformly(servers: LocalServers) -> None:
    """While Redis lacks the other policy's snapshot: uniform draws, which say so, and nothing fails."""

    async def play(stage: Stage) -> None:
        other = await stage.policy(kind="epsilon_greedy", parameters={"epsilon": 0.0}, exploration_floor=0)
        policy = await stage.policy(baseline={"share": 0.5, "serve": "policy", "policy": other})
        await stage.redis.hdel("knudge:versions", other)
        answers = [await stage.recommend(policy, user_id=f"user-{number}") for number in range(30)]
        mine = [answer for answer in answers if who(answer) == "baseline"]
        assert mine
        await stage.learn(policy)
        for answer in mine:
            assert not answer["degraded"]
            assert [item["propensity"] for item in answer["items"]] == pytest.approx([1 / 3], abs=1e-12)
            [row] = stage.sql("select served_by from decisions where decision_id = %s", answer["decision_id"])
            assert "policy" not in row["served_by"]
            decided_again(stage, answer["decision_id"])

    run(servers, play)


def test_a_baseline_of_default_actions(servers: LocalServers) -> None:
    """Its users get what the caller names, with propensity 1."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy(baseline={"share": 0.5, "serve": "default_action"})
        for answer in await play_users(stage, policy, 40, default_action="b"):
            if who(answer) == "baseline":
                assert [(item["action"], item["propensity"]) for item in answer["items"]] == [("b", 1.0)]
            decided_again(stage, answer["decision_id"])

    run(servers, play)


def test_an_apprentice_serves_the_default_and_learns_beside_it(servers: LocalServers) -> None:
    """Callers see their own action at propensity 1; the policy learns who likes what, agrees more and more, and says so."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy(kind="lin_thompson", mode="apprentice", exploration_floor=0.02)
        for number in range(120):
            likes, default = "abc"[number % 3], "abc"[number // 3 % 3]
            context = {"likes": likes}
            answer = await stage.recommend(policy, user_id=f"user-{number}", context=context, default_action=default)
            assert who(answer) == "default_action"
            assert [(item["action"], item["propensity"]) for item in answer["items"]] == [(default, 1.0)]
            if likes == default:
                await stage.feedback(answer["decision_id"])
            if number % 20 == 19:
                await stage.learn(policy)
                decided_again(stage, answer["decision_id"])
        found = await comparison(stage, policy)
        rows = stage.sql("select served_by from decisions where policy = %s", policy)
        own = [row["served_by"]["own_propensities"][0] for row in rows]
        gains = [row["served_by"]["gains"][0] for row in rows]
        assert found["agreement"] == pytest.approx(np.mean(own), abs=1e-9)
        assert found["believed_gain"] == pytest.approx(np.mean(gains), abs=1e-9)
        assert found["arms"] == {"default_action": {"items": 120.0, "mean_reward": pytest.approx(1 / 3, abs=1e-9)}}
        assert found["uplift"] is None
        assert learn_door.metrics.agreement.values[policy,] == found["agreement"]
        await stage.policy(policy, kind="lin_thompson")  # now it decides: what it learned as an apprentice serves
        await renewed(stage, policy)
        hits = [await stage.recommend(policy, context={"likes": likes}) for likes in ACTIONS for _ in range(10)]
        assert sum(answer["items"][0]["action"] == ACTIONS[at // 10] for at, answer in enumerate(hits)) >= 20

    run(servers, play)


def test_an_apprentices_gain_is_estimated_where_chance_decided(servers: LocalServers) -> None:
    """With a share served uniformly, rewards weighted by the policy's own propensities say what it would earn: about 2/3 more."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy(
            kind="epsilon_greedy", parameters={"epsilon": 0.0}, mode="apprentice", baseline=HALF
        )
        for number in range(500):
            answer = await stage.recommend(policy, user_id=f"user-{number}", default_action="abc"[number % 3])
            if answer["items"][0]["action"] == "c":
                await stage.feedback(answer["decision_id"])
            if number == 30:
                await renewed(stage, policy)
        await stage.learn(policy)
        found = await comparison(stage, policy)
        assert sorted(found["arms"]) == ["baseline", "default_action"]
        assert found["mean_weight"] == pytest.approx(1.0, abs=0.3)
        assert 0 < found["uplift"]["low"] < 2 / 3 < found["uplift"]["high"]

    run(servers, play)


@pytest.mark.parametrize("arms", [{"mode": "apprentice"}, {"baseline": {"share": 0.01, "serve": "default_action"}}])
def test_a_request_that_could_not_be_served_by_default_is_refused(servers: LocalServers, arms: dict[str, Any]) -> None:
    """Whoever would have decided, so that a caller notices at once; in a batch by its index, and nothing of it is made."""
    wrong: list[tuple[dict[str, Any], str]] = [
        ({}, "default_action"),
        ({"default_action": "z"}, "default_action"),
        ({"default_action": "a", "exclude": ["a"]}, "default_action"),
        ({"default_action": "a", "actions": ["b", "c"]}, "default_action"),
        ({"default_action": "a", "count": 2}, "count"),
    ]

    async def play(stage: Stage) -> None:
        policy = await stage.policy(**arms)
        for body, field in wrong:
            for number in range(3):
                request = {"policy": policy, "user_id": f"user-{number}"} | body
                answer = await stage.call("recommend", "POST", "/v1/recommend", request)
                assert (answer.status, answer.body["field"]) == (400, field), answer
            batch = {"requests": [{"policy": policy, "default_action": "a"}, {"policy": policy} | body]}
            answer = await stage.call("recommend", "POST", "/v1/recommend/batch", batch)
            assert (answer.status, answer.body["field"]) == (400, f"requests[1].{field}"), answer
        await stage.learn(policy)
        assert stage.sql("select 1 from decisions where policy = %s", policy) == []

    run(servers, play)


def test_a_wrong_way_of_serving_is_refused_by_field(servers: LocalServers) -> None:
    """Each mistake names what is wrong, and nothing is written."""
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"baseline": {"share": 0}}, "baseline.share"),
        ({"baseline": {"share": 0.6}}, "baseline.share"),
        ({"baseline": {}}, "baseline.share"),
        ({"baseline": {"share": 0.1, "serve": "nobody"}}, "baseline.serve"),
        ({"baseline": {"share": 0.1, "serve": "policy"}}, "baseline.policy"),
        ({"baseline": {"share": 0.1, "policy": "other"}}, "baseline.policy"),
        ({"baseline": {"share": 0.1, "serve": "policy", "policy": "refused-arms"}}, "baseline.policy"),
        ({"baseline": {"share": 0.1, "serve": "policy", "policy": "no-such-policy"}}, "baseline.policy"),
        ({"baseline": {"share": 0.1, "of": "all"}}, "baseline.of"),
        ({"mode": "watch"}, "mode"),
        ({"mode": "apprentice", "baseline": {"share": 0.1, "serve": "default_action"}}, "baseline.serve"),
    ]

    async def play(stage: Stage) -> None:
        for body, field in wrong:
            spec = {"kind": "thompson", "actions": ACTIONS, "reward": {"click": 1.0}} | body
            answer = await stage.call("control", "PUT", "/v1/policies/refused-arms", spec)
            assert (answer.status, answer.body["field"]) == (400, field), answer
        assert (await stage.call("control", "GET", "/v1/policies/refused-arms")).status == 404

    run(servers, play)
