"""The highest fixed rate of `recommend` at which the journal does not grow while `learn` runs.

The journal's length saws: appends raise it, each run of `learn` trims it. What counts is the slope of a line
through its samples after the start, as a share of what was appended: above `GROWTH` the journal grows.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from tests.performance.load import LoadProcess, Plan
from tests.performance.processes import Server
from tests.performance.serving import CONNECTIONS, DEGRADED, Acknowledged, recommend_requests
from tests.performance.stage import Stage

GROWTH = 0.05
ANSWERED = 0.97
FIRST = 0.97
STEP = 0.95
SAMPLE_S = 0.02


def growth_share(samples: Sequence[tuple[float, int]]) -> float:
    """Return the share of the appended entries by which the journal grew; `samples`: (seconds, entries).

    Appends are the rises between two samples, so a sample must be taken several times per run of `learn`.

    >>> round(growth_share([(0, 0), (1, 5), (2, 0), (3, 5), (4, 0), (5, 5), (6, 0)]), 2)
    0.0
    >>> growth_share([(0, 0), (1, 5), (2, 10), (3, 15)])
    1.0
    """
    times = np.array([when for when, _ in samples], dtype=np.float64)
    lengths = np.array([length for _, length in samples], dtype=np.float64)
    appended_per_s = float(np.maximum(np.diff(lengths), 0.0).sum()) / float(times[-1] - times[0])
    if appended_per_s == 0.0:
        return 0.0
    slope = float(np.polyfit(times, lengths, 1)[0])
    return round(min(max(slope / appended_per_s, 0.0), 1.0), 12)


def steady_rate(
    stage: Stage,
    load: LoadProcess,
    recommend: Server,
    learn: Server,
    *,
    policy: str,
    acknowledged: Acknowledged,
    burst_per_s: float,
    duration_s: float,
    tries: int,
) -> dict[str, Any]:
    """Try rates from just under `burst_per_s` downwards; return the first that held, and what was seen."""
    rate = burst_per_s * FIRST
    seen: list[dict[str, Any]] = []
    for _ in range(tries):
        plan = Plan(
            recommend.port,
            recommend_requests(policy),
            CONNECTIONS,
            duration_s,
            warmup_s=1.0,
            rate_per_s=rate,
            marker=DEGRADED,
        )
        running = load.start(plan)
        samples: list[tuple[float, int]] = []
        begin = time.monotonic()
        while not running.done() and (now := time.monotonic() - begin) < plan.warmup_s + duration_s:
            if now > plan.warmup_s:
                samples.append((now, stage.journal_length()))
            time.sleep(SAMPLE_S)
        outcome = running.result()
        acknowledged.add(policy, outcome)
        drain_s = stage.drain(learn, [policy])
        share = growth_share(samples)
        seen.append(
            {
                "rate_per_s": round(rate, 1),
                "answered_per_s": round(outcome.per_s, 1),
                "growth_share": round(share, 3),
                "entries_max": max(length for _, length in samples),
                "drained_after_s": round(drain_s, 2),
            }
        )
        if share <= GROWTH and outcome.per_s >= ANSWERED * rate:
            return {"steady_per_s": round(outcome.per_s, 1), "tries": seen}
        rate = min(rate, outcome.per_s) * (1.0 - share) * STEP
    return {"steady_per_s": None, "tries": seen}
