"""A JobSink in memory: one process for each event, one after the other, as a cluster starts one Job for each.

Takes an event with 202 and leaves it, in structured mode, as the file `event` in the folder that the process finds in
`$K_EVENT_PATH`. The same event (source and id) again is taken and starts nothing for as long as its Job is there, which here
is until it ends. What fails is started again after a pause, as the Job says. What waits is lost when the runner ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from functions.local.guard import Guard
from functions.local.server_process import ServerProcess
from functions.local.triggers import JobPlan
from shared.edge.http import Disconnected, HttpRequest, Reply, read_body
from shared.edge.problems import problem_reply
from shared.errors import KnudgeError, Overloaded
from shared.events.envelopes import Event, header_text, read_event

CAPACITY = 100
# The event becomes a Secret, which holds no more.
BODY_LIMIT = 1 << 20
EVENT_FILE, EVENT_PATH = "event", "K_EVENT_PATH"
# Kubernetes' pause before a failed pod's first successor; it doubles each time.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 10.0, 360.0
POLL_S = 0.05
LOG = logging.getLogger("knudge.jobs")


class JobSink:
    """Starts processes by `plan`, in `root`, with `environment`; their output goes to a log in `data`."""

    def __init__(
        self,
        plan: JobPlan,
        root: Path,
        data: Path,
        guard: Guard,
        environment: Mapping[str, str],
        *,
        first_pause_s: float = FIRST_PAUSE_S,
    ) -> None:
        """Prepare; nothing starts before the first event."""
        self._plan = plan
        self._root = root
        self._data = data
        self._environment = {**environment, **plan.environment}
        self._first_pause_s = first_pause_s
        self._process = ServerProcess(plan.name, data / f"{plan.name}.log", guard, (signal.SIGTERM,))
        self._waiting: asyncio.Queue[Event] = asyncio.Queue(CAPACITY)
        self._known: set[tuple[str, str]] = set()
        self._working: asyncio.Task[None] | None = None
        self.counts: Counter[str] = Counter()

    def start(self) -> None:
        """Begin to start Jobs; what a runner that died has left of events is removed."""
        for left in self._data.glob(f"{self._plan.name}-*/{EVENT_FILE}"):
            shutil.rmtree(left.parent, ignore_errors=True)
        self._working = asyncio.create_task(self._work())

    async def stop(self) -> None:
        """Take nothing more, end the Job that runs, and give up those that wait."""
        if self._working is not None:
            self._working.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._working
            self._working = None
        await asyncio.to_thread(self._process.stop)
        if self._known:
            LOG.warning(
                "jobs are not done", extra={"knudge": {"job_sink": self._plan.name, "events": len(self._known)}}
            )

    async def answer(self, request: HttpRequest) -> Reply:
        """Take the event of a POST: 202 once its Job is there, 400 for a malformed one, 503 while there is no room."""
        headers = {name.decode("latin-1"): header_text(value) for name, value in request.scope["headers"]}
        try:
            event = read_event(headers, await read_body(request, BODY_LIMIT))
            self._take(event)
        except Disconnected:
            return Reply(400)
        except KnudgeError as error:
            return problem_reply(error, of_event=True)
        return Reply(202)

    def _take(self, event: Event) -> None:
        if _identity(event) in self._known:
            self.counts["duplicates"] += 1
            return
        if self._working is None or self._waiting.full():
            raise Overloaded("as many jobs wait as can, or the run is stopping")
        self._known.add(_identity(event))
        self._waiting.put_nowait(event)
        self.counts["taken"] += 1

    async def _work(self) -> None:
        while True:
            event = await self._waiting.get()
            try:
                failure = await self._play(event)
            except OSError as error:
                failure = str(error)
            self._known.discard(_identity(event))
            self.counts["done" if failure is None else "failed"] += 1
            if failure is not None:
                said = {name: event.attributes[name] for name in ("type", "source", "id")}
                LOG.error("a job failed: %s", failure, extra={"knudge": {"job_sink": self._plan.name, **said}})

    async def _play(self, event: Event) -> str | None:
        """Run the Job of an event to its end; return why it failed."""
        until = time.monotonic() + self._plan.deadline_s
        failures = 0
        with tempfile.TemporaryDirectory(prefix=f"{self._plan.name}-", dir=self._data) as folder:
            (Path(folder) / EVENT_FILE).write_bytes(event.structured())
            while True:
                code = await self._run(folder, until)
                if code == 0:
                    return None
                if code is None:
                    return f"not done after {self._plan.deadline_s:g} s"
                if code in self._plan.final_codes or failures >= self._plan.backoff_limit:
                    return f"exit code {code}, after {failures + 1} attempts"
                await asyncio.sleep(min(self._first_pause_s * 2.0**failures, LONGEST_PAUSE_S))
                failures += 1

    async def _run(self, folder: str, until: float) -> int | None:
        """Run the process once; return its exit code, None where the time was over."""
        program, *arguments = self._plan.command
        command = [sys.executable if program == "python" else program, *arguments]
        self._process.spawn(command, self._root, environment=self._environment | {EVENT_PATH: folder})
        while (code := self._process.take_exit_code()) is None:
            if time.monotonic() > until:
                await asyncio.to_thread(self._process.stop)
                return None
            await asyncio.sleep(POLL_S)
        return code


def _identity(event: Event) -> tuple[str, str]:
    return event.attributes["source"], event.attributes["id"]
