"""A function that is restarted again and again under load, behind queues as Knative has them.

Two lanes of pods take the load in turn, as an activator spreads it. In each lane, again and again: a new pod starts, its
queue probes it until it is ready, it joins; the old one is deleted, of which the activator learns a moment later; its queue
drains, the function is told to end, and the queue ends.
"""

from __future__ import annotations

import asyncio
import itertools
import signal
from collections.abc import Callable, Iterator
from typing import Any, Protocol, Self

from functions.local.servers import LocalServers
from tests.hosted import Hosted
from tests.performance.client import Client

LANES = 2
QUIET_S = 0.6
"""In place of Knative's 30 s: longer than it takes until the activator knows that a pod is going."""
LEARNS_AFTER_S = 0.25
"""How long the activator still sends requests to a pod that is to end."""
END_S = 40.0
MOST_UNANSWERED = 300
"""How many requests may be unanswered before further ones are held back: a machine that is too slow is not buried."""
PROBES_EVERY_S = 0.05


class Queue(Protocol):
    """What stands in front of a function; `tests.queue_proxy.QueueProxy` is one."""

    port: int

    async def start(self) -> None:
        """Listen."""

    async def wait_ready(self) -> None:
        """Return once the function behind it is ready."""

    async def probe(self) -> bool:
        """Tell whether the function says within the limit that it is ready."""

    async def drain(self) -> None:
        """Return when nothing has come for the quiet period."""

    async def stop(self) -> None:
        """End after the answers under way."""


class Pod:
    """A function process, its queue, and the connections that the activator keeps to it."""

    def __init__(self, process: Hosted, queue: Queue) -> None:
        """Put a process and its queue together."""
        self.process = process
        self.queue = queue
        self._kept: list[Client] = []

    @classmethod
    async def start(cls, process: Callable[[], Hosted], queue: Callable[[int], Queue]) -> Self:
        """Start both; return once the function is ready."""
        started = await asyncio.to_thread(process)
        pod = cls(started, queue(started.port))
        try:
            await pod.queue.start()
            await pod.queue.wait_ready()
        except BaseException:
            started.kill()
            raise
        return pod

    async def send(self, request: bytes) -> tuple[int, bytes]:
        """Send a request through the queue."""
        client = self._kept.pop() if self._kept else await Client.connect(self.queue.port)
        answer = await client.send(request)
        self._kept.append(client)
        return answer

    async def end(self) -> int:
        """Drain, end, and return the exit code of the function."""
        await self.queue.drain()
        self.process.process.send_signal(signal.SIGTERM)
        await self.queue.stop()
        for client in self._kept:
            client.close()
        return await asyncio.to_thread(self.process.process.wait, END_S)


class Restarts:
    """The whole play, and what came of it."""

    def __init__(
        self, name: str, servers: LocalServers, queue: Callable[[int], Queue], environment: dict[str, str] | None = None
    ) -> None:
        """Restart the function `name` behind queues of this kind."""
        self.answers: list[tuple[int, bytes]] = []
        self.faults: list[str] = []
        self.latencies_s: list[float] = []
        self.exit_codes: list[int] = []
        self.probes_in_a_row_failed = 0
        self.probes = 0
        self.sent = 0
        self.held_back_s = 0.0
        self.took_s = 0.0
        self._name = name
        self._servers = servers
        self._queue = queue
        self._environment = environment or {}
        self._ready: list[Pod] = []
        self._all: list[Pod] = []
        self._turns = itertools.count()

    async def play(self, requests: Iterator[bytes], per_s: float, restarts: int) -> None:
        """Send the requests at this rate, whether answered or not, until all restarts are done."""
        try:
            self._ready = list(await asyncio.gather(*(self._pod() for _ in range(LANES))))
            done = asyncio.Event()
            load = asyncio.create_task(self._load(requests, per_s, done))
            probing = asyncio.create_task(self._probe(done))
            share, rest = divmod(restarts, LANES)
            await asyncio.gather(*(self._lane(at, share + (at < rest)) for at in range(LANES)))
            done.set()
            await asyncio.gather(load, probing)
            self.exit_codes += await asyncio.gather(*(pod.end() for pod in self._ready))
        finally:
            for pod in self._all:
                if pod.process.process.poll() is None:
                    pod.process.kill()

    async def _pod(self) -> Pod:
        def process() -> Hosted:
            return Hosted(self._name, self._servers, environment=self._environment, wait=False)

        pod = await Pod.start(process, self._queue)
        self._all.append(pod)
        return pod

    async def _lane(self, at: int, restarts: int) -> None:
        for _ in range(restarts):
            old, new = self._ready[at], await self._pod()
            ending = asyncio.create_task(old.end())  # it drains from the moment that it is deleted
            await asyncio.sleep(LEARNS_AFTER_S)
            self._ready[at] = new
            self.exit_codes.append(await ending)

    async def _load(self, requests: Iterator[bytes], per_s: float, done: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        began = due = loop.time()
        sending: set[asyncio.Task[None]] = set()
        while not done.is_set():
            due += 1 / per_s
            if len(sending) >= MOST_UNANSWERED:
                held = loop.time()
                await asyncio.wait(sending, return_when=asyncio.FIRST_COMPLETED)
                self.held_back_s += loop.time() - held
                due = loop.time()
            elif due > loop.time():
                await asyncio.sleep(due - loop.time())
            self.sent += 1
            task = loop.create_task(self._ask(next(requests), due))
            sending.add(task)
            task.add_done_callback(sending.discard)
        self.took_s = loop.time() - began
        if sending:
            await asyncio.wait(sending)

    async def _ask(self, request: bytes, due: float) -> None:
        pod = self._ready[next(self._turns) % LANES]
        try:
            answer = await pod.send(request)
        except Exception as error:
            self.faults.append(repr(error))
        else:
            self.answers.append(answer)
            self.latencies_s.append(asyncio.get_running_loop().time() - due)

    async def _probe(self, done: asyncio.Event) -> None:
        """Probe one of the ready pods after the other, and note how often in a row they were not ready in time."""
        in_a_row = 0
        while not done.is_set():
            self.probes += 1
            in_a_row = 0 if await self._ready[self.probes % LANES].queue.probe() else in_a_row + 1
            self.probes_in_a_row_failed = max(self.probes_in_a_row_failed, in_a_row)
            await asyncio.sleep(PROBES_EVERY_S)

    def summary(self) -> dict[str, Any]:
        """Return the figures."""
        ordered = sorted(self.latencies_s)
        return {
            "sent": self.sent,
            "answered_2xx": sum(200 <= status < 300 for status, _ in self.answers),
            "p50_ms": round(ordered[len(ordered) // 2] * 1000, 1),
            "p99_ms": round(ordered[int(len(ordered) * 0.99)] * 1000, 1),
            "slowest_ms": round(ordered[-1] * 1000, 1),
            "per_s": round(self.sent / self.took_s, 1),
            "held_back_s": round(self.held_back_s, 1),
            "restarts": len(self.exit_codes) - LANES,
            "probes": self.probes,
            "probes_in_a_row_failed": self.probes_in_a_row_failed,
        }
