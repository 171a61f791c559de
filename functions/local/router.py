"""One address for everything: the application that stands before the functions of a local run.

`/v1/…` goes to the function that owns the path, `/functions/<name>/…` to that function with the prefix taken off, `POST /` to
the broker, `POST /jobsinks/<name>/` to that JobSink; a function in a process of its own is reached through a proxy. `GET /` says what there is.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from functions.local.broker import BODY_LIMIT, Broker
from functions.local.http_client import HttpClient
from functions.local.job_sink import JobSink
from functions.local.triggers import JOB_SINKS
from shared.edge.function import Function
from shared.edge.http import Disconnected, HttpRequest, Reply, Request, WholeRequest, json_reply, read_body
from shared.edge.problems import fault_reply, problem_reply
from shared.errors import KnudgeError, Unavailable, UnknownRoute, WrongMethod
from shared.events.envelopes import header_text

PREFIX = "/functions/"
PROXY_TIMEOUT_S = 60.0
POLL_S = 0.01
LOG = logging.getLogger("knudge.router")
# What concerns one connection, and what the client sets itself.
NOT_PASSED_ON = frozenset({"host", "connection", "content-length", "transfer-encoding", "keep-alive", "expect", "te"})


class Router:
    """Hosts `functions` and `broker`; `elsewhere`: the URLs of functions in other processes, by name."""

    def __init__(
        self,
        functions: Mapping[str, Function[Any]],
        broker: Broker,
        elsewhere: Mapping[str, str],
        job_sinks: Mapping[str, JobSink],
    ) -> None:
        """Take functions that have started or are about to."""
        self._functions = functions
        self._broker = broker
        self._elsewhere = elsewhere
        self._job_sinks = job_sinks
        self._client = HttpClient()
        self._is_closing = False
        self._under_way = 0

    def body_limit(self) -> int:
        """Return the longest body that anything behind this address takes."""
        return max(BODY_LIMIT, *(function.settings.body_limit for function in self._functions.values()), 0)

    async def target(self, request: HttpRequest) -> Reply:
        """Answer one request, whatever becomes of it; `shared.edge.protocol` asks here directly."""
        path, method = request.scope["path"], request.scope["method"]
        try:
            if path == "/" and method == "POST":
                return await self._broker.answer(request)
            return await self._answer(path, method, request)
        except KnudgeError as error:
            return problem_reply(error)
        except Disconnected:
            return Reply(400)
        except Exception:
            LOG.exception("fault", extra={"knudge": {"path": path}})
            return fault_reply()

    async def close(self, timeout_s: float) -> None:
        """Refuse new requests from outside, and return once those under way are answered; events still pass."""
        self._is_closing = True
        deadline = time.monotonic() + timeout_s
        # A counter is cheaper for every request than an event would be.
        while self._under_way and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(POLL_S)

    def detach(self) -> None:
        """Stop reaching the functions, which are about to flush and must not be opened again."""
        self._functions = {}

    async def _answer(self, path: str, method: str, request: HttpRequest) -> Reply:
        if path.startswith(PREFIX):
            name, _, rest = path.removeprefix(PREFIX).partition("/")
            return await self._reach(name, "/" + rest, request)
        job_sink = self._job_sinks.get(path.removeprefix("/" + JOB_SINKS).rstrip("/"))
        if job_sink is not None and path.startswith("/" + JOB_SINKS):
            if method != "POST":
                raise WrongMethod(f"{path} takes only POST", field="method")
            return await job_sink.answer(request)
        if path in ("/", "/openapi.json") or path.startswith("/health/"):
            if method not in ("GET", "HEAD"):
                raise WrongMethod(f"{path} takes only GET", field="method")
            return self._about(path)
        if self._is_closing:
            raise Unavailable("this process is stopping")
        self._under_way += 1
        try:
            for function in self._functions.values():
                if function.owns(path):
                    return await function(request)
        finally:
            self._under_way -= 1
        raise UnknownRoute(f"no function owns {path}", field="path")

    async def _reach(self, name: str, path: str, request: HttpRequest) -> Reply:
        function = self._functions.get(name)
        if function is not None:
            return await function(_moved(request, path))
        url = self._elsewhere.get(name)
        if url is None and self._is_closing:
            raise Unavailable("this process is stopping")
        if url is None:
            raise UnknownRoute(f"no function {name}", field="path")
        return await self._pass_on(url.rstrip("/") + path, request)

    async def _pass_on(self, url: str, request: HttpRequest) -> Reply:
        scope = request.scope
        body = await read_body(request, BODY_LIMIT)
        given = {name.decode("latin-1"): header_text(value) for name, value in scope["headers"]}
        headers = {name: value for name, value in given.items() if name not in NOT_PASSED_ON}
        query = scope["query_string"].decode("latin-1")
        try:
            answer = await self._client.request(
                scope["method"], f"{url}?{query}" if query else url, headers, body, timeout_s=PROXY_TIMEOUT_S
            )
        except (OSError, TimeoutError) as error:
            raise Unavailable(f"the function does not answer: {error}") from error
        kept = [(n.encode("latin-1"), v.encode()) for n, v in answer.headers.items() if n not in NOT_PASSED_ON]
        return Reply(answer.status, answer.body, kept)

    def _about(self, path: str) -> Reply:
        match path:
            case "/":
                return json_reply(msgspec.json.encode(self._index()))
            case "/health/live":
                return json_reply(b'{"status":"ok"}')
            case "/health/ready":
                return json_reply(b'{"status":"draining"}', 503) if self._is_closing else json_reply(b'{"status":"ok"}')
            case "/openapi.json":
                from shared.edge.openapi import document

                return json_reply(document(list(self._functions.values())))
            case _:
                raise UnknownRoute(f"no route {path}", field="path")

    def _index(self) -> dict[str, object]:
        names = sorted([*self._functions, *self._elsewhere])
        return {
            "name": "knudge",
            "functions": {name: f"{PREFIX}{name}/" for name in names},
            "routes": sorted({f"{r.method} {r.path}" for each in self._functions.values() for r in each.routes}),
            "job_sinks": {
                name: {"path": f"/{JOB_SINKS}{name}/", **each.counts} for name, each in self._job_sinks.items()
            },
            "events": "POST / takes any CloudEvent 1.0 and delivers it by the triggers",
            "openapi": "/openapi.json",
            "broker": {"held": self._broker.held, **self._broker.counts},
        }


def _moved(request: HttpRequest, path: str) -> HttpRequest:
    """Return the same request for another path."""
    scope = {**request.scope, "path": path, "raw_path": path.encode()}
    if isinstance(request, WholeRequest):
        return WholeRequest(scope, request.body, keep_alive=request.keep_alive)
    return Request(scope, request.receive)
