"""The eventing manifests as records: what the deployed broker is told is what the local runner does.

Reads `broker.yaml`, `triggers/*.yaml` and `schedules/*.yaml`. What a manifest says and this reader does not understand is an
error, never ignored: else the local run would quietly differ from the deployed one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from shared.errors import Misconfigured

MANIFESTS = Path(__file__).resolve().parents[2] / "eventing"
BROKER_NAME = "knudge"
BackoffPolicy = Literal["linear", "exponential"]


@dataclass(frozen=True, slots=True)
class Delivery:
    """How hard to try: `retry` attempts after the first, pauses that grow from `backoff_delay_s`."""

    retry: int
    backoff_policy: BackoffPolicy
    backoff_delay_s: float
    timeout_s: float

    def pause_s(self, retries: int) -> float:
        """Return the pause after a failed attempt that came after `retries` retries.

        The delay times 2^retries, or times the retries for the linear policy, as Knative has it.
        """
        factor = 2.0 ** min(retries, LARGEST_EXPONENT) if self.backoff_policy == "exponential" else float(retries)
        return min(self.backoff_delay_s * factor, LONGEST_PAUSE_S)


LARGEST_EXPONENT = 30
LONGEST_PAUSE_S = 3600.0
# Knative gives up on a subscriber that answers nothing for so long when no timeout is said.
DEFAULT_TIMEOUT_S = 600.0
# What Knative's configuration gives a broker that names no delivery at all.
DEFAULT_DELIVERY = Delivery(10, "exponential", 0.2, DEFAULT_TIMEOUT_S)


@dataclass(frozen=True, slots=True)
class DeadLetterSink:
    """Where events go that a subscriber did not take: a path of a service."""

    service: str
    path: str


@dataclass(frozen=True, slots=True)
class Trigger:
    """Deliver events whose attributes equal `attributes` to the service `subscriber`, else to `dead_letter_sink`."""

    name: str
    attributes: Mapping[str, str]
    subscriber: str
    delivery: Delivery
    dead_letter_sink: DeadLetterSink | None = None

    def matches(self, attributes: Mapping[str, str]) -> bool:
        """Say whether an event with these attributes is for this trigger; an empty wanted value is any value."""
        return all(name in attributes and wanted in ("", attributes[name]) for name, wanted in self.attributes.items())


@dataclass(frozen=True, slots=True)
class Schedule:
    """Send an event with `data` to the service `subscriber` whenever `cron` says so."""

    name: str
    cron: str
    data: bytes
    content_type: str
    subscriber: str


def read_triggers(folder: Path = MANIFESTS) -> tuple[Trigger, ...]:
    """Return the triggers of the broker in `folder`, by name; raises `Misconfigured`."""
    given = _spec(folder / "broker.yaml", "Broker", {"config", "delivery"}).get("delivery")
    fallback, sink = _delivery(given, "broker.yaml") or DEFAULT_DELIVERY, _dead_letter_sink(given, "broker.yaml")
    triggers = [_trigger(path, fallback, sink) for path in sorted((folder / "triggers").glob("*.yaml"))]
    if not triggers:
        raise Misconfigured(f"there is no trigger in {folder / 'triggers'}")
    return tuple(triggers)


def read_schedules(folder: Path = MANIFESTS) -> tuple[Schedule, ...]:
    """Return the schedules in `folder`, by name; raises `Misconfigured`."""
    return tuple(_schedule(path) for path in sorted((folder / "schedules").glob("*.yaml")))


def duration_s(text: str) -> float:
    """Return the seconds of an ISO 8601 duration of days, hours, minutes and seconds.

    >>> duration_s("PT0.5S"), duration_s("P1DT1M")
    (0.5, 86460.0)
    """
    match = DURATION.fullmatch(text)
    if match is None or text.endswith(("P", "T")):
        raise Misconfigured(f"{text!r} is no ISO 8601 duration such as PT0.5S")
    return sum(float(number) * unit for number, unit in zip(match.groups("0"), SECONDS, strict=True))


DURATION = re.compile(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?")
SECONDS = (86_400, 3_600, 60, 1)


def _trigger(path: Path, fallback: Delivery, fallback_sink: DeadLetterSink | None) -> Trigger:
    spec = _spec(path, "Trigger", {"broker", "filter", "subscriber", "delivery"})
    if spec.get("broker") != BROKER_NAME:
        raise Misconfigured(f"{path.name}: the broker must be {BROKER_NAME}")
    wanted = _known(spec.get("filter") or {}, {"attributes"}, path.name).get("attributes") or {}
    return Trigger(
        _name(path),
        {name: str(value) for name, value in wanted.items()},
        _service(spec.get("subscriber"), path.name),
        _delivery(spec.get("delivery"), path.name) or fallback,
        _dead_letter_sink(spec.get("delivery"), path.name) or fallback_sink,
    )


def _schedule(path: Path) -> Schedule:
    spec = _spec(path, "PingSource", {"schedule", "contentType", "data", "sink"})
    return Schedule(
        _name(path),
        str(spec.get("schedule", "* * * * *")),
        str(spec.get("data", "")).encode(),
        str(spec.get("contentType", "")),
        _service(spec.get("sink"), path.name),
    )


def _delivery(given: Mapping[str, Any] | None, where: str) -> Delivery | None:
    """Read a delivery; one that names anything replaces the default altogether, back-off included."""
    if not given:
        return None
    _known(given, {"retry", "backoffPolicy", "backoffDelay", "timeout", "deadLetterSink"}, where)
    policy = given.get("backoffPolicy", "exponential")
    if policy not in ("linear", "exponential"):
        raise Misconfigured(f"{where}: backoffPolicy is linear or exponential")
    timeout = given.get("timeout")
    return Delivery(
        int(given.get("retry", 0)),
        policy,
        duration_s(str(given.get("backoffDelay", "PT0S"))),
        DEFAULT_TIMEOUT_S if timeout is None else duration_s(str(timeout)),
    )


def _dead_letter_sink(given: Mapping[str, Any] | None, where: str) -> DeadLetterSink | None:
    """Read the sink of a delivery; a trigger that names none has its broker's, whatever else it says."""
    sink = (given or {}).get("deadLetterSink")
    if sink is None:
        return None
    path = str(_known(sink, {"ref", "uri"}, where).get("uri", "/"))
    if not path.startswith("/") or path.startswith("//"):
        raise Misconfigured(f"{where}: the local runner takes a deadLetterSink whose uri is a path of the service")
    return DeadLetterSink(_service({"ref": sink.get("ref")}, where), path)


def _service(given: Mapping[str, Any] | None, where: str) -> str:
    """Return the name of the Knative Service that a subscriber or sink refers to."""
    reference = _known(given or {}, {"ref"}, where).get("ref") or {}
    if (reference.get("apiVersion"), reference.get("kind")) != ("serving.knative.dev/v1", "Service"):
        raise Misconfigured(f"{where}: the local runner delivers to Knative Services by `ref` only")
    return str(reference["name"])


def _spec(path: Path, kind: str, known: set[str]) -> Mapping[str, Any]:
    document = _document(path)
    if document.get("kind") != kind:
        raise Misconfigured(f"{path.name}: expected a {kind}")
    return _known(document.get("spec") or {}, known, path.name)


def _name(path: Path) -> str:
    return str(_document(path)["metadata"]["name"])


def _document(path: Path) -> Mapping[str, Any]:
    try:
        document = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise Misconfigured(f"{path} cannot be read: {error}") from error
    if not isinstance(document, dict):
        raise Misconfigured(f"{path.name}: expected one manifest")
    return document


def _known(given: Mapping[str, Any], known: set[str] | Sequence[str], where: str) -> Mapping[str, Any]:
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise Misconfigured(f"{where}: the local runner does not know {', '.join(unknown)}")
    return given
