"""CloudEvents as they are read and written: what the HTTP binding says of headers, and the bound on a batch."""

from __future__ import annotations

import msgspec
import pytest

from shared.errors import InvalidInput, TooLarge
from shared.events.cloudevents import BATCH, STRUCTURED, Event, binary_headers, read_events


def test_an_attribute_is_the_same_in_both_modes() -> None:
    """Percent-encoded UTF-8 in a header and text in a structured event are one identity."""
    binary = {
        b"ce-specversion": b"1.0",
        b"ce-id": b"caf%C3%A9%20100%25",
        b"ce-source": b"/a%22b",
        b"ce-type": b"t",
        b"content-type": b"application/json",
    }
    structured = {"specversion": "1.0", "id": "café 100%", "source": '/a"b', "type": "t", "data": {}}
    [[one], _] = read_events(binary, b"{}", 1)
    [[other], _] = read_events({b"content-type": STRUCTURED}, msgspec.json.encode(structured), 1)
    assert (one.id, one.source) == (other.id, other.source) == ("café 100%", '/a"b')


@pytest.mark.parametrize("value", [b"%ff%fe", b"%ed%a0%80"])
def test_what_is_no_utf_8_is_refused(value: bytes) -> None:
    """An attribute that decodes to no text is a fault of the sender's."""
    with pytest.raises(InvalidInput):
        read_events({b"ce-specversion": b"1.0", b"ce-id": value, b"ce-source": b"s", b"ce-type": b"t"}, b"{}", 1)


@pytest.mark.parametrize("text", ["plain-1", "café", 'a "quoted" 100 %', "日本", "/a?b=c#d"])
def test_an_event_survives_its_headers(text: str) -> None:
    """What is written in binary mode is read again as it was, and its headers are printable ASCII without spaces."""
    event = Event("t", text, text, b"{}", subject=text)
    headers = binary_headers(event)
    assert all(value.isascii() and value.isprintable() for value in headers.values())
    [[read], _] = read_events({name.encode(): value.encode() for name, value in headers.items()}, b"{}", 1)
    assert (read.id, read.source, read.subject) == (text, text, text)


def test_a_batch_is_bounded_before_it_is_read() -> None:
    """Too many events are refused by their number, although none of them is one."""
    with pytest.raises(TooLarge):
        read_events({b"content-type": BATCH}, b"[1,1,1]", 2)
