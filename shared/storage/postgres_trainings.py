"""Trainings in PostgreSQL: an event trains once, however often and wherever it is delivered.

A training is held by one run at a time, through a lease that the run renews; a run that died stops renewing, and another
takes hold. What a run has refitted is noted by the transaction that refits, and only while the run still holds the
training, so no policy is refitted twice for one event, not even by a run that was thought dead.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import msgspec

from shared.errors import Unavailable
from shared.storage.postgres_connection import Connection, Pool, Row, connection
from shared.storage.queries import queries

ANNOUNCED = "announced"


class Asked(msgspec.Struct, frozen=True):
    """A training that was asked for: `source` and `id` of the event, its `policy` (None: every one), and by whom."""

    source: str
    id: str
    policy: str | None
    actor: str


class Held(msgspec.Struct, frozen=True):
    """A training that this run holds; `outcome`: what earlier runs have refitted."""

    asked: Asked
    run: UUID
    runs: int
    outcome: list[dict[str, Any]]


class Trainings:
    """Takes hold of trainings and notes what comes of them."""

    def __init__(self, pool: Pool, lease_s: float) -> None:
        """Hold each for `lease_s` seconds at a time."""
        self.lease_s = lease_s
        self._pool = pool
        self._queries = queries("trainings")

    async def policies(self) -> list[str]:
        """Return the names of every policy."""
        return [row["name"] for row in await self._rows("policies")]

    async def hold(self, asked: Asked) -> Held | None:
        """Take hold; None where another run holds it, or where all is done (`held_s` tells which)."""
        run = uuid4()
        rows = await self._rows(
            "hold",
            source=asked.source,
            event_id=asked.id,
            policy=asked.policy,
            run=run,
            actor=asked.actor,
            lease_s=self.lease_s,
        )
        return Held(asked, run, rows[0]["runs"], rows[0]["outcome"]) if rows else None

    async def held_s(self, asked: Asked) -> float | None:
        """Return for how many seconds the training is still held, None where all is done."""
        rows = await self._rows("state", source=asked.source, event_id=asked.id)
        if not rows:
            return 0.0
        return None if rows[0]["state"] == ANNOUNCED else float(rows[0]["held_s"])

    async def renew(self, held: Held) -> bool:
        """Hold on; False where another run has taken hold."""
        return bool(await self._rows("renew", lease_s=self.lease_s, **_key(held)))

    async def note(self, lent: Connection, held: Held, refitted: object) -> None:
        """Note within a refit's transaction what it made; raises `Unavailable` where another run has taken hold."""
        outcome = msgspec.json.encode([refitted]).decode()
        values = {"outcome": outcome, "lease_s": self.lease_s, **_key(held)}
        if not await (await lent.execute(self._queries["note"], values)).fetchall():
            raise _lost()

    async def finish(self, held: Held) -> tuple[list[dict[str, Any]], float]:
        """Note that every policy is refitted; return the outcome, and the seconds since the first run began."""
        rows = await self._rows("finish", **_key(held))
        if not rows:
            raise _lost()
        return rows[0]["outcome"], rows[0]["duration_s"]

    async def announce(self, held: Held) -> None:
        """Note that nothing is left to do."""
        await self._rows("announce", **_key(held))

    async def release(self, held: Held) -> None:
        """Let another run take hold at once."""
        await self._rows("release", **_key(held))

    async def _rows(self, query: str, **parameters: Any) -> list[Row]:  # noqa: ANN401
        async with connection(self._pool) as lent:
            cursor = await lent.execute(self._queries[query], parameters)
            return await cursor.fetchall() if cursor.description is not None else []


def _key(held: Held) -> dict[str, object]:
    return {"source": held.asked.source, "event_id": held.asked.id, "run": held.run}


def _lost() -> Unavailable:
    return Unavailable("another run has taken hold of this training")
