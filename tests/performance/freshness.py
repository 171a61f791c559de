"""How long after its acknowledgement a feedback shows in what is served.

A sample: a decision, a pause of random length, a click. From the click's 2xx on, `control` is asked every few
milliseconds until the policy's snapshot holds one reward more, then `recommend` until it serves that snapshot
version or a later one. Asking `recommend` only then keeps the samples of an idle policy idle: its decisions
would wake `learn` themselves.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field

from tests.performance.client import Client
from tests.performance.figures import percentile
from tests.performance.http1 import get
from tests.performance.processes import Server
from tests.performance.stage import Stage, rewarded

LOOK_S = 0.008
SERVED_LOOK_S = 0.002
PAUSE_S = 0.3
PATIENCE_S = 20.0


@dataclass(slots=True)
class Freshness:
    """Seconds from an acknowledged click to a decision that knows it.

    `gave_up` samples were not served within `PATIENCE_S` and stand in `seconds` as that. `decisions`: made on
    the way.
    """

    seconds: list[float] = field(default_factory=list)
    gave_up: int = 0
    decisions: int = 0
    clicks: int = 0

    def figures(self) -> dict[str, float | int | None]:
        """Return quantiles and counts."""
        return {
            "p50_s": _rounded(percentile(self.seconds, 50)),
            "p95_s": _rounded(percentile(self.seconds, 95)),
            "max_s": _rounded(max(self.seconds, default=None)),
            "samples": len(self.seconds),
            "gave_up": self.gave_up,
        }


async def measure(
    stage: Stage, recommend: Server, feedback: Server, policy: str, *, samples: int, budget_s: float
) -> Freshness:
    """Take up to `samples` samples on `policy`, within about `budget_s`."""
    pause = random.Random(1)
    asked = get(f"/v1/policies/{policy}")
    request = {"policy": policy, "user_id": "freshness"}
    deciding, giving, reading = [await Client.connect(server.port) for server in (recommend, feedback, stage.control)]
    expected = rewarded((await reading.ask(asked))["snapshot"])
    seen = Freshness()
    stop_at = time.perf_counter() + budget_s
    while len(seen.seconds) < samples and time.perf_counter() < stop_at:
        decision = await deciding.post("/v1/recommend", request)
        seen.decisions += 1
        await asyncio.sleep(pause.uniform(0.0, PAUSE_S))
        await giving.post("/v1/feedback", {"decision_id": decision["decision_id"], "kind": "click", "value": 1.0})
        begin = time.perf_counter()
        seen.clicks += 1
        expected += 1
        try:
            async with asyncio.timeout(PATIENCE_S):
                snapshot = (await reading.ask(asked))["snapshot"]
                while rewarded(snapshot) < expected - 0.5:
                    await asyncio.sleep(LOOK_S)
                    snapshot = (await reading.ask(asked))["snapshot"]
                while decision["snapshot_version"] < snapshot["snapshot_version"]:
                    await asyncio.sleep(SERVED_LOOK_S)
                    decision = await deciding.post("/v1/recommend", request)
                    seen.decisions += 1
        except TimeoutError:
            seen.gave_up += 1
            seen.seconds.append(PATIENCE_S)
            break  # the connections may still owe an answer
        seen.seconds.append(time.perf_counter() - begin)
    for client in (deciding, giving, reading):
        client.close()
    return seen


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
