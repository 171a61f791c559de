"""A real PostgreSQL for one machine: its own data folder, a password, TCP on 127.0.0.1, one port while the object lives.

It promises a running server of the major version that wrote the data. Tables are the migrations' business.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from functions.local.account import Account, account_for
from functions.local.binaries import Choice, LocalServerError, find_postgres
from functions.local.guard import Guard
from functions.local.ports import ReservedPort
from functions.local.server_process import LOG_TAIL, ServerProcess, server_environment, stop_left_over

USER, DATABASE = "knudge", "postgres"
INITIALISATION_TIMEOUT_S = 60.0
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "shared_buffers": "128MB",
    "max_connections": "60",
    "synchronous_commit": "on",
    "jit": "off",
    "TimeZone": "UTC",
    "log_timezone": "UTC",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "cluster_name": "knudge",
}
# The line of postmaster.pid that holds the state, and the word for "takes connections".
STATE_LINE, READY = 7, "ready"


class PostgresServer:
    """One `postgres` over one folder."""

    def __init__(self, choice: Choice, folder: Path, password: str, guard: Guard) -> None:
        """Find the programs and reserve a port; `launch` starts the server.

        Raises `LocalServerError` when no server of the version that wrote the data is there.
        """
        self.folder = folder.absolute()
        self._password = password
        self._programs = find_postgres(choice, written_by(self.folder))
        self._account: Account | None = None
        self._port = ReservedPort()
        log = self.folder.with_name(self.folder.name + ".log")
        self._process = ServerProcess("PostgreSQL", log, guard, (signal.SIGINT, signal.SIGQUIT))

    @property
    def major(self) -> int:
        """The server's major version."""
        return self._programs.major

    @property
    def port(self) -> int:
        """The TCP port on 127.0.0.1; the same across restarts."""
        return self._port.number

    @property
    def url(self) -> str:
        """`postgresql://…` of the superuser, with the password."""
        return f"postgresql://{USER}:{self._password}@127.0.0.1:{self.port}/{DATABASE}"

    @property
    def is_running(self) -> bool:
        """Whether the process is there."""
        return self._process.is_running

    def launch(self) -> None:
        """Start the process, on a fresh folder after `initdb`, without waiting for it."""
        if self.is_running:
            return
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        if self._account is None:
            self._account = account_for(self.folder, self._programs.folder)
        if not self.folder.exists():
            self._initialise(self._account)
        stop_left_over("PostgreSQL", self.folder / "postmaster.pid", self.folder, signal.SIGINT)
        settings = SETTINGS | {"port": str(self.port)}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        self._process.spawn(
            [*self._account.prefix, self._programs.folder / "postgres", "-D", self.folder, *options], self.folder
        )

    def wait_ready(self) -> None:
        """Return when the server takes connections."""
        self._process.wait_until(self._is_ready)

    def start(self) -> None:
        """Start the server and wait until it takes connections."""
        self.launch()
        self.wait_ready()

    def stop(self) -> None:
        """Stop the server: open connections are ended, what was committed is on disk."""
        self._process.stop()

    def kill(self) -> None:
        """End every process of the server at once, as a crash does; the next start recovers from the log."""
        self._process.signal(signal.SIGQUIT, INITIALISATION_TIMEOUT_S)

    def restart(self) -> None:
        """Stop, if it runs, and start again on the same port and data."""
        self.stop()
        self.start()

    def close(self) -> None:
        """Stop for good and give the port back."""
        self.stop()
        self._port.release()

    def _is_ready(self) -> bool:
        # What pg_ctl does too: the server writes its state into its pid file.
        try:
            lines = (self.folder / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) > STATE_LINE and lines[0] == str(self._process.pid) and lines[STATE_LINE].strip() == READY

    def _initialise(self, account: Account) -> None:
        """Create the data folder; one that is half made never carries the final name."""
        unfinished = self.folder.with_name(self.folder.name + ".unfinished")
        password_file = self.folder.with_name(self.folder.name + ".password")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        account.own(unfinished)
        with contextlib.suppress(FileNotFoundError):
            password_file.unlink()
        with os.fdopen(os.open(password_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(self._password + "\n")
        try:
            account.own(password_file)
            self._run_initdb(account.prefix, unfinished, password_file)
        finally:
            password_file.unlink()
        unfinished.rename(self.folder)

    def _run_initdb(self, prefix: Sequence[str], folder: Path, password_file: Path) -> None:
        command: list[str | Path] = [
            *prefix, self._programs.folder / "initdb", "-D", folder, "-U", USER, f"--pwfile={password_file}",
            "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions",
        ]  # fmt: skip
        answer = subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=folder, start_new_session=True,
            timeout=INITIALISATION_TIMEOUT_S, env=server_environment(os.environ),
        )  # fmt: skip
        if answer.returncode:
            shutil.rmtree(folder, ignore_errors=True)
            raise LocalServerError(f"initdb failed:\n{(answer.stdout + answer.stderr)[-LOG_TAIL:].strip()}")


def written_by(folder: Path) -> int | None:
    """Return the major version that wrote the data in `folder`, or None for a folder that is not there yet."""
    if not folder.exists():
        return None
    try:
        return int((folder / "PG_VERSION").read_text().strip())
    except PermissionError as error:
        raise LocalServerError(
            f"{folder} belongs to another account: run as that user (or as root), or delete the folder"
        ) from error
    except (OSError, ValueError) as error:
        raise LocalServerError(f"{folder} holds no PostgreSQL data; delete the folder to start anew") from error
