"""How long a training holds its policy's lock, and what `learn` and `feedback` notice: `python -m tests.performance.training`.

Logs decisions with clicks through the real functions, lets the learner archive and learn them, then trains twice: once
alone, once while feedback arrives and wakes the learner up. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from functions.local.servers import LocalServers
from shared.storage.migrate import migrate
from tests.stage import Stage

BATCH = 1_000
POLICY = "measured"
CLICKS_EVERY = 3
SPREAD_S = 14 * 86_400.0
FEEDBACK_PAUSE_S = 0.05


async def measure(servers: LocalServers, decisions: int) -> dict[str, Any]:
    """Return the figures for a history of so many decisions."""
    async with Stage(servers) as stage:
        ids = await _history(stage, decisions)
        began = time.perf_counter()
        await stage.learn(POLICY)
        learned_s = time.perf_counter() - began
        alone = await _train(stage, "alone")
        answers: list[float] = []
        training = asyncio.create_task(_train(stage, "beside feedback"))
        waking = asyncio.create_task(_wake(stage, training))
        while not training.done():
            began = time.perf_counter()
            await stage.feedback(ids[len(answers)], "purchase")
            answers.append(time.perf_counter() - began)
            await asyncio.sleep(FEEDBACK_PAUSE_S)
        beside = await training
        waited = await waking
        await stage.learn(POLICY)
        known = (await stage.snapshot(POLICY))["actions"]
        assert round(sum(each["weight"] for each in known.values())) == decisions
    return {
        "decisions": decisions,
        "learning them on the way, s": round(learned_s, 2),
        "training alone, s": round(alone, 2),
        "training beside feedback, s": round(beside, 2),
        "longest learn meanwhile, s": round(max(waited), 2),
        "feedback answers meanwhile, median ms": round(sorted(answers)[len(answers) // 2] * 1e3, 1),
        "feedback answers meanwhile, longest ms": round(max(answers) * 1e3, 1),
        "largest memory, MB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


async def _history(stage: Stage, decisions: int) -> list[str]:
    """Log decisions over two weeks, every third with a click; return their ids."""
    await stage.policy(POLICY, reward={"click": 1.0, "purchase": 0.5}, reward_window_s=2 * SPREAD_S)
    now, ids = time.time(), []
    for first in range(0, decisions, BATCH):
        rows = [
            {
                "policy": POLICY,
                "action": "abc"[number % 3],
                "propensity": 1 / 3,
                "context": {"n": number},
                "occurred_at": _stamp(now - SPREAD_S * (1 - number / decisions) - 60),
                "decision_id": f"log-{number}",
            }
            for number in range(first, min(first + BATCH, decisions))
        ]
        logged = (await stage.call("feedback", "POST", "/v1/decisions", {"decisions": rows})).body["decision_ids"]
        clicks = [{"decision_id": decision, "kind": "click"} for decision in logged[::CLICKS_EVERY]]
        answer = await stage.call("feedback", "POST", "/v1/feedback", {"events": clicks})
        assert answer.status == 200, answer
        ids += logged
    return ids


def _stamp(moment: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))


async def _train(stage: Stage, event_id: str) -> float:
    answer = await stage.event("train", "dev.knudge.training.requested.v1", {"policy": POLICY}, id=event_id)
    assert answer.status == 204, answer
    [row] = stage.sql("select outcome from trainings where event_id = %s", event_id)
    return float(row["outcome"][0]["duration_s"])


async def _wake(stage: Stage, training: asyncio.Task[float]) -> list[float]:
    """Wake the learner up for as long as a training goes on; return how long each took to answer."""
    waited = []
    while not training.done():
        began = time.perf_counter()
        await stage.learn(POLICY)
        waited.append(time.perf_counter() - began)
    return waited


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--decisions", type=int, default=100_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, LocalServers.start(Path(folder) / "servers") as servers:
        migrate(servers.database_url)
        print(json.dumps(asyncio.run(measure(servers, options.decisions)), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
