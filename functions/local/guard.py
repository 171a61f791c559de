"""Nothing that the local runner started outlives it, however it dies.

`Guard` starts this file as a small process of its own, which holds the reading end of a pipe. The runner tells it which
processes to watch; when the pipe closes because the runner is gone, the guard stops what is still watched. A parent-death
signal (`prctl`) would not do: it fires when the *thread* that started the server ends, is lost when the child changes its
account, and exists on Linux alone.

The guard imports the standard library only and runs isolated, so that it is up in some 20 ms. Who stops a process in the
ordinary way calls `forget` first.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
from typing import Self

GRACE_S = 10.0


class Guard:
    """The runner's side of the pipe; close it, or use it as a context manager, once everything watched has stopped."""

    def __init__(self) -> None:
        """Start the guarding process."""
        reading, self._writing = os.pipe()
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__],
            stdin=reading,
            stdout=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )
        os.close(reading)

    def watch(self, pid: int, stop_signal: int) -> None:
        """Have `pid` sent `stop_signal` when this process dies, and SIGKILL ten seconds later."""
        self._tell(f"watch {pid} {int(stop_signal)}\n")

    def forget(self, pid: int) -> None:
        """Leave `pid` alone from now on."""
        self._tell(f"forget {pid}\n")

    def close(self) -> None:
        """End the guarding process; whatever it still watches is stopped."""
        with self._lock:
            if self._writing < 0:
                return
            os.close(self._writing)
            self._writing = -1
        self._process.wait()

    def __enter__(self) -> Self:
        """Return the guard itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the guard."""
        self.close()

    def _tell(self, line: str) -> None:
        with self._lock:
            if self._writing >= 0:
                with contextlib.suppress(BrokenPipeError):
                    os.write(self._writing, line.encode())


class _Watched:
    """One process by a handle that a reused process id cannot fool (a pidfd, where there is one)."""

    def __init__(self, pid: int, stop_signal: int) -> None:
        self.pid = pid
        self.stop_signal = stop_signal
        self.handle = os.pidfd_open(pid) if hasattr(os, "pidfd_open") else -1

    def send(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if self.handle >= 0:
                signal.pidfd_send_signal(self.handle, number)
            else:
                os.kill(self.pid, number)

    def is_alive(self) -> bool:
        if self.handle >= 0:
            return not select.select([self.handle], [], [], 0)[0]
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        return True

    def close(self) -> None:
        if self.handle >= 0:
            os.close(self.handle)


def main() -> None:
    """Read orders until the pipe closes, then stop what is left."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    pid_to_watched: dict[int, _Watched] = {}
    for line in sys.stdin:
        order, pid, *rest = line.split()
        known = pid_to_watched.pop(int(pid), None)
        if known is not None:
            known.close()
        if order == "watch":
            with contextlib.suppress(ProcessLookupError):
                pid_to_watched[int(pid)] = _Watched(int(pid), int(rest[0]))
    left = [watched for watched in pid_to_watched.values() if watched.is_alive()]
    for watched in left:
        watched.send(watched.stop_signal)
    deadline = time.monotonic() + GRACE_S
    while left and time.monotonic() < deadline:
        time.sleep(0.02)
        left = [watched for watched in left if watched.is_alive()]
    for watched in left:
        watched.send(signal.SIGKILL)


if __name__ == "__main__":
    main()
