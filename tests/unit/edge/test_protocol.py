"""The HTTP/1.1 protocol alone, over loopback sockets: what callers may do to it, and what they may not."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from shared.edge import protocol
from shared.edge.connections import Connections
from shared.edge.http import HttpRequest, Reply, WholeRequest
from shared.edge.protocol import FunctionProtocol

LIMIT = 1 << 20


async def echo(request: HttpRequest) -> Reply:
    """Answer with what was understood."""
    assert isinstance(request, WholeRequest)
    scope = request.scope
    headers = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]]
    understood = {"method": scope["method"], "path": scope["path"], "headers": headers, "body": request.body.decode()}
    return Reply(200, json.dumps(understood).encode())


def serve(
    play: Callable[[int, Connections], Awaitable[None]],
    target: Callable[[HttpRequest], Awaitable[Reply]] = echo,
    keep_alive_s: float = 60.0,
) -> None:
    """Serve `target` on a free port while `play` runs."""

    async def main() -> None:
        connections = Connections(target, lambda: LIMIT, keep_alive_s)
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: FunctionProtocol(connections), "127.0.0.1", 0)
        try:
            await play(server.sockets[0].getsockname()[1], connections)
        finally:
            server.close()
            for connection in list(connections.open):
                connection.abort()
            await asyncio.sleep(0.01)

    asyncio.run(main())


async def ask(port: int, *pieces: bytes, half_close: bool = False) -> bytes:
    """Send pieces one after another; return all that comes back until the other side closes, or is quiet."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0.01)
    if half_close:
        writer.write_eof()
    received = b""
    try:
        async with asyncio.timeout(0.5):
            while piece := await reader.read(65_536):
                received += piece
    except TimeoutError:
        pass
    writer.close()
    return received


def bodies(answer: bytes) -> list[Any]:
    """Return the decoded bodies of 200 answers."""
    return [json.loads(part.partition(b"\r\n\r\n")[2]) for part in answer.split(b"HTTP/1.1 200 OK\r\n")[1:]]


@pytest.mark.parametrize("cut", [30, 150, 4_000])
def test_an_offer_to_upgrade_is_not_taken(cut: int) -> None:
    """A request that offers h2c is answered as it is, its body included, and the one pipelined behind it as well."""
    sent = (
        b"POST /a HTTP/1.1\r\nhost: x\r\nconnection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AA\r\n"
        b"content-length: 5\r\n\r\nhelloGET /b HTTP/1.1\r\nhost: x\r\n\r\n"
    )

    async def play(port: int, connections: Connections) -> None:
        first, second = bodies(await ask(port, sent[:cut], sent[cut:]))
        assert (first["method"], first["path"], first["body"]) == ("POST", "/a", "hello")
        assert [name for name, _ in first["headers"]] == ["host", "content-length"]
        assert (second["method"], second["path"]) == ("GET", "/b")
        refused = await ask(port, b"CONNECT x:80 HTTP/1.1\r\nhost: x\r\n\r\n")
        assert refused.startswith(b"HTTP/1.1 405 ")

    serve(play)


def test_trailers_are_not_headers() -> None:
    """What comes after a chunked body does not change what the head has said."""
    sent = (
        b"POST / HTTP/1.1\r\nhost: x\r\nx-client-id: honest\r\ntransfer-encoding: chunked\r\n\r\n"
        b"2\r\nhi\r\n0\r\nx-client-id: other\r\n\r\n"
    )

    async def play(port: int, connections: Connections) -> None:
        [understood] = bodies(await ask(port, sent))
        assert [value for name, value in understood["headers"] if name == "x-client-id"] == ["honest"]

    serve(play)


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nhost: x\r\nx-long: ",
        b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\nx-long: ",
    ],
)
def test_a_line_that_never_ends_is_cut_off(head: bytes) -> None:
    """A header or trailer line is refused once it is too long, before it is complete."""

    async def play(port: int, connections: Connections) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head)
        sent = 0
        try:
            while sent < 8 * LIMIT:
                writer.write(b"a" * 65_536)
                sent += 65_536
                async with asyncio.timeout(2):
                    await writer.drain()
                await asyncio.sleep(0)
        except ConnectionError:
            pass
        writer.close()
        assert sent < 4 * LIMIT

    serve(play)


def test_a_caller_may_close_its_own_side() -> None:
    """Requests sent before a half-close are answered, all of them, and then the connection is closed."""

    async def slow(request: HttpRequest) -> Reply:
        await asyncio.sleep(0.05)
        return await echo(request)

    async def play(port: int, connections: Connections) -> None:
        sent = b"GET /%d HTTP/1.1\r\nhost: x\r\n\r\n"
        answer = await ask(port, sent % 1 + sent % 2 + sent % 3, half_close=True)
        assert [body["path"] for body in bodies(answer)] == ["/1", "/2", "/3"]
        assert not connections.open

    serve(play, slow)


def test_a_body_is_asked_for_where_it_will_be_taken() -> None:
    """100 Continue goes to HTTP/1.1 callers whose body is short enough; a longer one is refused at once."""
    post = b"POST / HTTP/1.%d\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: %d\r\n\r\n"

    async def play(port: int, connections: Connections) -> None:
        assert (await ask(port, post % (1, 2))).startswith(b"HTTP/1.1 100 Continue\r\n")
        assert (await ask(port, post % (1, LIMIT + 1))).startswith(b"HTTP/1.1 413 ")
        assert (await ask(port, post % (0, 2), b"hi")).startswith(b"HTTP/1.1 200 ")

    serve(play)


def test_http_1_0_is_answered_and_closed() -> None:
    """A 1.0 caller that asks to keep the connection is told that it is not kept."""

    async def play(port: int, connections: Connections) -> None:
        answer = await ask(port, b"GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n")
        assert b"connection: close\r\n" in answer
        assert not connections.open

    serve(play)


def test_who_does_not_read_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection whose caller does not read its answer is closed after the keep-alive time, and then aborted."""
    monkeypatch.setattr(protocol, "LINGER_S", 0.2)

    async def much(request: HttpRequest) -> Reply:
        return Reply(200, b"x" * 20_000_000)

    async def play(port: int, connections: Connections) -> None:
        caller = socket.create_connection(("127.0.0.1", port))
        caller.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        await asyncio.sleep(0.1)
        assert connections.open
        await asyncio.sleep(0.9)
        assert not connections.open
        caller.close()

    serve(play, much, keep_alive_s=0.3)


def test_a_fault_in_the_syntax_is_named() -> None:
    """What is no HTTP is answered by a problem document, once, and the connection is closed."""

    async def play(port: int, connections: Connections) -> None:
        answer = await ask(port, b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        assert answer.count(b"HTTP/1.1 ") == 1
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert b"content-type: application/problem+json" in head
        assert json.loads(body) == {"type": "about:blank", "title": "Bad Request", "status": 400}

    serve(play)
