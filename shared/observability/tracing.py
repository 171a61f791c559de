"""W3C trace context: read at the door, carried along a task, given to whatever leaves the process.

Only the identity of a trace is handled here; a tracing SDK may be put behind it without touching callers.
See https://www.w3.org/TR/trace-context/ (level 2).
"""

from __future__ import annotations

import re
import secrets
from contextvars import ContextVar

import msgspec

_TRACEPARENT = re.compile(
    r"(?!ff|00.{54})[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?"
)


class Trace(msgspec.Struct, frozen=True):
    """A place in a trace: `trace_id` (32 hexadecimal digits), `span_id` (16), `flags` (2)."""

    trace_id: str
    span_id: str
    flags: str = "00"

    @property
    def traceparent(self) -> str:
        """Return the header that says so."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags}"


current_trace: ContextVar[Trace | None] = ContextVar("current_trace", default=None)
"""The trace that the running task belongs to."""


def continue_trace(traceparent: str | None) -> Trace | None:
    """Return a new span within the trace that a header names; None where there is no valid header.

    >>> continue_trace("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").trace_id
    '0af7651916cd43dd8448eb211c80319c'
    """
    found = _TRACEPARENT.fullmatch(traceparent) if traceparent else None
    return Trace(found.group(1), secrets.token_hex(8), found.group(3)) if found else None
