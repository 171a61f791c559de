"""Many requests, one transaction: rows that wait at the same time are committed together.

A commit that fails because of its rows is retried row group by row group, so that a poison row harms only its own
request; one that fails because PostgreSQL is away fails them all with `Unavailable`, and nothing was taken. So do those
that have waited too long behind it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from shared.errors import Overloaded, Unavailable

R = TypeVar("R")
T = TypeVar("T")


_Group = tuple[Sequence[R], asyncio.Future[set[T]]]


class GroupCommit(Generic[R, T]):
    """Collects groups of rows and commits several groups at a time.

    `commit`: takes rows, returns the keys of those that were new. `key`: the key of a row.
    """

    def __init__(
        self,
        commit: Callable[[Sequence[R]], Awaitable[set[T]]],
        key: Callable[[R], T],
        *,
        lanes: int = 2,
        rows_at_once: int = 500,
        waiting_limit: int = 50_000,
        patience_s: float = 5.0,
    ) -> None:
        """Commit through `lanes` transactions at a time, about `rows_at_once` rows in each.

        `patience_s`: rows that have waited longer are not tried any more.
        """
        self._commit = commit
        self._key = key
        self._rows_at_once = rows_at_once
        self._waiting_limit = waiting_limit
        self._patience_s = patience_s
        self._groups: deque[tuple[Sequence[R], asyncio.Future[set[T]], float]] = deque()
        self._waiting = 0
        self._idle = lanes
        self._running: set[asyncio.Task[None]] = set()

    async def take(self, rows: Sequence[R]) -> set[T]:
        """Commit rows, all or none; return the keys of those that were new, each to one caller only.

        Raises `Overloaded` where too many rows wait, `Unavailable` where PostgreSQL is away.
        """
        if self._waiting + len(rows) > self._waiting_limit:
            detail = f"{self._waiting} rows wait to be committed"
            raise Overloaded(detail)
        loop = asyncio.get_running_loop()
        done: asyncio.Future[set[T]] = loop.create_future()
        self._groups.append((rows, done, loop.time() + self._patience_s))
        self._waiting += len(rows)
        if self._idle:
            self._idle -= 1
            task = asyncio.create_task(self._run())
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        return await done

    async def close(self) -> None:
        """Wait for what is under way."""
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _run(self) -> None:
        try:
            while groups := self._next_groups():
                await self._commit_groups(groups)
        finally:
            self._idle += 1

    def _next_groups(self) -> list[_Group[R, T]]:
        """Take what is committed next; what has waited too long is answered here."""
        groups: list[_Group[R, T]] = []
        size = 0
        now = asyncio.get_running_loop().time()
        while self._groups and (not groups or size + len(self._groups[0][0]) <= self._rows_at_once):
            rows, done, until = self._groups.popleft()
            self._waiting -= len(rows)
            if now <= until:
                groups.append((rows, done))
                size += len(rows)
            elif not done.done():
                done.set_exception(Unavailable("PostgreSQL did not answer in time"))
        return groups

    async def _commit_groups(self, groups: list[_Group[R, T]]) -> None:
        try:
            new = await self._commit([row for rows, _ in groups for row in rows])
        except Exception as error:
            if len(groups) > 1 and not isinstance(error, Unavailable):
                for group in groups:
                    await self._commit_groups([group])
                return
            for _, done in groups:
                if not done.done():
                    done.set_exception(error)
            return
        for rows, done in groups:
            mine = new.intersection(map(self._key, rows))
            new -= mine
            if not done.done():
                done.set_result(mine)
