"""`knudge experiment actions` on the real database: a bandit's own decisions, compared without the bias of its means."""

from __future__ import annotations

import asyncio
import json

import pytest

from functions.console.main import main
from functions.local.servers import LocalServers
from tests.stage import Stage, run

WORTH = {"a": 7, "b": 3, "c": 3}
"""Of ten users how many click."""


@pytest.fixture
def environment(servers: LocalServers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the command the same database as the functions."""
    monkeypatch.setenv("KNUDGE_DATABASE_URL", servers.database_url)


async def played(stage: Stage, policy: str) -> None:
    """Let 300 users come in turns between which the policy learns, and then once more a few of them."""
    await stage.policy(policy, actions=list(WORTH), reward_window_s=1.0, exploration_floor=0.2)
    for turn in range(6):
        for number in range(turn * 50, turn * 50 + 50):
            made = await stage.recommend(policy, user_id=f"user-{number}")
            if number * 7 % 10 < WORTH[made["items"][0]["action"]]:
                await stage.feedback(made["decision_id"])
        await stage.learn(policy)
    await stage.recommend(policy, user_id="user-3")
    await stage.recommend(policy, count=2)
    await stage.recommend(policy, actions=["a", "b"])
    await stage.learn(policy)
    await asyncio.sleep(1.1)  # the last reward windows


@pytest.mark.usefixtures("environment")
def test_what_earns_more_is_told_from_a_bandits_log(servers: LocalServers, capsys: pytest.CaptureFixture[str]) -> None:
    """Each user counts once, by the propensities of all actions; what belongs to no comparison is counted by reason."""
    policy = "actions-compared"

    async def play(stage: Stage) -> None:
        await played(stage, policy)

    run(servers, play)
    assert main(["experiment", "actions", policy, "--control", "b", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["control"], found["rows"]) == ("b", 300)
    assert found["left_out"] == {
        "a later decision of the same user": 1,
        "several items": 1,
        "chosen among other actions": 1,
    }
    better, alike = found["effects"]["a"], found["effects"]["c"]
    assert better["low"] < 0.4 < better["high"]
    assert better["treatment"]["n"] + alike["treatment"]["n"] + better["control"]["n"] == 300
    assert better["treatment"]["n"] > 2 * better["control"]["n"]  # or it would be no bandit's log
    assert better["difference"] > 0.2
    assert main(["experiment", "actions", policy]) == 0
    assert "beyond a" in capsys.readouterr().out


@pytest.mark.usefixtures("environment")
def test_what_cannot_be_compared_is_said(servers: LocalServers, capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown policy or action, no decision, and a policy without actions of its own."""

    async def play(stage: Stage) -> None:
        await stage.policy("actions-fresh")
        await stage.policy("actions-none", actions=[])

    run(servers, play)
    for arguments, complaint in (
        (["actions-unknown"], "there is no policy 'actions-unknown'"),
        (["actions-fresh", "--control", "z"], "the policy has no action 'z'"),
        (["actions-fresh", "--confidence", "1"], "--confidence must lie between 0.5 and 1"),
        (["actions-fresh"], "no decision can be compared: there is none"),
        (["actions-none"], "fewer than two actions"),
    ):
        assert main(["experiment", "actions", *arguments]) == 1
        assert complaint in capsys.readouterr().err
