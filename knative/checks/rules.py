"""What a rule is: a function that looks at one object, one pod template or the whole render and yields faults."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from knative.checks.documents import Document, Fault, text
from knative.checks.pods import PodTemplate, pod_templates

DocumentRule = Callable[[Document], Iterator[Fault]]
TemplateRule = Callable[[PodTemplate], Iterator[Fault]]


@dataclass(frozen=True)
class Render:
    """All objects that are applied together."""

    documents: list[Document]

    @property
    def templates(self) -> list[PodTemplate]:
        """Return the pod templates of all objects."""
        return pod_templates(self.documents)

    def find(self, kind: str, group: str, name: str, namespace: str) -> Document | None:
        """Return an object by its identity, None where it is not there."""
        for document in self.documents:
            if (document.kind, document.group, document.name, document.namespace) == (kind, group, name, namespace):
                return document
        return None

    def names(self, kind: str, group: str) -> set[str]:
        """Return the names of the objects of a kind."""
        return {text(one.name) for one in self.documents if (one.kind, one.group) == (kind, group)}


RenderRule = Callable[[Render], Iterator[Fault]]
