"""The bandit of `regret` played through the running functions, whose snapshots lag.

Each seed is a policy of its own; all are played side by side, each strictly in turn (a decision, its click if
it earned one, the next decision), on one connection to `recommend` and one to `feedback`, as fast as they
answer unless paced. Only clicks are sent: silence counts as 0 at once. What lags is a snapshot behind its
policy: the freshness times the pace.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.performance.client import Client
from tests.performance.processes import Server
from tests.performance.regret import ACTIONS, GAPS, MEANS, rewards_of
from tests.performance.stage import Stage

PROGRESS_S = 2.0


def measure(seeds: list[int], decisions: int, pace: float | None) -> tuple[list[float], dict[str, Any]]:
    """Return the regret of each seed, and at what pace they were played.

    `pace`: most decisions per second of each policy, None for as fast as they are answered.
    """
    with (
        tempfile.TemporaryDirectory(prefix="knudge-regret-") as directory,
        Stage(Path(directory), pinned=False) as stage,
    ):
        everywhere: frozenset[int] = frozenset()
        learn = stage.start("learn", on=everywhere)
        recommend = stage.start("recommend", on=everywhere, sink=learn)
        feedback = stage.start("feedback", on=everywhere, sink=learn)
        for seed in seeds:
            stage.put_policy(_name(seed), ACTIONS, exploration_floor=0.0)
        games = [Game(seed, decisions, pace) for seed in seeds]
        begin = time.monotonic()
        asyncio.run(_play(games, recommend, feedback))
        seconds = time.monotonic() - begin
    return [game.regret for game in games], {
        "seconds": round(seconds, 1),
        "asked_pace_per_policy_s": pace,
        "decisions_per_policy_s": round(decisions / seconds, 1),
        "decisions_per_snapshot": round(sum(game.decided for game in games) / sum(game.snapshots for game in games), 1),
        "degraded": sum(game.degraded for game in games),
    }


class Game:
    """One seed's policy, played to the end."""

    def __init__(self, seed: int, decisions: int, pace: float | None) -> None:
        """Nothing is sent yet."""
        self.seed = seed
        self.luck = rewards_of(seed, decisions)
        self.pace = pace
        self.decided = self.snapshots = self.degraded = 0
        self.regret = 0.0

    async def play(self, recommend: Server, feedback: Server) -> None:
        """Decide, pay, and so on; `AnswerError` as soon as a function refuses."""
        deciding = await Client.connect(recommend.port)
        giving = await Client.connect(feedback.port)
        users = random.Random(self.seed)
        arm_of = {action: arm for arm, action in enumerate(ACTIONS)}
        version = -1
        begin = time.monotonic()
        for step, luck in enumerate(self.luck):
            if self.pace and (early_s := begin + step / self.pace - time.monotonic()) > 0:
                await asyncio.sleep(early_s)
            user = f"user-{users.randrange(1_000_000)}"
            decision = await deciding.post("/v1/recommend", {"policy": _name(self.seed), "user_id": user})
            arm = arm_of[decision["items"][0]["action"]]
            self.decided += 1
            self.regret += float(GAPS[arm])
            self.degraded += bool(decision["degraded"])
            if decision["snapshot_version"] != version:
                version = decision["snapshot_version"]
                self.snapshots += 1
            if luck < MEANS[arm]:
                await giving.post(
                    "/v1/feedback", {"decision_id": decision["decision_id"], "kind": "click", "value": 1.0}
                )
        deciding.close()
        giving.close()


async def _play(games: list[Game], recommend: Server, feedback: Server) -> None:
    async def watch() -> None:
        total = sum(len(game.luck) for game in games)
        while True:
            done = sum(game.decided for game in games)
            print(f"\rHTTP: {done:,} of {total:,} decisions ", end="", file=sys.stderr, flush=True)
            await asyncio.sleep(PROGRESS_S)

    watching = asyncio.ensure_future(watch())
    try:
        await asyncio.gather(*(game.play(recommend, feedback) for game in games))
    finally:
        watching.cancel()
        print(file=sys.stderr)


def _name(seed: int) -> str:
    return f"regret-{seed}"
