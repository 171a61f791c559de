"""The local JobSink: one process for each event, repeated as the Job says, bounded, and ended with the run."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from functions.local.guard import Guard
from functions.local.job_sink import CAPACITY, JobSink
from functions.local.triggers import JobPlan
from shared.edge.http import WholeRequest

TYPE = "dev.knudge.training.requested.v1"
# Notes the event, when it began and whether it was told to end, then ends with the code that the event's data asks for.
SCRIPT = """
import json, os, pathlib, signal, sys, time
event = json.loads((pathlib.Path(os.environ["K_EVENT_PATH"]) / "event").read_text())
log = pathlib.Path(os.environ["NOTES"])
def note(what):
    with log.open("a") as file: file.write(json.dumps([event["id"], what, time.monotonic()]) + "\\n")
def told(*_):
    note("told"); sys.exit(1)
signal.signal(signal.SIGTERM, told)
note("began")
data = event["data"]
time.sleep(data.get("sleep", 0))
note("ended")
codes = data["codes"]
begun = sum(json.loads(line)[:2] == [event["id"], "began"] for line in log.read_text().splitlines())
sys.exit(codes[min(begun, len(codes)) - 1])
"""


class On:
    """A JobSink and what its processes noted."""

    def __init__(self, sink: JobSink, notes: Path) -> None:
        """Look at a JobSink that has started."""
        self.sink = sink
        self._notes = notes

    async def post(self, event_id: str, source: str = "/tests", **data: Any) -> int:
        """Send an event; return the status."""
        headers = {"ce-specversion": "1.0", "ce-id": event_id, "ce-source": source, "ce-type": TYPE}
        headers["content-type"] = "application/json"
        given = [(name.encode(), value.encode()) for name, value in headers.items()]
        body = json.dumps({"codes": [0]} | data).encode()
        scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": given}
        return (await self.sink.answer(WholeRequest(scope, body, keep_alive=False))).status

    def noted(self) -> list[tuple[str, str]]:
        """Return what was noted, in order, as (event, what)."""
        lines = self._notes.read_text().splitlines() if self._notes.exists() else []
        return [(event, what) for event, what, _ in map(json.loads, lines)]

    def folders(self) -> list[str]:
        """Return the folders that look like events' own."""
        return [each.name for each in self._notes.parent.glob("job-*")]

    async def until(self, state: str, count: int = 1) -> None:
        """Return once so many Jobs are in a state."""
        async with asyncio.timeout(20):
            while self.sink.counts[state] < count:  # noqa: ASYNC110 - a counter, as the index shows it
                await asyncio.sleep(0.01)


@asynccontextmanager
async def job_sink(folder: Path, *, deadline_s: float = 60.0) -> AsyncIterator[On]:
    """Run a JobSink whose processes are `SCRIPT`."""
    plan = JobPlan("job", ("python", "-c", SCRIPT), {"NOTES": str(folder / "notes")}, 2, deadline_s, frozenset({2}))
    with Guard() as guard:
        sink = JobSink(plan, folder, folder, guard, {"PATH": "/usr/bin:/bin"}, first_pause_s=0.2)
        sink.start()
        try:
            yield On(sink, folder / "notes")
        finally:
            await sink.stop()


def test_events_become_processes_one_at_a_time(tmp_path: Path) -> None:
    """Each event has one process, in the order of arrival, with the event as a file; nothing of it stays."""

    async def main() -> None:
        async with job_sink(tmp_path) as on:
            for name in ("a", "b", "c"):
                assert await on.post(name, sleep=0.1) == 202
            await on.until("done", 3)
            assert on.noted() == [(name, what) for name in ("a", "b", "c") for what in ("began", "ended")]
            assert on.folders() == []

    asyncio.run(main())


def test_the_same_event_starts_nothing_while_its_job_is_there(tmp_path: Path) -> None:
    """A repeat is taken and starts nothing; after the Job's end it starts another, and another source's always does."""

    async def main() -> None:
        async with job_sink(tmp_path) as on:
            for _ in range(3):
                assert await on.post("a", sleep=0.3) == 202
            assert await on.post("a", source="/else") == 202
            await on.until("done", 2)
            assert on.sink.counts["duplicates"] == 2
            assert await on.post("a") == 202
            await on.until("done", 3)
            assert len(on.noted()) == 6

    asyncio.run(main())


def test_a_failed_one_is_followed_by_others(tmp_path: Path) -> None:
    """Exit code 1 is tried again after a pause that doubles, as often as the Job says, and no more."""

    async def main() -> None:
        async with job_sink(tmp_path) as on:
            began = time.monotonic()
            await on.post("mends", codes=[1, 1, 0])
            await on.until("done")
            assert time.monotonic() - began >= 0.2 + 0.4
            await on.post("never", codes=[1])
            await on.until("failed")
            assert on.noted().count(("mends", "began")) == 3
            assert on.noted().count(("never", "began")) == 3

    asyncio.run(main())


def test_a_final_code_is_not_tried_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An exit code that the Job's policy names ends it, and is logged with the event's identity."""

    async def main() -> None:
        async with job_sink(tmp_path) as on:
            await on.post("poison", codes=[2])
            await on.until("failed")
            assert on.noted().count(("poison", "began")) == 1

    asyncio.run(main())
    [line] = [each for each in caplog.records if each.levelname == "ERROR"]
    assert "exit code 2" in line.message
    assert line.__dict__["knudge"]["id"] == "poison"


def test_one_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    """Beyond the Job's deadline the process is told to end, and the next event has its turn."""

    async def main() -> None:
        async with job_sink(tmp_path, deadline_s=0.8) as on:
            await on.post("slow", sleep=30)
            await on.post("next")
            await on.until("failed")
            await on.until("done")
            assert on.noted()[1:] == [("slow", "told"), ("next", "began"), ("next", "ended")]

    asyncio.run(main())


def test_what_cannot_start_fails_and_the_next_has_its_turn(tmp_path: Path) -> None:
    """A program that is not there fails the Job, not the run."""

    async def main() -> None:
        with Guard() as guard:
            plan = JobPlan("job", ("no-such-program",), {}, 0, 60.0, frozenset())
            sink = JobSink(plan, tmp_path, tmp_path, guard, {})
            sink.start()
            on = On(sink, tmp_path / "notes")
            for name in ("a", "b"):
                assert await on.post(name) == 202
            await on.until("failed", 2)
            await sink.stop()

    asyncio.run(main())


def test_stopping_ends_the_process_and_refuses(tmp_path: Path) -> None:
    """At the end of a run the process is told to end, what waits is given up, and events are refused with 503."""

    async def main() -> None:
        async with job_sink(tmp_path) as on:
            await on.post("a", sleep=30)
            await on.post("b")
            async with asyncio.timeout(20):
                while ("a", "began") not in on.noted():  # noqa: ASYNC110 - another process's file
                    await asyncio.sleep(0.01)
            began = time.monotonic()
            await on.sink.stop()
            assert time.monotonic() - began < 5
            assert on.noted() == [("a", "began"), ("a", "told")]
            assert await on.post("c") == 503

    asyncio.run(main())


def test_what_waits_is_bounded(tmp_path: Path) -> None:
    """More than a hundred waiting events are refused with 503; malformed and too large ones with 400 and 413."""

    async def main() -> None:
        async with job_sink(tmp_path) as on:
            statuses = [await on.post(str(number), sleep=30) for number in range(CAPACITY + 1)]
            assert statuses.count(503) == 1
            assert await on.post("large", codes=["x" * (1 << 20)]) == 413
            scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": []}
            assert (await on.sink.answer(WholeRequest(scope, b"{}", keep_alive=False))).status == 400

    asyncio.run(main())


def test_what_a_dead_runner_left_is_removed(tmp_path: Path) -> None:
    """The folder of an event outlives a runner that was killed, until the next one starts."""
    (tmp_path / "job-left").mkdir()
    (tmp_path / "job-left" / "event").write_text("{}")
    (tmp_path / "job-other").mkdir()

    async def main() -> None:
        async with job_sink(tmp_path) as on:
            assert on.folders() == ["job-other"]

    asyncio.run(main())


def test_python_is_the_one_that_runs_the_run(tmp_path: Path) -> None:
    """The image's `python` is this machine's, with this checkout's packages."""

    async def main() -> None:
        with Guard() as guard:
            script = "import sys; print(sys.executable)"
            sink = JobSink(
                JobPlan("job", ("python", "-c", script), {}, 0, 60.0, frozenset()), tmp_path, tmp_path, guard, {}
            )
            sink.start()
            await On(sink, tmp_path / "notes").post("a")
            await On(sink, tmp_path / "notes").until("done")
            await sink.stop()

    asyncio.run(main())
    assert (tmp_path / "job.log").read_text().strip() == sys.executable
