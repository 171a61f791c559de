"""One deployable function: its routes, its events, its life.

A `Function` is what `func.py` builds: it finds the route, reads the body within bounds, resolves the caller and the
trace, and turns whatever goes wrong into a reply. It opens its resources on the first request or in `start`, never at
import, and closes them in `stop`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from time import perf_counter
from typing import Generic, TypeVar

import msgspec

from shared.edge.callers import HEADER, Callers
from shared.edge.contracts import Health
from shared.edge.http import (
    Disconnected,
    HttpRequest,
    Reply,
    Scope,
    WholeRequest,
    bounded,
    json_reply,
    read_body,
)
from shared.edge.problems import fault_reply, problem_reply
from shared.errors import InvalidInput, KnudgeError, Overloaded, UnknownEventType, UnknownRoute, WrongMethod
from shared.events.cloudevents import BATCH, Event, binary_headers, read_events
from shared.observability.metrics import Metrics
from shared.observability.tracing import continue_trace, current_trace
from shared.settings import Settings
from shared.vocabulary import Caller

S = TypeVar("S")

_log = logging.getLogger(__name__)


class Call(msgspec.Struct):
    """What a route's handler is given besides the function's state."""

    body: bytes
    caller: Caller
    variables: Mapping[str, str]
    arguments: Mapping[str, str]
    headers: Mapping[bytes, bytes]


class Refusals(msgspec.Struct, frozen=True):
    """How a route whose protocol is not ours answers an error, None for one that nobody foresaw.

    `reply`: given the variables of the path, too. `kind`: the structure of its body; `statuses`: those that it may have.
    """

    reply: Callable[[KnudgeError | None, Mapping[str, str]], Reply]
    kind: type[msgspec.Struct]
    statuses: tuple[int, ...]


class Route(msgspec.Struct, Generic[S], frozen=True):
    """A method and a path (`{name}` takes one segment), what answers it, and the types for OpenAPI.

    `takes`: the body; `gives`: the answer, none for an empty 204; `asks`: the arguments of the query;
    `media`: the content type of the body; `refuses`: None for problem details.
    """

    method: str
    path: str
    answer: Callable[[S, Call], Awaitable[Reply]]
    takes: object = None
    gives: object = None
    asks: type[msgspec.Struct] | None = None
    media: str = "application/json"
    refuses: Refusals | None = None


class EventRoute(msgspec.Struct, Generic[S], frozen=True):
    """A CloudEvent type and what takes it: all events of that type in a request, in order; may return a reply event."""

    type: str
    take: Callable[[S, list[Event]], Awaitable[Event | None]]
    batch: bool = False


class Function(Generic[S]):
    """A function of Knudge, hosted by functions-framework or by `shared.edge.hosting`."""

    def __init__(
        self,
        name: str,
        *,
        needs: tuple[str, ...],
        opening: Callable[[Settings, Metrics], AbstractAsyncContextManager[S]],
        routes: list[Route[S]],
        events: list[EventRoute[S]],
    ) -> None:
        """Describe a function.

        `needs`: settings that must be given. `opening`: makes the state that handlers are given.
        """
        self.name = name
        self.routes = routes
        self.metrics = Metrics()
        self.settings = Settings()
        self.needs = needs
        self._opening = opening
        self._events = {event.type: event for event in events}
        self._fixed = {(route.method, route.path): route for route in routes if "{" not in route.path}
        self._patterns = [(_pattern(route.path), route) for route in routes]
        self._callers = Callers()
        self._state: S | None = None
        self._stack = AsyncExitStack()
        self._starting = asyncio.Lock()
        self._draining = False
        self._under_way = 0

    async def start(self, settings: Settings | None = None) -> S:
        """Open the function's resources once; settings come from the environment where none are given."""
        async with self._starting:
            if self._state is None:
                self.settings = settings or Settings.load(os.environ, self.needs)
                self._draining = False
                self._state = await self._stack.enter_async_context(self._opening(self.settings, self.metrics))
            return self._state

    async def stop(self) -> None:
        """Flush and close everything."""
        self._draining = True
        await self._stack.aclose()
        self._state = None

    def owns(self, path: str) -> bool:
        """Tell whether a path is one of this function's routes."""
        return any(pattern.fullmatch(path) for pattern, _ in self._patterns)

    async def __call__(self, request: HttpRequest) -> Reply:
        """Answer a request."""
        began = perf_counter()
        scope = request.scope
        headers = dict(scope["headers"])
        of_event = scope["path"] == "/" and scope["method"] == "POST"
        token = None
        self._under_way += 1
        try:
            if len(headers) != len(scope["headers"]):
                _refuse_repeated(scope["headers"])
            if b"traceparent" in headers:
                token = current_trace.set(continue_trace(headers[b"traceparent"].decode("latin-1")))
            elif of_event:
                token = current_trace.set(None)  # the event may bring its own, which is this request's alone
            reply = await self._answer(request, scope, headers, of_event=of_event)
        except KnudgeError as error:
            reply = self._refusal(error, scope) or problem_reply(error, of_event=of_event)
            _log.info(
                "refused", extra={"knudge": {"problem": error.slug, "field": error.field, "detail": error.detail}}
            )
        except Disconnected:
            reply = Reply(400)
        except Exception:
            _log.exception("fault", extra={"knudge": {"path": scope["path"]}})
            reply = self._refusal(None, scope) or fault_reply()
        finally:
            self._under_way -= 1
            if token is not None:
                current_trace.reset(token)
        if scope["path"] not in _HEALTH_CHECKS:
            self.metrics.requests.values[_STATUS_LABELS.get(reply.status) or (str(reply.status),)] += 1
            self.metrics.requested.observe(perf_counter() - began)
        return reply

    async def _answer(
        self, request: HttpRequest, scope: Scope, headers: dict[bytes, bytes], *, of_event: bool
    ) -> Reply:
        method, path = scope["method"], scope["path"]
        route = self._fixed.get((method, path))
        variables: Mapping[str, str] = _NO_VARIABLES
        if route is None and not of_event:
            if path.startswith("/health/") or path == "/openapi.json":
                return await self._about(method, path)
            route, variables = self._find(method, path)
        state = self._state
        if state is None:
            state = await self.start()
        if self._under_way > self.settings.concurrency_limit:
            detail = f"{self.settings.concurrency_limit} requests are under way"
            raise Overloaded(detail)
        if isinstance(request, WholeRequest):
            body = bounded(request.body, self.settings.body_limit)
        else:
            body = await read_body(request, self.settings.body_limit)
        if route is None:
            return await self._take(state, headers, body)
        query = scope["query_string"]
        arguments = _arguments(query) if query else _NO_VARIABLES
        return await route.answer(state, Call(body, self._callers.resolve(headers), variables, arguments, headers))

    async def _about(self, method: str, path: str) -> Reply:
        if method not in {"GET", "HEAD"}:
            detail = f"{path} takes only GET"
            raise WrongMethod(detail, field="method")
        if path == "/health/live":
            return json_reply(msgspec.json.encode(Health("ok")))
        if path == "/health/ready":
            if self._draining:
                return json_reply(msgspec.json.encode(Health("draining")), 503)
            await self.start()  # a host without a start-up hook asks here first
            return json_reply(msgspec.json.encode(Health("ok")))
        if path == "/openapi.json":
            from shared.edge.openapi import document

            return json_reply(document([self]))
        raise UnknownRoute(f"no route {path}", field="path")

    def _find(self, method: str, path: str) -> tuple[Route[S], Mapping[str, str]]:
        known = False
        for pattern, route in self._patterns:
            found = pattern.fullmatch(path)
            if found:
                known = True
                if route.method == method:
                    return route, {name: _unquoted(value, name) for name, value in found.groupdict().items()}
        if known:
            detail = f"{path} does not take {method}"
            raise WrongMethod(detail, field="method")
        detail = f"{self.name} has no route {path}"
        raise UnknownRoute(detail, field="path")

    def _refusal(self, error: KnudgeError | None, scope: Scope) -> Reply | None:
        """Return the answer to an error in the words of a route's own protocol, None where it is ours."""
        for pattern, route in self._patterns:
            found = pattern.fullmatch(scope["path"]) if route.refuses is not None else None
            if found and route.refuses is not None and route.method == scope["method"]:
                return route.refuses.reply(error, found.groupdict())
        return None

    async def _take(self, state: S, headers: dict[bytes, bytes], body: bytes) -> Reply:
        events, batched = read_events(headers, body, self.settings.batch_limit)
        if not events:
            raise InvalidInput("the batch is empty", field="body")
        event_type = events[0].type
        route = self._events.get(event_type)
        if route is None or any(event.type != event_type for event in events):
            other = event_type if route is None else next(e.type for e in events if e.type != event_type)
            detail = f"{self.name} takes {', '.join(self._events) or 'no events'}, not {other}"
            raise UnknownEventType(detail, field="type")
        if batched and not route.batch:
            detail = f"{self.name} takes events of type {event_type} one at a time, not as {BATCH.decode()}"
            raise InvalidInput(detail, field="content-type")
        if events[0].traceparent and current_trace.get() is None:
            current_trace.set(continue_trace(events[0].traceparent))
        answer = await route.take(state, events)
        if answer is None:
            return Reply(204)
        reply_headers = [(name.encode(), value.encode("latin-1")) for name, value in binary_headers(answer).items()]
        return Reply(200, answer.data, reply_headers)


_STATUS_LABELS = {200: ("200",), 204: ("204",)}
_NO_VARIABLES: Mapping[str, str] = {}
_HEALTH_CHECKS = frozenset({"/health/live", "/health/ready"})
"""Not counted: a probe says nothing about callers, and a 503 while draining is no error."""


def _refuse_repeated(headers: list[tuple[bytes, bytes]]) -> None:
    """Refuse a header that may stand only once and stands twice: others on the way may have believed the other one."""
    seen: set[bytes] = set()
    for name, _ in headers:
        if name in seen and name in _ONCE:
            detail = "stands more than once"
            raise InvalidInput(detail, field=name.decode("latin-1"))
        seen.add(name)


_ONCE = {HEADER, b"authorization"}


def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(path)))


def _unquoted(value: str, name: str) -> str:
    if "\0" in value or "\ufffd" in value:
        raise InvalidInput("not a valid name", field=name)
    return value


def _arguments(query: bytes) -> dict[str, str]:
    from urllib.parse import parse_qsl

    return dict(parse_qsl(query.decode("latin-1")))
