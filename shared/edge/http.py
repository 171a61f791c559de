"""A request and a reply, as thin as ASGI allows.

Functions are functions-framework targets: they take a Starlette `Request` there and a `Request` of this module in the
production shell, and use only what both have (`scope`, `receive`). A `Reply` is an ASGI application, so either host
sends it as it is.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol

from shared.errors import TooLarge

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class HttpRequest(Protocol):
    """What a function needs of a request."""

    @property
    def scope(self) -> Scope:
        """Return the ASGI scope."""

    @property
    def receive(self) -> Receive:
        """Return the ASGI channel that the body comes through."""


class Request:
    """A request of any ASGI server."""

    __slots__ = ("receive", "scope")

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.scope = scope
        self.receive = receive


class WholeRequest:
    """A request that has arrived completely: the production shell's."""

    __slots__ = ("body", "keep_alive", "scope")

    def __init__(self, scope: Scope, body: bytes, *, keep_alive: bool) -> None:
        self.scope = scope
        self.body = body
        self.keep_alive = keep_alive

    async def receive(self) -> Message:
        """Return the body as ASGI does."""
        return {"type": "http.request", "body": self.body, "more_body": False}


class Disconnected(Exception):
    """The caller hung up before the body was complete."""


async def read_body(request: HttpRequest, limit: int) -> bytes:
    """Return the body.

    Raises `TooLarge` beyond `limit` bytes, `Disconnected` where the caller hung up.
    """
    receive = request.receive
    message = await receive()
    if message["type"] != "http.request":
        raise Disconnected
    body: bytes = message.get("body", b"")
    if message.get("more_body"):
        chunks = [body]
        size = len(body)
        while message.get("more_body") and size <= limit:
            message = await receive()
            if message["type"] != "http.request":
                raise Disconnected
            chunks.append(message.get("body", b""))
            size += len(chunks[-1])
        body = b"".join(chunks)
    return bounded(body, limit)


def bounded(body: bytes, limit: int) -> bytes:
    """Return the body; raises `TooLarge` beyond `limit` bytes."""
    if len(body) > limit:
        detail = f"the body may have at most {limit} bytes"
        raise TooLarge(detail, field="body")
    return body


class Reply:
    """A status, headers and a body; itself an ASGI application."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, body: bytes = b"", headers: list[tuple[bytes, bytes]] | None = None) -> None:
        """Make a reply; `headers` need not name the content length."""
        self.status = status
        self.body = body
        self.headers = headers if headers is not None else []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        length = (b"content-length", str(len(self.body)).encode())
        headers = self.headers if self.status in WITHOUT_BODY else [*self.headers, length]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})


WITHOUT_BODY = frozenset({204, 304})
"""Statuses whose replies have no body, and say nothing of its length."""
JSON_HEADERS = [(b"content-type", b"application/json")]


def json_reply(body: bytes, status: int = 200) -> Reply:
    """Return a reply with an encoded JSON body."""
    return Reply(status, body, JSON_HEADERS)
