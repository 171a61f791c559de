"""What Knative Eventing refuses although its schemas let it through, and a retry that forgets its back-off."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit
from zoneinfo import available_timezones

from knative.checks.cesql import syntax_fault
from knative.checks.documents import Document, Fault, Mapping, items, mapping, number, text
from knative.checks.notation import cron_fault, is_iso_duration, is_zero_duration
from knative.checks.pods import SINKS
from knative.checks.rules import DocumentRule

EVENTING, SOURCES, MESSAGING, FLOWS = (
    f"{name}.knative.dev" for name in ("eventing", "sources", "messaging", "flows")
)  # fmt: skip
BROKER_CLASS = f"{EVENTING}/broker.class"
_ATTRIBUTE = re.compile(r"[a-z][a-z0-9]*")
_DIALECTS = ("all", "any", "cesql", "exact", "not", "prefix", "suffix")
_DELIVERY = frozenset({"backoffDelay", "backoffPolicy", "deadLetterSink", "format", "retry", "timeout"})
_TRIGGER = frozenset({"broker", "brokerRef", "delivery", "filter", "filters", "subscriber"})
_ATTRIBUTES_OF_A_TYPE = ("type", "source", "specversion", "id")
_JSON = "application/json"

Report = Callable[[str, str], Fault]


def _is(document: Document, kind: str, group: str = EVENTING) -> bool:
    return (document.kind, document.group) == (kind, group)


def trigger(document: Document) -> Iterator[Fault]:
    """A Trigger names its broker and a subscriber, and nothing that Eventing does not know."""
    if not _is(document, "Trigger"):
        return
    for name in document.spec:
        if name not in _TRIGGER:
            yield document.fault(f"spec.{name}", "no such field: Eventing refuses it")
    if bool(document.spec.get("broker")) == bool(document.spec.get("brokerRef")):
        both = bool(document.spec.get("broker"))
        yield document.fault("spec.broker", "goes without brokerRef" if both else "missing")
    if "subscriber" not in document.spec:
        yield document.fault("spec.subscriber", "missing")


def destinations(document: Document) -> Iterator[Fault]:
    """Where events go is an object, an object and a path below it, or an absolute address, and nothing else."""
    for path, destination in destinations_of(document):
        reference, address = destination.get("ref"), text(destination.get("uri"))
        parts = urlsplit(address)
        if reference is None and not address:
            yield document.fault(path, "needs ref or uri")
        elif reference is not None and parts.scheme:
            yield document.fault(f"{path}.uri", "an absolute address has no place beside ref")
        elif reference is None and not (parts.scheme and parts.netloc):
            yield document.fault(f"{path}.uri", "must be absolute where there is no ref")
        for name in ("apiVersion", "kind", "name") if reference is not None else ():
            if not text(mapping(reference).get(name)):
                yield document.fault(f"{path}.ref.{name}", "missing")


def destinations_of(document: Document) -> Iterator[tuple[str, Mapping]]:
    """Yield every destination of an object of Eventing, and its path."""
    if not document.group.endswith(".knative.dev") or document.group.startswith("serving."):
        return
    for name in ("subscriber", "sink", "reply"):
        if name in document.spec:
            yield f"spec.{name}", mapping(document.spec[name])
    for path, delivery in _deliveries(document):
        if "deadLetterSink" in delivery:
            yield f"{path}.deadLetterSink", mapping(delivery["deadLetterSink"])


def _deliveries(document: Document) -> Iterator[tuple[str, Mapping]]:
    if document.group.endswith(".knative.dev") and "delivery" in document.spec:
        yield "spec.delivery", mapping(document.spec["delivery"])


def delivery(document: Document) -> Iterator[Fault]:
    """What Eventing does not know, or has behind a feature that is off, has no place in a delivery."""
    for path, given in _deliveries(document):
        for name in given:
            if name == "retryAfterMax":
                yield document.fault(f"{path}.{name}", "its feature is off in a cluster with default settings")
            elif name not in _DELIVERY:
                yield document.fault(f"{path}.{name}", "no such field: Eventing refuses it")
        if given.get("format", "json") not in {"json", "binary"}:
            yield document.fault(f"{path}.format", "must be json or binary")


def delivery_durations(document: Document) -> Iterator[Fault]:
    """Durations of a delivery are ISO 8601, not Go's, and a timeout is not zero."""
    for path, given in _deliveries(document):
        for name in ("backoffDelay", "timeout"):
            value = given.get(name)
            if value is not None and not is_iso_duration(text(value)):
                yield document.fault(f"{path}.{name}", f"{value!r} is no ISO 8601 duration such as PT1S")
            elif name == "timeout" and value is not None and is_zero_duration(text(value)):
                yield document.fault(f"{path}.{name}", "must not be zero")


def back_off(document: Document) -> Iterator[Fault]:
    """A back-off is linear or exponential, and what says a retry says its back-off too: the default one is dropped."""
    for path, given in _deliveries(document):
        if given.get("backoffPolicy", "linear") not in {"linear", "exponential"}:
            yield document.fault(f"{path}.backoffPolicy", "must be linear or exponential")
        retry = number(given.get("retry"))
        if retry is not None and retry < 0:
            yield document.fault(f"{path}.retry", "must not be negative")
        for name in ("backoffPolicy", "backoffDelay") if retry else ():
            if name not in given:
                yield document.fault(f"{path}.{name}", "missing: retry alone drops the default back-off")


def filters(document: Document) -> Iterator[Fault]:
    """A filter names attributes as CloudEvents does; an entry of `filters` speaks one dialect, and CESQL parses."""
    if not document.group.endswith(".knative.dev"):
        return
    attributes = mapping(mapping(document.spec.get("filter")).get("attributes"))
    yield from _attributes("spec.filter.attributes", attributes, document.fault)
    for at, one in enumerate(items(document.spec.get("filters"))):
        yield from _filter(f"spec.filters[{at}]", one, document.fault)


def _attributes(path: str, wanted: Mapping, fault: Report) -> Iterator[Fault]:
    for name, value in wanted.items():
        place = f"{path}.{name}" if name.isidentifier() else f"{path}[{name}]"
        if not _ATTRIBUTE.fullmatch(name):
            yield fault(place, "an attribute's name has lower-case letters and digits only")
        if not isinstance(value, str):
            yield fault(place, "must be a text")


def _filter(path: str, given: Mapping, fault: Report) -> Iterator[Fault]:
    spoken = [dialect for dialect in _DIALECTS if given.get(dialect)]
    if len(spoken) > 1:
        yield fault(path, f"speaks {' and '.join(spoken)}: one dialect each")
    for name in given:
        if name not in _DIALECTS:
            yield fault(f"{path}.{name}", "no such dialect")
    for dialect in ("exact", "prefix", "suffix"):
        yield from _attributes(f"{path}.{dialect}", mapping(given.get(dialect)), fault)
    for dialect in ("all", "any"):
        for at, one in enumerate(items(given.get(dialect))):
            yield from _filter(f"{path}.{dialect}[{at}]", one, fault)
    if "not" in given:
        yield from _filter(f"{path}.not", mapping(given["not"]), fault)
    wrong = syntax_fault(text(given.get("cesql"))) if given.get("cesql") else None
    if wrong:
        yield fault(f"{path}.cesql", wrong)


def policies_are_off(document: Document) -> Iterator[Fault]:
    """An EventPolicy needs a feature that is off by default."""
    if _is(document, "EventPolicy"):
        yield document.fault("kind", "its feature is off in a cluster with default settings")


def job_sink(document: Document) -> Iterator[Fault]:
    """A JobSink carries a job."""
    if _is(document, "JobSink", SINKS) and not mapping(document.spec.get("job")):
        yield document.fault("spec.job", "missing")


def ping_source(document: Document) -> Iterator[Fault]:
    """A PingSource has a cron schedule, a time zone that exists, and data that is what its type says."""
    if not _is(document, "PingSource", SOURCES):
        return
    wrong = cron_fault(text(document.spec.get("schedule")))
    if wrong:
        yield document.fault("spec.schedule", wrong)
    zone = document.spec.get("timezone")
    if zone and zone not in available_timezones():
        yield document.fault("spec.timezone", f"no such time zone: {zone}")
    if document.spec.get("data") and document.spec.get("dataBase64"):
        yield document.fault("spec.dataBase64", "has no place beside data")
    data = text(document.spec.get("data"))
    if data and document.spec.get("contentType") == _JSON and not _is_json_object(data):
        yield document.fault("spec.data", "is no JSON object")
    if "sink" not in document.spec:
        yield document.fault("spec.sink", "missing")


def _is_json_object(data: str) -> bool:
    try:
        return isinstance(json.loads(data), dict)
    except ValueError:
        return False


def event_type(document: Document) -> Iterator[Fault]:
    """An EventType says its type, and since v1beta3 the other attributes that every event has."""
    if not _is(document, "EventType"):
        return
    if document.api_version.endswith("v1beta3"):
        named = {text(one.get("name")) for one in items(document.spec.get("attributes"))}
        for name in _ATTRIBUTES_OF_A_TYPE:
            if name not in named:
                yield document.fault(f"spec.attributes.{name}", "missing")
    elif not text(document.spec.get("type")):
        yield document.fault("spec.type", "missing")


def declared_type(document: Document) -> str:
    """Return the type that an EventType declares."""
    for attribute in items(document.spec.get("attributes")):
        if attribute.get("name") == "type":
            return text(attribute.get("value"))
    return text(document.spec.get("type"))


DOCUMENT_RULES: tuple[DocumentRule, ...] = (
    trigger, destinations, delivery, delivery_durations, back_off, filters, policies_are_off, job_sink, ping_source,
    event_type,
)  # fmt: skip
