"""A small HTTP/1.1 client on asyncio: what the broker and the runner need, parsed by httptools.

Connections are kept and used again. A request that meets a kept connection which the server has closed meanwhile is sent once
more on a new one; every other failure is an `OSError` or `TimeoutError` for the caller to judge.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httptools

from shared.events.envelopes import header_text

BODY_LIMIT = 16 << 20
IDLE_LIMIT = 32
CHUNK = 1 << 16


@dataclass(slots=True)
class Answer:
    """A response; header names in lower case, the last of a repeated one."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


class HttpClient:
    """Sends requests to http:// addresses; close it at the end."""

    def __init__(self) -> None:
        """Start without connections."""
        self._idle: dict[tuple[str, int], list[_Connection]] = {}

    async def request(
        self, method: str, url: str, headers: Mapping[str, str] | None = None, body: bytes = b"", *, timeout_s: float
    ) -> Answer:
        """Send a request and return its answer, whatever its status.

        Raises `OSError` for no answer or one that is no HTTP, `TimeoutError` when the whole takes longer than `timeout_s`.
        """
        parts = urlsplit(url)
        where = (parts.hostname or "", parts.port or 80)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        lines = [f"{method} {target} HTTP/1.1", f"host: {where[0]}:{where[1]}", f"content-length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        message = ("\r\n".join(lines) + "\r\n\r\n").encode() + body
        async with asyncio.timeout(timeout_s):
            kept = self._idle.get(where)
            while kept:
                with contextlib.suppress(_Stale):
                    return await self._exchange(where, kept.pop(), message)
            reader, writer = await asyncio.open_connection(*where)
            return await self._exchange(where, _Connection(reader, writer), message)

    def close(self) -> None:
        """Close the connections that are kept."""
        for connections in self._idle.values():
            for connection in connections:
                connection.writer.close()
        self._idle.clear()

    async def _exchange(self, where: tuple[str, int], connection: _Connection, message: bytes) -> Answer:
        is_kept = False
        try:
            answer, may_keep = await connection.exchange(message)
            idle = self._idle.setdefault(where, [])
            if may_keep and len(idle) < IDLE_LIMIT:
                idle.append(connection)
                is_kept = True
            return answer
        finally:
            if not is_kept:
                connection.writer.close()


class _Stale(ConnectionError):
    """A kept connection was closed by the server before it answered anything."""


class _Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._is_used = False

    async def exchange(self, message: bytes) -> tuple[Answer, bool]:
        """Send and receive; the second value says whether the connection may be used again."""
        was_used, self._is_used = self._is_used, True
        receiving = _Receiving()
        parser = httptools.HttpResponseParser(receiving)
        is_silent = True
        try:
            self.writer.write(message)
            await self.writer.drain()
            while not receiving.is_complete:
                data = await self.reader.read(CHUNK)
                if not data:
                    break
                is_silent = False
                parser.feed_data(data)
        except httptools.HttpParserError as error:
            raise ConnectionError(f"the answer is no HTTP: {error}") from error
        except ConnectionError as error:
            if was_used and is_silent:
                raise _Stale from error
            raise
        if was_used and is_silent:
            raise _Stale
        if not receiving.is_headed or (not receiving.is_complete and receiving.is_measured):
            raise ConnectionError("the connection closed before the answer was complete")
        receiving.answer.status = parser.get_status_code()
        receiving.answer.body = bytes(receiving.body)
        return receiving.answer, receiving.is_complete and parser.should_keep_alive()


class _Receiving:
    """What the parser calls while an answer comes in."""

    def __init__(self) -> None:
        self.answer = Answer()
        self.body = bytearray()
        self.is_headed = self.is_complete = False

    @property
    def is_measured(self) -> bool:
        """Whether the answer says where it ends, other than by closing the connection."""
        return "content-length" in self.answer.headers or "transfer-encoding" in self.answer.headers

    def on_header(self, name: bytes, value: bytes) -> None:
        self.answer.headers[name.decode("latin-1").lower()] = header_text(value)

    def on_headers_complete(self) -> None:
        self.is_headed = True

    def on_body(self, body: bytes) -> None:
        self.body += body
        if len(self.body) > BODY_LIMIT:
            raise httptools.HttpParserError(f"longer than {BODY_LIMIT} bytes")

    def on_message_complete(self) -> None:
        self.is_complete = True
