"""Dead letters in PostgreSQL: kept once for each event and place where it failed, read, and marked as sent again.

Moments are PostgreSQL's clock, so that processes agree on whether a letter failed after it was sent again.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from hashlib import blake2b
from typing import Any

import msgspec

from shared.errors import UnknownDeadLetter
from shared.events.dead_letter import DeadLetter
from shared.storage.postgres_connection import Pool, Row, connection
from shared.storage.queries import queries

_ANSWER_S = 5.0
"""How long PostgreSQL may take before the connection is given up."""


class DeadLetterStore:
    """Keeps letters and finds them again. Every method raises `Unavailable` where PostgreSQL does not answer."""

    def __init__(self, pool: Pool) -> None:
        """Use a pool of connections."""
        self._pool = pool
        self._queries = queries("dead_letters")

    async def keep(self, letters: Sequence[DeadLetter]) -> int:
        """Commit letters, all or none; return how many were not kept before."""
        rows = sorted(((_identity(letter), letter) for letter in letters), key=lambda row: row[0])
        new = 0
        async with connection(self._pool, _ANSWER_S) as lent, lent.transaction():
            for identity, letter in rows:
                values = msgspec.structs.asdict(letter) | {
                    "identity": identity,
                    "attributes": msgspec.json.encode(letter.attributes).decode(),
                }
                cursor = await lent.execute(self._queries["keep"], values)
                new += (await cursor.fetchall())[0]["arrivals"] == 1
        return new

    async def page(
        self,
        *,
        event_type: str | None,
        since: datetime | None,
        is_open: bool | None,
        before: int | None,
        limit: int,
    ) -> list[Row]:
        """Return letters without their data, newest first.

        `since`: that failed since then; `is_open`: that were (not) replayed since they failed; `before`: with a lower number.
        """
        return await self._rows("list", type=event_type, since=since, open=is_open, before=before, limit=limit)

    async def find(self, number: int) -> Row:
        """Return a letter with all that was kept of it, and `read_at`; raises `UnknownDeadLetter` (field `id`)."""
        rows = await self._rows("find", id=number)
        if not rows:
            detail = f"there is no dead letter {number}"
            raise UnknownDeadLetter(detail, field="id")
        return rows[0]

    async def note_replay(self, number: int, read_at: datetime, actor: str) -> int:
        """Note that a letter was sent again as it was read at `read_at`; return how often it was.

        Raises `UnknownDeadLetter` where retention has dropped it meanwhile.
        """
        rows = await self._rows("note_replay", id=number, read_at=read_at, actor=actor)
        if not rows:
            detail = f"the dead letter {number} was sent, and has just been dropped"
            raise UnknownDeadLetter(detail, field="id")
        replays: int = rows[0]["replays"]
        return replays

    async def _rows(self, query: str, **values: Any) -> list[Row]:  # noqa: ANN401
        async with connection(self._pool, _ANSWER_S) as lent:
            return await (await lent.execute(self._queries[query], values)).fetchall()


def _identity(letter: DeadLetter) -> bytes:
    """Return the hash of what makes two letters the same; attributes may be longer than an index takes."""
    parts = (letter.source, letter.event_id, letter.destination or "")
    return blake2b("\0".join(parts).encode(), digest_size=32).digest()
