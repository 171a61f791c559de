"""The eventing manifests as records: what the deployed broker is told is what the local runner does.

Reads `broker.yaml`, `triggers/*.yaml`, `schedules/*.yaml` and `jobsink.yaml`. What a manifest says and this reader does not understand is an
error, never ignored: else the local run would quietly differ from the deployed one. Of a JobSink's Job it plays what decides
when a process runs, with what, and how often; what is a cluster's alone (image, resources, rights) it knows by name.

A recipient is named by the name of its Knative Service, or by `jobsinks/` and the name of its JobSink.
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
JOB_SINKS = "jobsinks/"
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
    """Deliver events whose attributes equal `attributes` to the recipient `subscriber`, else to `dead_letter_sink`."""

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
    """Send an event with `data` to the recipient `subscriber` whenever `cron` says so."""

    name: str
    cron: str
    data: bytes
    content_type: str
    subscriber: str


@dataclass(frozen=True, slots=True)
class JobPlan:
    """What a JobSink starts for each event: `command` with `environment` beside the settings.

    `backoff_limit`: how often a failed process is followed by another; `deadline_s`: for all of them together;
    `final_codes`: exit codes after which there is no other.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    backoff_limit: int
    deadline_s: float
    final_codes: frozenset[int]


# What Kubernetes gives a Job that does not say how often.
DEFAULT_BACKOFF_LIMIT = 6


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


def read_job_sinks(folder: Path = MANIFESTS) -> tuple[JobPlan, ...]:
    """Return what the JobSink in `folder` starts; raises `Misconfigured`."""
    return (_job_plan(folder / "jobsink.yaml"),)


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
        _recipient(spec.get("subscriber"), path.name),
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
        _recipient(spec.get("sink"), path.name),
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


def _job_plan(path: Path) -> JobPlan:
    """Read the one container that a JobSink's Job runs."""
    job = _known(_spec(path, "JobSink", {"job"}).get("job") or {}, {"metadata", "spec"}, path.name)
    spec = _known(job.get("spec") or {}, JOB_PLAYED | JOB_OF_THE_CLUSTER, path.name)
    template = _known(spec.get("template") or {}, {"metadata", "spec"}, path.name)
    pod = _known(template.get("spec") or {}, POD_PLAYED | POD_OF_THE_CLUSTER, path.name)
    if pod.get("restartPolicy") != "Never":
        raise Misconfigured(f"{path.name}: the local runner plays the restartPolicy Never only")
    containers = pod.get("containers") or []
    if len(containers) != 1:
        raise Misconfigured(f"{path.name}: the local runner starts one container")
    container = _known(containers[0], CONTAINER_PLAYED | CONTAINER_OF_THE_CLUSTER, path.name)
    command = [*(container.get("command") or []), *(container.get("args") or [])]
    if not command:
        raise Misconfigured(f"{path.name}: the container must name its command")
    return JobPlan(
        _name(path),
        tuple(str(word) for word in command),
        {str(each["name"]): str(each["value"]) for each in container.get("env") or [] if "value" in each},
        int(spec.get("backoffLimit", DEFAULT_BACKOFF_LIMIT)),
        float(spec.get("activeDeadlineSeconds", "inf")),
        _final_codes(spec.get("podFailurePolicy") or {}, path.name),
    )


JOB_PLAYED = {"backoffLimit", "activeDeadlineSeconds", "podFailurePolicy", "template"}
JOB_OF_THE_CLUSTER = {"ttlSecondsAfterFinished", "parallelism", "completions", "podReplacementPolicy", "suspend"}
POD_PLAYED = {"restartPolicy", "containers"}
POD_OF_THE_CLUSTER = {
    "serviceAccountName", "automountServiceAccountToken", "securityContext", "volumes", "terminationGracePeriodSeconds",
    "enableServiceLinks", "nodeSelector", "tolerations", "affinity", "priorityClassName", "imagePullSecrets",
}  # fmt: skip
CONTAINER_PLAYED = {"name", "command", "args", "env"}
CONTAINER_OF_THE_CLUSTER = {
    "image", "imagePullPolicy", "envFrom", "resources", "securityContext", "volumeMounts", "workingDir",
    "terminationMessagePolicy",
}  # fmt: skip


def _final_codes(policy: Mapping[str, Any], where: str) -> frozenset[int]:
    """Return the exit codes that end a Job at once; what a pod's disruption means is the cluster's."""
    codes: set[int] = set()
    for rule in _known(policy, {"rules"}, where).get("rules") or []:
        wanted = _known(rule, {"action", "onExitCodes", "onPodConditions"}, where).get("onExitCodes")
        if wanted is None:
            continue
        _known(wanted, {"containerName", "operator", "values"}, where)
        if (rule["action"], wanted.get("operator")) != ("FailJob", "In"):
            raise Misconfigured(f"{where}: the local runner plays exit codes with FailJob and In only")
        codes.update(int(code) for code in wanted["values"])
    return frozenset(codes)


def _recipient(given: Mapping[str, Any] | None, where: str) -> str:
    """Return the recipient that a subscriber or sink refers to."""
    reference = _known(given or {}, {"ref"}, where).get("ref") or {}
    if (reference.get("apiVersion"), reference.get("kind")) == ("sinks.knative.dev/v1alpha1", "JobSink"):
        return JOB_SINKS + str(reference["name"])
    return _service(given, where)


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
        raise Misconfigured(f"{where}: the local runner delivers to Knative Services and JobSinks by `ref` only")
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
