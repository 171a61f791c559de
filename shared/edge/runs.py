"""Runs that many ask for: those who ask at once share one, and whoever asks is answered after a run that began after it asked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from time import monotonic
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
R = TypeVar("R")


class Runs(Generic[K, R]):
    """One run at a time for each name; runs of different names go side by side."""

    def __init__(self, run: Callable[[K], Awaitable[R]]) -> None:
        """Start each by `run`, which is given the name."""
        self._run = run
        self._running: dict[K, asyncio.Task[R]] = {}
        self._next: dict[K, asyncio.Task[R]] = {}
        self._not_before: dict[K, float] = {}

    async def asked(self, name: K) -> R:
        """Return what a run that began after this call came to; raises what it raised."""
        if name not in self._next:
            self._next[name] = asyncio.create_task(self._after(name, self._running.get(name)))
        return await asyncio.shield(self._next[name])

    def rest_until(self, name: K, moment: float) -> None:
        """Let no further run of a name begin before a moment of the monotonic clock."""
        self._not_before[name] = moment

    async def _after(self, name: K, running: asyncio.Task[R] | None) -> R:
        if running is not None:
            await asyncio.wait([running])
        rest = self._not_before.get(name, 0.0) - monotonic()
        if rest > 0:
            await asyncio.sleep(rest)
        self._running[name] = self._next.pop(name)
        try:
            return await self._run(name)
        finally:
            self._running.pop(name, None)
