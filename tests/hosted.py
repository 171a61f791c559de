"""Functions as processes of their own, as they run in production, to be killed at will."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from functions.local.servers import LocalServers

ROOT = Path(__file__).resolve().parents[1]
START_S = 20.0


CROWDED = 3.0
"""Load per core from which on others keep the machine so busy that speed says nothing about a function."""


def crowded() -> bool:
    """Tell whether others keep this machine so busy that how long something takes proves nothing."""
    return os.getloadavg()[0] >= CROWDED * (os.cpu_count() or 1)


def free_port() -> int:
    """Return a port that nobody listens on just now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


class Hosted:
    """One function in a process; `module`, or `code` that is handed the function's name, replaces the production entry point."""

    def __init__(
        self,
        name: str,
        servers: LocalServers,
        *,
        port: int | None = None,
        module: tuple[str, ...] = ("shared.edge.hosting",),
        code: str | None = None,
        environment: dict[str, str] | None = None,
        wait: bool = True,
    ) -> None:
        """Start it and, unless the caller does, wait until it is ready (or, with another module, until it has ended)."""
        self.name = name
        self.port = port or free_port()
        self._environment = {
            "PATH": os.environ["PATH"],
            "KNUDGE_REDIS_URL": servers.redis_url,
            "KNUDGE_DATABASE_URL": servers.database_url,
            "KNUDGE_SERVER_KEY": servers.server_key,
            "KNUDGE_METRICS_PORT": "0",
            "KNUDGE_JOURNAL_WAIT_MS": "500",  # a store that fails makes an answer degraded, not a busy machine
            "KNUDGE_LOG_LEVEL": "warning",
            "PORT": str(self.port),
            **{name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")},
            **(environment or {}),
        }
        entry = ["-m", *module] if code is None else ["-c", code]
        self._command = [sys.executable, *entry, name]
        self.process = self._start() if wait else self._spawn()

    def _spawn(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self._command, cwd=ROOT, env=self._environment, stdout=subprocess.DEVNULL)

    def _start(self) -> subprocess.Popen[bytes]:
        process = self._spawn()
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and process.poll() is None:
            try:
                if self.request("GET", "/health/ready")[0] == 200:
                    return process
            except OSError:
                time.sleep(0.005)
        process.kill()
        process.wait()
        raise AssertionError(f"{self.name} did not get ready")

    def request(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
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

    def event(self, event_type: str, data: Any, event_id: str = "1") -> int:
        """Send a CloudEvent; return the status."""
        headers = {"ce-specversion": "1.0", "ce-id": event_id, "ce-source": "tests", "ce-type": event_type}
        return self.request("POST", "/", data, headers)[0]

    def kill(self) -> None:
        """End it by SIGKILL."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """End it by SIGTERM; return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=40)

    def restart(self) -> None:
        """Start it again after it has ended."""
        self.process = self._start()

    def __enter__(self) -> Self:
        """Use it as a context."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it whatever happens."""
        if self.process.poll() is None:
            self.kill()
