"""The pool of PostgreSQL connections of a process, and what its failures mean.

`synchronous_commit` is on for every connection: an answer after a commit is a promise.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from shared.errors import Unavailable

Row = dict[str, Any]
Connection = psycopg.AsyncConnection[Row]
Pool = AsyncConnectionPool[Connection]

_CONNECT_TIMEOUT_S = 2
_WAIT_S = 2.0


def open_pool(database_url: str, size: int) -> Pool:
    """Return a pool of at most `size` connections; none is opened before the first is asked for."""
    return AsyncConnectionPool(
        database_url,
        connection_class=psycopg.AsyncConnection[Row],
        kwargs={
            "row_factory": dict_row,
            "autocommit": True,
            "connect_timeout": _CONNECT_TIMEOUT_S,
            "options": "-c synchronous_commit=on -c timezone=UTC -c jit=off",
            "application_name": "knudge",
        },
        min_size=0,
        max_size=size,
        timeout=_WAIT_S,
        reconnect_timeout=_WAIT_S,
        max_idle=300,
        open=False,
        check=None,
    )


@asynccontextmanager
async def connection(pool: Pool) -> AsyncIterator[Connection]:
    """Lend a connection; raises `Unavailable` where PostgreSQL does not answer."""
    try:
        async with pool.connection() as lent:
            yield lent
    except (psycopg.OperationalError, PoolTimeout) as error:
        detail = f"PostgreSQL does not answer: {error}".strip()
        raise Unavailable(detail) from error
