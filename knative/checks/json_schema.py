"""What JSON schemas say about an object, as faults of its fields; and Knative's own schemas made strict."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, cast

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.protocols import Validator

from knative.checks.documents import Document, Fault, Mapping, dotted, mapping

PRESERVE = "x-kubernetes-preserve-unknown-fields"
KNATIVE_GROUP = ".knative.dev"
_OBJECT_META = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "generateName": {"type": "string"},
        "namespace": {"type": "string"},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "annotations": {"type": "object", "additionalProperties": {"type": "string"}},
        "finalizers": {"type": "array", "items": {"type": "string"}},
        "ownerReferences": {"type": "array"},
    },
    "anyOf": [{"required": ["name"]}, {"required": ["generateName"]}],
    "additionalProperties": False,
}


class CustomKinds:
    """The kinds that the CustomResourceDefinitions of a folder define, each served version with its strict schema."""

    def __init__(self, folder: Path) -> None:
        """Read the definitions in `serving/` and `eventing/` below `folder`."""
        self._validators: dict[tuple[str, str], Validator] = {}
        self.kinds: set[tuple[str, str]] = set()
        for file in sorted(folder.glob("*/*.yaml")):
            for definition in yaml.safe_load_all(file.read_text()):
                if mapping(definition).get("kind") == "CustomResourceDefinition":
                    self._add(definition["spec"])

    def _add(self, spec: Mapping) -> None:
        kind = spec["names"]["kind"]
        self.kinds.add((spec["group"], kind))
        for version in spec["versions"]:
            if version["served"]:
                schema = strict(version["schema"]["openAPIV3Schema"])
                schema["properties"] |= {
                    "apiVersion": {"type": "string"},
                    "kind": {"type": "string"},
                    "metadata": _OBJECT_META,
                }
                schema["additionalProperties"] = False
                schema["required"] = ["apiVersion", "kind", "metadata"]
                name = f"{spec['group']}/{version['name']}"
                self._validators[name, kind] = Draft202012Validator(schema)

    def faults(self, document: Document) -> list[Fault]:
        """Return what the schema of its kind says about an object."""
        validator = self._validators.get((document.api_version, document.kind))
        if validator is not None:
            return schema_faults(document, validator, document.content)
        versions = sorted(name for name, kind in self._validators if kind == document.kind and document.group in name)
        if versions:
            return [document.fault("apiVersion", f"{document.kind} is served as {', '.join(versions)}")]
        return [document.fault("kind", f"Knative has no kind {document.kind} in {document.api_version}")]


@cache
def custom_kinds(folder: Path) -> CustomKinds | None:
    """Return the kinds that a folder defines, None where there is no such folder."""
    return CustomKinds(folder) if folder.is_dir() else None


def strict(schema: Any) -> Any:  # noqa: ANN401 - any JSON
    """Return a structural schema of a CustomResourceDefinition as a JSON schema that refuses what it does not name.

    An unknown field is refused wherever fields are named, unless the schema says that it keeps them.
    """
    if isinstance(schema, list):
        return [strict(member) for member in schema]
    if not isinstance(schema, dict):
        return schema
    made: Mapping = {}
    for key, value in schema.items():
        if key == "properties":
            made[key] = {name: strict(member) for name, member in value.items()}
        elif key in {"items", "additionalProperties", "allOf", "anyOf", "oneOf", "not"}:
            made[key] = strict(value)
        elif not key.startswith("x-") and key not in {"description", "nullable", "default", "format", "example"}:
            made[key] = value
    if schema.get("x-kubernetes-int-or-string"):
        made.pop("anyOf", None)
        made["type"] = ["integer", "string"]
    if "properties" in schema and not schema.get(PRESERVE):
        made.setdefault("additionalProperties", False)
    if schema.get("nullable") and isinstance(made.get("type"), str):
        made["type"] = [made["type"], "null"]
    return made


def schema_faults(document: Document, validator: Validator, content: Mapping, below: str = "") -> list[Fault]:
    """Return what a schema says about a part of an object, which stands at the path `below`."""
    found: list[Fault] = []
    for error in validator.iter_errors(content):
        for path, detail in _plain(error):
            field = dotted(path)
            separator = "." if below and field and not field.startswith("[") else ""
            found.append(document.fault(f"{below}{separator}{field}", detail))
    return found


def _plain(error: ValidationError) -> Iterator[tuple[list[str | int], str]]:
    """Yield the path and the words of an error: one for each unknown or missing field."""
    path = list(error.absolute_path)
    if error.validator == "additionalProperties" and error.validator_value is False:
        known = mapping(mapping(error.schema).get("properties"))
        patterns = mapping(mapping(error.schema).get("patternProperties"))
        for name in mapping(error.instance):
            if name not in known and not patterns:
                yield [*path, name], "no such field"
    elif error.validator == "required":
        for name in cast("list[str]", error.validator_value):
            if name not in mapping(error.instance):
                yield [*path, name], "missing"
    elif error.context and error.validator in {"anyOf", "oneOf"}:
        yield path, "; or ".join(sorted({part.message for part in error.context}))
    else:
        yield path, error.message
