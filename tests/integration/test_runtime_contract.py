"""What Knative asks of a container that serves HTTP/1.1, checked on a function's process as production starts it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from functions.local.servers import LocalServers
from shared.edge import server as edge_server
from tests.hosted import Hosted, crowded
from tests.queue_proxy import IDLE_S, PROBE_LIMIT_S
from tests.stage import Stage, run

BODY = json.dumps({"policy": "contract-of-runtime", "actions": ["a", "b"]}).encode()
HEAD = b"POST /v1/recommend HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nUser-Agent: Go-http-client/1.1\r\n"
WHOLE = b"%bContent-Length: %d\r\n\r\n%b" % (HEAD, len(BODY), BODY)
PROBE = (
    b"GET /health/ready HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nUser-Agent: kube-probe/1.36\r\n"
    b"Accept-Encoding: gzip\r\nConnection: close\r\n\r\n"
)


@pytest.fixture(scope="module", autouse=True)
def policy(servers: LocalServers) -> None:
    """Write the policy that requests name."""

    async def write(stage: Stage) -> None:
        await stage.policy("contract-of-runtime", actions=["a", "b"])

    run(servers, write)


@pytest.fixture(scope="module")
def recommend(servers: LocalServers) -> Iterator[Hosted]:
    """Serve `recommend`."""
    with Hosted("recommend", servers) as process:
        yield process


def connected(process: Hosted) -> socket.socket:
    """Return a connection."""
    return socket.create_connection(("127.0.0.1", process.port), timeout=5)


def answer_on(connection: socket.socket) -> tuple[int, bytes, bytes]:
    """Read one answer with a content length; return status, head and body."""
    received = b""
    while b"\r\n\r\n" not in received:
        piece = connection.recv(65_536)
        if not piece:
            raise ConnectionResetError(received)
        received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    while len(body) < length:
        body += connection.recv(65_536)
    assert len(body) == length
    return int(head[9:12]), head, body


# Connections


def test_idle_connections_outlast_those_who_keep_them() -> None:
    """The process keeps an idle connection longer than the queue does, so it is never the one that closes."""
    assert edge_server.KEEP_ALIVE_S >= IDLE_S + 15


def test_a_connection_may_be_used_again_until_its_time_is_over(servers: LocalServers) -> None:
    """On a clock that runs 60 times as fast: 91 s of idleness, again and again, do no harm; 130 s close the connection."""
    fast = 60
    code = f"from shared.edge import hosting, server; server.KEEP_ALIVE_S /= {fast}; raise SystemExit(hosting.main())"
    with Hosted("recommend", servers, code=code) as process, connected(process) as connection:
        for _ in range(3):
            connection.sendall(WHOLE)
            assert answer_on(connection)[0] == 200
            time.sleep(91 / fast)
        connection.sendall(WHOLE)
        assert answer_on(connection)[0] == 200
        began = time.monotonic()
        assert connection.recv(10) == b""
        assert edge_server.KEEP_ALIVE_S / fast - 0.2 < time.monotonic() - began < 4


def test_connection_close_is_obeyed_and_said(recommend: Hosted) -> None:
    """A request that asks for it is the last of its connection, and the answer says so."""
    with connected(recommend) as connection:
        connection.sendall(WHOLE.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
        status, head, _ = answer_on(connection)
        assert status == 200
        assert b"\r\nconnection: close" in head.lower()
        assert connection.recv(10) == b""


def test_a_half_closed_connection_is_answered(recommend: Hosted) -> None:
    """A caller that closes its own side after the request is answered; one that closes it before is let go."""
    with connected(recommend) as connection:
        connection.sendall(WHOLE)
        connection.shutdown(socket.SHUT_WR)
        assert answer_on(connection)[0] == 200
        assert connection.recv(10) == b""
    with connected(recommend) as connection:
        connection.sendall(WHOLE[:-5])
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(10) == b""


# Bodies as Go's client sends them


def test_a_chunked_body_comes_in_pieces(recommend: Hosted) -> None:
    """Head, chunks and the end of a body each come alone, as Go writes what has no length."""
    with connected(recommend) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(2):
            pieces = [HEAD + b"Transfer-Encoding: chunked\r\nAccept-Encoding: gzip\r\n\r\n"]
            pieces += [b"%x\r\n%b\r\n" % (len(part), part) for part in (BODY[:10], BODY[10:11], BODY[11:])]
            for piece in [*pieces, b"0\r\n\r\n"]:
                connection.sendall(piece)
                time.sleep(0.02)
            assert answer_on(connection)[0] == 200


@pytest.mark.parametrize("framing", [b"Content-Length: %d\r\n" % len(BODY), b"Transfer-Encoding: chunked\r\n"])
def test_a_body_is_asked_for_before_it_is_sent(recommend: Hosted, framing: bytes) -> None:
    """Go's client waits for `100 Continue`; it comes at once, and the body then is answered."""
    with connected(recommend) as connection:
        began = time.monotonic()
        connection.sendall(HEAD + framing + b"Expect: 100-continue\r\n\r\n")
        assert connection.recv(1_000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert time.monotonic() - began < 1  # then Go would send the body unasked
        chunked = framing.startswith(b"Transfer")
        connection.sendall(b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY) if chunked else BODY)
        assert answer_on(connection)[0] == 200


# Probes


@pytest.mark.parametrize(
    "headers",
    [
        b"User-Agent: kube-probe/1.36\r\n",
        b"User-Agent: kube-probe//\r\n",
        b"User-Agent: Knative-Activator-Probe\r\nK-Network-Probe: queue\r\n",
        b"User-Agent: Go-http-client/1.1\r\nK-Network-Probe: probe\r\nK-Network-Hash: abc\r\n",
        b"User-Agent: Knative-Ingress-Probe\r\nK-Network-Probe: activator\r\n",
    ],
)
def test_probes_are_answered_whoever_sends_them(recommend: Hosted, headers: bytes) -> None:
    """Readiness does not depend on who asks: what the queue usually answers itself is answered alike where none is."""
    with connected(recommend) as connection:
        connection.sendall(b"GET /health/ready HTTP/1.1\r\nHost: x\r\n%b\r\n" % headers)
        status, _, body = answer_on(connection)
        assert (status, json.loads(body)) == (200, {"status": "ok"})


def test_probes_are_answered_in_time_under_full_load(recommend: Hosted) -> None:
    """While callers keep a process as busy as they can, probes with 100 ms for an answer do not fail three times in a row."""
    over = threading.Event()
    counted: list[int] = []

    async def press() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", recommend.port)
        with contextlib.closing(writer):
            while not over.is_set():
                writer.write(WHOLE)
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                await reader.readexactly(length)
                counted.append(int(head[9:12]))

    async def load() -> None:
        await asyncio.gather(*(press() for _ in range(32)))

    pressing = threading.Thread(target=lambda: asyncio.run(load()))
    pressing.start()
    in_a_row = most = 0
    took: list[float] = []
    try:
        for _ in range(60):
            began = time.monotonic()
            try:
                with socket.create_connection(("127.0.0.1", recommend.port), timeout=PROBE_LIMIT_S) as connection:
                    connection.sendall(PROBE)
                    ready = answer_on(connection)[0] == 200
            except OSError:
                ready = False
            took.append(time.monotonic() - began)
            in_a_row = 0 if ready and took[-1] <= PROBE_LIMIT_S else in_a_row + 1
            most = max(most, in_a_row)
            time.sleep(0.05)
    finally:
        over.set()
        pressing.join(20)
    print(f"probes: median {sorted(took)[30] * 1000:.1f} ms, slowest {max(took) * 1000:.1f} ms; load: {len(counted)}")
    assert set(counted) == {200}
    assert crowded() or (len(counted) > 1_000 and most < 3)


# The end


@pytest.mark.parametrize("first", ["requests", "signal"])
def test_requests_that_come_together_with_sigterm_are_answered(servers: LocalServers, first: str) -> None:
    """What is sent in the moment of SIGTERM, on kept connections and on new ones, is answered, and the answer is the last."""
    for _ in range(5):
        with Hosted("recommend", servers) as process, contextlib.ExitStack() as stack:
            kept = [stack.enter_context(connected(process)) for _ in range(10)]
            for connection in kept:
                connection.sendall(WHOLE)
                assert answer_on(connection)[0] == 200
            if first == "signal":
                process.process.send_signal(signal.SIGTERM)
                time.sleep(0.02)
            for connection in kept:
                connection.sendall(WHOLE)
            fresh = [stack.enter_context(connected(process)) for _ in range(10)]
            for connection in fresh:
                connection.sendall(WHOLE)
            if first == "requests":
                process.process.send_signal(signal.SIGTERM)
            answers = [answer_on(connection) for connection in kept + fresh]
            assert {status for status, _, _ in answers} == {200}
            if first == "signal":
                assert all(b"\r\nconnection: close" in head.lower() for _, head, _ in answers)
            assert process.process.wait(20) == 0
