"""CloudEvents 1.0 over HTTP: read with the CloudEvents SDK, written in binary mode.

The SDK knows the binary and the structured mode; a batch is a JSON array of structured events, each read by the SDK.
It is imported when the first event comes, not at start-up.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import quote, unquote
from uuid import uuid4

import msgspec

from shared.errors import InvalidInput, TooLarge

SOURCE_PREFIX = "knudge/"
BATCH = b"application/cloudevents-batch+json"
STRUCTURED = b"application/cloudevents+json"


class Event(msgspec.Struct, frozen=True):
    """A CloudEvent whose data is JSON, still encoded. `source` + `id` is its identity; `time` as it was sent."""

    type: str
    source: str
    id: str
    data: bytes
    subject: str | None = None
    time: str | None = None
    traceparent: str | None = None


def read_events(headers: Mapping[bytes, bytes], body: bytes, most: int) -> tuple[list[Event], bool]:
    """Return the events of a request, and whether they came as a batch.

    Raises `InvalidInput` with the attribute at fault, `TooLarge` for a batch of more than `most`.
    """
    if headers.get(b"content-type", b"").lower().startswith(BATCH):
        try:
            members = msgspec.json.decode(body, type=list[msgspec.Raw])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            detail = f"not a JSON array of events: {error}"
            raise InvalidInput(detail, field="body") from None
        if len(members) > most:
            detail = f"at most {most} events at a time"
            raise TooLarge(detail, field="body")
        structured = {b"content-type": STRUCTURED}
        return [_read(structured, bytes(member), f"[{at}]") for at, member in enumerate(members)], True
    return [_read(headers, body, "")], False


def _read(headers: Mapping[bytes, bytes], body: bytes, place: str) -> Event:
    from cloudevents.exceptions import GenericException
    from cloudevents.http import from_http

    try:
        text_headers = {name.decode("latin-1"): _header_text(name, value) for name, value in headers.items()}
        event = from_http(text_headers, body, data_unmarshaller=_still_encoded)
        attributes = event.get_attributes()
        encoded = event.get_data() or b""
    except (GenericException, ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        detail = f"not a CloudEvent: {error}"[:300].encode(errors="replace").decode()
        raise InvalidInput(detail, field=place or "body") from None
    for name in ("id", "source", "type"):
        value = attributes.get(name)
        if not isinstance(value, str) or not 0 < len(value) <= _LONGEST or not _UNFIT.isdisjoint(value):
            detail = f"the attribute must be a text of 1 to {_LONGEST} characters, without NUL and lone surrogates"
            raise InvalidInput(detail, field=f"{place}.{name}".strip("."))
    time = attributes.get("time")
    return Event(
        type=attributes["type"],
        source=attributes["source"],
        id=attributes["id"],
        data=encoded,
        subject=_text(attributes.get("subject")),
        time=time if isinstance(time, str) or time is None else str(time),
        traceparent=_text(attributes.get("traceparent")) or text_headers.get("traceparent"),
    )


_LONGEST = 256
_UNFIT = frozenset({"\0", *map(chr, range(0xD800, 0xE000))})


def _still_encoded(data: str | bytes) -> bytes:
    """Keep data as JSON text: the body in binary mode, what the SDK has encoded anew in structured mode."""
    return data.encode() if isinstance(data, str) else data


def _header_text(name: bytes, value: bytes) -> str:
    """Return a header's value; an attribute's is percent-encoded UTF-8 (HTTP binding 1.0, 3.1.3.2)."""
    text = value.decode("latin-1")
    return unquote(text, errors="strict") if "%" in text and name.startswith(b"ce-") else text


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def new_event(
    event_type: str, function: str, data: object, *, traceparent: str | None = None, event_id: str | None = None
) -> Event:
    """Return an event of ours, with a fresh id unless one is given, and the present time."""
    return Event(
        type=event_type,
        source=f"{SOURCE_PREFIX}{function}",
        id=event_id or str(uuid4()),
        data=msgspec.json.encode(data),
        time=datetime.now(UTC).isoformat(),
        traceparent=traceparent,
    )


def binary_headers(event: Event) -> dict[str, str]:
    """Return the HTTP headers that send an event in binary mode, its data being the body."""
    headers = {
        "content-type": "application/json",
        "ce-specversion": "1.0",
        "ce-type": quote(event.type, safe=_AS_THEY_ARE),
        "ce-source": quote(event.source, safe=_AS_THEY_ARE),
        "ce-id": quote(event.id, safe=_AS_THEY_ARE),
    }
    for name in ("subject", "time", "traceparent"):
        value = getattr(event, name)
        if value is not None:
            headers[f"ce-{name}"] = quote(value, safe=_AS_THEY_ARE)
    if event.traceparent is not None:
        headers["traceparent"] = event.traceparent
    return headers


_AS_THEY_ARE = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"%')
