"""A load generator for HTTP/1.1 on loopback that is cheap enough never to be the bottleneck.

It promises a bounded run (in time, and in number if asked) over keep-alive connections, closed-loop (each
connection sends its next request when the last is answered) or open-loop (a fixed rate, whatever the answers
do), in a process of its own. What the figures mean is left to `figures` and `bench`.
"""

from __future__ import annotations

import asyncio
import gc
import math
import multiprocessing
import os
import time
from array import array
from collections import Counter, deque
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self, cast

from tests.performance.http1 import LOOPBACK, AnswerError, AnswerParser

TICK_S = 0.001
LATE_NS = 5_000_000
GRACE_S = 10.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What to send, and how.

    `requests` are whole HTTP requests as bytes, sent in turn and over again; with `limit` at most so many are
    sent. `rate_per_s` None is closed-loop. `warmup_s` comes on top of `duration_s` and is left out of the
    latencies.
    `marker` is counted in the bodies of answers; `collect` keeps all bodies.
    """

    port: int
    requests: tuple[bytes, ...]
    connections: int = 32
    duration_s: float = 2.0
    warmup_s: float = 0.0
    limit: int | None = None
    rate_per_s: float | None = None
    marker: bytes = b""
    collect: bool = False


@dataclass(slots=True)
class Outcome:
    """What came back.

    `acknowledged` counts every 2xx, warm-up included; `latencies_ns` and `measured_s` are of those after the
    warm-up. Open-loop latencies count from when a request was due. `broken` are requests whose
    connection ended unanswered, `unsent` those that were due but found no free connection before the end.
    """

    acknowledged: int = 0
    measured_s: float = 0.0
    latencies_ns: array[int] = field(default_factory=lambda: array("q"))
    status_to_count: Counter[int] = field(default_factory=Counter)
    marked: int = 0
    broken: int = 0
    unsent: int = 0
    bodies: list[bytes] = field(default_factory=list)

    @property
    def per_s(self) -> float:
        """Answers per second after the warm-up."""
        return len(self.latencies_ns) / self.measured_s if self.measured_s > 0 else 0.0


class _Connection(asyncio.Protocol):
    __slots__ = ("awaiting", "due_ns", "parser", "run", "transport")

    def __init__(self, run: _Run) -> None:
        self.run = run
        self.parser = AnswerParser()
        self.due_ns = 0
        self.awaiting = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        try:
            answers = self.parser.feed(data)
        except AnswerError as error:
            self.run.fail(error)
            return
        for status, body in answers:
            self.awaiting = False
            self.run.answered(self, status, body)

    def connection_lost(self, exc: Exception | None) -> None:
        self.run.lost(self)


class _Run:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.outcome = Outcome()
        self.loop = asyncio.get_running_loop()
        self.done: asyncio.Future[None] = self.loop.create_future()
        self.idle: list[_Connection] = []
        self.waiting: deque[int] = deque()
        self.tasks: set[asyncio.Task[None]] = set()
        self.issued = self.in_flight = self.due = 0
        self.over = False
        self.begin_ns = self.measure_ns = self.end_ns = self.last_ns = 0

    async def __call__(self) -> Outcome:
        plan = self.plan
        await asyncio.gather(*(self._connect() for _ in range(plan.connections)))
        self.begin_ns = time.perf_counter_ns()
        self.measure_ns = self.begin_ns + int(plan.warmup_s * 1e9)
        self.end_ns = self.measure_ns + int(plan.duration_s * 1e9)
        self.loop.call_later(plan.warmup_s + plan.duration_s, self._finish)
        if plan.rate_per_s is None:
            for connection in self.idle:
                self._send(connection, time.perf_counter_ns())
            self.idle.clear()
        else:
            self._tick()
        await asyncio.wait_for(self.done, plan.warmup_s + plan.duration_s + GRACE_S)
        self.outcome.measured_s = max(self.last_ns - self.measure_ns, 1) / 1e9
        self.outcome.unsent = len(self.waiting)
        return self.outcome

    async def _connect(self) -> None:
        _, connection = await self.loop.create_connection(lambda: _Connection(self), LOOPBACK, self.plan.port)
        self.idle.append(connection)

    def _send(self, connection: _Connection, due_ns: int) -> None:
        requests = self.plan.requests
        connection.due_ns = due_ns
        connection.awaiting = True
        connection.transport.write(requests[self.issued % len(requests)])
        self.issued += 1
        self.in_flight += 1
        if self.issued == self.plan.limit:
            self.over = True

    def _tick(self) -> None:
        if self.over:
            return
        self.loop.call_later(TICK_S, self._tick)
        assert self.plan.rate_per_s is not None
        now = time.perf_counter_ns()
        step_ns = 1e9 / self.plan.rate_per_s
        target = int((now - self.begin_ns) / step_ns)
        while self.due < target and not self.over:
            # The timer's own grain is no latency of the server; a generator that falls behind is not hidden.
            intended = self.begin_ns + int(self.due * step_ns)
            due_ns = intended if now - intended > LATE_NS else now
            self.due += 1
            if self.idle:
                self._send(self.idle.pop(), due_ns)
            else:
                self.waiting.append(due_ns)

    def answered(self, connection: _Connection, status: int, body: bytes) -> None:
        now = time.perf_counter_ns()
        outcome = self.outcome
        outcome.status_to_count[status] += 1
        self.in_flight -= 1
        if 200 <= status < 300:
            outcome.acknowledged += 1
            if now >= self.measure_ns:
                outcome.latencies_ns.append(now - connection.due_ns)
                self.last_ns = now
            if self.plan.marker and self.plan.marker in body:
                outcome.marked += 1
            if self.plan.collect:
                outcome.bodies.append(body)
        self._next(connection, now)

    def _next(self, connection: _Connection, now: int) -> None:
        if self.over or now >= self.end_ns:
            self._settle()
        elif self.plan.rate_per_s is None:
            self._send(connection, now)
        elif self.waiting:
            self._send(connection, self.waiting.popleft())
        else:
            self.idle.append(connection)

    def lost(self, connection: _Connection) -> None:
        if connection in self.idle:
            self.idle.remove(connection)
        if connection.awaiting:
            self.in_flight -= 1
            self.outcome.broken += 1
        if self.over or self.done.done():
            self._settle()
            return
        task = self.loop.create_task(self._replace())
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _replace(self) -> None:
        try:
            await self._connect()
        except OSError as error:
            self.fail(error)
            return
        self._next(self.idle.pop(), time.perf_counter_ns())

    def fail(self, error: Exception) -> None:
        self.over = True
        if not self.done.done():
            self.done.set_exception(error)

    def _finish(self) -> None:
        self.over = True
        self._settle()

    def _settle(self) -> None:
        if self.over and self.in_flight == 0 and not self.done.done():
            self.done.set_result(None)


def run(plan: Plan) -> Outcome:
    """Run `plan` in this process; `TimeoutError` when answers stay out for ten seconds after its end."""
    import uvloop

    async def main() -> Outcome:
        return await _Run(plan)()

    gc.collect()
    gc.disable()
    try:
        return uvloop.run(main())
    finally:
        gc.enable()


class LoadProcess:
    """A process that runs plans one after another, apart from whoever measures.

    `cores`: where it may run; empty leaves it to the system.
    """

    def __init__(self, cores: frozenset[int] = frozenset()) -> None:
        self._pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _settle_on, (cores,))

    def start(self, plan: Plan) -> Future[Outcome]:
        """Begin `plan` and return at once."""
        return self._pool.submit(run, plan)

    def run(self, plan: Plan) -> Outcome:
        """Run `plan` to its end."""
        return self.start(plan).result(plan.warmup_s + plan.duration_s + 3 * GRACE_S)

    def __enter__(self) -> Self:
        self._pool.submit(math.sqrt, 1).result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)


def _settle_on(cores: frozenset[int]) -> None:
    if cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
