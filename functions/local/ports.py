"""TCP ports of 127.0.0.1 that stay ours while a server is down.

Promises a port that nobody else picks at the same time, below the range that the kernel hands to outgoing connections, so
that a server stopped for ten seconds finds its port free again.
"""

from __future__ import annotations

import contextlib
import random
import socket
import sys

LOWEST, HIGHEST = 15_000, 31_999
ATTEMPTS = 200
KEPT_FREE = frozenset({15_432, 16_379, 27_017})


class ReservedPort:
    """A port number, held by a bound socket that never listens.

    On Linux, a socket bound without SO_REUSEADDR that gets the option afterwards lets a server that uses the option (as
    Redis, PostgreSQL and asyncio do) bind beside it, and refuses everyone who merely looks for a free port. Elsewhere the
    socket is closed again and the number is a good guess.
    """

    def __init__(self) -> None:
        """Reserve a free port."""
        self._socket: socket.socket | None = None
        self.number = self._reserve()

    def release(self) -> None:
        """Let others have the port."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _reserve(self) -> int:
        generator = random.SystemRandom()
        for _ in range(ATTEMPTS):
            candidate = generator.randint(LOWEST, HIGHEST)
            if candidate in KEPT_FREE:
                continue
            held = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            with contextlib.suppress(OSError):
                held.bind(("127.0.0.1", candidate))
                if sys.platform == "linux":
                    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    self._socket = held
                else:
                    held.close()
                return candidate
            held.close()
        raise OSError(f"no free port of 127.0.0.1 between {LOWEST} and {HIGHEST}")
