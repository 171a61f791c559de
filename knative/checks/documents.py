"""Kubernetes objects as they stand in YAML files, and what is wrong with one of them.

A `Document` is one object and the file it came from. Everything here reads untrusted shapes: what is not a mapping or
a list where one is expected reads as an empty one, because the schemas report that already.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

Mapping = dict[str, Any]
UNREADABLE = "(unreadable)"
KUSTOMIZATION = "kustomization.yaml"


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One thing wrong: `field` is a dotted path, `containers[0]` an item of a list, `annotations[a.b/c]` a key."""

    file: str
    object: str
    field: str
    detail: str

    def __str__(self) -> str:
        """Return the line that is printed."""
        return f"{self.file}: {self.object}: {self.field}: {self.detail}"


@dataclass(frozen=True, slots=True)
class Document:
    """One Kubernetes object of a file."""

    file: str
    content: Mapping

    @property
    def api_version(self) -> str:
        """Return `apiVersion`, empty where it is missing."""
        return text(self.content.get("apiVersion"))

    @property
    def group(self) -> str:
        """Return the group of `apiVersion`, empty for Kubernetes' core."""
        return self.api_version.rpartition("/")[0]

    @property
    def kind(self) -> str:
        """Return `kind`."""
        return text(self.content.get("kind"))

    @property
    def name(self) -> str:
        """Return `metadata.name`."""
        return text(self.metadata.get("name"))

    @property
    def namespace(self) -> str:
        """Return `metadata.namespace`, empty where it says none."""
        return text(self.metadata.get("namespace"))

    @property
    def metadata(self) -> Mapping:
        """Return `metadata`."""
        return mapping(self.content.get("metadata"))

    @property
    def spec(self) -> Mapping:
        """Return `spec`."""
        return mapping(self.content.get("spec"))

    @property
    def annotations(self) -> Mapping:
        """Return `metadata.annotations`."""
        return mapping(self.metadata.get("annotations"))

    @property
    def labels(self) -> Mapping:
        """Return `metadata.labels`."""
        return mapping(self.metadata.get("labels"))

    def fault(self, field: str, detail: str) -> Fault:
        """Return a fault of this object."""
        return Fault(self.file, f"{self.kind}/{self.name}", field, detail)


def mapping(value: object) -> Mapping:
    """Return a mapping as it is, anything else as an empty one."""
    return value if isinstance(value, dict) else {}


def items(value: object) -> list[Mapping]:
    """Return the mappings of a list, each other entry as an empty one; nothing for what is no list."""
    return [mapping(item) for item in value] if isinstance(value, list) else []


def text(value: object) -> str:
    """Return a string as it is, anything else as an empty one."""
    return value if isinstance(value, str) else ""


def number(value: object) -> float | None:
    """Return a number, or None for anything else; true and false are no numbers."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def dotted(path: Iterable[str | int]) -> str:
    """Return a path as a fault names it.

    >>> dotted(["spec", "containers", 0, "env"]), dotted(["metadata", "annotations", "a.b/c"])
    ('spec.containers[0].env', 'metadata.annotations[a.b/c]')
    """
    written = ""
    for part in path:
        if isinstance(part, int) or not part.isidentifier():
            written += f"[{part}]"
        else:
            written += f".{part}" if written else part
    return written


def read(paths: Iterable[Path]) -> tuple[list[Document], list[Fault]]:
    """Return the objects of YAML files and of folders of them, and what cannot be read.

    A folder holds sources: kustomizations, and the patches and configurations that they name, are no objects and are left out.
    """
    documents: list[Document] = []
    faults: list[Fault] = []
    for path in paths:
        for file in _sources(path) if path.is_dir() else [path]:
            try:
                contents = list(yaml.load_all(file.read_text(), Loader=_Loader))
            except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
                faults.append(Fault(str(file), UNREADABLE, "", " ".join(str(error).split())))
                continue
            for content in contents:
                if isinstance(content, dict):
                    documents.append(Document(str(file), content))
                elif content is not None:
                    faults.append(Fault(str(file), UNREADABLE, "", "a document must be a mapping"))
    return documents, faults


def _sources(folder: Path) -> list[Path]:
    """Return the files of objects below a folder."""
    left_out: set[Path] = set()
    for file in folder.rglob(KUSTOMIZATION):
        left_out.add(file)
        said = mapping(yaml.safe_load(file.read_text()))
        named = [*(said.get("patchesStrategicMerge") or ()), *(said.get("configurations") or ())]
        named += [text(patch.get("path")) for patch in items(said.get("patchesJson6902"))]
        left_out.update(file.parent / name for name in named)
    return [file for file in sorted(folder.rglob("*.yaml")) if file not in left_out]


class _Loader(yaml.SafeLoader):
    """YAML as Kubernetes reads it: a key stands once, a date is a text."""


def _once(loader: _Loader, node: yaml.MappingNode) -> Mapping:
    loader.flatten_mapping(node)
    seen: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if key in seen:
            raise yaml.constructor.ConstructorError(None, None, f"the key {key} stands twice", key_node.start_mark)
        seen[key] = loader.construct_object(value_node, deep=True)
    return seen


def _as_text(loader: _Loader, node: yaml.ScalarNode) -> str:
    return text(loader.construct_scalar(node))


_Loader.add_constructor("tag:yaml.org,2002:map", _once)
_Loader.add_constructor("tag:yaml.org,2002:timestamp", _as_text)


def objects(documents: Iterable[Document], kind: str, group: str | None = None) -> Iterator[Document]:
    """Yield the objects of a kind, of one group where it is given."""
    for document in documents:
        if document.kind == kind and group in {None, document.group}:
            yield document
