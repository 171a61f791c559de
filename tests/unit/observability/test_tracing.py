"""W3C trace context, level 2."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.observability.tracing import Trace, continue_trace, current_trace

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def test_a_trace_is_continued_in_a_span_of_its_own() -> None:
    """Trace and flags stay, the span is new each time, and the header says so."""
    one, other = (continue_trace(f"00-{TRACE}-{SPAN}-01") for _ in range(2))
    assert one is not None
    assert other is not None
    assert (one.trace_id, one.flags) == (TRACE, "01")
    assert len({one.span_id, other.span_id, SPAN}) == 3
    assert one.traceparent == f"00-{TRACE}-{one.span_id}-01"


@given(st.from_regex(r"[0-9a-f]{32}", fullmatch=True), st.from_regex(r"[0-9a-f]{16}", fullmatch=True))
def test_what_is_sent_on_is_understood(trace_id: str, span_id: str) -> None:
    """The header of any trace that is not all zeros is continued by the next process."""
    following = continue_trace(Trace(trace_id, span_id).traceparent)
    valid = set(trace_id) != {"0"} and set(span_id) != {"0"}
    assert (following.trace_id if following else None) == (trace_id if valid else None)


@pytest.mark.parametrize("rest", ["", "-", "-what-the-future-will-be-like"])
def test_later_versions_may_say_more(rest: str) -> None:
    """Of a version above 00 the known fields are used, whatever follows them after a dash."""
    following = continue_trace(f"cc-{TRACE}-{SPAN}-01{rest}")
    assert following is not None
    assert following.trace_id == TRACE


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "00",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-01-",
        f"00-{TRACE}-{SPAN}-01-what-the-future-will-be-like",
        f"cc-{TRACE}-{SPAN}-01.what-the-future-will-be-like",
        f"00-{TRACE}-{SPAN}-01\n",
        f" 00-{TRACE}-{SPAN}-01",
        f"0x-{TRACE}-{SPAN}-01",
        f"00-{TRACE[:-1]}-{SPAN}-01",
        f"00-{TRACE}{SPAN}-01",
    ],
)
def test_invalid_headers_begin_no_trace(header: str | None) -> None:
    """A header that the specification refuses is as good as none."""
    assert continue_trace(header) is None


@given(st.text(max_size=80))
def test_any_header_is_read(header: str) -> None:
    """No header makes reading fail."""
    continue_trace(header)


def test_a_trace_belongs_to_its_task() -> None:
    """Tasks that run at the same time see their own traces, and none outside."""

    async def task(trace: Trace) -> Trace | None:
        current_trace.set(trace)
        await asyncio.sleep(0)
        return current_trace.get()

    async def both() -> list[Trace | None]:
        return await asyncio.gather(*(asyncio.create_task(task(trace)) for trace in traces))

    traces = [Trace(TRACE, SPAN), Trace(TRACE[::-1], SPAN)]
    assert asyncio.run(both()) == traces
    assert current_trace.get() is None
