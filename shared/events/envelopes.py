"""CloudEvents as those handle them who pass them on or keep them: every attribute is read, data is not.

Reading is the SDK's, in binary, structured and batched mode; data stays the bytes that were sent, so that nothing is lost or
mended on the way. Writing is binary mode, with attribute values percent-encoded as the HTTP binding demands. Functions that
use an event's data read it with `shared.events.cloudevents`, which is stricter and quicker.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from shared.errors import InvalidInput

if TYPE_CHECKING:
    from cloudevents.http import CloudEvent

STRUCTURED, BATCHED = "application/cloudevents+json", "application/cloudevents-batch+json"
REQUIRED = ("specversion", "id", "source", "type")
# Attributes have lower-case alphanumeric names; `data` would collide with the payload and `extensions` with the SDK's own.
NAME = re.compile(r"[a-z0-9]+")
RESERVED_HEADERS = frozenset({"ce-data", "ce-extensions"})
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
# Printable ASCII but space, double quote and percent goes into a header as it is.
UNENCODED = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"%')
JSON_TYPE = re.compile(r"(?:application|text)/(?:[\w.+-]+\+)?json", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Event:
    """One event. `attributes`: every attribute but `datacontenttype`, extensions included, as text.

    `hops`: how many replies led to it; bounds a loop of functions that answer one another.
    """

    attributes: dict[str, str]
    content_type: str | None
    data: bytes
    hops: int = 0

    def headers(self) -> dict[str, str]:
        """Return the headers of a request in binary mode."""
        headers = {f"ce-{name}": quote(value, safe=UNENCODED) for name, value in self.attributes.items()}
        if self.content_type is not None:
            headers["content-type"] = self.content_type
        return headers

    def structured(self) -> bytes:
        """Return the event in structured mode: data as JSON where it is JSON, else in base64."""
        members: dict[str, object] = dict(self.attributes)
        if self.content_type is not None:
            members["datacontenttype"] = self.content_type
        is_json = JSON_TYPE.match(self.content_type or "application/json") is not None
        try:
            if self.data and is_json:
                members["data"] = json.loads(self.data)
        except (ValueError, RecursionError):
            is_json = False
        if self.data and not is_json:
            members["data_base64"] = base64.b64encode(self.data).decode()
        return json.dumps(members).encode()


def header_text(value: bytes) -> str:
    """Decode a header: UTF-8 if it is, else Latin-1, so that no byte is refused."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def is_event(headers: Mapping[str, str]) -> bool:
    """Say whether headers (names in lower case) announce a CloudEvent in binary or structured mode."""
    return "ce-specversion" in headers or _media_type(headers) == STRUCTURED


def read_events(headers: Mapping[str, str], body: bytes) -> list[Event]:
    """Return the events of a request: one, or those of a batch.

    `headers`: names in lower case. Raises `InvalidInput`, with the event's place in a batch.
    """
    if _media_type(headers) != BATCHED:
        return [read_event(headers, body)]
    batch = _json(body)
    if not isinstance(batch, list):
        raise InvalidInput("a batch is a JSON array of events", field="body")
    events = []
    for index, each in enumerate(batch):
        try:
            events.append(read_event({"content-type": STRUCTURED}, json.dumps(each).encode()))
        except InvalidInput as error:
            field = f"[{index}].{error.field}" if error.field else f"[{index}]"
            raise InvalidInput(error.detail, field=field) from error
    return events


def read_event(headers: Mapping[str, str], body: bytes) -> Event:
    """Return the one event of a request or a reply; raises `InvalidInput`."""
    from cloudevents.exceptions import GenericException  # off the start-up path
    from cloudevents.http import from_http

    if not is_event(headers):
        detail = f"no CloudEvent: neither ce- headers nor the content type {STRUCTURED}"
        raise InvalidInput(detail, field="content-type")
    is_structured = _media_type(headers) == STRUCTURED
    sdk_headers = {"content-type": headers["content-type"]} if is_structured else _binary_headers(headers)
    members = _json(body) if is_structured else None
    if isinstance(members, dict):
        _refuse_ambiguous(members)
    try:
        parsed = from_http(sdk_headers, body, data_unmarshaller=lambda data: data)
    except GenericException as error:
        raise InvalidInput(f"no CloudEvent: {error}", field="body") from error
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidInput(f"no CloudEvent: {error}", field="body") from error
    event = _event(parsed, is_structured=is_structured)
    if not ("time" in members if isinstance(members, dict) else "ce-time" in sdk_headers):
        event.attributes.pop("time", None)  # the SDK makes one of its own
    # A trace that came as an ordinary header travels on as the extension of the same name.
    if "traceparent" in headers and "traceparent" not in event.attributes:
        return replace(event, attributes={**event.attributes, "traceparent": headers["traceparent"]})
    return event


def _event(parsed: CloudEvent, *, is_structured: bool) -> Event:
    attributes: dict[str, str] = {}
    content_type: str | None = None
    for name, value in parsed.get_attributes().items():
        if value is None:
            continue
        text = _text(name, value)
        if name == "datacontenttype":
            content_type = text
        else:
            attributes[name] = text
    for name in REQUIRED:
        if not attributes.get(name):
            raise InvalidInput("a CloudEvent needs this attribute", field=name)
    if attributes["specversion"] != "1.0":
        raise InvalidInput("only CloudEvents 1.0 are taken", field="specversion")
    data = parsed.get_data()
    if data is None:
        return Event(attributes, content_type, b"")
    if isinstance(data, str):
        data, content_type = _structured_data(data, content_type) if is_structured else (data.encode(), content_type)
    return Event(attributes, content_type, bytes(data))


def _structured_data(text: str, content_type: str | None) -> tuple[bytes, str | None]:
    """Return the bytes of the member `data`: JSON text, or the string itself where the content type is not JSON."""
    kind = content_type or "application/json"
    if JSON_TYPE.match(kind) is None:
        value = json.loads(text)
        if isinstance(value, str):
            return value.encode(errors="surrogatepass"), kind
    return text.encode(), kind


def _text(name: str, value: object) -> str:
    if not NAME.fullmatch(name):
        raise InvalidInput("attribute names are lower-case letters and digits", field=name)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if not isinstance(value, str):
        raise InvalidInput("an attribute is a string, a whole number or a boolean", field=name)
    if CONTROL.search(value):
        raise InvalidInput("an attribute holds no control characters and no lone surrogates", field=name)
    return value


def _binary_headers(headers: Mapping[str, str]) -> dict[str, str]:
    for name in REQUIRED:
        if not headers.get(f"ce-{name}"):
            raise InvalidInput("a CloudEvent needs this attribute", field=name)
    kept = {}
    for name, value in headers.items():
        if name in RESERVED_HEADERS:
            raise InvalidInput("this name is reserved", field=name)
        if name == "content-type":
            kept[name] = value
        elif name.startswith("ce-"):
            kept[name] = _decoded(name, value)
    return kept


def _refuse_ambiguous(members: Mapping[str, Any]) -> None:
    """Refuse what the SDK would silently read as something else."""
    if "extensions" in members:
        raise InvalidInput("this name is reserved", field="extensions")
    if "data_base64" in members:
        try:
            base64.b64decode(members["data_base64"], validate=True)
        except (ValueError, TypeError) as error:
            raise InvalidInput(f"no base64: {error}", field="data_base64") from error
        if "data" in members:
            raise InvalidInput("an event has data or data_base64, not both", field="data_base64")


def _decoded(name: str, value: str) -> str:
    try:
        return unquote(value, errors="strict")
    except UnicodeDecodeError as error:
        raise InvalidInput("percent-encoded values are UTF-8", field=name) from error


def _json(body: bytes) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"no JSON: {error}", field="body") from error


def _media_type(headers: Mapping[str, str]) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()
