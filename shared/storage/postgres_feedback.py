"""What `feedback` commits to PostgreSQL: events, logged decisions, activations, each with its row in `pending`.

One statement inserts the fact and queues it, so that an acknowledged fact is in both or in neither. Rows are written
in the order of their keys, and what is already known is left as it is.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import msgspec
import psycopg
from psycopg.errors import CheckViolation, UndefinedTable

from shared.errors import InvalidInput, Unavailable
from shared.identity import policy_key, route
from shared.ports import Clock
from shared.storage.group_commit import GroupCommit
from shared.storage.postgres_connection import Pool, connection
from shared.storage.queries import queries
from shared.vocabulary import Activation, Decision, Feedback

_log = logging.getLogger(__name__)

_ANSWER_S = 5.0
"""How long one statement may take before the connection is given up."""

FeedbackKey = tuple[str, str, str]
"""(decision_id, source, event_id)"""


def feedback_key(event: Feedback) -> FeedbackKey:
    """Return the identity of an event, of which there may be one."""
    return event.decision_id, event.source, event.event_id


class FeedbackStore:
    """Commits what callers report, many requests at a time."""

    def __init__(self, pool: Pool, clock: Clock) -> None:
        """Write through a pool of connections."""
        self._pool = pool
        self._clock = clock
        self._queries = queries("feedback")
        self._names: dict[int, str] = {}
        self._feedback = GroupCommit[Feedback, FeedbackKey](self._insert_feedback, feedback_key)
        self._decisions = GroupCommit[Decision, str](self._insert_decisions, lambda row: row.decision_id)
        self._activations = GroupCommit[Activation, str](self._insert_activations, lambda row: row.decision_id)

    async def take_feedback(self, events: Sequence[Feedback]) -> set[FeedbackKey]:
        """Commit events, all or none; return the keys of the new ones, each to one request only. Raises `Unavailable`, `Overloaded`."""
        return await self._feedback.take(events)

    async def take_decisions(self, decisions: Sequence[Decision]) -> set[str]:
        """Commit logged decisions, all or none; return the ids of those that were new."""
        return await self._decisions.take(decisions)

    async def take_activation(self, activation: Activation) -> bool:
        """Commit an activation; return whether it was new."""
        return activation.decision_id in await self._activations.take([activation])

    async def policy_name(self, key: int) -> str | None:
        """Return the name of the policy with this key, None where there is none; raises `Unavailable`."""
        if key not in self._names:
            async with connection(self._pool, _ANSWER_S) as lent:
                cursor = await lent.execute(self._queries["policy_names"])
                self._names.update({row["policy_key"]: row["name"] for row in await cursor.fetchall()})
        return self._names.get(key)

    async def close(self) -> None:
        """Wait for what is under way."""
        for group in (self._feedback, self._decisions, self._activations):
            await group.close()

    async def _insert_feedback(self, events: Sequence[Feedback]) -> set[FeedbackKey]:
        rows = []
        for event in events:
            where = route(event.decision_id)
            rows.append(msgspec.structs.asdict(event) | _partition(where.decided_at, where.policy_key))
        found = await self._insert("insert_feedback", rows)
        return {(row["decision_id"], row["source"], row["event_id"]) for row in found}

    async def _insert_decisions(self, decisions: Sequence[Decision]) -> set[str]:
        rows = []
        for decision in decisions:
            where = route(decision.decision_id)
            row = msgspec.structs.asdict(decision)
            row["user_pseudonym"], row["session_pseudonym"] = decision.user, decision.session
            row["received_at"] = self._clock()
            rows.append(row | _partition(where.decided_at, policy_key(decision.policy)))
        return {row["decision_id"] for row in await self._insert("insert_decisions", rows)}

    async def _insert_activations(self, activations: Sequence[Activation]) -> set[str]:
        rows = []
        for activation in activations:
            where = route(activation.decision_id)
            rows.append(msgspec.structs.asdict(activation) | _partition(where.decided_at, where.policy_key))
        return {row["decision_id"] for row in await self._insert("insert_activations", rows)}

    async def _insert(self, query: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        parameters = {"rows": msgspec.json.encode(rows).decode()}
        async with connection(self._pool, _ANSWER_S) as lent:
            try:
                try:
                    cursor = await lent.execute(self._queries[query], parameters)
                except CheckViolation:  # a week that has no partition yet
                    for moment in {row["decided_at"] // _DAY_S: row["decided_at"] for row in rows}.values():
                        await lent.execute("select ensure_partition(to_timestamp(%s))", [moment])
                    cursor = await lent.execute(self._queries[query], parameters)
                return await cursor.fetchall()
            except UndefinedTable as error:
                detail = "the database has not been migrated"
                raise Unavailable(detail) from error
            except psycopg.DataError as error:
                _log.warning("rows refused by PostgreSQL", extra={"knudge": {"error": str(error)}})
                detail = "PostgreSQL cannot store this"
                raise InvalidInput(detail, field="body") from error


_DAY_S = 86_400


def _partition(decided_at: float, key: int) -> dict[str, Any]:
    return {"decided_at": decided_at, "policy_key": key}
