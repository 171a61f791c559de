"""Retention: whole weeks of history are dropped, and what they taught is sealed into the base first.

A week goes in one transaction that holds the lock of every policy that decided in it, so base plus history always
equals the running posterior.
"""

from __future__ import annotations

from datetime import UTC, datetime
from time import time

import psycopg

from shared.policies.posterior import merge, nothing_learned
from shared.storage.learning_state import Learned
from shared.storage.postgres_connection import Connection
from shared.storage.postgres_learning import LearningTransaction
from shared.storage.queries import queries

_WEEK_S = 7 * 86_400.0
_TABLES = ("learned_order", "rewards", "feedback", "activations", "decisions")


async def drop_expired(connection: Connection, before: float) -> int:
    """Drop what is older than `before` (POSIX seconds), and return how many weeks went.

    Weeks, snapshots, trainings, exposures, what users did beside decisions, dead letters.

    A week whose tables are busy is left for the next time.
    """
    named = queries("retention")
    expired = await (await connection.execute(named["expired_weeks"], {"before": before})).fetchall()
    dropped = 0
    for row in expired:
        try:
            async with connection.transaction():
                await connection.execute("set local lock_timeout = '2s'")
                await _drop_week(connection, row["first"])
        except psycopg.errors.LockNotAvailable:
            break
        dropped += 1
    for query in ("drop_old_snapshots", "drop_old_trainings", "drop_old_exposures", "drop_old_user_feedback"):
        await connection.execute(named[query], {"before": before})
    await connection.execute(queries("dead_letters")["drop_old"], {"before": before})
    return dropped


async def _drop_week(connection: Connection, first: float) -> None:
    last = first + _WEEK_S
    found = await connection.execute(queries("retention")["policies_of_week"], {"first": first, "last": last})
    for row in await found.fetchall():
        work = LearningTransaction(connection, row["policy"])
        state = await work.lock()
        spec = state.learned or state.spec
        as_of = max(state.posterior.as_of, 0.0) or time()
        nothing = nothing_learned(spec, state.posterior, as_of)
        sealed = await work.fit_history(spec, nothing, first, last, recount=False)
        base = await work.base()
        await work.put_base(sealed if base is None else merge(base, sealed, spec))
        if await work.ordered.seal(spec, first, last):
            await work.store(spec, state.posterior, state.snapshot_version + 1, Learned(row["policy"]))
    await connection.execute(queries("retention")["drop_pending"], {"first": first, "last": last})
    suffix = datetime.fromtimestamp(first, UTC).strftime("%Y%m%d")
    for table in _TABLES:
        await connection.execute(f"drop table if exists {table}_{suffix}".encode())
