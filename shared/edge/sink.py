"""Events out: to `$K_SINK`, in binary mode, from a thread of its own so that no answer waits for them.

An event that the sink does not take is logged and counted, not kept: what must not be lost is in PostgreSQL before an
event speaks of it, and the sweep finds it there. Wake-ups are coalesced: at most one per policy in `wake_up_ms`, on the
trailing edge, none while one is under way, and the last of them when the process stops; wake-ups to drain exposures likewise.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from shared.edge.learning_contracts import LearningDue
from shared.errors import SinkUnavailable
from shared.events.cloudevents import binary_headers, new_event
from shared.events.types import LEARNING_DUE
from shared.observability.metrics import OTHER, Metrics
from shared.observability.tracing import current_trace
from shared.settings import Settings

CLOSE_S = 5.0
_TIMEOUT_S = 5.0
_THREADS = 4
_TAKEN = range(200, 300)
_EXPOSURES = ""
"""Stands where a policy's name does for the wake-up of exposures: no policy has an empty name."""

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

    from shared.events.envelopes import Event as Envelope

_log = logging.getLogger(__name__)


class Sink:
    """Where a function's events go. Without `$K_SINK` they go nowhere, which is said once."""

    def __init__(self, function: str, settings: Settings, metrics: Metrics) -> None:
        """Name the function that sends; nothing connects before the first event."""
        self._function = function
        self._url = settings.k_sink
        self._wake_up_s = settings.wake_up_ms / 1000
        self._failed = metrics.events_failed
        self._due: dict[str | None, asyncio.TimerHandle] = {}
        self._again: set[str | None] = set()
        self._sending: dict[str | None, asyncio.Task[None]] = {}
        self._threads: ThreadPoolExecutor | None = None
        if not self._url:
            _log.warning("K_SINK is not set: no events are sent, learning waits for its sweep")

    async def send(self, event_type: str, data: object, *, event_id: str | None = None) -> bool:
        """Send one event; return whether the sink took it. `event_id`: the same for what may be sent twice."""
        if not self._url:
            return False
        trace = current_trace.get()
        traceparent = trace.traceparent if trace else None
        event = new_event(event_type, self._function, data, traceparent=traceparent, event_id=event_id)
        try:
            await self._post(binary_headers(event), event.data)
        except (OSError, ValueError) as error:
            self._failed.inc(event_type)
            _log.warning("the sink did not take an event", extra={"knudge": {"type": event_type, "error": str(error)}})
            return False
        return True

    async def pass_on(self, event: Envelope) -> None:
        """Send another's event as it is; raises `SinkUnavailable` where the sink does not take it."""
        if not self._url:
            raise SinkUnavailable("K_SINK is not set: there is nowhere to send an event")
        try:
            await self._post(event.headers(), event.data)
        except (OSError, ValueError) as error:
            self._failed.inc(OTHER)
            detail = str(error)
            raise SinkUnavailable(detail) from error

    async def _post(self, headers: Mapping[str, str], body: bytes) -> None:
        if self._threads is None:
            from concurrent.futures import ThreadPoolExecutor  # off the start-up path

            self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="sink")
        await asyncio.get_running_loop().run_in_executor(self._threads, _post, self._url, headers, body)

    def learning_due(self, policy: str | None) -> None:
        """Wake the learner up for a policy, or with None for all of them, soon."""
        if self._url and policy not in self._due:
            loop = asyncio.get_running_loop()
            self._due[policy] = loop.call_later(self._wake_up_s, self._wake, policy)

    def exposures_due(self) -> None:
        """Wake the learner up to drain the journal of exposures, soon."""
        self.learning_due(_EXPOSURES)

    def _wake(self, policy: str | None) -> None:
        self._due.pop(policy, None)
        if policy in self._sending:
            self._again.add(policy)
            return
        task = asyncio.get_running_loop().create_task(self._wake_now(policy))
        self._sending[policy] = task

    async def _wake_now(self, policy: str | None) -> None:
        try:
            due = LearningDue(exposures=True) if policy == _EXPOSURES else LearningDue(policy)
            await self.send(LEARNING_DUE, due)
        finally:
            self._sending.pop(policy, None)
            if policy in self._again:
                self._again.discard(policy)
                self.learning_due(policy)

    async def close(self) -> None:
        """Send the wake-ups that are still due; what the sink has not taken after `CLOSE_S` is counted as failed."""
        until = asyncio.get_running_loop().time() + CLOSE_S
        while self._sending or self._due:
            for policy, timer in list(self._due.items()):  # more may fall due while one is under way
                timer.cancel()
                self._wake(policy)
            left = until - asyncio.get_running_loop().time()
            if left <= 0:
                break
            await asyncio.wait(self._sending.values(), timeout=left, return_when=asyncio.FIRST_COMPLETED)
        lost = len(self._sending) + len(self._again)
        if lost:
            self._failed.inc(LEARNING_DUE, by=lost)
            _log.warning("the sink took no wake-ups at the end", extra={"knudge": {"events": lost}})
        self._again.clear()
        for task in self._sending.values():
            task.cancel()
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)


def _post(url: str, headers: Mapping[str, str], body: bytes) -> None:
    from http.client import HTTPConnection, HTTPException, HTTPSConnection  # off the start-up path
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=_TIMEOUT_S)
    try:
        target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
        connection.request("POST", target, body, dict(headers))
        answer = connection.getresponse()
        answer.read()
    except HTTPException as error:
        raise OSError(str(error)) from error
    finally:
        connection.close()
    if answer.status not in _TAKEN:
        detail = f"status {answer.status}"
        raise OSError(detail)
