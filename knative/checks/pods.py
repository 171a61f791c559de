"""Pod templates, wherever an object carries one: Knative Services, workloads, Jobs, CronJobs, JobSinks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from knative.checks.documents import Document, Fault, Mapping, items, mapping, text

SERVING = "serving.knative.dev"
SINKS = "sinks.knative.dev"
_PLACES = {
    (SERVING, "Service"): ("spec", "template"),
    (SERVING, "Configuration"): ("spec", "template"),
    (SINKS, "JobSink"): ("spec", "job", "spec", "template"),
    ("apps", "Deployment"): ("spec", "template"),
    ("apps", "StatefulSet"): ("spec", "template"),
    ("apps", "DaemonSet"): ("spec", "template"),
    ("apps", "ReplicaSet"): ("spec", "template"),
    ("batch", "Job"): ("spec", "template"),
    ("batch", "CronJob"): ("spec", "jobTemplate", "spec", "template"),
    ("", "Pod"): (),
}


@dataclass(frozen=True, slots=True)
class Container:
    """A container and its path in the object."""

    content: Mapping
    path: str
    initial: bool

    @property
    def security(self) -> Mapping:
        """Return its security context."""
        return mapping(self.content.get("securityContext"))


@dataclass(frozen=True, slots=True)
class PodTemplate:
    """A pod template, the object that carries it, and where."""

    document: Document
    path: str
    content: Mapping

    @property
    def of_knative(self) -> bool:
        """Say whether Knative Serving runs it, with its queue-proxy and its rules."""
        return self.document.group == SERVING

    @property
    def metadata(self) -> Mapping:
        """Return the pods' metadata."""
        return mapping(self.content.get("metadata"))

    @property
    def labels(self) -> Mapping:
        """Return the pods' labels, as selectors see them."""
        return mapping(self.metadata.get("labels"))

    @property
    def annotations(self) -> Mapping:
        """Return the pods' annotations."""
        return mapping(self.metadata.get("annotations"))

    @property
    def spec(self) -> Mapping:
        """Return the pods' spec."""
        return mapping(self.content.get("spec"))

    @property
    def namespace(self) -> str:
        """Return the namespace that the pods run in."""
        return self.document.namespace

    @property
    def service_account(self) -> str:
        """Return the name of the service account, empty for the namespace's default."""
        return text(self.spec.get("serviceAccountName"))

    def field(self, path: str) -> str:
        """Return the path of a field of the template in its object."""
        return f"{self.path}.{path}" if self.path else path

    def fault(self, path: str, detail: str) -> Fault:
        """Return a fault of a field of the template."""
        return self.document.fault(self.field(path), detail)

    def containers(self) -> Iterator[Container]:
        """Yield the containers, the initial ones after the others."""
        for name, initial in (("containers", False), ("initContainers", True)):
            for at, container in enumerate(items(self.spec.get(name))):
                yield Container(container, f"spec.{name}[{at}]", initial)


def pod_template(document: Document) -> PodTemplate | None:
    """Return the pod template of an object, None where it has none; a JobSink without a job has none."""
    place = _PLACES.get((document.group, document.kind))
    if place is None or (document.group == SINKS and not mapping(document.spec.get("job"))):
        return None
    content = document.content
    for name in place:
        content = mapping(content.get(name))
    return PodTemplate(document, ".".join(place), content)


def pod_templates(documents: list[Document]) -> list[PodTemplate]:
    """Return the pod templates of all objects."""
    return [template for document in documents if (template := pod_template(document)) is not None]
