"""One server as a child process: started in a session of its own, logged to a file, guarded, stopped in steps.

A session of its own keeps Ctrl-C in the terminal from reaching the server before the functions have flushed. What a crashed
runner left running on the same data is found by its pid file and stopped before a new server starts.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from functions.local.binaries import LocalServerError
from functions.local.guard import Guard

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0
POLL_S = 0.005
PROCESSES = Path("/proc")
LOG_LIMIT = 5_000_000
LOG_TAIL = 1_500
# What would lead a server of ours to somebody else's data, or change the language of its messages.
UNWANTED = ("PG", "REDISCLI_", "LC_", "LANG")


class ServerProcess:
    """A child process with a log; at most one at a time."""

    def __init__(self, name: str, log: Path, guard: Guard, stop_signals: Sequence[signal.Signals]) -> None:
        """Prepare; nothing starts yet.

        `stop_signals`: sent one after the other, each given ten seconds; SIGKILL follows.
        """
        self.name = name
        self._log = log
        self._guard = guard
        self._stop_signals = stop_signals
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process id, or None while nothing runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    def is_running(self) -> bool:
        """Whether the process is there."""
        return self.pid is not None

    def spawn(
        self,
        command: Sequence[str | Path],
        folder: Path,
        *,
        stdin: bytes = b"",
        environment: Mapping[str, str] | None = None,
    ) -> int:
        """Start `command` with `folder` as its working folder and return its process id.

        `environment`: instead of this process's own without what would change a server's behaviour.
        """
        with _log_file(self._log) as log:
            process = subprocess.Popen(
                command,
                cwd=folder,
                env=server_environment(os.environ) if environment is None else environment,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._process = process
        self._guard.watch(process.pid, self._stop_signals[0])
        if process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(stdin)
                process.stdin.close()
        return process.pid

    def wait_until(self, is_ready: Callable[[], bool]) -> None:
        """Return once `is_ready`; raise `LocalServerError` with the end of the log when the process ends or hangs."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while not is_ready():
            if not self.is_running:
                raise LocalServerError(f"{self.name} ended while it started:\n{self.log_tail()}")
            if time.monotonic() > deadline:
                self.stop()
                raise LocalServerError(f"{self.name} did not get ready in {START_TIMEOUT_S:g} s:\n{self.log_tail()}")
            time.sleep(POLL_S)

    def take_exit_code(self) -> int | None:
        """Return the exit code of a process that has ended by itself, once; None while it runs and afterwards."""
        if self._process is None or (code := self._process.poll()) is None:
            return None
        self._guard.forget(self._process.pid)
        self._process = None
        return code

    def stop(self) -> None:
        """Ask the process to end, then insist; return when it has ended."""
        for stop_signal in self._stop_signals:
            if self.signal(stop_signal, STOP_TIMEOUT_S):
                return
        self.signal(signal.SIGKILL, STOP_TIMEOUT_S)

    def signal(self, number: signal.Signals, timeout_s: float) -> bool:
        """Send a signal and say whether the process has ended within `timeout_s`."""
        if self._process is None:
            return True
        self._process.send_signal(number)
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        self._guard.forget(self._process.pid)
        self._process = None
        return True

    def log_tail(self) -> str:
        """Return the end of the log."""
        try:
            return self._log.read_bytes()[-LOG_TAIL:].decode(errors="replace").strip()
        except OSError:
            return "(no log)"


def server_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without what would change a server's behaviour."""
    kept = {name: value for name, value in environ.items() if not name.startswith(UNWANTED)}
    return kept | {"LC_ALL": "C"}


def stop_left_over(name: str, pid_file: Path, folder: Path, stop_signal: signal.Signals) -> None:
    """Stop what a crashed runner left running in `folder`, and remove a pid file that names a stranger.

    Call it while holding the data's lock: then whatever still runs there has lost its runner. A pid file that names
    nobody stays: by it PostgreSQL finds out whether anything of an earlier server is still attached.
    """
    try:
        pid = int(pid_file.read_text().split()[0])
    except (FileNotFoundError, ValueError, IndexError):
        return
    left = _working_in(folder, pid)
    if pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, stop_signal)
    # Without their main process, the others of a PostgreSQL end by themselves.
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while left and time.monotonic() < deadline:
        time.sleep(POLL_S)
        left = _working_in(folder, pid)
    if left:
        named = " ".join(str(each) for each in left)
        raise LocalServerError(
            f"{name} still runs on {folder}, left by a runner that died, and does not stop; "
            f"end it with `kill {named}` and start again"
        )
    with contextlib.suppress(FileNotFoundError):
        if _is_alive(pid):
            pid_file.unlink()


def _working_in(folder: Path, pid: int) -> list[int]:
    """Return the processes whose working folder is `folder`, as both servers have it; without /proc only `pid` is looked at."""
    if PROCESSES.is_dir():
        wanted, found = folder.resolve(), []
        for each in PROCESSES.glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (each / "cwd").readlink() == wanted:
                    found.append(int(each.name))
        return found
    listing = subprocess.run(["/bin/ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return [pid] if str(folder) in listing.stdout or "redis-server" in listing.stdout else []


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _log_file(path: Path) -> BinaryIO:
    """Open a log for appending; a long one starts anew."""
    is_long = path.exists() and path.stat().st_size > LOG_LIMIT
    return path.open("wb" if is_long else "ab")
