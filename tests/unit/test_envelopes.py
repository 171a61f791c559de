"""Events that are passed on stay unharmed, and malformed ones are refused by name."""

from __future__ import annotations

import base64
import json

import pytest

from shared.errors import InvalidInput
from shared.events.envelopes import BATCHED, STRUCTURED, Event, read_event, read_events

BINARY = {
    "content-type": "application/json",
    "ce-specversion": "1.0",
    "ce-id": "7",
    "ce-source": "/shop",
    "ce-type": "dev.knudge.feedback.given.v1",
}
MEMBERS = {name.removeprefix("ce-"): value for name, value in BINARY.items() if name.startswith("ce-")}


def structured(**members: object) -> bytes:
    """Return an event in structured mode."""
    return json.dumps(MEMBERS | members).encode()


def read_structured(body: bytes) -> Event:
    """Read an event in structured mode."""
    return read_event({"content-type": STRUCTURED}, body)


def test_binary_data_stays_the_bytes_that_were_sent() -> None:
    """Data in binary mode is not decoded, so that not even broken JSON changes on the way."""
    body = b'{"value": 1e400, "value": NaN, "text": "\\ud800"} '
    assert read_event(BINARY, body).data == body


def test_structured_data_becomes_a_json_body() -> None:
    """Data in structured mode is sent on as JSON with the content type of the event."""
    event = read_structured(structured(data={"kind": "click"}))
    assert json.loads(event.data) == {"kind": "click"}
    event = read_structured(structured(data="plain", datacontenttype="text/plain"))
    assert (event.data, event.content_type) == (b"plain", "text/plain")


def test_base64_data_becomes_its_bytes() -> None:
    """Bytes in structured mode arrive as bytes."""
    assert read_structured(structured(data_base64=base64.b64encode(b"\x00\xff").decode())).data == b"\x00\xff"


def test_extensions_travel_on() -> None:
    """Extension attributes, a trace among them, are sent on in headers."""
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    event = read_event(BINARY | {"ce-traceparent": trace, "ce-shard": "3"}, b"")
    assert event.headers()["ce-traceparent"] == trace
    assert event.headers()["ce-shard"] == "3"
    assert read_structured(structured(shard=3, first=True)).headers()["ce-first"] == "true"


def test_no_time_is_made_up() -> None:
    """An event that brings no time goes on without one, and one that brings any text goes on with that."""
    assert "time" not in read_event(BINARY, b"").attributes
    assert "time" not in read_structured(structured()).attributes
    for time in ("2026-11-25T04:00:00.123456789Z", "yesterday"):
        assert read_event(BINARY | {"ce-time": time}, b"").attributes["time"] == time
        assert read_structured(structured(time=time)).attributes["time"] == time


def test_a_trace_in_an_ordinary_header_becomes_the_extension() -> None:
    """A sender that traces by the HTTP header alone is still followed."""
    assert read_event(BINARY | {"traceparent": "00-a-b-01"}, b"").attributes["traceparent"] == "00-a-b-01"


def test_attribute_values_are_percent_encoded_in_headers() -> None:
    """What a header cannot hold is encoded, and decoded again by the next reader."""
    event = read_structured(structured(subject='größe "50 %"'))
    header = event.headers()["ce-subject"]
    assert header.isascii()
    assert " " not in header
    assert read_event(event.headers(), event.data).attributes["subject"] == 'größe "50 %"'


def test_a_batch_is_read_event_by_event() -> None:
    """A batch gives its events in order; a bad one names its place."""
    good = [MEMBERS | {"id": str(n)} for n in range(3)]
    events = read_events({"content-type": f"{BATCHED}; charset=utf-8"}, json.dumps(good).encode())
    assert [event.attributes["id"] for event in events] == ["0", "1", "2"]
    with pytest.raises(InvalidInput) as caught:
        read_events({"content-type": BATCHED}, json.dumps([*good, {"id": "x"}]).encode())
    assert str(caught.value.field).startswith("[3]")


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({}, b"{}"),
        ({"content-type": "application/json"}, structured()),
        ({"content-type": STRUCTURED}, b"{"),
        ({"content-type": STRUCTURED}, b"[]"),
        ({"content-type": STRUCTURED}, b"\xff"),
        ({"content-type": STRUCTURED}, b"[" * 100_000),
        ({"content-type": STRUCTURED}, structured(specversion="0.3")),
        ({"content-type": STRUCTURED}, structured(specversion="2.0")),
        ({"content-type": STRUCTURED}, structured(id="")),
        ({"content-type": STRUCTURED}, structured(id=None)),
        ({"content-type": STRUCTURED}, structured(id={"a": 1})),
        ({"content-type": STRUCTURED}, structured(type="a\r\nx-evil: 1")),
        ({"content-type": STRUCTURED}, structured(source="\ud800")),
        ({"content-type": STRUCTURED}, structured(**{"Bad-Name": "x"})),
        ({"content-type": STRUCTURED}, structured(extensions={"a": 1})),
        ({"content-type": STRUCTURED}, structured(data_base64="%%%")),
        (BINARY | {"ce-data": "x"}, b""),
        (BINARY | {"ce-extensions": "x"}, b""),
        (BINARY | {"ce-id": "%ff"}, b""),
        (BINARY | {"ce-id": ""}, b""),
        ({name: value for name, value in BINARY.items() if name != "ce-source"}, b""),
        ({"content-type": BATCHED}, b"{}"),
        ({"content-type": BATCHED}, b"[1]"),
    ],
)
def test_what_is_no_event_is_refused(headers: dict[str, str], body: bytes) -> None:
    """Nothing malformed gets past the door, and nothing malformed raises anything else."""
    with pytest.raises(InvalidInput):
        read_events(headers, body)


@pytest.mark.parametrize(
    ("content_type", "data", "members"),
    [
        ("application/json", b'{"policy": "a"}', {"datacontenttype": "application/json", "data": {"policy": "a"}}),
        (None, b"[1]", {"data": [1]}),
        (None, b"", {}),
        ("application/json", b"{half", {"datacontenttype": "application/json", "data_base64": "e2hhbGY="}),
        ("image/png", b"\x89PNG", {"datacontenttype": "image/png", "data_base64": "iVBORw=="}),
    ],
)
def test_structured_mode_says_the_same(content_type: str | None, data: bytes, members: dict[str, object]) -> None:
    """Written in structured mode and read back, an event is what it was; data that is no JSON travels in base64."""
    attributes = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "policy": "ä"}
    attributes["time"] = "2026-11-25T04:00:00+00:00"
    event = Event(attributes, content_type, data)
    written = event.structured()
    assert json.loads(written) == attributes | members
    again = read_event({"content-type": "application/cloudevents+json"}, written)
    assert again.attributes == attributes
    assert again.data == data or json.loads(again.data) == json.loads(data)
