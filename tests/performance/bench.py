"""`make bench`: serving figures beside those of empty functions-framework functions, in one run.

The measured server has the first core to itself; the load generator, Redis, PostgreSQL, `learn` and `control`
share the rest, so with two cores the steady rate and the freshness are those of one core for all of that.
Prints a table and writes `build/bench/serving.json`. No figure makes it fail; a lost decision or click does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.performance import freshness, machine, serving, steady
from tests.performance.baselines import ASGI, DEFAULT, REQUEST, SINK
from tests.performance.load import LoadProcess, Plan
from tests.performance.processes import ROOT, Server, start
from tests.performance.report import report
from tests.performance.serving import (
    CONNECTIONS,
    DEGRADED,
    MANY_USERS,
    USERS,
    Acknowledged,
    assignment_requests,
    recommend_requests,
)
from tests.performance.sight import sight_us
from tests.performance.stage import Stage, rewarded

RESULT = ROOT / "build" / "bench" / "serving.json"
ACTIONS = [f"action-{number}" for number in range(100)]
TEN, HUNDRED, SUBSET, IDLE, START = "bench-10", "bench-100", "bench-100-subset", "bench-idle", "bench-start"
ASSIGNED, EXPOSED = "assignment", "assignment, new users"
ASSIGNMENTS = {ASSIGNED: ("bench-users", USERS), EXPOSED: ("bench-new-users", MANY_USERS)}
"""What is asked of `assignment`: an experiment, and how many users are exposed to it over and over."""
REQUESTS = {
    TEN: recommend_requests(TEN),
    HUNDRED: recommend_requests(HUNDRED),
    SUBSET: recommend_requests(SUBSET, actions=ACTIONS[20:30]),
}


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured; durations in seconds."""

    starts: int
    rounds: int
    round_s: float
    latency_s: float
    decisions: int
    feedback_s: float
    steady_s: float
    steady_tries: int
    samples: int
    samples_s: float


QUICK = Size(2, 3, 1.0, 2.0, 6_000, 3.0, 3.0, 3, 12, 6.0)
FULL = Size(7, 7, 2.0, 6.0, 40_000, 10.0, 8.0, 5, 50, 30.0)


class Bench:
    """One run: what is up, and what has been acknowledged so far."""

    def __init__(self, stage: Stage, load: LoadProcess, size: Size) -> None:
        """Make the policies."""
        self.stage, self.load, self.size = stage, load, size
        self.acknowledged = Acknowledged()
        self.memory: dict[str, float | None] = {}
        for name, actions in ((TEN, 10), (HUNDRED, 100), (SUBSET, 100), (IDLE, 10), (START, 10)):
            stage.put_policy(name, ACTIONS[:actions])
        for experiment, _ in ASSIGNMENTS.values():
            stage.put_experiment(experiment)
        self.sink = stage.keep(start(SINK, stage.directory, stage.rest))

    def run(self) -> dict[str, Any]:
        """Return every figure."""
        described = machine.describe(self.stage.redis, self.stage.database)
        _say("starting servers, several times over")
        starts = serving.starts(self.stage, self.sink, START, self.size.starts)
        burst = self.burst()
        per_s = burst["rounds"]["per_s"][TEN]
        _say("draining the burst")
        learn = self.stage.start("learn", on=self.stage.rest)
        exposures = self.exposures(learn)
        drained = self.drained(learn)
        clicks = {"accepted": burst["feedback"]["accepted"], "learned": self.learned_clicks()}
        warm = self.warm(learn, per_s)
        archived = {policy: self.stage.archived(policy) for policy in self.acknowledged.decisions}
        lost = sum(max(count - archived[policy], 0) for policy, count in self.acknowledged.decisions.items())
        lost += sum(max(users - exposures[name], 0) for name, users in self.acknowledged.users.items())
        return {
            "decisions_per_s": round(per_s, 1),
            "ratio_to_default": burst["rounds"]["ratio"][TEN][DEFAULT.name],
            "ratio_to_asgi": burst["rounds"]["ratio"][TEN][ASGI.name],
            "assignments_per_s": round(burst["rounds"]["per_s"][ASSIGNED], 1),
            "assignment_ratio_to_recommend": burst["rounds"]["ratio_to_recommend"],
            "latency_ms": burst["latency_ms"],
            "feedback_per_s": burst["feedback"]["single_per_s"],
            "freshness_p95_s": max(warm["idle"]["p95_s"], warm["half_rate"]["p95_s"]),
            "cold_start_ratio": starts["ratio_to_default"],
            "rss_mb": self.memory["recommend"],
            "steady_per_s": warm["steady"]["steady_per_s"],
            "lost": lost + max(round(clicks["accepted"] - clicks["learned"]), 0),
            "machine": described,
            "sight_us": sight_us(),
            "connections": CONNECTIONS,
            "starts": starts,
            "burst": burst,
            "drained": drained,
            "warm": warm,
            "memory_mb": self.memory,
            "kept": {
                "acknowledged": self.acknowledged.decisions,
                "archived": archived,
                "degraded": self.acknowledged.degraded,
                "refused": self.acknowledged.refused,
                "clicks": clicks,
                "exposures": {"acknowledged": self.acknowledged.users, "archived": exposures},
            },
        }

    def burst(self) -> dict[str, Any]:
        """Measure with `learn` away: rounds beside the empties, latency at half the rate, feedback."""
        _say("rounds beside the empty functions")
        stage, load, size = self.stage, self.load, self.size
        recommend = stage.start("recommend", on=stage.core, sink=self.sink)
        feedback = stage.start("feedback", on=stage.core, sink=self.sink)
        assignment = stage.start("assignment", on=stage.core, sink=self.sink)
        assigning = {
            name: (assignment, assignment_requests(experiment, users))
            for name, (experiment, users) in ASSIGNMENTS.items()
        }
        empties = {command.name: stage.keep(start(command, stage.directory, stage.core)) for command in (DEFAULT, ASGI)}
        self.memory["recommend, fresh"] = recommend.rss_mb()
        ceiling = load.run(Plan(self.sink.port, (REQUEST,), CONNECTIONS, 0.5, warmup_s=0.2)).per_s
        rounds = serving.rounds(
            load,
            recommend,
            empties,
            REQUESTS,
            self.acknowledged,
            assigning=assigning,
            count=size.rounds,
            duration_s=size.round_s,
        )
        self.memory["assignment"] = assignment.rss_mb()
        assignment.stop()
        for name, server in empties.items():
            self.memory[name] = server.rss_mb()
            server.stop()
        _say("latency at half the rate, feedback")
        half = rounds["per_s"][TEN] / 2
        latency_ms = serving.latency(
            load, recommend, TEN, self.acknowledged, rate_per_s=half, duration_s=size.latency_s
        )
        given = serving.feedback(
            load,
            recommend,
            feedback,
            TEN,
            self.acknowledged,
            decisions=size.decisions,
            duration_s=size.feedback_s,
        )
        self.memory |= {"recommend": recommend.rss_mb(), "feedback": feedback.rss_mb()}
        recommend.stop()
        feedback.stop()
        return {
            "rounds": rounds,
            "latency_ms": latency_ms,
            "latency_at_per_s": round(half, 1),
            "feedback": given,
            "generator_ceiling_per_s": round(ceiling, 1),
        }

    def drained(self, learn: Server) -> dict[str, Any]:
        """Let `learn` take what piled up."""
        entries = self.stage.journal_length()
        decisions = sum(self.acknowledged.decisions.values())
        seconds = self.stage.drain(learn, [*REQUESTS, START])
        return {
            "entries": entries,
            "decisions": decisions,
            "seconds": round(seconds, 2),
            "per_s": round(decisions / seconds, 1),
        }

    def exposures(self, learn: Server) -> dict[str, int]:
        """Let `learn` take the exposures; return how many users each request to `assignment` has exposed."""
        self.stage.drain_exposures(learn)
        return {name: self.stage.exposed(experiment) for name, (experiment, _) in ASSIGNMENTS.items()}

    def learned_clicks(self) -> float:
        """Return how many clicks the snapshot of the policy with feedback knows."""
        return round(rewarded(self.stage.snapshot(TEN)), 6)

    def warm(self, learn: Server, burst_per_s: float) -> dict[str, Any]:
        """Measure with `learn` at work: the steady rate, freshness when idle and at half the burst rate."""
        stage, size = self.stage, self.size
        recommend = stage.start("recommend", on=stage.core, sink=learn)
        feedback = stage.start("feedback", on=stage.rest, sink=learn)
        _say("steady rate")
        held = steady.steady_rate(
            stage,
            self.load,
            recommend,
            learn,
            policy=TEN,
            acknowledged=self.acknowledged,
            burst_per_s=burst_per_s,
            duration_s=size.steady_s,
            tries=size.steady_tries,
        )
        _say("freshness")
        idle = asyncio.run(
            freshness.measure(stage, recommend, feedback, IDLE, samples=size.samples, budget_s=size.samples_s)
        )
        running = self.load.start(
            Plan(
                recommend.port,
                REQUESTS[TEN],
                CONNECTIONS,
                size.samples_s,
                rate_per_s=burst_per_s / 2,
                marker=DEGRADED,
            )
        )
        busy = asyncio.run(
            freshness.measure(stage, recommend, feedback, TEN, samples=size.samples, budget_s=size.samples_s - 1.0)
        )
        self.acknowledged.add(TEN, running.result())
        self.acknowledged.decisions[TEN] += busy.decisions
        most_mb = max(self.memory["recommend"] or 0.0, recommend.rss_mb() or 0.0)
        self.memory["recommend"] = most_mb or None
        self.memory["learn"] = learn.rss_mb()
        recommend.stop()
        feedback.stop()
        stage.drain(learn, [*REQUESTS, IDLE])
        return {"steady": held, "idle": idle.figures(), "half_rate": busy.figures()}


def main() -> int:
    """Measure, print, write; 1 where something acknowledged was lost."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.performance.bench", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--quick", action="store_true", help="about a minute instead of about five")
    parser.add_argument("--output", type=Path, default=RESULT, help="where the figures go")
    arguments = parser.parse_args()
    begin = time.monotonic()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="knudge-bench-")))
        stage = Stage(directory)
        if stage.rest:
            os.sched_setaffinity(0, stage.rest)
        stack.enter_context(stage)
        load = stack.enter_context(LoadProcess(stage.rest))
        figures = Bench(stage, load, QUICK if arguments.quick else FULL).run()
    figures["took_s"] = round(time.monotonic() - begin, 1)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(figures, indent=2) + "\n")
    print(report(figures))
    print(f"\nwritten to {arguments.output}, after {figures['took_s']} s")
    return 0 if figures["lost"] == 0 else 1


def _say(phase: str) -> None:
    print(f"… {phase}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
