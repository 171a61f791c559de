"""Serves one target on one port until it is told to stop, then drains.

Sockets are asyncio's (uvloop's), HTTP is `shared.edge.protocol`. On SIGTERM or SIGINT every answer is the last of its
connection. After a last look at what came together with the signal the server stops listening, closes idle connections, lets
every answer under way finish within a bound, and returns.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Awaitable, Callable

from shared.edge.connections import Connections
from shared.edge.http import HttpRequest, Reply
from shared.edge.protocol import FunctionProtocol

KEEP_ALIVE_S = 120.0
"""Longer than the 90 s for which Knative's queue-proxy keeps an idle connection."""
DRAIN_S = 30.0
LOOKS = 5
LOOK_S = 0.05
"""How often, and how long apart, the server looks before it closes what it takes for idle: a connection or a request may
have come before the signal and not have been noticed."""
BACKLOG = 4096

_log = logging.getLogger(__name__)


class Server:
    """One listening socket and the connections that came through it."""

    def __init__(self, target: Callable[[HttpRequest], Awaitable[Reply]], body_limit: Callable[[], int]) -> None:
        """Serve `target`; a body longer than `body_limit()` bytes is not kept."""
        self._connections = Connections(target, body_limit, KEEP_ALIVE_S)
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Begin to stop; `serve` returns when everything is drained."""
        self._connections.ending = True
        self._stopping.set()

    def stop_on_signals(self) -> None:
        """Stop on SIGTERM and SIGINT."""
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self.stop)

    async def serve(self, *, host: str = "127.0.0.1", port: int = 0, listening: socket.socket | None = None) -> None:
        """Serve on a port, or on a socket that listens already."""
        loop = asyncio.get_running_loop()
        if listening is None:
            server = await loop.create_server(self._connect, host, port, backlog=BACKLOG)
        else:
            server = await loop.create_server(self._connect, sock=listening, backlog=BACKLOG)
        _log.info("serving", extra={"knudge": {"port": port}})
        await self._stopping.wait()
        for _ in range(LOOKS):  # each goes once around the loop, however busy the machine is
            await asyncio.sleep(LOOK_S)
        server.close()
        left = await self._connections.drain(DRAIN_S)
        if left:
            _log.error("answers were cut off", extra={"knudge": {"requests": left}})

    def _connect(self) -> FunctionProtocol:
        return FunctionProtocol(self._connections)
