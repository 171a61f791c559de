"""`func.yaml`, the description of a function that `func` users know, held against its schema and the function's name."""

from __future__ import annotations

import json
from datetime import datetime
from functools import cache
from pathlib import Path

from jsonschema import Draft4Validator
from jsonschema.protocols import Validator

from knative.checks.documents import Document, Fault, mapping
from knative.checks.json_schema import schema_faults

FILE = "func.yaml"


@cache
def _validator(folder: Path) -> Validator | None:
    file = folder / "func" / "func_yaml-schema.json"
    return Draft4Validator(mapping(_without_dialects(json.loads(file.read_text())))) if file.exists() else None


def _without_dialects(schema: object) -> object:
    """Return a schema without the `$schema` that the generator put beside every `$ref`, which makes each a root of its own."""
    if isinstance(schema, list):
        return [_without_dialects(member) for member in schema]
    if isinstance(schema, dict):
        return {name: _without_dialects(member) for name, member in schema.items() if name != "$schema"}
    return schema


def is_func_yaml(document: Document) -> bool:
    """Say whether a document is a function's description, which is no object of a cluster."""
    return Path(document.file).name == FILE


def func_yaml_faults(document: Document, schemas: Path) -> list[Fault]:
    """Return what is wrong with a description: its schema, and that it is named as its folder is."""
    named = Document(document.file, {"kind": "func.yaml", "metadata": {"name": document.content.get("name")}})
    validator = _validator(schemas)
    found = [] if validator is None else schema_faults(named, validator, document.content)
    folder = Path(document.file).resolve().parent.name
    if document.content.get("name") != folder:
        found.append(named.fault("name", f"must be {folder}, as its folder is called"))
    for name in ("specVersion", "created", "runtime"):
        if not document.content.get(name):
            found.append(named.fault(name, "missing"))
    if document.content.get("created") and not _is_time(document.content["created"]):
        found.append(named.fault("created", f"{document.content['created']} is no time of RFC 3339"))
    return found


def _is_time(value: object) -> bool:
    try:
        return datetime.fromisoformat(str(value)).tzinfo is not None
    except ValueError:
        return False
