"""Server processes of the bench: started on free ports and given cores, timed, weighed, stopped.

Nothing here knows what a server does; `baselines` and `stage` name the commands.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.performance.http1 import LOOPBACK, AnswerError, AnswerParser

ROOT = Path(__file__).resolve().parents[2]
POLL_S = 0.001
STOP_S = 20.0


class ServerFailedError(Exception):
    """The server ended, or did not answer in time."""


@dataclass(frozen=True, slots=True)
class Command:
    """How to start a server: `{port}` in an argument is replaced, and `$PORT` is set."""

    name: str
    arguments: tuple[str, ...]
    environ: Mapping[str, str]
    probe: bytes


@dataclass(slots=True)
class Server:
    """A running server; `ready_s` is the time from its start to the first 2xx of its probe."""

    name: str
    port: int
    process: subprocess.Popen[bytes]
    log: Path
    started_ns: int
    ready_s: float = 0.0

    def stop(self) -> None:
        """Ask it to end, and make it end."""
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def rss_mb(self) -> float | None:
        """Return the resident MB (10^6 bytes) of the process and its children; None without /proc."""
        kilobytes = [_resident_kb(pid) for pid in _family(self.process.pid)]
        return round(sum(kilobytes) * 1024 / 1e6, 1) if any(kilobytes) else None


def cores() -> tuple[frozenset[int], frozenset[int]]:
    """Return the measured server's core and the cores of all else; both empty where they cannot be apart."""
    if not hasattr(os, "sched_getaffinity"):
        return frozenset(), frozenset()
    available = sorted(os.sched_getaffinity(0))
    if len(available) < 2:
        return frozenset(), frozenset()
    return frozenset(available[:1]), frozenset(available[1:])


def free_port() -> int:
    """Return a port of loopback that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def start(command: Command, directory: Path, on: frozenset[int], timeout_s: float = 60.0) -> Server:
    """Start `command` on the cores `on`, return once its probe gets a 2xx; else `ServerFailedError`."""
    port = free_port()
    log = directory / f"{command.name}.log"
    environ = {**os.environ, **command.environ, "PORT": str(port)}
    arguments = [argument.replace("{port}", str(port)) for argument in command.arguments]
    with log.open("ab") as output, _standing_on(on):
        started_ns = time.perf_counter_ns()
        process = subprocess.Popen(
            arguments, cwd=ROOT, env=environ, stdout=output, stderr=output, start_new_session=True
        )
    server = Server(command.name, port, process, log, started_ns)
    try:
        wait_for_answer(server, command.probe, timeout_s)
    except ServerFailedError:
        server.stop()
        raise
    server.ready_s = (time.perf_counter_ns() - started_ns) / 1e9
    return server


def wait_for_answer(server: Server, request: bytes, timeout_s: float) -> bytes:
    """Send `request` until it is answered with a 2xx and return that body."""
    deadline = time.monotonic() + timeout_s
    last = "no answer"
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            break
        try:
            status, body = ask(server.port, request)
        except (OSError, AnswerError) as error:
            last = repr(error)
        else:
            if 200 <= status < 300:
                return body
            last = f"{status} {body[:300]!r}"
        time.sleep(POLL_S)
    tail = server.log.read_text(errors="replace")[-2000:]
    raise ServerFailedError(f"{server.name}: {last}\n{tail}")


def ask(port: int, request: bytes, timeout_s: float = 30.0) -> tuple[int, bytes]:
    """Send one request on a connection of its own, return `(status, body)`; `OSError` when nobody answers."""
    parser = AnswerParser()
    with socket.create_connection((LOOPBACK, port), timeout_s) as connection:
        connection.sendall(request)
        while True:
            data = connection.recv(65536)
            if not data:
                raise ConnectionResetError
            answers = parser.feed(data)
            if answers:
                return answers[0]


def python(*arguments: str) -> tuple[str, ...]:
    """Return a command that runs the same interpreter."""
    return (sys.executable, *arguments)


def run_once(arguments: Sequence[str], environ: Mapping[str, str]) -> None:
    """Run a command of the project to its end; `CalledProcessError` when it fails."""
    subprocess.run(arguments, cwd=ROOT, env={**os.environ, **environ}, check=True)


@contextlib.contextmanager
def _standing_on(on: frozenset[int]) -> Iterator[None]:
    """Children inherit the cores of the thread that starts them, from their first instruction on."""
    if not on:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, on)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _family(pid: int) -> list[int]:
    members = [pid]
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                members += _family(int(child))
    return members


def _resident_kb(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
    return 0
