"""Experiments that split a policy's calls: who decides, what the decision says, what is learned of it, and who was exposed."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from functions.local.servers import LocalServers
from functions.recommend.func import door as recommend_door
from shared.experiments.assigning import Catalogue
from shared.identity import pseudonym, unit_pseudonym
from shared.storage.postgres_log import opened
from shared.storage.redis_drain import read_journal
from shared.vocabulary import Decision, InExperiment
from tests.integration.test_experiments import written
from tests.integration.test_http_interface import PATIENT, check_problem
from tests.stage import Stage, run


async def held(stage: Stage, key: str, version: int = 1) -> Catalogue:
    """Return the catalogue of `recommend`, once it holds this version of an experiment."""
    recommender = await recommend_door.start()
    for _ in range(500):
        catalogue: Catalogue = recommender._splitter._catalogues.held()
        known = catalogue.experiments.get(key)
        if known is not None and known.spec.version >= version:
            return catalogue
        await asyncio.sleep(0.02)
    pytest.fail("recommend never saw the experiment")


async def splitting(stage: Stage, **body: Any) -> tuple[str, str, str]:
    """Make two policies and an experiment that splits the first one's calls; return (experiment, first, second)."""
    first, second = await stage.policy(), await stage.policy(kind="epsilon_greedy")
    variations = [{"key": "as-it-is"}, {"key": "greedy", "value": {"policy": second}}]
    made = await written(stage, policy=first, **{"variations": variations, **body})
    await held(stage, made["key"])
    snapshots = (await recommend_door.start())._snapshots
    for policy in (first, second):
        for _ in range(100):  # on a busy machine a look at Redis may be given up
            if await snapshots.find(policy) is not None:
                break
            await asyncio.sleep(0.05)
    return made["key"], first, second


async def played(stage: Stage, policy: str, users: int, **body: Any) -> dict[str, Any]:
    """Ask for many users, twice each; return each one's first answer after checking that the second is of the same variation."""
    answers = {}
    for number in range(users):
        name = f"user-{number}"
        answers[name] = await stage.recommend(policy, user_id=name, **body)
        again = await stage.recommend(policy, user_id=name, **body)
        assert (again["policy"], again.get("experiment")) == (answers[name]["policy"], answers[name].get("experiment"))
    return answers


async def journalled(stage: Stage, *policies: str) -> dict[str, Decision]:
    """Return the decisions that stand in journals, by id."""
    return {
        decision.decision_id: decision
        for policy in policies
        for decision in (await read_journal(stage.redis, policy, 10_000)).decisions
    }


def exposures(stage: Stage, key: str) -> list[dict[str, Any]]:
    """Return who was exposed to an experiment."""
    return stage.sql(
        "select variation, unit, user_pseudonym, decision_id::text, attributes, phase,"
        " extract(epoch from exposed_at)::float8 as exposed_at from exposures where experiment = %s",
        key,
    )


def test_calls_are_split_and_each_policy_learns_from_its_own(servers: LocalServers) -> None:
    """Shares are as written, a user's variation stays, the decider's journal, posterior and feedback are its own, all is archived."""

    async def play(stage: Stage) -> None:
        key, first, second = await splitting(stage, weights=[0.7, 0.3], condition={"country": "DE"})
        context = {"country": "DE", "city": "Ulm"}
        answers = await played(stage, first, 200, context=context)
        assert not any(answer["degraded"] for answer in answers.values())
        by_policy = Counter(answer["policy"] for answer in answers.values())
        assert abs(by_policy[second] - 60) < 4 * (200 * 0.3 * 0.7) ** 0.5
        assert by_policy[first] + by_policy[second] == 200
        for name, answer in answers.items():
            variation = "as-it-is" if answer["policy"] == first else "greedy"
            assert answer["experiment"] == {"key": key, "variation": variation}, name
            await stage.feedback(answer["decision_id"])
        kept = await journalled(stage, first, second)
        server_key = stage.settings.server_key.encode()
        for name, answer in answers.items():
            unit = pseudonym(server_key, "user", name)
            decision = kept[answer["decision_id"]]
            assert decision.policy == answer["policy"]
            assert decision.experiment == InExperiment(key, 1, answer["experiment"]["variation"], unit)
        for policy in (first, second):
            await stage.learn(policy)
            shown = (await stage.snapshot(policy))["actions"]
            assert sum(action["weight"] for action in shown.values()) == pytest.approx(2 * by_policy[policy])
            clicked = sum(action["weight"] * (action["mean"] or 0) for action in shown.values())
            assert clicked == pytest.approx(by_policy[policy])
        [row] = stage.sql(
            "select count(*) as n, count(*) filter (where experiment ->> 'variation' = 'greedy') as greedy,"
            " count(*) filter (where experiment ->> 'unit' = user_pseudonym) as units"
            " from decisions where experiment ->> 'key' = %s",
            key,
        )
        assert row == {"n": 400, "greedy": 2 * by_policy[second], "units": 400}
        seen = exposures(stage, key)
        assert Counter(one["variation"] for one in seen) == {
            "as-it-is": by_policy[first], "greedy": by_policy[second],
        }  # fmt: skip
        assert {one["decision_id"] for one in seen} == {answer["decision_id"] for answer in answers.values()}
        assert all(one["attributes"] == {"country": "DE"} and one["unit"] == one["user_pseudonym"] for one in seen)
        for answer in list(answers.values())[:10]:
            explained = await stage.call("control", "GET", f"/v1/decisions/{answer['decision_id']}/explanation")
            assert (explained.body["agrees"], explained.body["policy"]) == (True, answer["policy"])
            assert any(key in note and answer["experiment"]["variation"] in note for note in explained.body["notes"])

    run(servers, play, **PATIENT)


def test_whoever_is_not_in_it_gets_the_policy_itself(servers: LocalServers) -> None:
    """Without the attribute that is split by, outside the coverage or the condition, the policy decides and no experiment is named."""

    async def play(stage: Stage) -> None:
        key, first, _ = await splitting(stage, coverage=0.5, condition={"country": "DE"})
        for body in ({}, {"user_id": "ada"}, {"user_id": "ada", "context": {"country": "AT"}}, {"session_id": "s"}):
            answer = await stage.recommend(first, **body)
            assert (answer["policy"], answer.get("experiment")) == (first, None)
        answers = await played(stage, first, 100, context={"country": "DE"})
        outside = [answer for answer in answers.values() if "experiment" not in answer]
        assert abs(len(outside) - 50) < 20
        assert {answer["policy"] for answer in outside} == {first}
        kept = await journalled(stage, first)
        assert {kept[answer["decision_id"]].experiment for answer in outside} == {None}
        await stage.learn()
        assert len(exposures(stage, key)) == 100 - len(outside)

    run(servers, play, **PATIENT)


def test_other_attributes_may_be_split_by(servers: LocalServers) -> None:
    """An experiment may split by the session or by a feature of the context; the unit is its pseudonym, and the user is kept beside it."""

    async def play(stage: Stage) -> None:
        server_key = stage.settings.server_key.encode()
        for attribute, body in (
            ("session_id", {"session_id": "s-1"}),
            ("device", {"context": {"device": "d-1"}}),
        ):
            key, first, second = await splitting(stage, hash_attribute=attribute)
            answer = await stage.recommend(first, user_id="ada", **body)
            await stage.learn(answer["policy"])
            [seen] = exposures(stage, key)
            value = "s-1" if attribute == "session_id" else "d-1"
            assert answer["policy"] in {first, second}
            assert (seen["unit"], seen["user_pseudonym"]) == (
                unit_pseudonym(server_key, attribute, value), pseudonym(server_key, "user", "ada"),
            )  # fmt: skip

    run(servers, play, **PATIENT)


def test_the_same_request_has_the_same_answer_whoever_decided(servers: LocalServers) -> None:
    """A request_id is of the policy that was asked: its answer is repeated although the experiment has ended meanwhile."""

    async def play(stage: Stage) -> None:
        key, first, second = await splitting(stage)
        answers = {}
        for number in range(20):
            body = {"user_id": f"user-{number}", "request_id": f"r-{number}"}
            answers[number] = await stage.recommend(first, **body)
        assert {answer["policy"] for answer in answers.values()} == {first, second}
        assert (await stage.call("control", "POST", f"/v1/experiments/{key}/stop")).status == 200
        await held(stage, key, 2)
        for number, answer in answers.items():
            body = {"user_id": f"user-{number}", "request_id": f"r-{number}"}
            assert await stage.recommend(first, **body) == answer
        assert "experiment" not in await stage.recommend(first, user_id="user-1")
        other = {"policy": first, "user_id": "user-1", "request_id": "r-2"}
        check_problem(await stage.call("recommend", "POST", "/v1/recommend", other), 409, "conflict", "request_id")
        assert len(await journalled(stage, first, second)) == 21

    run(servers, play, **PATIENT)


def test_batches_are_split_one_by_one(servers: LocalServers) -> None:
    """Each request of a batch has its own variation, the same as alone; what one of them cannot have refuses all."""

    async def play(stage: Stage) -> None:
        _, first, second = await splitting(stage)
        alone = await played(stage, first, 40)
        requests: list[dict[str, Any]] = [{"policy": first, "user_id": name} for name in alone]
        answer = await stage.call("recommend", "POST", "/v1/recommend/batch", {"requests": requests})
        for name, one in zip(alone, answer.body["results"], strict=True):
            assert (one["policy"], one["experiment"]) == (alone[name]["policy"], alone[name]["experiment"])
        assert {one["policy"] for one in answer.body["results"]} == {first, second}
        before = len(await journalled(stage, first, second))
        requests[7]["exclude"] = ["a", "b", "c"]
        wrong = await stage.call("recommend", "POST", "/v1/recommend/batch", {"requests": requests})
        check_problem(wrong, 400, "invalid-input", "requests[7].exclude")
        assert len(await journalled(stage, first, second)) == before

    run(servers, play, **PATIENT)


def test_nothing_is_split_while_a_policy_is_missing(servers: LocalServers) -> None:
    """Without one of its policies' snapshots an experiment waits: all get the policy that was asked, and nobody counts as exposed."""

    async def play(stage: Stage) -> None:
        first, second = await stage.policy(), await stage.policy()
        version = await stage.redis.hget("knudge:versions", second)
        content = await stage.redis.getdel(f"knudge:snapshot:{second}")
        await stage.redis.hdel("knudge:versions", second)
        variations = [{"key": "a", "value": {"policy": first}}, {"key": "b", "value": {"policy": second}}]
        key = (await written(stage, policy=first, variations=variations))["key"]
        await held(stage, key)
        answers = await played(stage, first, 20)
        assert {(answer["policy"], answer.get("experiment")) for answer in answers.values()} == {(first, None)}
        assert {one.experiment for one in (await journalled(stage, first)).values()} == {None}
        await stage.redis.set(f"knudge:snapshot:{second}", content)
        await stage.redis.hset("knudge:versions", second, version)
        answers = await played(stage, first, 20)
        assert {answer["policy"] for answer in answers.values()} == {first, second}
        assert all("experiment" in answer for answer in answers.values())

    run(servers, play, **PATIENT)


def test_a_deferred_decision_exposes_once_it_is_activated(servers: LocalServers) -> None:
    """Until its activation nobody was exposed; then at that moment, whether it came before or after the decision was archived."""

    async def play(stage: Stage) -> None:
        key, first, _ = await splitting(stage)
        early = await stage.recommend(first, user_id="early", defer_activation=True)
        late = await stage.recommend(first, user_id="late", defer_activation=True)
        refitted = await stage.recommend(first, user_id="refitted", defer_activation=True)
        await stage.recommend(first, user_id="never", defer_activation=True)
        await activated(stage, early)
        await stage.learn()
        assert [one["decision_id"] for one in exposures(stage, key)] == [early["decision_id"]]
        await activated(stage, late)
        await stage.learn()
        assert {one["decision_id"] for one in exposures(stage, key)} == {early["decision_id"], late["decision_id"]}
        await activated(stage, refitted)
        data = {"policy": refitted["policy"]}
        assert (await stage.event("train", "dev.knudge.training.requested.v1", data)).status == 204
        assert len(exposures(stage, key)) == 3
        for one in exposures(stage, key):
            [row] = stage.sql(
                "select extract(epoch from activated_at)::float8 as at from activations where decision_id = %s",
                one["decision_id"],
            )
            assert one["exposed_at"] == row["at"]

    run(servers, play, **PATIENT)


async def activated(stage: Stage, answer: Any) -> None:
    """Activate a deferred decision."""
    path = f"/v1/decisions/{answer['decision_id']}/activate"
    assert (await stage.call("feedback", "POST", path)).status == 200


def test_a_holdout_is_measured_by_the_experiments_that_name_it(servers: LocalServers) -> None:
    """Whoever is kept out gets the policy itself and counts for the holdout; its comparison group counts for both."""

    async def play(stage: Stage) -> None:
        holdout = (await written(stage, kind="holdout", variations=[{"key": "out"}, {"key": "in"}], coverage=0.6))[
            "key"
        ]
        key, first, second = await splitting(stage, holdout=holdout)
        answers = await played(stage, first, 100)
        kept_out = [one for one in answers.values() if one.get("experiment") == {"key": holdout, "variation": "out"}]
        assert 12 <= len(kept_out) <= 50
        assert {one["policy"] for one in kept_out} == {first}
        assert {one["policy"] for one in answers.values()} == {first, second}
        await stage.learn()
        of_holdout = Counter(one["variation"] for one in exposures(stage, holdout))
        assert of_holdout["out"] == len(kept_out)
        assert 12 <= of_holdout["in"] <= 50
        inside = {one["unit"] for one in exposures(stage, key)}
        assert len(inside) == 100 - len(kept_out)
        assert {one["unit"] for one in exposures(stage, holdout) if one["variation"] == "in"} <= inside
        [row] = stage.sql(
            "select count(*) as n from decisions where experiment ->> 'key' = %s and experiment -> 'holdout' ->> 2 = 'in'",
            key,
        )
        assert row["n"] == 2 * of_holdout["in"]

    run(servers, play, **PATIENT)


def test_what_was_released_decides_for_everybody(servers: LocalServers) -> None:
    """Stopped with a released variation, its policy decides all calls; stopped without, the policy itself; neither is an exposure."""

    async def play(stage: Stage) -> None:
        key, first, second = await splitting(stage)
        await stage.call("control", "POST", f"/v1/experiments/{key}/stop", {"released": "greedy"})
        await held(stage, key, 2)
        for body in ({}, {"user_id": "ada"}, {"user_id": "bob"}):
            answer = await stage.recommend(first, **body)
            assert (answer["policy"], answer.get("experiment")) == (second, None)
        await stage.call("control", "POST", f"/v1/experiments/{key}/stop")
        await held(stage, key, 3)
        assert (await stage.recommend(first, user_id="bob"))["policy"] == first
        await stage.learn()
        assert exposures(stage, key) == []

    run(servers, play, **PATIENT)


def test_forced_users_see_their_variation_and_do_not_count(servers: LocalServers) -> None:
    """A forced user's calls are decided by the variation's policy; the decision belongs to no experiment."""

    async def play(stage: Stage) -> None:
        _, first, second = await splitting(stage, forced={"tester": "greedy", "other": "as-it-is"})
        answers = {name: await stage.recommend(first, user_id=name) for name in ("tester", "other")}
        assert {name: answer["policy"] for name, answer in answers.items()} == {"tester": second, "other": first}
        assert not any("experiment" in answer for answer in answers.values())

    run(servers, play, **PATIENT)


def test_a_variations_policy_keeps_its_own_arms(servers: LocalServers) -> None:
    """A variation's policy with a baseline serves it to its own share of users, and what it stored is recomputed."""

    async def play(stage: Stage) -> None:
        first = await stage.policy()
        second = await stage.policy(baseline={"share": 0.5})
        variations = [{"key": "a", "value": {"policy": first}}, {"key": "b", "value": {"policy": second}}]
        key = (await written(stage, policy=first, variations=variations))["key"]
        await held(stage, key)
        answers = [one for one in (await played(stage, first, 60, count=2)).values() if one["policy"] == second]
        served = Counter(one.get("served_by", "policy") for one in answers)
        assert served["baseline"] > 4
        assert served["policy"] > 4
        await stage.learn()
        for answer in answers:
            explained = await stage.call("control", "GET", f"/v1/decisions/{answer['decision_id']}/explanation")
            assert explained.body["agrees"] is True

    run(servers, play, **PATIENT)


def test_what_the_archive_keeps_is_what_was_journalled(servers: LocalServers) -> None:
    """The record that is read back is the record that was decided, holdout included."""

    async def play(stage: Stage) -> None:
        holdout = (await written(stage, kind="holdout", variations=[{"key": "out"}, {"key": "in"}]))["key"]
        _, first, second = await splitting(stage, holdout=holdout)
        await played(stage, first, 10)
        kept = await journalled(stage, first, second)
        await stage.learn()
        with opened(stage.servers.database_url) as log:
            stored = {
                one.decision.decision_id: one.decision
                for policy in (first, second)
                for one in log.decisions(policy, 0, 4e9)
            }
        assert stored == kept
        assert any(one.experiment is not None and one.experiment.holdout is not None for one in kept.values())

    run(servers, play, **PATIENT)


def test_calls_are_split_while_redis_is_away(own_servers: LocalServers) -> None:
    """What is held goes on splitting, degraded; once Redis is back the decisions are journalled, and each exposes its unit once.

    An operator's write meanwhile is in PostgreSQL, and reaches Redis with the next sweep.
    """

    async def play(stage: Stage) -> None:
        key, first, second = await splitting(stage)
        before = {name: await stage.recommend(first, user_id=name) for name in ("user-0", "user-1", "user-2")}
        own_servers.redis.kill()
        degraded = {f"user-{number}": await stage.recommend(first, user_id=f"user-{number}") for number in range(20)}
        assert all(answer["degraded"] for answer in degraded.values())
        for name, answer in before.items():
            assert (answer["policy"], answer["experiment"]) == (degraded[name]["policy"], degraded[name]["experiment"])
        assert {answer["policy"] for answer in degraded.values()} == {first, second}
        stopped = await stage.call("control", "POST", f"/v1/experiments/{key}/stop", {"released": "greedy"})
        assert (stopped.status, stopped.body["status"]) == (200, "stopped")
        own_servers.redis.restart()
        for _ in range(200):
            if len(await journalled(stage, first, second)) == 23:
                break
            await asyncio.sleep(0.05)
        await stage.learn()
        await stage.learn()
        ids = {answer["decision_id"] for answer in (before | degraded).values()}
        assert len(exposures(stage, key)) == 20
        archived = stage.sql("select decision_id::text from decisions where experiment ->> 'key' = %s", key)
        assert ids <= {row["decision_id"] for row in archived}
        await held(stage, key, 2)
        assert (await stage.recommend(first))["policy"] == second

    run(own_servers, play)
