"""The loop on real servers: decide, react, learn, decide from what was learned."""

from __future__ import annotations

import asyncio

from functions.local.servers import LocalServers
from tests.stage import Stage, run


def test_feedback_moves_the_posterior(servers: LocalServers) -> None:
    """After a click and a learning run a later snapshot knows one rewarded decision."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy()
        decision = await stage.recommend(policy)
        assert await stage.feedback(decision["decision_id"]) == {"accepted": 1, "duplicates": 0}
        await stage.learn(policy)
        snapshot = await stage.snapshot(policy)
        chosen = snapshot["actions"][decision["items"][0]["action"]]
        assert snapshot["snapshot_version"] > decision["snapshot_version"]
        assert (chosen["weight"], chosen["mean"]) == (1.0, 1.0)

    run(servers, play)


def test_recommend_serves_the_new_snapshot(servers: LocalServers) -> None:
    """A serving process picks a published snapshot up by itself."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy()
        decision = await stage.recommend(policy)
        await stage.feedback(decision["decision_id"])
        await stage.learn(policy)
        for _ in range(100):
            if (await stage.recommend(policy))["snapshot_version"] > decision["snapshot_version"]:
                return
            await asyncio.sleep(0.02)
        raise AssertionError("the new snapshot was not served within 2 s")

    run(servers, play)
