"""HTTP/1.1 for one target: httptools parses, the target answers, one write sends.

A server for any ASGI application pays for generality: a scope of thirteen members, an event, two messages a response
and a timer a request. A function needs a method, a path, headers and a whole body, and gives a whole reply, so this
protocol does only that.

Bodies and heads are bounded while they arrive. Pipelined requests are answered in order. An offer to upgrade is not taken:
the request is answered as it is. A connection that was closed before its answer was ready harms nobody, and its request is
finished all the same.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from http import HTTPStatus
from typing import cast
from urllib.parse import unquote

import httptools

from shared.edge.connections import Connections
from shared.edge.http import WITHOUT_BODY, Reply, WholeRequest

_log = logging.getLogger(__name__)

LONGEST_HEAD = 32_768
"""Most bytes of request line and headers together."""
HEAD_SLACK = 262_144
"""How much of a body or of further requests may have come in one piece with a head that is not complete."""
LINGER_S = 5.0
"""How long a connection that is closed may take to read what was written to it."""
MOST_PIPELINED = 64
"""How many requests a connection may send ahead before it is read no further."""


class FunctionProtocol(asyncio.Protocol):
    """One connection."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._waiting: deque[WholeRequest] = deque()
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._quiet_since = self._loop.time()
        self._closing = False
        self._refused = False
        self._arriving = False
        self._may_write = True
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._head_size = 0
        self._in_body = False
        self._received = 0
        self._body: list[bytes] = []
        self._body_size = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)
        self._connections.open.add(self)
        self._timer = self._loop.call_later(self._connections.keep_alive_s, self._close_if_quiet)

    def connection_lost(self, exc: Exception | None) -> None:
        """End; an answer under way is finished and thrown away."""
        self._connections.open.discard(self)
        self._transport = None
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._connections.abandoned.add(self._task)
            self._task.add_done_callback(self._connections.abandoned.discard)

    def data_received(self, data: bytes) -> None:
        """Parse what has come."""
        if self._refused:
            return
        # the parser keeps a line until it is complete, so what is not body is weighed here too
        self._received += len(data)
        if self._received > LONGEST_HEAD + HEAD_SLACK + _LARGEST_FRAMING * self._body_size:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._ignore_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._refuse(HTTPStatus.BAD_REQUEST)

    def eof_received(self) -> bool:
        """Keep the connection for what is still to be answered: a caller may close its own side first."""
        self._closing = True
        return self._task is not None or bool(self._waiting)

    def on_message_begin(self) -> None:
        """Forget the request before."""
        self._arriving = True
        self._url = b""
        self._headers = []
        self._head_size = 0
        self._in_body = False
        self._body = []
        self._body_size = 0

    def on_url(self, url: bytes) -> None:
        """Take a piece of the request target."""
        self._url += url
        self._weigh(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; one that comes after the body is weighed and left, for it was not there when others looked."""
        if not self._in_body:
            self._headers.append((name.lower(), value))
        self._weigh(len(name) + len(value))

    def on_headers_complete(self) -> None:
        """Ask for the body where the caller waits to be asked, unless it is too long or others are answered first."""
        self._in_body = True
        if self._parser.should_upgrade():
            return
        for name, value in self._headers:
            if name == b"expect" and value.lower() == b"100-continue" and self._transport is not None:
                declared = [int(length) for name, length in self._headers if name == b"content-length"]
                if declared and declared[0] > self._connections.body_limit():
                    self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
                elif self._task is None and self._parser.get_http_version() == "1.1":
                    self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        room = self._connections.body_limit() + 1 - self._body_size
        self._body_size += len(body)
        if room > 0:  # one byte over the limit is kept, for which the function says 413
            self._body.append(body[:room])

    def on_message_complete(self) -> None:
        """Answer, or wait for the answer before."""
        self._received = 0
        if self._parser.should_upgrade() or self._refused or self._transport is None or self._transport.is_closing():
            return
        self._arriving = False
        url = httptools.parse_url(self._url)
        path = (url.path or b"/").decode("latin-1")
        scope = {
            "type": "http",
            "method": self._parser.get_method().decode("latin-1"),
            "path": unquote(path) if "%" in path else path,
            "query_string": url.query or b"",
            "headers": self._headers,
        }
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        keep_alive = self._parser.should_keep_alive() and self._parser.get_http_version() != "1.0"
        request = WholeRequest(scope, body, keep_alive=keep_alive)
        if self._task is not None or not self._may_write:
            self._waiting.append(request)
            if len(self._waiting) >= MOST_PIPELINED:
                self._transport.pause_reading()
        else:
            self._task = self._loop.create_task(self._answer(request))

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Take the request as if it had not offered another protocol; `rest`: what came after its head."""
        method = self._parser.get_method()
        if method == b"CONNECT":
            self._refuse(HTTPStatus.METHOD_NOT_ALLOWED)
            return
        headers = [(name, value) for name, value in self._headers if name not in _OFFER]
        if any(name == b"connection" and b"close" in value.lower() for name, value in self._headers):
            headers.append((b"connection", b"close"))
        head = b"".join(b"%b: %b\r\n" % header for header in headers)
        self._parser = httptools.HttpRequestParser(self)
        self.data_received(b"%b %b HTTP/1.1\r\n%b\r\n%b" % (method, self._url, head, rest))

    async def _answer(self, request: WholeRequest) -> None:
        try:
            reply = await self._connections.target(request)
        except Exception:
            _log.exception("a target did not answer")
            self._closing = True
            reply = Reply(500)
        self._task = None
        transport = self._transport
        if transport is None:
            return
        last = self._closing or self._connections.ending
        keep_alive = request.keep_alive and (not last or bool(self._waiting))
        transport.write(self._encoded(reply, with_body=request.scope["method"] != "HEAD", keep_alive=keep_alive))
        if not keep_alive:
            self._close()
        elif self._waiting:
            self._next()
        else:
            self._quiet_since = self._loop.time()

    def _next(self) -> None:
        if self._waiting and self._task is None and self._may_write:
            self._task = self._loop.create_task(self._answer(self._waiting.popleft()))
            if len(self._waiting) < MOST_PIPELINED and self._transport is not None:
                self._transport.resume_reading()

    def _encoded(self, reply: Reply, *, with_body: bool, keep_alive: bool) -> bytes:
        head = _STATUS_LINES.get(reply.status) or _status_line(reply.status)
        head += self._connections.date()
        for name, value in reply.headers:
            head += b"%b: %b\r\n" % (name, value)
        if not keep_alive:
            head += b"connection: close\r\n"
        body = reply.body
        if reply.status in WITHOUT_BODY:
            return head + b"\r\n"
        return b"%bcontent-length: %d\r\n\r\n%b" % (head, len(body), body if with_body else b"")

    def _weigh(self, size: int) -> None:
        self._head_size += size
        if self._head_size > LONGEST_HEAD:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    def _refuse(self, status: HTTPStatus) -> None:
        """Answer what is no request, and close: after a fault in its syntax a connection cannot be trusted."""
        self._refused = self._closing = True
        self._arriving = False
        if self._task is None and self._transport is not None and not self._transport.is_closing():
            body = b'{"type":"about:blank","title":"%b","status":%d}' % (status.phrase.encode(), status)
            reply = Reply(status, body, [(b"content-type", b"application/problem+json")])
            self._transport.write(self._encoded(reply, with_body=True, keep_alive=False))
            self._close()

    def _close(self) -> None:
        """Close once everything is written, or the caller has had time enough to read it."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.close()
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_later(LINGER_S, self.abort)

    def _close_if_quiet(self) -> None:
        rest = self._connections.keep_alive_s
        if self._task is None:
            rest += self._quiet_since - self._loop.time()
        if rest > 0:
            self._timer = self._loop.call_later(rest, self._close_if_quiet)
        else:
            self._close()

    def shutdown(self, *, wait: bool) -> None:
        """Close after the answer under way, and with `wait` after that to a request that is arriving."""
        self._closing = True
        if self._task is None and not (self._waiting and self._may_write) and not (wait and self._arriving):
            self._close()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    def pause_writing(self) -> None:
        """Answer no further while the caller does not read."""
        self._may_write = False

    def resume_writing(self) -> None:
        """Go on."""
        self._may_write = True
        self._next()


_OFFER = (b"upgrade", b"connection", b"http2-settings")
_LARGEST_FRAMING = 8  # a chunk of one byte takes five more


def _status_line(status: int) -> bytes:
    return b"HTTP/1.1 %d %b\r\n" % (status, HTTPStatus(status).phrase.encode())


_STATUS_LINES = {status.value: _status_line(status) for status in HTTPStatus if status.value >= HTTPStatus.OK}
