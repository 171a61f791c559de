"""What `feedback` commits to PostgreSQL: events, logged decisions, activations, each with its row in `pending`.

One statement inserts the fact and queues it, so that an acknowledged fact is in both or in neither. Rows are written
in the order of their keys, and what is already known is left as it is. Events of users beside decisions are committed with
the others that came with them; nothing is queued for them, since no policy learns of them.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import msgspec
import psycopg
from psycopg.errors import CheckViolation, UndefinedTable

from shared.errors import InvalidInput, Unavailable
from shared.experiments.exposure import UserFeedback
from shared.identity import policy_key, route
from shared.ports import Clock
from shared.storage.group_commit import GroupCommit
from shared.storage.postgres_connection import Connection, Pool, Row, connection
from shared.storage.queries import queries
from shared.vocabulary import Activation, Decision, Feedback

_log = logging.getLogger(__name__)

_ANSWER_S = 5.0
"""How long one statement may take before the connection is given up."""

FeedbackKey = tuple[str, str, str]
"""(decision_id or the user's pseudonym, source, event_id)"""


def feedback_key(event: Feedback | UserFeedback) -> FeedbackKey:
    """Return the identity of an event, of which there may be one."""
    about = event.decision_id if isinstance(event, Feedback) else event.user
    return about, event.source, event.event_id


class FeedbackStore:
    """Commits what callers report, many requests at a time."""

    def __init__(self, pool: Pool, clock: Clock) -> None:
        """Write through a pool of connections."""
        self._pool = pool
        self._clock = clock
        self._queries = queries("feedback")
        self._names: dict[int, str] = {}
        self._feedback = GroupCommit[Feedback | UserFeedback, FeedbackKey](self._insert_feedback, feedback_key)
        self._decisions = GroupCommit[Decision, str](self._insert_decisions, lambda row: row.decision_id)
        self._activations = GroupCommit[Activation, str](self._insert_activations, lambda row: row.decision_id)

    async def take_feedback(self, events: Sequence[Feedback | UserFeedback]) -> set[FeedbackKey]:
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

    async def _insert_feedback(self, events: Sequence[Feedback | UserFeedback]) -> set[FeedbackKey]:
        rows = []
        of_users = []
        for event in events:
            row = msgspec.structs.asdict(event)
            if isinstance(event, UserFeedback):
                of_users.append(row)
                continue
            where = route(event.decision_id)
            rows.append(row | _partition(where.decided_at, where.policy_key))
        queries = {"insert_feedback": rows} if rows else {}
        if of_users:
            queries["insert_user_feedback"] = of_users
        found = await self._insert(queries)
        return {(row["about"], row["source"], row["event_id"]) for row in found}

    async def _insert_decisions(self, decisions: Sequence[Decision]) -> set[str]:
        rows = []
        for decision in decisions:
            where = route(decision.decision_id)
            row = msgspec.structs.asdict(decision)
            row["user_pseudonym"], row["session_pseudonym"] = decision.user, decision.session
            row["received_at"] = self._clock()
            rows.append(row | _partition(where.decided_at, policy_key(decision.policy)))
        return {row["decision_id"] for row in await self._insert({"insert_decisions": rows})}

    async def _insert_activations(self, activations: Sequence[Activation]) -> set[str]:
        rows = []
        for activation in activations:
            where = route(activation.decision_id)
            rows.append(msgspec.structs.asdict(activation) | _partition(where.decided_at, where.policy_key))
        return {row["decision_id"] for row in await self._insert({"insert_activations": rows})}

    async def _insert(self, given: Mapping[str, list[Row]]) -> list[Row]:
        """Run queries with the rows of each, all or none of them; return what they return, together."""
        async with connection(self._pool, _ANSWER_S) as lent:
            try:
                if len(given) == 1:
                    [(query, rows)] = given.items()
                    return await self._put(lent, query, rows)
                async with lent.transaction():
                    return [row for query, rows in given.items() for row in await self._put(lent, query, rows)]
            except UndefinedTable as error:
                detail = "the database has not been migrated"
                raise Unavailable(detail) from error
            except psycopg.DataError as error:
                _log.warning("rows refused by PostgreSQL", extra={"knudge": {"error": str(error)}})
                detail = "PostgreSQL cannot store this"
                raise InvalidInput(detail, field="body") from error

    async def _put(self, lent: Connection, query: str, rows: list[Row]) -> list[Row]:
        parameters = {"rows": msgspec.json.encode(rows).decode()}
        try:
            async with lent.transaction() if _is_within(lent) else nullcontext():
                cursor = await lent.execute(self._queries[query], parameters)
        except CheckViolation:  # a week that has no partition yet
            for moment in {row["decided_at"] // _DAY_S: row["decided_at"] for row in rows}.values():
                await lent.execute("select ensure_partition(to_timestamp(%s))", [moment])
            cursor = await lent.execute(self._queries[query], parameters)
        return await cursor.fetchall()


_DAY_S = 86_400


def _is_within(lent: Connection) -> bool:
    """Tell whether a transaction is open, in which a statement that fails would leave nothing to go on with."""
    return lent.info.transaction_status is psycopg.pq.TransactionStatus.INTRANS


def _partition(decided_at: float, key: int) -> dict[str, Any]:
    return {"decided_at": decided_at, "policy_key": key}
