"""A real Redis for one machine: append-only file, `noeviction`, a password, one port for as long as the object lives.

It speaks just enough of the protocol to ask for readiness and to empty the server; everything else is its users' business.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
from pathlib import Path

from functions.local.binaries import LocalServerError, RedisProgram
from functions.local.guard import Guard
from functions.local.ports import ReservedPort
from functions.local.server_process import ServerProcess, stop_left_over

PID_FILE = "redis.pid"
# Redis 7 and later keep the append-only file in a folder, which older ones do not read.
NEWER_LAYOUT, NEWER_LAYOUT_SINCE = "appendonlydir", (7, 0)
ANSWER_TIMEOUT_S = 5.0


class RedisServer:
    """One `redis-server` over one folder."""

    def __init__(self, program: RedisProgram, folder: Path, password: str, guard: Guard) -> None:
        """Reserve a port; `launch` starts the server."""
        self.folder = folder.absolute()
        self._program = program
        self._password = password
        self._port = ReservedPort()
        self._process = ServerProcess(
            "Redis", self.folder.with_name(self.folder.name + ".log"), guard, (signal.SIGTERM,)
        )

    @property
    def port(self) -> int:
        """The TCP port on 127.0.0.1; the same across restarts."""
        return self._port.number

    @property
    def url(self) -> str:
        """`redis://…` with the password."""
        return f"redis://:{self._password}@127.0.0.1:{self.port}/0"

    @property
    def is_running(self) -> bool:
        """Whether the process is there."""
        return self._process.is_running

    def launch(self) -> None:
        """Start the process without waiting for it."""
        if self.is_running:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        if (self.folder / NEWER_LAYOUT).exists() and self._program.version < NEWER_LAYOUT_SINCE:
            version = ".".join(str(part) for part in self._program.version)
            raise LocalServerError(f"{self.folder} was written by Redis 7 or newer, which Redis {version} cannot read")
        stop_left_over("Redis", self.folder / PID_FILE, self.folder, signal.SIGTERM)
        self._process.spawn([self._program.path, "-"], self.folder, stdin=self._configuration().encode())

    def wait_ready(self) -> None:
        """Return when the server answers commands."""
        self._process.wait_until(lambda: self._ask("PING").startswith(b"+PONG"))

    def start(self) -> None:
        """Start the server and wait until it answers."""
        self.launch()
        self.wait_ready()

    def stop(self) -> None:
        """Stop the server in order: what it acknowledged is on disk."""
        self._process.stop()

    def kill(self) -> None:
        """SIGKILL: what the operating system has not been given is lost."""
        self._process.signal(signal.SIGKILL, ANSWER_TIMEOUT_S)

    def restart(self) -> None:
        """Stop, if it runs, and start again on the same port and data."""
        self.stop()
        self.start()

    def wipe(self) -> None:
        """Make the server empty: FLUSHALL while it runs, else its files are deleted."""
        if self.is_running:
            answer = self._ask("FLUSHALL")
            if not answer.startswith(b"+OK"):
                raise LocalServerError(f"Redis was not emptied: {answer!r}")
            return
        shutil.rmtree(self.folder, ignore_errors=True)

    def close(self) -> None:
        """Stop for good and give the port back."""
        self.stop()
        self._port.release()

    def _configuration(self) -> str:
        return "\n".join(
            [
                "bind 127.0.0.1",
                f"port {self.port}",
                f"requirepass {self._password}",
                "dir ./",
                f"pidfile {PID_FILE}",
                "appendonly yes",
                "appendfsync everysec",
                'save ""',
                "maxmemory-policy noeviction",
                "daemonize no",
                "",
            ]
        )

    def _ask(self, command: str) -> bytes:
        """Send one inline command after the password; an answer, or nothing while the server is not up."""
        answer = b""
        try:
            connection = socket.create_connection(("127.0.0.1", self.port), timeout=ANSWER_TIMEOUT_S)
        except OSError:
            return b""
        with contextlib.suppress(OSError), connection, connection.makefile("rb") as lines:
            for line in (f"AUTH {self._password}", command):
                connection.sendall(f"{line}\r\n".encode())
                answer = lines.readline()
        return answer
