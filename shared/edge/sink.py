"""Events out: to `$K_SINK`, in binary mode, from a thread of its own so that no answer waits for them.

An event that the sink does not take is logged and counted, not kept: what must not be lost is in PostgreSQL before an
event speaks of it, and the sweep finds it there. Wake-ups are coalesced: at most one per policy in `wake_up_ms`, on the
trailing edge, none while one is under way, and the last of them when the process stops.
"""

from __future__ import annotations

import asyncio
import logging

from shared.edge.contracts import LearningDue
from shared.events.cloudevents import Event, binary_headers, new_event
from shared.events.types import LEARNING_DUE
from shared.observability.metrics import Metrics
from shared.observability.tracing import current_trace
from shared.settings import Settings

_TIMEOUT_S = 5.0
_TAKEN = range(200, 300)

_log = logging.getLogger(__name__)


class Sink:
    """Where a function's events go. Without `$K_SINK` they go nowhere, which is said once."""

    def __init__(self, function: str, settings: Settings, metrics: Metrics) -> None:
        """Name the function that sends; nothing connects before the first event."""
        self._function = function
        self._url = settings.k_sink
        self._wake_up_s = settings.wake_up_ms / 1000
        self._failed = metrics.events_failed
        self._due: dict[str, asyncio.TimerHandle] = {}
        self._again: set[str] = set()
        self._sending: dict[str, asyncio.Task[None]] = {}
        if not self._url:
            _log.warning("K_SINK is not set: no events are sent, learning waits for its sweep")

    async def send(self, event_type: str, data: object) -> bool:
        """Send one event; return whether the sink took it."""
        if not self._url:
            return False
        trace = current_trace.get()
        event = new_event(event_type, self._function, data, traceparent=trace.traceparent if trace else None)
        try:
            await asyncio.to_thread(_post, self._url, event)
        except (OSError, ValueError) as error:
            self._failed.inc(event_type)
            _log.warning("the sink did not take an event", extra={"knudge": {"type": event_type, "error": str(error)}})
            return False
        return True

    def learning_due(self, policy: str) -> None:
        """Wake the learner up for a policy, soon."""
        if self._url and policy not in self._due:
            loop = asyncio.get_running_loop()
            self._due[policy] = loop.call_later(self._wake_up_s, self._wake, policy)

    def _wake(self, policy: str) -> None:
        self._due.pop(policy, None)
        if policy in self._sending:
            self._again.add(policy)
            return
        task = asyncio.get_running_loop().create_task(self._wake_now(policy))
        self._sending[policy] = task

    async def _wake_now(self, policy: str) -> None:
        try:
            await self.send(LEARNING_DUE, LearningDue(policy))
        finally:
            self._sending.pop(policy, None)
            if policy in self._again:
                self._again.discard(policy)
                self.learning_due(policy)

    async def close(self) -> None:
        """Send the wake-ups that are still due."""
        await asyncio.gather(*self._sending.values(), return_exceptions=True)
        for policy, timer in list(self._due.items()):
            timer.cancel()
            self._wake(policy)
        await asyncio.gather(*self._sending.values(), return_exceptions=True)


def _post(url: str, event: Event) -> None:
    from http.client import HTTPConnection, HTTPException, HTTPSConnection  # off the start-up path
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=_TIMEOUT_S)
    try:
        connection.request("POST", parts.path or "/", event.data, binary_headers(event))
        answer = connection.getresponse()
        answer.read()
    except HTTPException as error:
        raise OSError(str(error)) from error
    finally:
        connection.close()
    if answer.status not in _TAKEN:
        detail = f"status {answer.status}"
        raise OSError(detail)
