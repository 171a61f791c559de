"""The pool of PostgreSQL connections of a process, and what its failures mean.

`synchronous_commit` is on for every connection: an answer after a commit is a promise.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
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
_DEAD_PEER_MS = 10_000


def open_pool(database_url: str, size: int) -> Pool:
    """Return a pool of at most `size` connections; none is opened before the first is asked for."""
    return AsyncConnectionPool(
        database_url,
        connection_class=psycopg.AsyncConnection[Row],
        kwargs={
            "row_factory": dict_row,
            "autocommit": True,
            "connect_timeout": _CONNECT_TIMEOUT_S,
            "tcp_user_timeout": _DEAD_PEER_MS,
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
async def connection(pool: Pool, within_s: float | None = None) -> AsyncIterator[Connection]:
    """Lend a connection; raises `Unavailable` where PostgreSQL does not answer.

    `within_s`: hang up after that long, on a server that is there and says nothing. Whether it then commits what it was
    sent is not known, so what is written must bear being written again.
    """
    try:
        async with pool.connection() as lent:
            bound = asyncio.get_running_loop().call_later(within_s, _hang_up, lent) if within_s else None
            try:
                yield lent
            finally:
                if bound is not None:
                    bound.cancel()
    except (psycopg.OperationalError, PoolTimeout) as error:
        detail = f"PostgreSQL does not answer: {error}".strip()
        raise Unavailable(detail) from error


def _hang_up(lent: Connection) -> None:
    """End a connection from this side: whoever waits for the server is told that it is gone, which a cancellation is not."""
    with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(lent.fileno())) as same:
        same.shutdown(socket.SHUT_RDWR)
