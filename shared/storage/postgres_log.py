"""The log of decisions, read in bulk by a command: one read-only connection, one state of the database, bounded memory.

Decisions come through a cursor of the server, a portion at a time, so a log may be longer than memory. Everything that is asked
through one opening sees the same rows, whatever is written meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import psycopg
from psycopg.rows import dict_row

from shared.errors import Unavailable, UnknownPolicy
from shared.policies.choosing import without_snapshot
from shared.storage.decision_rows import StoredDecision, stored_decision
from shared.storage.queries import queries
from shared.storage.redis_snapshots import decode_snapshot
from shared.vocabulary import PolicySpec, Snapshot

_CONNECT_TIMEOUT_S = 5
_PORTION = 2_000
_spec = msgspec.json.Decoder(PolicySpec)

Rows = psycopg.Connection[dict[str, Any]]


class DecisionLog:
    """One state of the database; `opened` lends it."""

    def __init__(self, connection: Rows) -> None:
        """Read through a connection whose transaction is read-only and repeatable."""
        self._connection = connection
        self._queries = queries("decisions")

    def size(self, policy: str | None, began: float, until: float) -> int:
        """Return how many decisions `decisions` yields."""
        row = self._one("log_size", policy=policy, began=began, until=until)
        return int(row["size"]) if row else 0

    def decisions(
        self, policy: str | None, began: float, until: float, *, events: bool = False
    ) -> Iterator[StoredDecision]:
        """Yield the decisions made in [`began`, `until`) (POSIX seconds), oldest first; `policy` None: of all policies.

        `events`: with their feedback.
        """
        span = {"policy": policy, "began": began, "until": until, "decision_id": None, "events": events}
        with self._connection.cursor(name="log") as cursor:
            cursor.itersize = _PORTION
            cursor.execute(self._queries["log"], span)
            for row in cursor:
                yield stored_decision(row)

    def snapshot(self, policy: str, version: int) -> Snapshot | None:
        """Return a snapshot that decided, None where it is gone; version 0: what decides without one."""
        if not version:
            return without_snapshot(policy)
        row = self._one("snapshot", policy=policy, snapshot_version=version)
        return None if row is None else decode_snapshot(row["content"])

    def spec(self, policy: str, version: int | None = None) -> PolicySpec:
        """Return a version of a policy, the active one where none is named. Raises `UnknownPolicy` (field `policy`)."""
        row = self._one("spec", policy=policy, version=version)
        if row is None:
            detail = f"there is no policy {policy!r}" + (f" with a version {version}" if version else "")
            raise UnknownPolicy(detail, field="policy")
        return _spec.decode(row["spec"])

    def _one(self, query: str, **parameters: Any) -> dict[str, Any] | None:  # noqa: ANN401
        return self._connection.execute(self._queries[query], parameters).fetchone()


@contextmanager
def opened(database_url: str) -> Iterator[DecisionLog]:
    """Lend the log as it is now. Raises `Unavailable`."""
    try:
        with psycopg.connect(
            database_url,
            row_factory=dict_row,
            connect_timeout=_CONNECT_TIMEOUT_S,
            application_name="knudge log",
            options="-c timezone=UTC -c jit=off -c cursor_tuple_fraction=1",
        ) as connection:
            connection.read_only = True
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            yield DecisionLog(connection)
    except psycopg.OperationalError as error:
        detail = f"PostgreSQL does not answer: {error}".strip()
        raise Unavailable(detail) from error
