"""Rules for every pod template, Knative's or not: mounts that meet volumes, resources, images, the restricted profile."""

from __future__ import annotations

import re
from collections.abc import Iterator

from knative.checks.documents import Fault, items, mapping, text
from knative.checks.notation import quantity
from knative.checks.pods import PodTemplate
from knative.checks.rules import TemplateRule

PART_OF = "knudge"
METRICS_PORT = 9095
SHORTEST_TIMEOUT_S = 45
OURS = ("knudge", "knudge-train")
THEIRS = ("postgres", "redis")
UNRESOLVED = ("dev.local/", "ko.local/", "kind.local/")
"""Images under these names are taken as they stand; Knative asks the registry for the digest of any other."""
_IMAGE = re.compile(
    r"(?P<repository>(?:[a-zA-Z0-9][a-zA-Z0-9.-]*(?::\d+)?/)?[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*"
    r"(?:/[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*)*)"
    r"(?::(?P<tag>\w[\w.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
_RESOURCES = frozenset({"cpu", "memory", "ephemeral-storage"})
_SAID_BY_EITHER = ("runAsNonRoot", "runAsUser", "seccompProfile")
_PROFILES = frozenset({"Localhost", "RuntimeDefault"})
_HOST_FIELDS = ("hostIPC", "hostNetwork", "hostPID")


def volumes_are_mounted(template: PodTemplate) -> Iterator[Fault]:
    """A volume is named once and mounted, a mount has its volume, and no two mounts meet."""
    volumes = [text(one.get("name")) for one in items(template.spec.get("volumes"))]
    claims = [
        text(mapping(one.get("metadata")).get("name"))
        for one in items(template.document.spec.get("volumeClaimTemplates"))
    ]
    mounted: set[str] = set()
    for container in template.containers():
        paths: set[str] = set()
        for at, mount in enumerate(items(container.content.get("volumeMounts"))):
            name, path = text(mount.get("name")), text(mount.get("mountPath")).rstrip("/")
            mounted.add(name)
            if name not in volumes and name not in claims:
                yield template.fault(f"{container.path}.volumeMounts[{at}].name", f"no volume is called {name}")
            if path in paths:
                yield template.fault(f"{container.path}.volumeMounts[{at}].mountPath", f"{path} is mounted twice")
            paths.add(path)
    for at, name in enumerate(volumes):
        if name not in mounted:
            yield template.fault(f"spec.volumes[{at}].name", f"{name} is mounted nowhere")
        if name in volumes[:at]:
            yield template.fault(f"spec.volumes[{at}].name", f"{name} stands twice")


def resources(template: PodTemplate) -> Iterator[Fault]:
    """Every container says what it needs, processor and memory, and asks for no more than its limits."""
    for container in template.containers():
        place = f"{container.path}.resources"
        wanted = mapping(mapping(container.content.get("resources")).get("requests"))
        most = mapping(mapping(container.content.get("resources")).get("limits"))
        for name in ("cpu", "memory"):
            if name not in wanted:
                yield template.fault(f"{place}.requests.{name}", "missing")
        for part, given in (("requests", wanted), ("limits", most)):
            for name, value in given.items():
                amount = quantity(value)
                if "/" not in name and name not in _RESOURCES and not name.startswith("hugepages-"):
                    yield template.fault(f"{place}.{part}.{name}", "no such resource")
                elif amount is None or amount < 0:
                    yield template.fault(f"{place}.{part}.{name}", f"{value!r} is no quantity")
        for name, value in wanted.items():
            request, limit = quantity(value), quantity(most.get(name))
            if request is not None and limit is not None and request > limit:
                yield template.fault(f"{place}.requests.{name}", f"{value} is above the limit {most[name]}")


def messages_and_memory(template: PodTemplate) -> Iterator[Fault]:
    """A termination message comes from the file or the logs; an emptyDir lies on disk or in memory, its size a quantity."""
    for container in template.containers():
        policy = container.content.get("terminationMessagePolicy", "File")
        if policy not in {"File", "FallbackToLogsOnError"}:
            yield template.fault(f"{container.path}.terminationMessagePolicy", f"no such policy: {policy}")
    for at, volume in enumerate(items(template.spec.get("volumes"))):
        empty = mapping(volume.get("emptyDir"))
        if empty.get("medium", "") not in {"", "Memory"}:
            yield template.fault(f"spec.volumes[{at}].emptyDir.medium", "must be Memory, or left out for disk")
        size = quantity(empty.get("sizeLimit", 0))
        if size is None or size < 0:
            yield template.fault(f"spec.volumes[{at}].emptyDir.sizeLimit", f"{empty['sizeLimit']!r} is no quantity")


def images(template: PodTemplate) -> Iterator[Fault]:
    """An image is one that is built or used here, with a tag that stays or a digest, where its digest can be found."""
    for container in template.containers():
        field, image = f"{container.path}.image", text(container.content.get("image"))
        match = _IMAGE.fullmatch(image)
        if match is None:
            yield template.fault(field, f"{image!r} is no image reference")
            continue
        repository, tag = match["repository"], match["tag"]
        if repository.rpartition("/")[2] not in OURS + THEIRS:
            yield template.fault(field, f"nobody builds {repository}: the revision would fail after its deadline only")
        elif not match["digest"] and tag in {None, "latest"}:
            yield template.fault(field, "needs a tag that stays, or a digest")
        elif template.of_knative and not _has_registry(repository):
            yield template.fault(
                field, f"{repository} names no registry: Knative would ask the default one for its digest"
            )


def _has_registry(repository: str) -> bool:
    first, slash, _ = repository.partition("/")
    return bool(slash) and ("." in first or ":" in first or first == "localhost")


def hosts(template: PodTemplate) -> Iterator[Fault]:
    """Nothing of the node: no host network, no host path, no port of the host."""
    if template.of_knative:
        return  # refused there with everything else that Knative does not take
    for name in _HOST_FIELDS:
        if template.spec.get(name):
            yield template.fault(f"spec.{name}", "the node's own is out of bounds")
    for at, volume in enumerate(items(template.spec.get("volumes"))):
        if "hostPath" in volume:
            yield template.fault(f"spec.volumes[{at}].hostPath", "the node's own is out of bounds")
    for container in template.containers():
        for at, port in enumerate(items(container.content.get("ports"))):
            if port.get("hostPort"):
                yield template.fault(f"{container.path}.ports[{at}].hostPort", "the node's own is out of bounds")


def restricted(template: PodTemplate) -> Iterator[Fault]:
    """Pods keep to the restricted profile, said by the pod or by the container."""
    pod = mapping(template.spec.get("securityContext"))
    for container in template.containers():
        said = {name: container.security.get(name, pod.get(name)) for name in _SAID_BY_EITHER}
        for fine, field, detail in (
            (said["runAsNonRoot"] is True, "runAsNonRoot", "must be true"),
            (said["runAsUser"] != 0, "runAsUser", "must not be root"),
            (mapping(said["seccompProfile"]).get("type") in _PROFILES, "seccompProfile.type", "must be RuntimeDefault"),
        ):
            if not fine:
                yield template.fault(f"{container.path}.securityContext.{field}", detail)


def confined(template: PodTemplate) -> Iterator[Fault]:
    """A container gains no privileges, drops every capability and, unless it is a store, cannot write its root."""
    for container in template.containers():
        own, capabilities = container.security, mapping(container.security.get("capabilities"))
        store = template.document.kind == "StatefulSet"
        for fine, field, detail in (
            (own.get("allowPrivilegeEscalation") is False, "allowPrivilegeEscalation", "must be false"),
            ("ALL" in (capabilities.get("drop") or ()), "capabilities.drop", "must contain ALL"),
            (template.of_knative or not capabilities.get("add"), "capabilities.add", "must add none"),
            (template.of_knative or not own.get("privileged"), "privileged", "must not be true"),
            (store or own.get("readOnlyRootFilesystem") is True, "readOnlyRootFilesystem", "must be true"),
        ):
            if not fine:
                yield template.fault(f"{container.path}.securityContext.{field}", detail)


def drains(template: PodTemplate) -> Iterator[Fault]:
    """A revision's `timeoutSeconds` is its termination grace too; below 45 s the last flush is lost to the sidecar's wait."""
    if template.of_knative:
        seconds = template.spec.get("timeoutSeconds")
        if not isinstance(seconds, int) or seconds < SHORTEST_TIMEOUT_S:
            detail = f"must be at least {SHORTEST_TIMEOUT_S}: it is the termination grace period too"
            yield template.fault("spec.timeoutSeconds", detail)


def metrics_port_is_not_declared(template: PodTemplate) -> Iterator[Fault]:
    """Knative sends requests to the one port that is declared, so the metrics port is not."""
    for container in template.containers() if template.of_knative else ():
        for at, port in enumerate(items(container.content.get("ports"))):
            if port.get("containerPort") == METRICS_PORT:
                detail = f"{METRICS_PORT} has the metrics: requests would go there"
                yield template.fault(f"{container.path}.ports[{at}].containerPort", detail)


def labelled(template: PodTemplate) -> Iterator[Fault]:
    """Pods say what they are and that they are ours, because policies and monitors select pods, not Services."""
    if not text(template.labels.get("app.kubernetes.io/name")):
        yield template.fault("metadata.labels[app.kubernetes.io/name]", "missing")
    if template.labels.get("app.kubernetes.io/part-of") != PART_OF:
        yield template.fault("metadata.labels[app.kubernetes.io/part-of]", f"must be {PART_OF}")


def says_when_it_ends(template: PodTemplate) -> Iterator[Fault]:
    """A Job's pods, a JobSink's too, say whether they are started again: Never or OnFailure; a failure policy needs Never."""
    parent = mapping(mapping(template.document.spec.get("job")).get("spec")) or template.document.spec
    if "podFailurePolicy" in parent and template.spec.get("restartPolicy") == "OnFailure":
        yield template.fault("spec.restartPolicy", "must be Never beside podFailurePolicy")
    if template.document.kind in {"Job", "CronJob", "JobSink"} and template.spec.get("restartPolicy") not in {
        "Never", "OnFailure",
    }:  # fmt: skip
        yield template.fault("spec.restartPolicy", "must be Never or OnFailure")


TEMPLATE_RULES: tuple[TemplateRule, ...] = (
    volumes_are_mounted, resources, messages_and_memory, images, hosts, restricted, confined, drains, metrics_port_is_not_declared, labelled,
    says_when_it_ends,
)  # fmt: skip
