"""Functions as processes: the production entry point on a real port, and functions-framework beside it."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from functions.local.ports import ReservedPort
from functions.local.servers import LocalServers
from shared.storage.redis_drain import read_journal
from tests.stage import Stage, run

ROOT = Path(__file__).resolve().parents[2]
START_LIMIT_S = 20.0
STOP_LIMIT_S = 20.0
TRACE = "0af7651916cd43dd8448eb211c80319c"
MIB = 1 << 20


class Hosted:
    """A process that serves one function."""

    def __init__(self, command: list[str], servers: LocalServers, log: Path, **settings: str) -> None:
        """Start it on a free port; `settings` are further environment variables."""
        self._ports = [ReservedPort(), ReservedPort()]
        self.port, self.metrics_port = (port.number for port in self._ports)
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "KNUDGE_REDIS_URL": servers.redis_url,
            "KNUDGE_DATABASE_URL": servers.database_url,
            "KNUDGE_SERVER_KEY": servers.server_key,
            "KNUDGE_METRICS_PORT": str(self.metrics_port),
            "PORT": str(self.port),
            "KNUDGE_JOURNAL_WAIT_MS": "2000",
            "K_REVISION": "hosted-00001",
        }
        self.log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [part.replace("$PORT", str(self.port)) for part in command],
                cwd=ROOT,
                env=environment | settings,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def wait_ready(self) -> None:
        """Return once it answers that it is ready."""
        deadline = time.monotonic() + START_LIMIT_S
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log.read_text()
            with contextlib.suppress(OSError):
                if self.call("GET", "/health/ready")[0] == 200:
                    return
            time.sleep(0.05)
        raise AssertionError(f"not ready in {START_LIMIT_S:.0f} s: {self.log.read_text()}")

    def call(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        """Return status and decoded body of one request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            return ask(connection, method, path, body, headers)
        finally:
            connection.close()

    def raw(self, sent: bytes, *, hang_up: bool = False) -> bytes:
        """Send bytes on a connection of its own; return what comes back until it is quiet or closed."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall(sent)
            if hang_up:
                return b""
            received = b""
            connection.settimeout(0.5)
            with contextlib.suppress(TimeoutError, ConnectionResetError):
                while piece := connection.recv(65_536):
                    received += piece
            return received

    def lines(self) -> list[dict[str, Any]]:
        """Return its log, every line of which must be a JSON object."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def stop(self) -> int:
        """Send SIGTERM; return the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            for port in self._ports:
                port.release()


def ask(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: Any = None,
    headers: dict[str, str] | None = None,
) -> tuple[int, Any]:
    """Return status and decoded body of one request on an open connection."""
    content = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
    connection.request(method, path, content, headers or {})
    answer = connection.getresponse()
    received = answer.read()
    return answer.status, json.loads(received) if received else None


def ours(name: str) -> list[str]:
    """Return the command of the production entry point."""
    return [sys.executable, "-m", "shared.edge.hosting", name]


@contextlib.contextmanager
def hosted(name: str, servers: LocalServers, folder: Path, **settings: str) -> Iterator[Hosted]:
    """Serve a function by the production entry point, until the block ends."""
    process = Hosted(ours(name), servers, folder / f"{name}.log", **settings)
    try:
        process.wait_ready()
        yield process
    finally:
        process.stop()


@pytest.fixture(scope="module")
def recommend(servers: LocalServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosted]:
    """Serve `recommend`, with a policy named `hosted` to decide by."""

    async def write(stage: Stage) -> None:
        await stage.policy("hosted")

    run(servers, write)
    with hosted("recommend", servers, tmp_path_factory.mktemp("hosted"), KNUDGE_LOG_LEVEL="debug") as process:
        yield process


def check_serves(process: Hosted) -> None:
    """Check that a decision is made, by a revision that names itself."""
    status, answer = process.call("POST", "/v1/recommend", {"policy": "hosted"})
    assert (status, answer["policy"], answer["degraded"]) == (200, "hosted", False)


# The production entry point


def test_a_process_is_ready_and_describes_itself(recommend: Hosted) -> None:
    """Health answers quickly, OpenAPI names the routes, and a request is decided."""
    began = time.monotonic()
    assert recommend.call("GET", "/health/ready") == (200, {"status": "ok"})
    assert recommend.call("GET", "/health/live") == (200, {"status": "ok"})
    assert time.monotonic() - began < 1
    status, document = recommend.call("GET", "/openapi.json")
    assert (status, document["openapi"]) == (200, "3.1.0")
    assert "/v1/recommend" in document["paths"]
    check_serves(recommend)


def test_a_connection_is_kept_and_reused(recommend: Hosted) -> None:
    """Requests, refused ones among them, follow one another on one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", recommend.port, timeout=10)
    connection.connect()
    first = connection.sock
    for body, expected in [({"policy": "hosted"}, 200), ({}, 400), (b"nonsense", 400), ({"policy": "hosted"}, 200)]:
        assert ask(connection, "POST", "/v1/recommend", body)[0] == expected
        assert connection.sock is first
    assert ask(connection, "GET", "/nowhere")[0] == 404
    assert connection.sock is first
    connection.close()


def test_pipelined_requests_are_answered_in_order(recommend: Hosted) -> None:
    """Several requests sent at once on one connection are answered one by one, in the order sent."""
    body = b'{"policy": "hosted", "count": %d}'
    sent = b"".join(
        b"POST /v1/recommend HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(body % count), body % count)
        for count in (1, 2, 3, 2, 1)
    )
    received = recommend.raw(sent)
    assert received.count(b"HTTP/1.1 200 OK\r\n") == 5
    sizes = [part.count(b'"propensity"') for part in received.split(b"HTTP/1.1 ")[1:]]
    assert sizes == [1, 2, 3, 2, 1]


def test_http_as_it_comes(recommend: Hosted) -> None:
    """HEAD, chunked bodies, a body that is asked for first, HTTP/1.0 and queries are served as HTTP says."""
    body = b'{"policy": "hosted"}'
    post = b"POST /v1/recommend%b HTTP/1.%d\r\nhost: x\r\n%b\r\n%b"
    length = b"content-length: %d\r\n" % len(body)
    assert b" 200 " in recommend.raw(
        post % (b"", 1, b"transfer-encoding: chunked\r\n", b"8\r\n%b\r\nc\r\n%b\r\n0\r\n\r\n" % (body[:8], body[8:]))
    )
    assert b" 200 " in recommend.raw(post % (b"?a=b%00", 1, length, body))
    assert b" 200 " in recommend.raw(post % (b"", 0, length, body))
    answer = recommend.raw(post % (b"", 1, length + b"expect: 100-continue\r\n", body))
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 ")
    head = recommend.raw(b"HEAD /health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert head.endswith(b"\r\n\r\n")


def test_what_is_no_http_is_refused(recommend: Hosted) -> None:
    """Odd bytes, odd paths and odd headers are answered with a 4xx, and the process goes on serving."""
    for sent in (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"NOPE /health/live HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /v1/\xff\xfe HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /%00 HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /v1/policies/%00%ff%ed%a0%80 HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /%zz HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET http://[::1 HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET " + b"/a" * 40_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /health/live HTTP/1.1\r\nx-long: " + b"a" * 70_000 + b"\r\n\r\n",
        b"GET /health/live HTTP/1.1\r\nno colon\r\n\r\n",
        b"POST /v1/recommend HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        b"POST /v1/recommend HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{} ",
        b"POST /v1/recommend HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"POST /v1/recommend HTTP/1.1\r\nhost: x\r\nx-client-id: a\r\nx-client-id: b\r\ncontent-length: 2\r\n\r\n{}",
        b"POST /v1/recommend HTTP/1.1\r\nhost: x\r\nx-client-id: \xc3\xbc\r\ncontent-length: 2\r\n\r\n{}",
    ):
        answer = recommend.raw(sent)
        assert answer.startswith(b"HTTP/1.1 4"), (sent[:80], answer[:200])
        assert answer.count(b"HTTP/1.1 ") == 1, (sent[:80], answer[:400])
    check_serves(recommend)
    assert [line for line in recommend.lines() if line["level"] == "error"] == []


@pytest.mark.parametrize("piece", [2 * MIB, 700_000, 10_000])
def test_a_body_over_the_limit_is_a_413(recommend: Hosted, piece: int) -> None:
    """A body that is too long is refused as such, however it is cut into pieces."""
    body = b'{"policy": "hosted"}'.ljust(MIB + MIB // 2)
    with socket.create_connection(("127.0.0.1", recommend.port), timeout=5) as connection:
        connection.sendall(b"POST /v1/recommend HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for start in range(0, len(body), piece):
                connection.sendall(body[start : start + piece])
                time.sleep(0.0005)
        assert connection.recv(65_536).startswith(b"HTTP/1.1 413 ")
    check_serves(recommend)


def test_a_caller_that_hangs_up_harms_nobody(recommend: Hosted) -> None:
    """Connections that end in the middle of a head, a body or an answer leave no fault, and others are answered."""
    body = b'{"policy": "hosted"}'
    head = b"POST /v1/recommend HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n"
    for _ in range(10):
        recommend.raw(b"POST /v1/reco", hang_up=True)
        recommend.raw(head % 1_000 + b'{"policy"', hang_up=True)
        recommend.raw(head % len(body) + body, hang_up=True)
        recommend.raw((head % len(body) + body) * 20, hang_up=True)
    check_serves(recommend)
    assert [line for line in recommend.lines() if line["level"] == "error"] == []


def test_metrics_have_a_port_of_their_own(recommend: Hosted) -> None:
    """Prometheus finds the mission's metrics on the metrics port, and nothing of them on the functions' port."""
    for _ in range(2):  # the first one may have to fetch the snapshot, the second finds it in memory
        check_serves(recommend)
    deadline = time.monotonic() + 5
    shown = ""
    while "recommendation_latency_seconds_count" not in shown and time.monotonic() < deadline:
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"http://127.0.0.1:{recommend.metrics_port}/metrics", timeout=5) as page,
        ):
            shown = page.read().decode()
    samples = {line.partition(" ")[0]: float(line.rpartition(" ")[2]) for line in shown.splitlines() if line[:1] != "#"}
    assert samples['recommendation_latency_seconds_count{degraded="false"}'] >= 1
    assert samples['recommendation_latency_seconds_bucket{degraded="false",le="+Inf"}'] >= 1
    assert 0 < samples["cache_hit_rate_ratio"] <= 1
    assert sum(value for name, value in samples.items() if name.startswith('bandit_arm_selections_total{action="')) >= 1
    assert samples['http_requests_total{status="200"}'] >= 1
    assert samples["http_request_latency_seconds_count"] == sum(
        value for name, value in samples.items() if name.startswith("http_requests_total{")
    )
    assert samples["journal_dropped_decisions_total"] == 0
    for name in ("feedback_processed", "model_accuracy_ratio", "learning_latency_seconds", "decisions_archived"):
        assert f"# TYPE {name}" in shown
    assert recommend.call("GET", "/metrics")[0] == 404


def test_logs_are_json_with_traces(recommend: Hosted) -> None:
    """Every line is an object; what is logged for a request carries its trace, and names no user."""
    trace = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
    _, answer = recommend.call("POST", "/v1/recommend", {"policy": "hosted", "user_id": "ann-the-user"}, trace)
    recommend.call("POST", "/v1/recommend", {"policy": 1}, trace)
    deadline = time.monotonic() + 5
    mine: list[dict[str, Any]] = []
    while len(mine) < 2 and time.monotonic() < deadline:
        mine = [line for line in recommend.lines() if line.get("trace_id") == TRACE]
    decided = next(line for line in mine if line["message"] == "decided")
    assert decided["decision_id"] == answer["decision_id"]
    assert {"time", "level", "function", "logger", "message", "trace_id", "span_id"} <= set(decided)
    assert (decided["level"], decided["function"]) == ("debug", "recommend")
    refused = next(line for line in mine if line["message"] == "refused")
    assert (refused["problem"], refused["field"]) == ("invalid-input", "policy")
    assert "ann-the-user" not in recommend.log.read_text()


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("recommend", {}, ["KNUDGE_REDIS_URL is missing", "KNUDGE_SERVER_KEY is missing"]),
        ("feedback", {}, ["KNUDGE_DATABASE_URL is missing", "KNUDGE_SERVER_KEY is missing"]),
        ("learn", {}, ["KNUDGE_REDIS_URL is missing", "KNUDGE_DATABASE_URL is missing"]),
        (
            "control",
            {"KNUDGE_SERVER_KEY": "short", "PORT": "http", "KNUDGE_LOG_LEVEL": "loud"},
            ["KNUDGE_REDIS_URL", "KNUDGE_DATABASE_URL", "KNUDGE_SERVER_KEY must", "PORT must", "KNUDGE_LOG_LEVEL must"],
        ),
    ],
)
def test_missing_settings_are_all_named(name: str, given: dict[str, str], said: list[str]) -> None:
    """A process without its settings says everything that is wrong at once, and exits with 2."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)} | given
    ended = subprocess.run(
        ours(name), cwd=ROOT, env=environment, capture_output=True, text=True, timeout=20, check=False
    )
    assert ended.returncode == 2
    for part in said:
        assert part in ended.stderr
    assert "Traceback" not in ended.stderr


async def press(port: int, request: bytes, answers: list[bytes]) -> None:
    """Repeat a request on one connection until an answer says that it is the last, and keep the answers."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        while True:
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
            answers.append(head[9:12] + await reader.readexactly(length))
            if b"\r\nconnection: close\r\n" in head:
                return
    finally:
        writer.close()


def stop_under_load(process: Hosted, requests: list[bytes]) -> list[bytes]:
    """Send requests on as many connections, SIGTERM after a while; return the answers, status first."""
    answers: list[bytes] = []

    async def main() -> None:
        pressing = [asyncio.create_task(press(process.port, request, answers)) for request in requests]
        async with asyncio.timeout(15):
            while len(answers) < 300:  # noqa: ASYNC110 - the load sets no event
                await asyncio.sleep(0.01)
            process.process.send_signal(signal.SIGTERM)
            await asyncio.gather(*pressing)

    asyncio.run(main())
    return answers


def posted(path: str, body: dict[str, Any]) -> bytes:
    """Return a request as bytes."""
    content = json.dumps(body).encode()
    return b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (path.encode(), len(content), content)


def test_sigterm_under_load_loses_no_decision(servers: LocalServers, tmp_path: Path) -> None:
    """A process that is told to stop answers what is under way, exits with 0, and has journalled every decision it gave."""
    names: list[str] = []

    async def write(stage: Stage) -> None:
        names.append(await stage.policy())

    run(servers, write)
    with hosted("recommend", servers, tmp_path) as process:
        answers = stop_under_load(process, [posted("/v1/recommend", {"policy": names[0]})] * 8)
        assert process.stop() == 0, process.log.read_text()
    assert {answer[:3] for answer in answers} == {b"200"}
    given = {json.loads(answer[3:])["decision_id"] for answer in answers}
    assert len(given) == len(answers)

    async def look(stage: Stage) -> None:
        decisions = (await read_journal(stage.redis, names[0], 1_000_000)).decisions
        assert given <= {decision.decision_id for decision in decisions}
        assert {decision.revision for decision in decisions} == {"hosted-00001"}

    run(servers, look)


def test_sigterm_under_load_loses_no_feedback(servers: LocalServers, tmp_path: Path) -> None:
    """A process that is told to stop has committed every feedback that it acknowledged, and exits with 0."""
    decisions: list[str] = []

    async def write(stage: Stage) -> None:
        policy = await stage.policy()
        decisions.extend([(await stage.recommend(policy))["decision_id"] for _ in range(8)])

    run(servers, write)
    with hosted("feedback", servers, tmp_path) as process:
        requests = [posted("/v1/feedback", {"decision_id": name, "kind": "click"}) for name in decisions]
        answers = stop_under_load(process, requests)
        assert process.stop() == 0, process.log.read_text()
    assert {answer[:3] for answer in answers} == {b"200"}
    accepted = sum(json.loads(answer[3:])["accepted"] for answer in answers)

    async def look(stage: Stage) -> None:
        rows = stage.sql("select 1 from feedback where decision_id = any(%s::uuid[])", decisions)
        assert len(rows) == accepted == 8

    run(servers, look)


def test_sigterm_ends_an_idle_process_at_once(servers: LocalServers, tmp_path: Path) -> None:
    """Idle connections that are kept open do not hold a process up."""
    with hosted("recommend", servers, tmp_path) as process:
        idle = [socket.create_connection(("127.0.0.1", process.port)) for _ in range(3)]
        idle[0].sendall(b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n")
        assert idle[0].recv(1_000).startswith(b"HTTP/1.1 200 ")
        idle[1].sendall(b"POST /v1/recommend HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
        began = time.monotonic()
        assert process.stop() == 0
        assert time.monotonic() - began < 5
        for connection in idle:
            connection.close()


def test_sigterm_waits_for_a_request_that_is_arriving(servers: LocalServers, tmp_path: Path) -> None:
    """A request of which only a part had come when the process was told to stop is answered, and its connection closed."""
    sent = posted("/v1/recommend", {"policy": "nobody", "actions": ["a"]})
    with hosted("recommend", servers, tmp_path) as process:
        with socket.create_connection(("127.0.0.1", process.port), timeout=5) as connection:
            connection.sendall(sent[:-5])
            assert process.call("GET", "/health/live")[0] == 200  # what was sent before has arrived
            process.process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
            connection.sendall(sent[-5:])
            answer = connection.recv(10_000)
            assert answer.startswith(b"HTTP/1.1 "), answer
            assert b"connection: close\r\n" in answer
            assert connection.recv(10) == b""
        assert process.stop() == 0


# functions-framework


def test_functions_framework_hosts_every_function(servers: LocalServers, tmp_path: Path) -> None:
    """`functions-framework --target NAME --asgi` serves all four: a policy is written, used, fed back and learned."""
    script = Path(sys.executable).with_name("functions-framework")
    with contextlib.ExitStack() as stack:
        processes = {}
        for name in ("recommend", "feedback", "learn", "control"):
            source = f"functions/{name}/func.py"
            command = [str(script), "--target", name, "--asgi", "--source", source, "--port", "$PORT"]
            process = Hosted(command, servers, tmp_path / f"{name}.log")
            stack.callback(process.stop)
            processes[name] = process
        for process in processes.values():
            process.wait_ready()
        spec = {"kind": "thompson", "actions": ["a", "b"], "reward": {"click": 1.0}}
        assert processes["control"].call("PUT", "/v1/policies/framework", spec)[0] == 201
        status, decision = processes["recommend"].call("POST", "/v1/recommend", {"policy": "framework"})
        assert (status, decision["degraded"]) == (200, False)
        body = {"decision_id": decision["decision_id"], "kind": "click"}
        assert processes["feedback"].call("POST", "/v1/feedback", body) == (200, {"accepted": 1, "duplicates": 0})
        event = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "t", "ce-type": "dev.knudge.learning.due.v1"}
        due = processes["learn"].call(
            "POST", "/", {"policy": "framework"}, event | {"content-type": "application/json"}
        )
        assert due == (204, None)
        status, policy = processes["control"].call("GET", "/v1/policies/framework")
        assert status == 200
        assert [(a["action"], a["weight"]) for a in policy["snapshot"]["actions"] if a["weight"]] == [
            (decision["items"][0]["action"], 1.0)
        ]
        for process in processes.values():
            assert process.call("GET", "/nowhere")[0] == 404
            assert process.call("POST", "/", b"", event | {"ce-type": "dev.knudge.else.v1"})[0] == 422
