"""How fast the functions serve: rounds beside the empty functions, starts, latency, feedback.

Servers that are compared run one after another in every round, on the same core, with the same load; what is
said of them is the median over rounds of the ratio within a round.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from tests.performance.baselines import ASGI, DEFAULT
from tests.performance.figures import median_ratio, percentiles_ms, spread
from tests.performance.http1 import post
from tests.performance.load import LoadProcess, Outcome, Plan
from tests.performance.processes import Server, start, wait_for_answer
from tests.performance.stage import Stage

CONNECTIONS = 64
USERS = 1_000
MANY_USERS = 60_000
"""More than a process remembers to have exposed: each is exposed anew, however often they come."""
BATCH = 100
DEGRADED = b'"degraded":true'


@dataclass(slots=True)
class Acknowledged:
    """What was acknowledged per policy, over a whole bench; to be compared with what is archived."""

    decisions: dict[str, int] = field(default_factory=dict)
    degraded: int = 0
    refused: int = 0
    users: dict[str, int] = field(default_factory=dict)
    """How many users were exposed, by what was asked for."""

    def exposed(self, name: str, outcome: Outcome, users: int) -> None:
        """Count the users of one run, which asks for each in turn."""
        self.users[name] = max(self.users.get(name, 0), min(outcome.acknowledged, users))
        self._count(outcome)

    def add(self, policy: str, outcome: Outcome) -> None:
        """Count what one run was told."""
        self.decisions[policy] = self.decisions.get(policy, 0) + outcome.acknowledged
        self._count(outcome)

    def _count(self, outcome: Outcome) -> None:
        self.degraded += outcome.marked
        self.refused += outcome.broken + sum(
            count for status, count in outcome.status_to_count.items() if not 200 <= status < 300
        )


def recommend_requests(policy: str, **more: Any) -> tuple[bytes, ...]:
    """Return requests of `USERS` users, each with a little context."""
    return tuple(
        post(
            "/v1/recommend",
            json.dumps(
                {
                    "policy": policy,
                    "user_id": f"user-{user}",
                    "context": {"hour": user % 24, "device": "phone"},
                    **more,
                },
                separators=(",", ":"),
            ).encode(),
        )
        for user in range(USERS)
    )


def assignment_requests(experiment: str, users: int) -> tuple[bytes, ...]:
    """Return requests that expose each of `users` to an experiment, with the attributes that `recommend` has as context."""
    return tuple(
        post(
            "/v1/assignments",
            json.dumps(
                {
                    "user_id": f"user-{user}",
                    "attributes": {"hour": user % 24, "device": "phone"},
                    "experiments": [experiment],
                },
                separators=(",", ":"),
            ).encode(),
        )
        for user in range(users)
    )


def empty_requests() -> tuple[bytes, ...]:
    """Return the same bodies for a function that does not look at them."""
    return tuple(request.replace(b"/v1/recommend", b"/", 1) for request in recommend_requests("bench-10"))


def rounds(
    load: LoadProcess,
    recommend: Server,
    empties: dict[str, Server],
    policies: dict[str, tuple[bytes, ...]],
    acknowledged: Acknowledged,
    *,
    assigning: dict[str, tuple[Server, tuple[bytes, ...]]],
    count: int,
    duration_s: float,
) -> dict[str, Any]:
    """Measure all servers in turn, `count` times over; return rates, ratios, latencies under full load.

    `assigning`: requests to `assignment`, whose rates are told beside that of the first policy, too.
    """
    empty = empty_requests()
    subjects = [(name, server, empty) for name, server in empties.items()]
    subjects += [(policy, recommend, requests) for policy, requests in policies.items()]
    subjects += [(name, server, requests) for name, (server, requests) in assigning.items()]
    rates: dict[str, list[float]] = {name: [] for name, _, _ in subjects}
    latencies: dict[str, list[int]] = {name: [] for name, _, _ in subjects}
    for _ in range(count):
        for name, server, requests in subjects:
            outcome = load.run(Plan(server.port, requests, CONNECTIONS, duration_s, warmup_s=0.3, marker=DEGRADED))
            rates[name].append(outcome.per_s)
            latencies[name].extend(outcome.latencies_ns)
            if name in policies:
                acknowledged.add(name, outcome)
            elif name in assigning:
                acknowledged.exposed(name, outcome, len(requests))
    return {
        "per_s": {name: median(values) for name, values in rates.items()},
        "per_s_spread": {name: spread(values) for name, values in rates.items()},
        "saturated_latency_ms": {name: percentiles_ms(values) for name, values in latencies.items()},
        "ratio": {
            policy: {name: round(median_ratio(rates[policy], rates[name]), 3) for name in empties}
            for policy in (*policies, *assigning)
        },
        "ratio_to_recommend": {
            name: round(median_ratio(rates[name], rates[next(iter(policies))]), 3) for name in assigning
        },
    }


def starts(stage: Stage, sink: Server, policy: str, count: int) -> dict[str, Any]:
    """Start each server `count` times in turn; return median seconds to ready and to a first real answer."""
    first = post("/v1/recommend", json.dumps({"policy": policy, "user_id": "first"}).encode())
    ready: dict[str, list[float]] = {"recommend": [], DEFAULT.name: [], ASGI.name: []}
    answered: list[float] = []
    for repetition in range(count + 1):  # the first of each only warms the disk
        for command in (DEFAULT, ASGI, stage.command("recommend", sink=sink)):
            server = start(command, stage.directory, stage.core)
            try:
                if command.name == "recommend":
                    answer_s = _first_answer_s(server, first)
                    if repetition:
                        answered.append(answer_s)
                if repetition:
                    ready[command.name].append(server.ready_s)
            finally:
                server.stop()
    return {
        "ready_s": {name: round(median(values), 4) for name, values in ready.items()},
        "first_answer_s": round(median(answered), 4),
        "ratio_to_default": round(median_ratio(ready["recommend"], ready[DEFAULT.name]), 3),
        "ratio_to_asgi": round(median_ratio(ready["recommend"], ready[ASGI.name]), 3),
        "first_answer_ratio_to_default": round(median_ratio(answered, ready[DEFAULT.name]), 3),
    }


def _first_answer_s(server: Server, request: bytes) -> float:
    while DEGRADED in wait_for_answer(server, request, 20.0):
        pass
    return (time.perf_counter_ns() - server.started_ns) / 1e9


def latency(
    load: LoadProcess,
    recommend: Server,
    policy: str,
    acknowledged: Acknowledged,
    *,
    rate_per_s: float,
    duration_s: float,
) -> dict[str, float | None]:
    """Return the latency at a fixed rate, counted from when each request was due."""
    outcome = load.run(
        Plan(
            recommend.port,
            recommend_requests(policy),
            CONNECTIONS,
            duration_s,
            warmup_s=0.5,
            rate_per_s=rate_per_s,
            marker=DEGRADED,
        )
    )
    acknowledged.add(policy, outcome)
    return percentiles_ms(outcome.latencies_ns)


def feedback(
    load: LoadProcess,
    recommend: Server,
    feedback_server: Server,
    policy: str,
    acknowledged: Acknowledged,
    *,
    decisions: int,
    duration_s: float,
) -> dict[str, Any]:
    """Make decisions, click on each once, singly and in batches; return rates and how many were accepted."""
    made = load.run(
        Plan(
            recommend.port,
            recommend_requests(policy),
            CONNECTIONS,
            60.0,
            limit=decisions,
            marker=DEGRADED,
            collect=True,
        )
    )
    acknowledged.add(policy, made)
    clicks = [
        {
            "decision_id": json.loads(body)["decision_id"],
            "kind": "click",
            "value": 1.0,
            "event_id": f"click-{index}",
        }
        for index, body in enumerate(made.bodies)
    ]
    half = len(clicks) // 2
    singles = tuple(_feedback_request(click) for click in clicks[:half])
    batches = tuple(
        _feedback_request({"events": clicks[begin : begin + BATCH]})
        for begin in range(half, len(clicks) - BATCH, BATCH)
    )
    figures: dict[str, Any] = {"accepted": 0}
    for name, requests, events, connections in (
        ("single", singles, 1, CONNECTIONS),
        ("batch", batches, BATCH, 4),
    ):
        outcome = load.run(
            Plan(feedback_server.port, requests, connections, duration_s, limit=len(requests), collect=True)
        )
        figures[f"{name}_per_s"] = round(outcome.per_s * events, 1)
        figures[f"{name}_latency_ms"] = percentiles_ms(outcome.latencies_ns)
        figures[f"{name}_status"] = dict(outcome.status_to_count)
        figures["accepted"] += sum(json.loads(body)["accepted"] for body in outcome.bodies)
    return figures


def _feedback_request(content: dict[str, Any]) -> bytes:
    return post("/v1/feedback", json.dumps(content, separators=(",", ":")).encode())
