"""Knative's queue-proxy, played: what stands in front of the function in every pod, as far as a function can tell.

After `pkg/queue` of Knative Serving and the Go transport below it:

- A kept connection to the function is used again, the youngest first, for up to 90 s of idleness. One that the function
  closed before is left out, but a request that is written to one that closes meanwhile has failed: Go sends again only
  what has no body, so a POST becomes a 502.
- Readiness is asked for every 50 ms on a connection of its own, with 100 ms for the answer, as `kube-probe`. Probes of the
  kubelet, the activator and the ingress are for the queue: it answers them, and refuses them while it drains.
- A drain ends when no request has come for the quiet period (30 s in a cluster). Then the function is told to end, and the
  queue ends too, after the answers that are under way.
- At most `limit` requests are with the function (0: any number), ten times that wait, and further ones are a 503.

Requests keep their framing and get `X-Forwarded-For`. They pass as a whole, where the real one streams.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import NamedTuple

IDLE_S = 90.0
PROBE_EVERY_S = 0.05
PROBE_LIMIT_S = 0.1
READY_S = 30.0
WAITING_PER_PLACE = 10
LOOPBACK = "127.0.0.1"
_ANSWER_S = 30.0
_HOP_BY_HOP = {b"connection", b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"content-length"}
_SENT_AGAIN = {b"GET", b"HEAD", b"OPTIONS", b"TRACE"}
_BODILESS = {b"204", b"304"}


class Message(NamedTuple):
    """A request or an answer; names of headers in lower case."""

    line: bytes
    headers: dict[bytes, bytes]
    body: bytes

    @property
    def closes(self) -> bool:
        """Whether its connection ends with it."""
        return b"close" in self.headers.get(b"connection", b"").lower()

    def encoded(self, more: Mapping[bytes, bytes] | None = None) -> bytes:
        """Return it as it is sent on: without what concerned the connection that it came by."""
        headers = {name: value for name, value in self.headers.items() if name not in _HOP_BY_HOP} | dict(more or {})
        body = self.body
        if b"transfer-encoding" in self.headers:
            headers[b"transfer-encoding"] = b"chunked"
            body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"
        elif body or b"content-length" in self.headers:
            headers[b"content-length"] = b"%d" % len(body)
        head = b"".join(b"%b: %b\r\n" % (name.title(), value) for name, value in headers.items())
        return b"%b\r\n%b\r\n%b" % (self.line, head, body)


class Line(NamedTuple):
    """A connection to the function, and when it was last used."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    used_at: float


class QueueProxy:
    """The queue of one pod, on a port of its own."""

    def __init__(self, function_port: int, *, quiet_s: float, limit: int = 0) -> None:
        """Stand in front of the function on `function_port`."""
        self.port = 0
        self.faults: list[str] = []
        self.probes_ms: list[float] = []
        self.probes_failed = 0
        self._function_port = function_port
        self._quiet_s = quiet_s
        self._limit = limit
        self._room = asyncio.Semaphore(limit or 1_000_000)
        self._under_way = 0
        self._idle: list[Line] = []
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._busy: set[asyncio.Task[None]] = set()
        self._quiet_since: float | None = None
        self._stopping = False

    async def start(self) -> None:
        """Listen; the function need not be there yet."""
        self._server = await asyncio.start_server(self._serve, LOOPBACK, 0, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]

    async def wait_ready(self) -> None:
        """Probe until the function is ready."""
        async with asyncio.timeout(READY_S):
            while not await self.probe():  # noqa: ASYNC110 - as the real one does
                await asyncio.sleep(PROBE_EVERY_S)

    async def probe(self) -> bool:
        """Ask the function once whether it is ready."""
        began = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(PROBE_LIMIT_S):
                line = await self._dial()
                try:
                    line.writer.write(_PROBE)
                    ready = (await _read(line.reader)).line.split(b" ")[1] in {b"200", b"204"}
                finally:
                    line.writer.close()
        except (OSError, asyncio.IncompleteReadError):  # TimeoutError is an OSError
            ready = False
        if ready:
            self.probes_ms.append((asyncio.get_running_loop().time() - began) * 1000)
        else:
            self.probes_failed += 1
        return ready

    async def drain(self) -> None:
        """Return when no request has come for the quiet period."""
        loop = asyncio.get_running_loop()
        self._quiet_since = loop.time()
        while (rest := self._quiet_since + self._quiet_s - loop.time()) > 0:  # noqa: ASYNC110 - requests put it off
            await asyncio.sleep(rest)

    async def stop(self) -> None:
        """End after the answers under way."""
        self._stopping = True
        self._server.close()
        for task, writer in list(self._connections.items()):
            if task not in self._busy:
                writer.close()
        if self._connections:
            await asyncio.wait(self._connections, timeout=_ANSWER_S)
        while self._idle:
            self._idle.pop().writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections[task] = writer
        try:
            while not self._stopping:
                request = await _read(reader)
                self._busy.add(task)
                answer = await self._answered(request)
                closing = request.closes or self._stopping
                writer.write(answer.encoded({b"connection": b"close"} if closing else None))
                await writer.drain()
                self._busy.discard(task)
                if closing:
                    break
        except (OSError, asyncio.IncompleteReadError):
            pass  # the caller hung up
        finally:
            self._busy.discard(task)
            del self._connections[task]
            writer.close()

    async def _answered(self, request: Message) -> Message:
        from_prober = request.headers.get(b"user-agent", b"").startswith(_PROBERS)
        if from_prober or request.headers.get(b"k-network-probe") == b"probe":
            return await self._about(request, from_prober=from_prober)
        if self._quiet_since is not None:
            self._quiet_since = asyncio.get_running_loop().time()
        if self._limit and self._under_way >= self._limit * (1 + WAITING_PER_PLACE):
            return _plain(b"503 Service Unavailable", b"pending request queue full")
        self._under_way += 1
        try:
            async with self._room:
                return await self._passed_on(request)
        except (OSError, asyncio.IncompleteReadError) as error:
            self.faults.append(f"{request.line.decode()}: {error!r}")
            return _plain(b"502 Bad Gateway", repr(error).encode())
        finally:
            self._under_way -= 1

    async def _about(self, request: Message, *, from_prober: bool) -> Message:
        if self._quiet_since is not None:
            return _plain(b"503 Service Unavailable", b"shutting down")
        if not from_prober:
            return _plain(b"200 OK" if request.headers.get(b"k-network-hash") else b"400 Bad Request", b"")
        if request.headers.get(b"k-network-probe") != b"queue":
            return _plain(b"400 Bad Request", b"unexpected probe header value")
        return _plain(b"200 OK", b"queue") if await self.probe() else _plain(b"503 Service Unavailable", b"")

    async def _passed_on(self, request: Message) -> Message:
        method = request.line.partition(b" ")[0]
        encoded = request.encoded({b"x-forwarded-for": b"127.0.0.1"})
        while True:
            line = self._kept()
            used_before = line is not None
            line = line or await self._dial()
            try:
                async with asyncio.timeout(_ANSWER_S):
                    line.writer.write(encoded)
                    answer = await _read(line.reader, bodiless=method == b"HEAD")
            except (OSError, asyncio.IncompleteReadError):
                line.writer.close()
                if used_before and not request.body and method in _SENT_AGAIN:
                    continue
                raise
            if answer.closes:
                line.writer.close()
            else:
                self._idle.append(line._replace(used_at=asyncio.get_running_loop().time()))
            return answer

    def _kept(self) -> Line | None:
        now = asyncio.get_running_loop().time()
        while self._idle:
            line = self._idle.pop()
            if line.used_at + IDLE_S > now and not line.reader.at_eof() and not line.writer.is_closing():
                return line
            line.writer.close()
        return None

    async def _dial(self) -> Line:
        reader, writer = await asyncio.open_connection(LOOPBACK, self._function_port)
        return Line(reader, writer, 0.0)


_PROBERS = (b"kube-probe/", b"Knative-Activator-Probe", b"Knative-Autoscaling-Probe")
_PROBE = (
    b"GET /health/ready HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: kube-probe//\r\n"
    b"Accept-Encoding: gzip\r\nConnection: close\r\n\r\n"
)


def _plain(status: bytes, body: bytes) -> Message:
    return Message(b"HTTP/1.1 " + status, {b"content-type": b"text/plain", b"content-length": b""}, body)


async def _read(reader: asyncio.StreamReader, *, bodiless: bool = False) -> Message:
    """Return the next message; an answer is never an interim one."""
    while True:
        head = await reader.readuntil(b"\r\n\r\n")
        line, *rest = head[:-4].split(b"\r\n")
        pairs = (header.split(b":", 1) for header in rest)
        headers = {name.lower(): value.strip() for name, value in pairs}
        status = line.split(b" ")[1]
        if not line.startswith(b"HTTP/1.1 1"):
            break
    if bodiless or (line.startswith(b"HTTP/") and status in _BODILESS):
        return Message(line, headers, b"")
    if headers.get(b"transfer-encoding", b"").lower() == b"chunked":
        return Message(line, headers, await _read_chunks(reader))
    return Message(line, headers, await reader.readexactly(int(headers.get(b"content-length", b"0"))))


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16):
        body += (await reader.readexactly(size + 2))[:-2]
    while (await reader.readuntil(b"\r\n")) != b"\r\n":
        pass
    return body
