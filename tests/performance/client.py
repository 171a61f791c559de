"""A keep-alive HTTP client for measurements: one connection, one request at a time, nothing in between.

For callers that need each answer before the next request; `load` is for those that do not.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any, Self, cast

from tests.performance.http1 import LOOPBACK, AnswerError, AnswerParser, post


class Client(asyncio.Protocol):
    """One connection to a server on loopback; a request sent while another is under way is an error."""

    def __init__(self) -> None:
        self._parser = AnswerParser()
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None

    @classmethod
    async def connect(cls, port: int) -> Self:
        """Return a connected client."""
        _, client = await asyncio.get_running_loop().create_connection(cls, LOOPBACK, port)
        return client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to send."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Hand a whole answer to whoever waits for it."""
        answer, self_answer = None, self._answer
        try:
            for answer in self._parser.feed(data):
                if self_answer is not None and not self_answer.done():
                    self_answer.set_result(answer)
        except AnswerError as error:
            if self_answer is not None and not self_answer.done():
                self_answer.set_exception(error)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever waits."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionResetError())

    async def send(self, request: bytes) -> tuple[int, bytes]:
        """Send a whole request, return `(status, body)`; `ConnectionError` when the connection ends first."""
        assert self._answer is None or self._answer.done()
        if self._transport.is_closing():
            raise ConnectionResetError
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    async def ask(self, request: bytes) -> dict[str, Any]:
        """Send a whole request and return the decoded 2xx answer; `AnswerError` on any other status."""
        status, body = await self.send(request)
        if not 200 <= status < 300:
            raise AnswerError(f"{status} {body[:300].decode(errors='replace')}")
        answer: dict[str, Any] = json.loads(body)
        return answer

    async def post(self, path: str, content: Mapping[str, Any]) -> dict[str, Any]:
        """POST JSON and return the decoded 2xx answer."""
        return await self.ask(post(path, json.dumps(content, separators=(",", ":")).encode()))

    def close(self) -> None:
        """End the connection."""
        self._transport.close()
