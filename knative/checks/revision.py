"""What a revision's pod template may say: the fields of a pod that Knative Serving takes with its default features."""

from __future__ import annotations

import math
from collections.abc import Iterator

from knative.checks.documents import Document, Fault, items, mapping, number, text
from knative.checks.notation import is_dns_label
from knative.checks.pods import SERVING, PodTemplate
from knative.checks.rules import DocumentRule, TemplateRule

VISIBILITY = "networking.knative.dev/visibility"
LONGEST_TIMEOUT_S = 600
LARGEST_CONCURRENCY = 1000
_POD_FIELDS = frozenset(
    {
        "automountServiceAccountToken", "containerConcurrency", "containers", "enableServiceLinks",
        "idleTimeoutSeconds", "imagePullSecrets", "responseStartTimeoutSeconds", "serviceAccountName", "timeoutSeconds",
        "volumes",
    }
)  # fmt: skip
_VOLUME_KINDS = frozenset({"configMap", "emptyDir", "projected", "secret"})
_CONTAINER_FIELDS = frozenset(
    {
        "args", "command", "env", "envFrom", "image", "imagePullPolicy", "livenessProbe", "name", "ports",
        "readinessProbe", "resources", "securityContext", "startupProbe", "terminationMessagePath",
        "terminationMessagePolicy", "volumeMounts", "workingDir",
    }
)  # fmt: skip
_SECURITY_FIELDS = frozenset(
    {
        "allowPrivilegeEscalation", "capabilities", "privileged", "readOnlyRootFilesystem", "runAsGroup", "runAsNonRoot",
        "runAsUser", "seccompProfile",
    }
)  # fmt: skip
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_RESERVED_ENVIRONMENT = frozenset({"PORT", "K_SERVICE", "K_CONFIGURATION", "K_REVISION"})
_RESERVED_PORTS = frozenset({8008, 8012, 8013, 8022, 9090, 9091})
_LARGEST_PORT = 65_535
_LARGEST_ID = 2**31 - 1
_PORT_NAMES = frozenset({"", "h2c", "http1"})
_NETWORKING_ANNOTATIONS = frozenset(
    f"networking.knative.dev/{name}"
    for name in (
        "ingress.class", "ingress-class", "certificate.class", "certificate-class", "disableAutoTLS", "disable-auto-tls",
        "disable-external-domain-tls", "httpOption", "http-protocol",
    )
)  # fmt: skip
_REFUSED = "Knative Serving refuses it with its default features"


def pod_fields(template: PodTemplate) -> Iterator[Fault]:
    """Fields of a pod that Knative keeps for itself, or behind a feature that is off by default, are refused."""
    for name, value in template.spec.items():
        if name not in _POD_FIELDS:
            yield template.fault(f"spec.{name}", _REFUSED)
        elif name == "automountServiceAccountToken" and value is not False:
            yield template.fault(f"spec.{name}", f"{_REFUSED}, unless it is false")
    if not items(template.spec.get("containers")):
        yield template.fault("spec.containers", "missing")
    for at, volume in enumerate(items(template.spec.get("volumes"))):
        kinds = [name for name in volume if name != "name"]
        for name in kinds:
            if name not in _VOLUME_KINDS:
                yield template.fault(f"spec.volumes[{at}].{name}", _REFUSED)
        if len(kinds) != 1:
            yield template.fault(f"spec.volumes[{at}]", "needs one of configMap, emptyDir, projected, secret")


def container_fields(template: PodTemplate) -> Iterator[Fault]:
    """Fields of a container that Knative keeps for itself are refused."""
    for container in template.containers():
        for name in container.content:
            if name not in _CONTAINER_FIELDS:
                yield template.fault(f"{container.path}.{name}", _REFUSED)
        for name, value in container.security.items():
            if name not in _SECURITY_FIELDS or (name == "privileged" and value is not False):
                yield template.fault(f"{container.path}.securityContext.{name}", _REFUSED)
        if mapping(container.security.get("capabilities")).get("add"):
            yield template.fault(f"{container.path}.securityContext.capabilities.add", _REFUSED)
        if container.content.get("name") == "queue-proxy":
            yield template.fault(f"{container.path}.name", "the name of Knative's own container")
        for name in ("runAsUser", "runAsGroup"):
            if not 0 <= (number(container.security.get(name)) or 0) <= _LARGEST_ID:
                yield template.fault(f"{container.path}.securityContext.{name}", f"is not from 0 to {_LARGEST_ID}")


def ports(template: PodTemplate) -> Iterator[Fault]:
    """One port in all containers together, none of Knative's own, on TCP, named h2c or http1 if at all."""
    named: list[str] = []
    for container in template.containers():
        for at, port in enumerate(items(container.content.get("ports"))):
            place = f"{container.path}.ports[{at}]"
            named.append(place)
            if port.get("containerPort") in _RESERVED_PORTS:
                yield template.fault(f"{place}.containerPort", f"{port['containerPort']} is Knative's own")
            elif not 0 <= (number(port.get("containerPort")) or 0) <= _LARGEST_PORT:
                yield template.fault(f"{place}.containerPort", f"{port['containerPort']} is no port")
            if port.get("name", "") not in _PORT_NAMES:
                yield template.fault(f"{place}.name", f"{port['name']} is neither h2c nor http1")
            if port.get("protocol", "TCP") != "TCP":
                yield template.fault(f"{place}.protocol", "must be TCP")
            for name in ("hostPort", "hostIP"):
                if name in port:
                    yield template.fault(f"{place}.{name}", _REFUSED)
    for place in named[1:]:
        yield template.fault(place, "a second port: Knative takes one in all")


def environment(template: PodTemplate) -> Iterator[Fault]:
    """Knative's own variables are not set by hand; values come from ConfigMaps and Secrets, not from the pod's fields."""
    for container in template.containers():
        for at, variable in enumerate(items(container.content.get("env"))):
            place = f"{container.path}.env[{at}]"
            if variable.get("name") in _RESERVED_ENVIRONMENT:
                yield template.fault(f"{place}.name", f"{variable['name']} is set by Knative")
            for source in mapping(variable.get("valueFrom")):
                if source not in {"configMapKeyRef", "secretKeyRef"}:
                    yield template.fault(f"{place}.valueFrom.{source}", _REFUSED)
        for at, taken in enumerate(items(container.content.get("envFrom"))):
            if ("configMapRef" in taken) == ("secretRef" in taken):
                yield template.fault(f"{container.path}.envFrom[{at}]", "needs configMapRef or secretRef, not both")


def mounts(template: PodTemplate) -> Iterator[Fault]:
    """Mounts are absolute, not at the root or below /dev; only emptyDir is mounted to write."""
    written = {text(one.get("name")) for one in items(template.spec.get("volumes")) if "emptyDir" in one}
    for container in template.containers():
        for at, mount in enumerate(items(container.content.get("volumeMounts"))):
            place = f"{container.path}.volumeMounts[{at}]"
            path = text(mount.get("mountPath")).rstrip("/")
            if not path or path == "/dev" or path.startswith("/dev/"):
                yield template.fault(f"{place}.mountPath", "a reserved path")
            elif not path.startswith("/"):
                yield template.fault(f"{place}.mountPath", "must begin with /")
            if mount.get("readOnly") is False and mount.get("name") not in written:
                yield template.fault(f"{place}.readOnly", "this kind of volume is mounted read-only")
            for name in ("mountPropagation", "recursiveReadOnly"):
                if name in mount:
                    yield template.fault(f"{place}.{name}", _REFUSED)


def probes(template: PodTemplate) -> Iterator[Fault]:
    """A probe has one handler, on the container's port by name if by name; a startup probe says its port itself."""
    for container in template.containers():
        names = {text(port.get("name")) for port in items(container.content.get("ports"))} | {""}
        for name in _PROBES:
            probe = mapping(container.content.get(name))
            place = f"{container.path}.{name}"
            handlers = [handler for handler in ("exec", "grpc", "httpGet", "tcpSocket") if handler in probe]
            if len(handlers) > 1 or (not handlers and name in container.content and name != "readinessProbe"):
                yield template.fault(place, "needs one of exec, grpc, httpGet, tcpSocket")
            for handler in handlers:
                port = mapping(probe[handler]).get("port")
                if name == "startupProbe" and handler != "exec" and port in {None, "", 0}:
                    yield template.fault(f"{place}.{handler}.port", "missing: Knative gives a startup probe none")
                elif isinstance(port, str) and port not in names:
                    yield template.fault(f"{place}.{handler}.port", f"no port of the container is called {port}")


def probe_times(template: PodTemplate) -> Iterator[Fault]:
    """A readiness probe without a period is Knative's own, tried every 50 ms, and has no other times; others succeed at once."""
    for container in template.containers():
        readiness = mapping(container.content.get("readinessProbe"))
        place = f"{container.path}.readinessProbe"
        for field in ("periodSeconds", "initialDelaySeconds"):
            if (number(readiness.get(field)) or 0) < 0:
                yield template.fault(f"{place}.{field}", "must not be negative")
        for field in ("failureThreshold", "timeoutSeconds") if not readiness.get("periodSeconds") else ():
            if readiness.get(field):
                yield template.fault(f"{place}.{field}", "has no place where periodSeconds is 0 or missing")
        for name in ("livenessProbe", "startupProbe"):
            if mapping(container.content.get(name)).get("successThreshold", 1) != 1:
                yield template.fault(f"{container.path}.{name}.successThreshold", "must be 1")


def limits(template: PodTemplate) -> Iterator[Fault]:
    """A request lasts at most 600 s, one pod takes at most 1000 at a time, and idling ends before the request does."""
    longest = number(template.spec.get("timeoutSeconds"))
    for name in ("timeoutSeconds", "idleTimeoutSeconds", "responseStartTimeoutSeconds"):
        seconds = number(template.spec.get(name))
        most = LONGEST_TIMEOUT_S if name == "timeoutSeconds" else math.inf
        if seconds is not None and not 0 <= seconds <= most:
            yield template.fault(f"spec.{name}", f"{seconds:g} is not from 0 to {most:g}")
        elif seconds is not None and longest and name != "timeoutSeconds" and seconds > longest:
            yield template.fault(
                f"spec.{name}", f"{seconds:g} is above timeoutSeconds {longest:g}: it never comes to it"
            )
    concurrency = number(template.spec.get("containerConcurrency"))
    if concurrency is not None and not 0 <= concurrency <= LARGEST_CONCURRENCY:
        yield template.fault("spec.containerConcurrency", f"{concurrency:g} is not from 0 to {LARGEST_CONCURRENCY}")


def names(template: PodTemplate) -> Iterator[Fault]:
    """A revision that is named bears the Service's name as a prefix; annotations of networking are known ones."""
    name = template.metadata.get("name")
    if isinstance(name, str) and template.document.kind in {"Service", "Configuration"}:
        prefix = f"{template.document.name}-"
        if not name.startswith(prefix) or not is_dns_label(name):
            yield template.fault("metadata.name", f"{name} must be a DNS label that begins with {prefix}")
    for key in template.annotations:
        if key.startswith("networking.knative.dev") and key not in _NETWORKING_ANNOTATIONS:
            yield template.fault(f"metadata.annotations[{key}]", "no such annotation: Knative Serving refuses it")
    if VISIBILITY in template.labels:
        detail = "works on the Service's own labels only: Knative ignores it here"
        yield template.fault(f"metadata.labels[{VISIBILITY}]", detail)


def visibility(document: Document) -> Iterator[Fault]:
    """The one visibility that Knative knows is cluster-local; with any other value a Service is public."""
    if document.group == SERVING and document.labels.get(VISIBILITY, "cluster-local") != "cluster-local":
        yield document.fault(f"metadata.labels[{VISIBILITY}]", "only cluster-local means anything: this one is public")


def named_by_dns(document: Document) -> Iterator[Fault]:
    """A Service is named by a DNS label."""
    if document.group == SERVING and document.kind != "DomainMapping" and not is_dns_label(document.name):
        yield document.fault("metadata.name", f"{document.name} is no DNS label")


DOCUMENT_RULES: tuple[DocumentRule, ...] = (visibility, named_by_dns)
TEMPLATE_RULES: tuple[TemplateRule, ...] = (
    pod_fields, container_fields, ports, environment, mounts, probes, probe_times, limits, names,
)  # fmt: skip
