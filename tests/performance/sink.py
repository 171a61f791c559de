"""A server that answers 202 to anything: where events go while `learn` stands still, and the load's ceiling.

`python -m tests.performance.sink` listens on loopback at `$PORT`.
"""

from __future__ import annotations

import asyncio
import os
from typing import cast

import uvloop

from tests.performance.http1 import LOOPBACK

ANSWER = b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n"


class Sink(asyncio.Protocol):
    """One connection: every whole request gets the same answer."""

    def __init__(self) -> None:
        self._pending = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to answer."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Answer each request that `data` completes."""
        data = self._pending + data
        while (head_end := data.find(b"\r\n\r\n")) >= 0:
            head = data[:head_end].lower()
            at = head.find(b"\r\ncontent-length:")
            length = int(head[at + 17 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(data) < head_end + 4 + length:
                break
            data = data[head_end + 4 + length :]
            self._transport.write(ANSWER)
        self._pending = data


async def main() -> None:
    """Serve until killed."""
    server = await asyncio.get_running_loop().create_server(Sink, LOOPBACK, int(os.environ["PORT"]))
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
