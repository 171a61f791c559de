"""Runs a program in an unpacked image as a cluster does: process 1, any user id, no rights, read-only root, /tmp writable.

By bubblewrap: user, process, host and message namespaces of its own; the network is the machine's, so that it finds the
servers on loopback.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

NEEDED = ("bwrap", "setpriv")
START_S = 20.0
STOP_S = 40.0


def boxed(
    root: Path,
    settings: Mapping[str, Any],
    environment: Mapping[str, str],
    user: int,
    command: Sequence[str] = (),
    *,
    files: Mapping[str, Path] | None = None,
) -> list[str]:
    """Return the command that runs an image's entry point, or another `command`, as the user id `user`.

    `settings`: the image's own, whose environment `environment` adds to. `files`: what is mounted, by its path in the box below /tmp.
    """
    variables = dict(entry.split("=", 1) for entry in settings["Env"]) | dict(environment)
    mounted = [part for place, path in (files or {}).items() for part in ("--ro-bind", str(path), place)]
    given = [part for name, value in variables.items() for part in ("--setenv", name, value)]
    as_user = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"] if os.geteuid() == 0 else []
    identity = [] if as_user else ["--uid", str(user), "--gid", str(user)]
    return [
        *as_user, "bwrap", "--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", *identity, "--as-pid-1",
        "--die-with-parent", "--new-session", "--ro-bind", str(root), "/", "--proc", "/proc", "--dev", "/dev",
        "--tmpfs", "/tmp", *mounted, "--chdir",  # noqa: S108
        settings["WorkingDir"], "--clearenv", *given, "--",
        *(command or [*settings["Entrypoint"], *settings.get("Cmd", [])]),
    ]  # fmt: skip


class Boxed:
    """One function of the serving image, on a port of loopback."""

    def __init__(self, command: list[str], port: int, log: Path) -> None:
        """Start it; `command` from `boxed`."""
        self.port = port
        self._log = log
        reading, writing = os.pipe()
        at = command.index("bwrap") + 1
        with log.open("wb") as output:
            self.started_s = time.perf_counter()
            self.process = subprocess.Popen(
                [*command[:at], "--info-fd", str(writing), *command[at:]],
                stdout=output, stderr=subprocess.STDOUT, pass_fds=[writing],
            )  # fmt: skip
        os.close(writing)
        with os.fdopen(reading) as file:
            said = file.read()
        self._child: int | None = json.loads(said)["child-pid"] if said else None

    def wait_ready(self) -> float:
        """Return the seconds from its start until it answered that it is ready."""
        deadline = time.perf_counter() + START_S
        while time.perf_counter() < deadline and self.process.poll() is None:
            with contextlib.suppress(OSError):
                if self.request("GET", "/health/ready")[0] == 200:
                    return time.perf_counter() - self.started_s
            time.sleep(0.001)
        raise AssertionError(self._log.read_text())

    def cpu_s(self) -> float:
        """Return the seconds of processor time that the program has taken so far, its threads together."""
        tasks = Path(f"/proc/{self._child}/task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9

    def request(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any]:
        """Send one request on a connection of its own; return its status and decoded body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            content = None if body is None else json.dumps(body)
            connection.request(method, path, content, {"content-type": "application/json", **(headers or {})})
            answer = connection.getresponse()
            text = answer.read()
            return answer.status, json.loads(text) if text else None
        finally:
            connection.close()

    def lines(self) -> list[dict[str, Any]]:
        """Return its log, every line of which must be a JSON object."""
        return [json.loads(line) for line in self._log.read_text().splitlines()]

    def stop(self) -> int:
        """Send SIGTERM to process 1 of the box, as a kubelet does; return the exit status."""
        if self._child is not None and self.process.poll() is None:
            os.kill(self._child, signal.SIGTERM)
        return self.process.wait(STOP_S)

    def __enter__(self) -> Self:
        """Use it as a context."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it whatever happens."""
        if self.process.poll() is None:
            self.process.kill()  # the box dies with it
            self.process.wait()
