"""Propensities as `learn` watches them: on real servers, over what was really decided."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import numpy as np
import pytest

from functions.console.main import main
from functions.learn.func import door as learn_door
from functions.local.servers import LocalServers
from functions.recommend import handler
from shared.identity import uniform
from shared.policies.choosing import Law
from shared.storage.postgres_health import DECISIONS, sample
from shared.vocabulary import Decision
from tests.hosted import Hosted
from tests.integration.test_audit import VARIANTS, request
from tests.integration.test_http_interface import check_problem
from tests.stage import Stage, run


async def decide(stage: Stage, policy: str, rounds: int, seed: int = 1) -> dict[str, Any]:
    """Decide and learn for some rounds, or until there is an alarm; return what is seen of the newest version."""
    random = np.random.default_rng(seed)
    newest: dict[str, Any] = {}
    for _ in range(rounds):
        asked = [request(policy, random) for _ in range(DECISIONS)]
        assert (await stage.call("recommend", "POST", "/v1/recommend/batch", {"requests": asked})).status == 200
        await stage.learn(policy)
        answer = await stage.call("control", "GET", f"/v1/policies/{policy}/propensities")
        newest = answer.body["versions"][0]
        if newest["alarm"]:
            break
    return newest


@pytest.mark.parametrize("variant", VARIANTS)
def test_right_propensities_raise_no_alarm(servers: LocalServers, variant: dict[str, Any]) -> None:
    """Every kind decides among subsets, slates and strangers as often as it says, and all of it recomputes."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy(actions=[f"a{n}" for n in range(8)], **variant)
        newest = await decide(stage, policy, 3)
        assert (newest["alarm"], newest["different"]) == (False, 0)
        assert newest["choices"] >= 3 * DECISIONS
        assert {event["event"] for event in newest["actions"]} >= {"a0", "a7", "stranger"}
        counts = sum(event["count"] for event in newest["actions"])
        assert counts == newest["choices"]
        assert counts == pytest.approx(sum(event["expected"] for event in newest["actions"]))
        assert learn_door.metrics.propensity_mismatch.values[policy,] == 0.0

    run(servers, play)


def test_a_biased_random_number_is_found(servers: LocalServers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Draws that are a little too small: nothing stored is wrong in itself, and yet an alarm within 3,000 decisions."""
    monkeypatch.setattr(handler, "uniform", lambda *given: uniform(*given) ** 1.5)

    async def play(stage: Stage) -> None:
        policy = await stage.policy(actions=["a", "b", "c", "d"])
        newest = await decide(stage, policy, 3_000 // DECISIONS)
        assert (newest["alarm"], newest["different"]) == (True, 0)
        assert newest["evidence"] is None or newest["evidence"] > newest["threshold"]
        assert learn_door.metrics.propensity_mismatch.values[policy,] == 1.0
        version = (await stage.call("control", "GET", f"/v1/policies/{policy}")).body["version"]
        monkeypatch.setattr(handler, "uniform", uniform)
        await stage.policy(policy, actions=["a", "b", "c", "d"])  # mended, and written anew
        for _ in range(20):
            newest = await decide(stage, policy, 1)
            if newest["policy_version"] > version:
                break
        assert (newest["policy_version"], newest["alarm"]) == (version + 1, False)

    run(servers, play)


def test_a_floor_that_is_not_stated_is_found(servers: LocalServers, monkeypatch: pytest.MonkeyPatch) -> None:
    """One choice in a hundred is uniform and the propensities do not say so: an alarm within 2,000 decisions."""
    draw = Law.draw

    def explores(law: Law, number: float) -> int:
        return int(number * 100 * len(law.actions)) if number < 0.01 else draw(law, (number - 0.01) / 0.99)

    monkeypatch.setattr(Law, "draw", explores)

    async def play(stage: Stage) -> None:
        policy = await stage.policy(kind="ucb1", actions=["a", "b", "c", "d"], exploration_floor=0.0)
        made = await stage.recommend(policy)
        await stage.feedback(made["decision_id"])
        newest = await decide(stage, policy, 2_000 // DECISIONS)
        assert (newest["alarm"], newest["different"], newest["evidence"]) == (True, 0, None)

    run(servers, play)


def test_a_propensity_that_is_stored_otherwise_is_found(servers: LocalServers, monkeypatch: pytest.MonkeyPatch) -> None:
    """A revision that writes other propensities than its law: the first decision that is looked at tells."""
    whole = handler.Recommender._decide

    def forgetful(self: handler.Recommender, *given: Any) -> tuple[Decision, Any]:
        decision, answer = whole(self, *given)
        stored = tuple((propensity or 0.0) - 1e-6 for propensity in decision.propensities)
        return msgspec.structs.replace(decision, propensities=stored), answer

    monkeypatch.setattr(handler.Recommender, "_decide", forgetful)

    async def play(stage: Stage) -> None:
        newest = await decide(stage, await stage.policy(), 1)
        assert newest["alarm"]
        assert newest["different"] == newest["choices"]

    run(servers, play)


def test_what_is_seen_is_shown(servers: LocalServers, capsys: pytest.CaptureFixture[str]) -> None:
    """By policy and action by action; a policy that nobody asked has nothing to show; one that is not there is a 404."""
    made: dict[str, Any] = {}

    async def play(stage: Stage) -> None:
        made["policy"] = await stage.policy("watched")
        await stage.policy("unwatched")
        await decide(stage, "watched", 2)
        answer = await stage.call("control", "GET", "/v1/policies/nobody/propensities")
        check_problem(answer, 404, "unknown-policy", "name")

    run(servers, play)
    with Hosted("control", servers) as control:
        where = ["--url", f"http://127.0.0.1:{control.port}"]
        assert main(["health", "--policy", "watched", *where]) == 0
        shown = capsys.readouterr().out
        assert "as stated" in shown
        assert all(f"\n {action} " in shown for action in ("a1", "a3", "stranger", "lower half of the draw"))
        assert main(["health", "--policy", "unwatched", *where]) == 0
        assert "nothing seen yet" in capsys.readouterr().out
        main(["health", "--json", *where])
        answers = {answer["policy"]: answer for answer in json.loads(capsys.readouterr().out)}
        assert answers["unwatched"]["versions"] == []
        assert answers["watched"]["versions"][0]["choices"] >= 2 * DECISIONS
        main(["health", *where])
        assert "watched" in capsys.readouterr().out


def test_a_sample_does_not_depend_on_what_was_chosen() -> None:
    """Which decisions are looked at follows from their ids alone, from two snapshots at most, oldest first."""

    def made(number: int, action: str) -> Decision:
        name = f"660b3fbc-{number:04x}-800e-8a53-{number * 7919 % 65536:04x}{number * 104729 % 4294967296:08x}"
        return Decision(
            name, "p", 1, 1 + number % 5, (action,), (0.5,), None, {}, None, None, False, False, "served", "r", "me"
        )

    one = sample([made(number, "a") for number in range(1_000)])
    other = sample([made(number, "b" if number % 3 else "c") for number in range(999, -1, -1)])
    assert [decision.decision_id for decision in one] == [decision.decision_id for decision in other]
    assert len(one) == DECISIONS
    assert len({decision.snapshot_version for decision in one}) == 2
    assert [decision.decision_id for decision in one] == sorted(decision.decision_id for decision in one)
