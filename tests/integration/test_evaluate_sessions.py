"""`knudge evaluate` by sessions, from a real log: candidates learn in order what the learner learned, and are worth what they are."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from functions.console.candidates import candidates
from functions.console.decided_items import DecidedItem, DecidedItems
from functions.console.main import main
from functions.console.progressive import Progress
from functions.local.servers import LocalServers
from shared.policies.ordered import Step
from shared.storage.postgres_log import opened
from shared.storage.redis_snapshots import decode_snapshot
from tests.integration.test_arms import renewed
from tests.integration.test_evaluate import environment  # noqa: F401 - a fixture
from tests.integration.test_sessions import at, models, session
from tests.stage import Stage, run
from tests.unit.console.session_logs import uniform, worth
from tests.unit.policies.session_worlds import bait

WORLD = bait()
STATE: dict[str, Any] = {name: msgspec.to_builtins(cells) for name, cells in WORLD.cells.items()}
BANDIT, LEARNER = "kind=thompson", "kind=q_learning,exploration_visits=5"
SHORT: dict[str, Any] = {"actions": ["bait", "plain"], "reward_window_s": 10, "session_timeout_s": 20}
ORDERED: dict[str, dict[str, Any]] = {
    "q_learning": {"kind": "q_learning", "state": STATE},
    "steered": {"kind": "thompson", "state": STATE, "steering": {"weight": 0.5}},
    "fitted_q": {"kind": "fitted_q", "state": STATE},
    "logistic_thompson": {"kind": "logistic_thompson", "features": {"hash_dimension": 4}},
}


async def reported(stage: Stage, policy: str, sessions: int, seed: int) -> None:
    """Report sessions that were played elsewhere, uniformly and overlapping, over the last hours; each decision's click a second later."""
    begin = float(int(time.time()) - 7 * sessions - 600)
    rows: list[tuple[dict[str, Any], Step]] = []
    number, place = 0, 0
    for step in WORLD.play(uniform(WORLD), sessions, np.random.RandomState(seed)):
        row = {
            "policy": policy, "action": step.actions[0], "propensity": step.propensities[0], "context": step.context,
            "occurred_at": at(begin + 7 * number + 5 * place), "session_id": f"{policy}-{seed}-{number}",
            "decision_id": f"{policy}-{seed}-{number}-{place}",
        }  # fmt: skip
        rows.append((row, step))
        number, place = (number + 1, 0) if step.ends else (number, place + 1)
    for first in range(0, len(rows), 500):
        some = rows[first : first + 500]
        answer = await stage.call("feedback", "POST", "/v1/decisions", {"decisions": [row for row, _ in some]})
        assert answer.status == 200, answer
        events = [
            {"decision_id": name, "kind": "click", "occurred_at": row["occurred_at"]}
            for name, (row, step) in zip(answer.body["decision_ids"], some, strict=True)
            if step.rewards[0]
        ]
        assert (await stage.call("feedback", "POST", "/v1/feedback", {"events": events})).status == 200
        await stage.learn(policy)


def log_of(servers: LocalServers, policy: str) -> tuple[DecidedItems, list[list[DecidedItem]]]:
    """Return the log of a policy, all of it."""
    with opened(servers.database_url) as log:
        reader = DecidedItems(log, policy, time.time(), events=True)
        return reader, list(reader.decisions(0.0, time.time()))


def gone_through(servers: LocalServers, policy: str, blocks: int) -> Any:
    """Return a candidate that is the policy itself, after all of its log and what has been closed since."""
    reader, log = log_of(servers, policy)
    [candidate] = given = candidates(["floor=0.01"], reader.spec)
    progress = Progress(given, reader.spec, len(log) // blocks)
    for items in log[: len(log) // blocks * blocks]:
        progress.go_on(items[0].stored.decided_at)
        progress.remember(items)
    for items in log[len(log) // blocks * blocks :]:
        progress.remember(items)
    assert progress.go_on(time.time())
    return candidate


@pytest.mark.parametrize(
    ("name", "blocks"),
    [("q_learning", 1), ("q_learning", 9), ("steered", 9), ("fitted_q", 9), ("logistic_thompson", 1)],
)
def test_a_candidate_learns_what_the_learner_learns(servers: LocalServers, name: str, blocks: int) -> None:
    """The policy as its own candidate ends with the running model, bit for bit, however often it learned on the way."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy(**SHORT | ORDERED[name])
        await reported(stage, policy, 60, 1)
        await renewed(stage, policy)
        running, _ = await models(stage, policy, refit=name == "fitted_q")
        candidate = gone_through(stage.servers, policy, blocks)
        if name == "fitted_q":
            assert candidate._model is None, "only a training teaches it"
            candidate.train()
        assert candidate._model == running is not None

    run(servers, play)


def test_a_candidate_looks_ahead_as_the_learner_does(servers: LocalServers) -> None:
    """With a window of a day everything is open: the published weights are the candidate's, bit for bit."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy(**SHORT | ORDERED["logistic_thompson"] | {"reward_window_s": 86_400})
        await reported(stage, policy, 20, 2)
        published = decode_snapshot(await stage.published(policy) or b"")
        assert published.model is not None
        assert gone_through(stage.servers, policy, 3).chooser().snapshot.model == published.model

    run(servers, play)


def evaluated(policy: str, tmp_path: Path, *arguments: str, given: Sequence[str] = (BANDIT, LEARNER)) -> dict[str, Any]:
    """Run the command and return what it writes."""
    asked = [part for candidate in given for part in ("--candidate", candidate)]
    assert main(["evaluate", "--policy", policy, *asked, "--output", str(tmp_path), *arguments]) == 0
    assert (tmp_path / "evaluation.png").read_bytes().startswith(b"\x89PNG")
    figures: dict[str, Any] = json.loads((tmp_path / "evaluation.json").read_text())
    return figures | {"candidates": {each["candidate"]: each for each in figures["candidates"]}}


@pytest.mark.usefixtures("environment")
def test_sessions_are_worth_what_they_are(
    servers: LocalServers, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On the log of a uniform bandit: another bandit falls into the trap, Q-learning does not, and the figures say so within their errors."""
    policy = "evaluate-sessions"

    async def play(stage: Stage) -> None:
        await stage.policy(policy, **SHORT | {"kind": "epsilon_greedy", "parameters": {"epsilon": 1.0}})
        await reported(stage, policy, 900, 3)

    run(servers, play)
    figures = evaluated(policy, tmp_path, "--blocks", "20", "--state", json.dumps(STATE), "--all")
    shown = capsys.readouterr().out
    assert "900 sessions of" in shown
    assert "reward of a session" in shown
    assert "fitted_q_evaluation" in shown
    assert (figures["unit"], figures["rows"], figures["blocks"], figures["left_out"]) == (
        "reward of a session",
        900,
        20,
        {},
    )
    reader, log = log_of(servers, policy)
    spec = msgspec.structs.replace(reader.spec, state=dict(WORLD.cells))
    for name, truth in zip((BANDIT, LEARNER), worth(WORLD, spec, log, [BANDIT, LEARNER]), strict=True):
        each = figures["candidates"][name]
        assert each["estimator"] == "per_decision_doubly_robust"
        for estimate in each["estimates"]:
            assert abs(estimate["value"] - truth) < 4.5 * estimate["standard_error"], (name, estimate, truth)
    assert figures["candidates"][LEARNER]["lift_interval"][0] > 0
    # the same log by decisions, where what comes later is not seen: the bandit looks like a gain
    alone = evaluated(policy, tmp_path, given=[BANDIT])
    assert (alone["unit"], alone["rows"]) == ("reward of a decision", figures["decisions"])
    assert alone["candidates"][BANDIT]["lift_interval"][0] > 0
    by_session = evaluated(policy, tmp_path, "--sessions", "--horizon", "2", given=[BANDIT])
    assert by_session["rows"] == 900
    assert by_session["notes"] == [
        "judged: the first 2 decisions of each session",
        "no fitted-Q evaluation: only the beginnings of sessions are judged",
    ]


@pytest.mark.usefixtures("environment")
def test_served_sessions_of_a_session_policy(servers: LocalServers, tmp_path: Path) -> None:
    """What Q-learning served over HTTP is judged by sessions without being asked; its own floor and actions are what was stored."""

    async def play(stage: Stage) -> None:
        await stage.policy(
            "evaluate-served", kind="q_learning", actions=["bait", "plain"], session_timeout_s=2, reward_window_s=1,
            state={"page": {"categories": ["start", "rich", "dull"]}}, exploration_floor=0.2,
        )  # fmt: skip
        for number in range(30):
            await session(stage, "evaluate-served", f"visit-{number}")
        await stage.learn("evaluate-served")
        time.sleep(2.1)  # noqa: ASYNC251 - nothing else runs meanwhile

    run(servers, play)
    figures = evaluated("evaluate-served", tmp_path, "--settled", given=["kind=epsilon_greedy,epsilon=1"])
    assert (figures["unit"], figures["rows"], figures["decisions"], figures["left_out"]) == (
        "reward of a session",
        30,
        60,
        {},
    )
    [each] = figures["candidates"].values()
    assert {one["estimator"] for one in each["estimates"]} == {
        "per_decision_doubly_robust", "per_decision_self_normalised", "per_decision", "fitted_q_evaluation"
    }  # fmt: skip
    assert each["value"] == pytest.approx((0.6 + 1.3) / 2, abs=0.35)


@pytest.mark.usefixtures("environment")
def test_what_cannot_be_asked(servers: LocalServers, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A state that is none, a kind without one, a horizon of nothing: one line each that says what to do."""

    async def play(stage: Stage) -> None:
        await stage.policy("evaluate-asked", **SHORT | {"kind": "epsilon_greedy"})
        await reported(stage, "evaluate-asked", 3, 4)

    run(servers, play)

    def complaint(candidate: str, *arguments: str) -> str:
        command = [
            "evaluate",
            "--policy",
            "evaluate-asked",
            "--candidate",
            candidate,
            "--output",
            str(tmp_path / "out"),
        ]
        assert main([*command, *arguments]) == 1
        return capsys.readouterr().err

    assert "the policy has no state: give one by --state" in complaint(LEARNER)
    assert "--state is written as" in complaint(LEARNER, "--state", "{page}")
    assert "state.page takes either bins or categories" in complaint(LEARNER, "--state", '{"page": {}}')
    assert "nothing here looks at them: add --sessions" in complaint(BANDIT, "--horizon", "3")
    assert "there is no decision to judge" in complaint(BANDIT, "--sessions", "--from", "1s")
    assert not (tmp_path / "out").exists()
