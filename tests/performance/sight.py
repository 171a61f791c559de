"""What seeing costs: the metrics, the trace and the log line of one recommendation, each timed by itself."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from timeit import repeat

from shared.observability.logs import JsonFormatter
from shared.observability.metrics import Metrics
from shared.observability.tracing import continue_trace

CALLS = 20_000
ROUNDS = 5
HEADER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def sight_us() -> dict[str, float]:
    """Return microseconds a request: `metrics` always, `trace` where a caller sent one, `log` at level debug."""
    metrics = Metrics()

    def count() -> None:
        metrics.snapshot_hits += 1
        metrics.select("policy", "action", known=True)
        metrics.answered.observe(0.001)
        metrics.requests.values[("200",)] += 1

    logger = logging.getLogger("knudge.sight")
    handler = logging.StreamHandler(io.StringIO())
    handler.setFormatter(JsonFormatter("recommend"))
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    logger.addHandler(handler)
    extra = {"knudge": {"decision_id": "660fa872-0ab1-8a34-96f8-7bde636616bb", "policy": "policy"}}
    return {
        "metrics": _best_us(count),
        "trace": _best_us(lambda: continue_trace(HEADER)),
        "log": _best_us(lambda: logger.debug("decided", extra=extra)),
    }


def _best_us(call: Callable[[], object]) -> float:
    return round(min(repeat(call, number=CALLS, repeat=ROUNDS)) / CALLS * 1e6, 3)
