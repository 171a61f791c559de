"""A bandit steered by Q-learning on real servers: greedy alone it falls into the trap, steered it does not."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from functions.local.servers import LocalServers
from tests.integration.test_arms import renewed
from tests.integration.test_sessions import TRAP, logged, models, session, values
from tests.integration.test_slates import recomputed
from tests.stage import Stage, run

STEERED: dict[str, Any] = TRAP | {
    "kind": "thompson",
    "parameters": {"discount": 0.9, "initial_value": 0.0},
    "steering": {"weight": 2.0},
}
SESSIONS = ["bait", "plain"] * 30


async def first_page(stage: Stage, policy: str) -> dict[str, float]:
    """Return how often each action is chosen first, of 40 requests."""
    chosen = [(await stage.recommend(policy, context={"page": "start"}))["items"][0]["action"] for _ in range(40)]
    return {action: chosen.count(action) / 40 for action in ("bait", "plain")}


@pytest.mark.parametrize("kind", ["thompson", "epsilon_greedy", "lin_thompson", "lin_ucb"])
def test_a_steered_bandit_gives_up_what_spoils_the_rest(servers: LocalServers, kind: str) -> None:
    """After the same sessions: alone it takes the bait, steered what leads on; its decisions recompute, and a refit repeats it."""

    async def play(stage: Stage) -> None:
        parameters = STEERED["parameters"]
        policy = await stage.policy(**STEERED | {"kind": kind})
        await logged(stage, policy, time.time() - 8_000.0, SESSIONS)
        await renewed(stage, policy)
        running, _ = await models(stage, policy)
        learned = values(running, "start")
        assert learned["plain"][0] == pytest.approx(0.3 + 0.9 * 1.0, abs=0.2)
        assert learned["bait"][0] == pytest.approx(0.6, abs=0.1)
        assert (await models(stage, policy, refit=True))[0] == running
        assert (await first_page(stage, policy))["plain"] >= 0.8
        answer = await stage.recommend(policy, context={"page": "start"}, count=2)
        await stage.learn(policy)
        actions, propensities = recomputed(stage, answer["decision_id"])
        assert [item["action"] for item in answer["items"]] == actions
        assert [item["propensity"] for item in answer["items"]] == pytest.approx(propensities, abs=1e-9)
        await asyncio.sleep(1.1)  # all that was decided here is closed now, and the sweep has nothing to learn
        await stage.learn(policy)
        published = await stage.published(policy)
        await stage.redis.flushall()
        await stage.learn()
        assert await stage.published(policy) == published
        # the same tables without the rudder: the bandit alone, and under another weight they need not be learned again
        body = STEERED | {"kind": kind, "steering": {"weight": 1e-6}, "reward": {"click": 1.0}}
        answer = await stage.call("control", "PUT", f"/v1/policies/{policy}", body)
        assert answer.body["learning"] == "inherited"
        assert answer.body["parameters"] == parameters
        await renewed(stage, policy)
        assert (await first_page(stage, policy))["bait"] >= 0.8

    run(servers, play)


def test_a_steered_bandit_learns_from_its_own_sessions(servers: LocalServers) -> None:
    """Sessions over HTTP are closed, learned, and steer the next ones; what is too new does not."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy(
            **STEERED
            | {"steering": {"weight": 2.0, "minimum_visits": 2}, "exploration_floor": 0.3, "session_timeout_s": 5}
        )
        for number in range(20):
            await session(stage, policy, f"session-{number}")
        await stage.learn(policy)
        assert (await models(stage, policy))[0] is None
        time.sleep(5.1)  # noqa: ASYNC251 - nothing else runs meanwhile
        await stage.learn(policy)
        learned = values((await models(stage, policy))[0], "start")
        assert sum(samples for _, samples in learned.values()) == 20

    run(servers, play)


def test_wrong_steering_is_refused_by_field(servers: LocalServers) -> None:
    """Each mistake names what is wrong, and nothing is written."""
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"steering": {"weight": 0}}, "steering.weight"),
        ({"steering": {"weight": 101}}, "steering.weight"),
        ({"steering": {}}, "steering.weight"),
        ({"steering": {"weight": 1, "minimum_visits": 0}}, "steering.minimum_visits"),
        ({"steering": {"weight": 1, "rudder": 1}}, "steering.rudder"),
        ({"state": {}}, "state"),
        ({"kind": "q_learning"}, "steering"),
        ({"parameters": {"discount": 1.5}}, "parameters.discount"),
        ({"steering": None}, "parameters.discount"),
        ({"steering": None, "parameters": {}}, "state"),
    ]

    async def play(stage: Stage) -> None:
        for change, field in wrong:
            body = STEERED | {"reward": {"click": 1.0}} | change
            answer = await stage.call("control", "PUT", "/v1/policies/refused-steering", body)
            assert (answer.status, answer.body["field"]) == (400, field), answer
        assert (await stage.call("control", "GET", "/v1/policies/refused-steering")).status == 404

    run(servers, play)
