"""Archived decisions, read one by one, with the snapshots that they were made from."""

from __future__ import annotations

from shared.errors import NotKept, UnknownDecision
from shared.identity import route
from shared.policies.choosing import without_snapshot
from shared.storage.decision_rows import StoredDecision, stored_decision
from shared.storage.postgres_connection import Pool, Row, connection
from shared.storage.queries import queries
from shared.storage.redis_snapshots import decode_snapshot
from shared.vocabulary import Snapshot


class DecisionStore:
    """Reads single decisions."""

    def __init__(self, pool: Pool) -> None:
        """Use a pool of connections."""
        self._pool = pool
        self._queries = queries("decisions")

    async def find(self, decision_id: str) -> StoredDecision:
        """Return an archived decision.

        Raises `InvalidInput` for what is no decision id, `UnknownDecision` (field `decision_id`), `Unavailable`.
        """
        decided_at = route(decision_id).decided_at
        until = decided_at + _MICROSECOND_S
        key = {"policy": None, "began": decided_at, "until": until, "decision_id": decision_id, "events": False}
        async with connection(self._pool) as lent:
            row = await (await lent.execute(self._queries["log"], key)).fetchone()
        if row is None:
            detail = "no such decision is archived: `learn` has not seen it yet, it was lost, or it is older than what is kept"
            raise UnknownDecision(detail, field="decision_id")
        return stored_decision(row)

    async def snapshot(self, policy: str, version: int) -> Snapshot:
        """Return a snapshot that decided; version 0: what decides without one.

        Raises `NotKept` (field `snapshot_version`) where it is gone, `Unavailable`.
        """
        if not version:
            return without_snapshot(policy)
        key = {"policy": policy, "snapshot_version": version}
        async with connection(self._pool) as lent:
            row = await (await lent.execute(self._queries["snapshot"], key)).fetchone()
        if row is None:
            detail = f"snapshot {version} of {policy!r} is no longer kept, or was lost with a backup"
            raise NotKept(detail, field="snapshot_version")
        return decode_snapshot(row["content"])

    async def watched(self, policy: str) -> list[Row]:
        """Return what was seen of the propensities of a policy's versions, newest first. Raises `Unavailable`."""
        async with connection(self._pool) as lent:
            return await (await lent.execute(queries("health")["health_of_policy"], {"policy": policy})).fetchall()


_MICROSECOND_S = 1e-6
