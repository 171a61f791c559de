"""`knudge evaluate` from a real log whose truth is known: what candidates would have earned, and what cannot be said."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from functions.console.candidates import candidates
from functions.console.decided_items import DecidedItems
from functions.console.main import main
from functions.console.progressive import Progress
from functions.local.servers import LocalServers
from shared.storage.postgres_log import opened
from tests.stage import Stage, run

ACTIONS = ["a", "b", "c", "d"]
GIVEN = ["kind=thompson", "kind=lin_thompson", "kind=logistic_thompson", "kind=epsilon_greedy,epsilon=0.1,1"]


def rate(context: dict[str, Any], action: str) -> float:
    """Return the true mean reward: each device has a best action of its own."""
    return 0.6 if action == ("a" if context["device"] == "phone" else "c") else 0.1


async def history(stage: Stage, policy: str, decisions: int, **body: Any) -> None:
    """Decide in batches of 200 for users of two devices, who click at their rates; learn in between."""
    random = np.random.default_rng(11)
    for _ in range(0, decisions, 200):
        asked = [
            {"policy": policy, "context": {"device": str(random.choice(["phone", "desktop"])), "age": random.normal()}} | body
            for _ in range(200)
        ]  # fmt: skip
        answer = await stage.call("recommend", "POST", "/v1/recommend/batch", {"requests": asked})
        assert answer.status == 200, answer
        events = [
            {"decision_id": made["decision_id"], "kind": "click", "action": item["action"]}
            for request, made in zip(asked, answer.body["results"], strict=True)
            for item in made["items"]
            if random.random() < rate(request["context"], item["action"])
        ]
        if events:
            assert (await stage.call("feedback", "POST", "/v1/feedback", {"events": events})).status == 200
        await stage.learn(policy)


def make(servers: LocalServers, policy: str, decisions: int, spec: dict[str, Any], **body: Any) -> None:
    """Write a policy and its history."""

    async def play(stage: Stage) -> None:
        await stage.policy(policy, actions=ACTIONS, **spec)
        await history(stage, policy, decisions, **body)

    run(servers, play)


def evaluated(policy: str, tmp_path: Path, *arguments: str, given: list[str] = GIVEN) -> dict[str, Any]:
    """Run the command and return what it writes."""
    asked = [part for candidate in given for part in ("--candidate", candidate)]
    assert main(["evaluate", "--policy", policy, *asked, "--output", str(tmp_path), *arguments]) == 0
    assert (tmp_path / "evaluation.png").read_bytes().startswith(b"\x89PNG")
    figures: dict[str, Any] = json.loads((tmp_path / "evaluation.json").read_text())
    return figures | {"candidates": {each["candidate"]: each for each in figures["candidates"]}}


def truth(servers: LocalServers, policy: str) -> dict[str, float]:
    """Return what each candidate would have earned, from the true rates and its laws."""
    with opened(servers.database_url) as log:
        reader = DecidedItems(log, policy, time.time(), events=True)
        given = candidates(GIVEN, reader.spec)
        size = log.size(policy, 0.0, time.time())
        progress = Progress(given, reader.spec, -(-size // 20))
        sums = np.zeros(len(given))
        for items in reader.decisions(0.0, time.time()):
            progress.go_on(items[0].stored.decided_at)
            for at, (law,) in enumerate(progress.judge(items)):
                context = items[0].stored.decision.context
                sums[at] += sum(p * rate(context, a) for a, p in zip(law.actions, law.propensities, strict=True))
            progress.remember(items)
        return {each.name: sums[at] / size for at, each in enumerate(given)}


@pytest.fixture
def environment(servers: LocalServers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the command the same database as the functions."""
    monkeypatch.setenv("KNUDGE_DATABASE_URL", servers.database_url)
    monkeypatch.setenv("COLUMNS", "200")


@pytest.mark.usefixtures("environment")
def test_candidates_are_worth_what_they_are(
    servers: LocalServers, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every weighing estimator lies near the truth; who looks at the device is told apart from the log, upwards."""
    policy = "evaluate-truth"
    make(servers, policy, 2_000, {"kind": "epsilon_greedy", "parameters": {"epsilon": 0.5}})
    figures = evaluated(policy, tmp_path, "--blocks", "20")
    shown = capsys.readouterr().out
    assert all(name in shown for name in figures["candidates"])
    assert (figures["rows"], figures["blocks"], figures["slates"], figures["left_out"]) == (2_000, 20, False, {})
    assert figures["confidence_of_lifts"] == pytest.approx(1 - 0.05 / 5)
    expected = truth(servers, policy)
    assert set(expected) == set(figures["candidates"])
    for name, each in figures["candidates"].items():
        assert each["estimator"] == "doubly_robust"
        for estimate in each["estimates"]:
            if estimate["estimator"] != "direct_method":
                error = estimate["standard_error"]
                assert abs(estimate["value"] - expected[name]) < 4.5 * error, (name, estimate, expected[name])
    for name in ("kind=lin_thompson", "kind=logistic_thompson"):
        best = figures["candidates"][name]
        assert best["lift_interval"][0] > 0
        assert best["value"] > figures["candidates"]["kind=thompson"]["value"]
    assert figures["candidates"]["kind=epsilon_greedy,epsilon=1"]["value"] == pytest.approx(0.225, abs=0.06)


@pytest.mark.usefixtures("environment")
def test_what_came_before_is_learned_from(servers: LocalServers, tmp_path: Path) -> None:
    """A span is judged alone; with --learn-from candidates know what was logged before it, and do better."""
    policy = "evaluate-span"
    make(servers, policy, 1_200, {"kind": "epsilon_greedy", "parameters": {"epsilon": 1.0}})

    async def play(stage: Stage) -> None:
        moments = stage.sql("select decided_at from decisions where policy = %s order by 1 offset 800 limit 1", policy)
        cut = moments[0]["decided_at"].isoformat()
        cold = evaluated(policy, tmp_path, "--from", cut, "--blocks", "2", given=["kind=lin_thompson"])
        warm = evaluated(
            policy, tmp_path, "--from", cut, "--learn-from", "1d", "--blocks", "6", given=["kind=lin_thompson"]
        )
        assert (cold["rows"], warm["rows"]) == (400, 400)
        assert (cold["blocks"], warm["blocks"]) == (2, 6)
        assert warm["logged"] == cold["logged"]
        assert (
            warm["candidates"]["kind=lin_thompson"]["value"] > cold["candidates"]["kind=lin_thompson"]["value"] + 0.05
        )

    run(servers, play)


@pytest.mark.usefixtures("environment")
def test_a_log_without_a_floor_is_not_weighed(
    servers: LocalServers, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only the direct method is left, says why, and is called a guess; slates of such a log are refused."""
    make(servers, "evaluate-bare", 200, {"exploration_floor": 0.0})
    figures = evaluated("evaluate-bare", tmp_path, given=["kind=ucb1"])
    [each] = figures["candidates"].values()
    assert [estimate["estimator"] for estimate in each["estimates"]] == ["direct_method"]
    assert (each["lift"], each["lift_interval"]) == (None, None)
    assert any("floor of 0" in warning for warning in each["estimates"][0]["warnings"])
    assert "take it for a guess" in capsys.readouterr().out.replace("\n", " ")
    make(servers, "evaluate-bare-slates", 200, {"exploration_floor": 0.0}, count=2)
    assert (
        main(["evaluate", "--policy", "evaluate-bare-slates", "--candidate", "kind=ucb1", "--output", str(tmp_path)])
        == 1
    )
    assert "200 of 200 slates were decided with an exploration floor of 0" in capsys.readouterr().err


@pytest.mark.usefixtures("environment")
def test_slates_are_judged_by_their_sum(servers: LocalServers, tmp_path: Path) -> None:
    """A candidate that does what the log did earns what it earned, exactly; another is told apart."""
    spec = {"kind": "epsilon_greedy", "parameters": {"epsilon": 1.0}}
    make(servers, "evaluate-slates", 1_000, spec, count=2)
    figures = evaluated("evaluate-slates", tmp_path, "--json", given=["epsilon=1", "kind=lin_thompson"])
    assert figures["slates"]
    same, other = figures["candidates"]["epsilon=1"], figures["candidates"]["kind=lin_thompson"]
    assert [estimate["estimator"] for estimate in same["estimates"]] == [
        "slate_reward_interaction", "per_decision_self_normalised", "slate_standard"
    ]  # fmt: skip
    for estimate in same["estimates"]:
        assert estimate["value"] == pytest.approx(figures["logged"]["value"], abs=1e-12)
    assert same["lift"] == pytest.approx(0.0, abs=1e-12)
    assert figures["logged"]["value"] == pytest.approx(0.45, abs=0.1)
    assert other["lift_interval"][0] > 0


@pytest.mark.usefixtures("environment")
def test_what_cannot_be_evaluated(servers: LocalServers, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No policy, no decision, no candidate of that kind, a beginning after the end of learning: one line each."""

    async def play(stage: Stage) -> None:
        await stage.policy("evaluate-empty")

    run(servers, play)

    def complaint(*arguments: str, policy: str = "evaluate-empty", candidate: str = "kind=ucb1") -> str:
        command = [
            "evaluate",
            "--policy",
            policy,
            "--candidate",
            candidate,
            "--output",
            str(tmp_path / "out"),
            *arguments,
        ]
        assert main(command) == 1
        return capsys.readouterr().err

    assert "there is no policy 'nobody'" in complaint(policy="nobody")
    assert "there is no decision to judge" in complaint()
    assert "kind must be one of" in complaint(candidate="kind=best")
    assert "--learn-from must not be later" in complaint("--from", "2d", "--learn-from", "1d")
    assert not (tmp_path / "out").exists()
