"""A real Redis and a real PostgreSQL as child processes, for `make run` and for the tests.

    with LocalServers.start(Path(".knudge")) as servers:
        servers.redis_url, servers.database_url, servers.server_key

Both keep their data, their logs and their passwords under one folder, listen on free ports of 127.0.0.1 that stay the same
across a restart, and end with this process however it ends. Several may run at once, each over a folder of its own.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from functions.local.binaries import Choice, LocalServerError, choice_from, find_redis
from functions.local.guard import Guard
from functions.local.postgres_server import PostgresServer
from functions.local.redis_server import RedisServer

SECRETS_FILE = "secrets.json"
LOCK_FILE = "servers.lock"
SECRET_BYTES = 32


class Secrets(NamedTuple):
    """What the servers and the functions of one data folder share; hexadecimal."""

    server_key: str
    redis_password: str
    postgres_password: str


class LocalServers:
    """The two servers over one data folder."""

    def __init__(self, secrets_: Secrets, guard: Guard, redis: RedisServer, postgres: PostgresServer) -> None:
        """Hold servers that run; `start` makes them."""
        self.redis = redis
        self.postgres = postgres
        self.guard = guard
        self.server_key = secrets_.server_key
        self._closing = contextlib.ExitStack()

    @classmethod
    def start(cls, data: Path, *, choice: Choice | None = None, environ: Mapping[str, str] = os.environ) -> Self:
        """Start both over the folder `data` and return when both answer.

        `choice`: `path` for the servers of the machine, `wheel` for those in the wheels, `auto` for the first that is
        there; by default what `KNUDGE_SERVERS` in `environ` says. Raises `LocalServerError`.
        """
        chosen = choice or choice_from(environ)
        data = data.absolute()
        data.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as opened:
            opened.callback(os.close, _lock(data / LOCK_FILE))
            guard = opened.enter_context(Guard())
            kept = read_or_make_secrets(data)
            postgres = PostgresServer(chosen, data / "postgres", kept.postgres_password, guard)
            opened.callback(postgres.close)
            redis = RedisServer(find_redis(chosen), data / "redis", kept.redis_password, guard)
            opened.callback(redis.close)
            redis.launch()
            postgres.launch()
            redis.wait_ready()
            postgres.wait_ready()
            servers = cls(kept, guard, redis, postgres)
            servers._closing = opened.pop_all()
        return servers

    @property
    def redis_url(self) -> str:
        """`redis://…` with the password."""
        return self.redis.url

    @property
    def database_url(self) -> str:
        """`postgresql://…` with the password."""
        return self.postgres.url

    def stop(self) -> None:
        """Stop Redis, then PostgreSQL; a second call does nothing."""
        self._closing.close()

    def __enter__(self) -> Self:
        """Return the running servers."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop both."""
        self.stop()


def read_or_make_secrets(data: Path) -> Secrets:
    """Read the secrets of a data folder, which only their owner may read; make them where there are none."""
    path = data / SECRETS_FILE
    try:
        return Secrets(**json.loads(path.read_text()))
    except FileNotFoundError:
        pass
    except (ValueError, TypeError) as error:
        raise LocalServerError(f"{path} is damaged; delete {data} to start anew") from error
    except PermissionError as error:
        raise LocalServerError(f"{path} belongs to another account; run as that user, or delete {data}") from error
    if (data / "postgres").exists():
        raise LocalServerError(
            f"{path} is missing, and {data / 'postgres'} needs its password; delete {data} to start anew"
        )
    made = Secrets(*(secrets.token_hex(SECRET_BYTES) for _ in Secrets._fields))
    unfinished = path.with_suffix(".unfinished")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(made._asdict(), file, indent=2)
    unfinished.rename(path)
    return made


def _lock(path: Path) -> int:
    """Take the lock of a data folder and return its descriptor; closing it gives the lock back."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except PermissionError as error:
        raise LocalServerError(f"{path} belongs to another account; run as that user") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        owner = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        raise LocalServerError(f"the servers of {path.parent} already run, started by process {owner}") from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    return descriptor
