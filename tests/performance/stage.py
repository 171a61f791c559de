"""What the bench measures on: a fresh real Redis and PostgreSQL, and the functions as processes.

Events between functions go straight to their receiver: `learn` takes `learning.due` at `POST /`, so `K_SINK`
is its address (or that of `sink`, while `learn` must stand still). No broker is measured.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg
import redis

from functions.local.servers import LocalServers
from tests.performance.http1 import AnswerError, get, post, put
from tests.performance.processes import Command, Server, ask, cores, free_port, python, run_once, start

ARCHIVED = "SELECT count(*) FROM decisions WHERE policy = %s"
EXPOSED = "SELECT count(DISTINCT unit) FROM exposures WHERE experiment = %s"
DRAIN_S = 180.0


class NotDrainedError(Exception):
    """`learn` did not empty the journal in time."""


class Stage:
    """Real servers and the functions under test; everything it started ends with it."""

    def __init__(self, directory: Path, *, pinned: bool = True) -> None:
        """Prepare a stage over `directory`; `pinned` gives measured functions a core of their own."""
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.core, self.rest = cores() if pinned else (frozenset[int](), frozenset[int]())
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Start the servers, bring the schema up to date, start `control`."""
        self._servers = self._stack.enter_context(LocalServers.start(self.directory / "servers"))
        self.environ = {
            "KNUDGE_REDIS_URL": self._servers.redis_url,
            "KNUDGE_DATABASE_URL": self._servers.database_url,
            "KNUDGE_SERVER_KEY": self._servers.server_key,
            "KNUDGE_LOG_LEVEL": "warning",
            "K_REVISION": "bench",
        }
        run_once(python("-m", "shared.storage.migrate"), self.environ)
        self.redis = self._stack.enter_context(redis.Redis.from_url(self._servers.redis_url))
        self.database = self._stack.enter_context(psycopg.connect(self._servers.database_url, autocommit=True))
        self.control = self.start("control", on=self.rest)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop everything."""
        self._stack.close()

    def command(self, function: str, *, sink: Server | None = None, probe: bytes | None = None) -> Command:
        """Return how to start a function that sends its events to `sink`; its metrics have their own port."""
        environ = {
            **self.environ,
            "KNUDGE_METRICS_PORT": str(free_port()),
            "K_SINK": f"http://127.0.0.1:{sink.port}/" if sink else "",
        }
        return Command(function, python("-m", "shared.edge.hosting", function), environ, probe or get("/health/ready"))

    def start(self, function: str, *, on: frozenset[int], sink: Server | None = None) -> Server:
        """Start a function and return once it is ready."""
        return self.keep(start(self.command(function, sink=sink), self.directory, on))

    def keep(self, server: Server) -> Server:
        """Stop `server` with the stage."""
        self._stack.callback(server.stop)
        return server

    def put_policy(self, name: str, actions: Sequence[str], **more: Any) -> None:
        """Make a Thompson policy whose reward is the click, through `control`."""
        body = {"kind": "thompson", "actions": list(actions), "reward": {"click": 1.0}, **more}
        status, answer = ask(self.control.port, put(f"/v1/policies/{name}", json.dumps(body).encode()))
        if not 200 <= status < 300:
            raise AnswerError(f"{status} {answer!r}")

    def put_experiment(self, key: str) -> None:
        """Make an experiment of two variations, through `control`."""
        body = {"variations": [{"key": "control"}, {"key": "new", "value": {"colour": "red"}}]}
        status, answer = ask(self.control.port, put(f"/v1/experiments/{key}", json.dumps(body).encode()))
        if not 200 <= status < 300:
            raise AnswerError(f"{status} {answer!r}")

    def snapshot(self, policy: str) -> dict[str, Any]:
        """Return a policy's snapshot as `control` reads it."""
        status, answer = ask(self.control.port, get(f"/v1/policies/{policy}"))
        if status != 200:
            raise AnswerError(f"{status} {answer!r}")
        snapshot: dict[str, Any] = json.loads(answer)["snapshot"]
        return snapshot

    def journal_length(self) -> int:
        """Return the number of entries (blocks of decisions) in all streams."""
        return sum(self.redis.xlen(stream) for stream in self.redis.scan_iter(_type="STREAM"))

    def archived(self, policy: str) -> int:
        """Return the number of a policy's decisions in PostgreSQL."""
        row = self.database.execute(ARCHIVED, (policy,)).fetchone()
        return int(row[0]) if row else 0

    def exposed(self, experiment: str) -> int:
        """Return the number of units in PostgreSQL that were exposed to an experiment."""
        row = self.database.execute(EXPOSED, (experiment,)).fetchone()
        return int(row[0]) if row else 0

    def drain_exposures(self, learn: Server) -> None:
        """Have `learn` take the exposures until there are none."""
        status, answer = ask(learn.port, learning_due(None), timeout_s=DRAIN_S)
        if not 200 <= status < 300:
            raise AnswerError(f"{status} {answer!r}")

    def drain(self, learn: Server, policies: Sequence[str]) -> float:
        """Wake `learn` for each policy until the journal is empty; return the seconds that took."""
        begin = time.monotonic()
        while True:
            for policy in policies:
                status, answer = ask(learn.port, learning_due(policy), timeout_s=DRAIN_S)
                if not 200 <= status < 300:
                    raise AnswerError(f"{status} {answer!r}")
            if self.journal_length() == 0:
                return time.monotonic() - begin
            if time.monotonic() - begin > DRAIN_S:
                raise NotDrainedError


def learning_due(policy: str | None) -> bytes:
    """Return the request that tells `learn` of work for a policy, or with None of exposures."""
    due = {"exposures": True} if policy is None else {"policy": policy}
    headers = (
        "ce-specversion: 1.0",
        "ce-type: dev.knudge.learning.due.v1",
        "ce-source: /bench",
        f"ce-id: {time.monotonic_ns()}",
    )
    return post("/", json.dumps(due).encode(), headers=headers)


def rewarded(snapshot: Mapping[str, Any]) -> float:
    """Return the sum of all rewards that a snapshot knows of."""
    return float(sum(action["weight"] * action["mean"] for action in snapshot["actions"] if action["mean"] is not None))
