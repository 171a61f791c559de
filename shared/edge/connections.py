"""What the connections of one server share, and how they end together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from shared.edge.http import HttpRequest, Reply

ARRIVAL_S = 2.0
"""How long a request that has begun to arrive is waited for when the server stops."""


class Connection(Protocol):
    """What ending a connection takes."""

    def shutdown(self, *, wait: bool) -> None:
        """Close after the answer under way, and with `wait` after that to a request that is arriving."""

    def abort(self) -> None:
        """Close at once."""


class Connections:
    """What the connections of one server share."""

    def __init__(
        self, target: Callable[[HttpRequest], Awaitable[Reply]], body_limit: Callable[[], int], keep_alive_s: float
    ) -> None:
        """Answer with `target`, close what was quiet for `keep_alive_s`."""
        self.target = target
        self.body_limit = body_limit
        self.keep_alive_s = keep_alive_s
        self.ending = False
        """Whether an answer is the last of its connection, because the server stops."""
        self.open: set[Connection] = set()
        self.abandoned: set[asyncio.Task[None]] = set()
        self._date = b""
        self._date_of = 0

    def date(self) -> bytes:
        """Return the `date` header, made once a second."""
        now = int(time.time())
        if now != self._date_of:
            self._date_of = now
            moment = time.gmtime(now)
            text = f"{_DAYS[moment.tm_wday]}, {moment.tm_mday:02} {_MONTHS[moment.tm_mon - 1]} {moment.tm_year}"
            self._date = f"date: {text} {moment.tm_hour:02}:{moment.tm_min:02}:{moment.tm_sec:02} GMT\r\n".encode()
        return self._date

    async def drain(self, bound_s: float) -> int:
        """Close every connection after its answer under way; return how many were cut off at the bound.

        A request of which a part has come has `ARRIVAL_S` to come whole.
        """
        began = time.monotonic()
        for connection in list(self.open):
            connection.shutdown(wait=True)
        while (self.open or self.abandoned) and time.monotonic() < began + bound_s:
            await asyncio.sleep(_DRAIN_LOOK_S)
            if time.monotonic() >= began + ARRIVAL_S:
                for connection in list(self.open):
                    connection.shutdown(wait=False)
        left = len(self.open) + len(self.abandoned)
        for connection in list(self.open):
            connection.abort()
        return left


_DRAIN_LOOK_S = 0.01
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
