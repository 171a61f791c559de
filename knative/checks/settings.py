"""Settings in manifests: each exists, each value loads, and no secret stands in a file outside `dev`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePath

from knative.checks.documents import Document, Fault, items, mapping, text
from knative.checks.rules import Render, RenderRule
from shared.errors import Misconfigured
from shared.settings import Settings, variable

KNOWN = {variable(name) for name in Settings.__struct_fields__}
SECRET = {variable(name) for name in ("redis_url", "database_url", "server_key")}
_OURS = "KNUDGE_"
_PASSWORD_IN_ADDRESS = re.compile(r"://[^/@\s:]*:[^/@\s]+@")
_SECRET_NAME = re.compile(r"(KEY|PASSWORD|PASSWD|SECRET|TOKEN)$", re.IGNORECASE)
_DEV = "dev"


def of_dev(document: Document) -> bool:
    """Say whether an object stands in the environment `dev`: its file is `dev.yaml` or below a folder `dev`."""
    return _DEV in PurePath(document.file).with_suffix("").parts


def exist(render: Render) -> Iterator[Fault]:
    """Every setting that a manifest names exists: a misspelt one would leave the default, silently."""
    for document, place, name, value in _variables(render):
        del value
        if name.startswith(_OURS) and name not in KNOWN:
            yield document.fault(place, f"there is no setting {name}")


def load(render: Render) -> Iterator[Fault]:
    """The values of a ConfigMap's settings are such that a process starts with them."""
    for document in render.documents:
        given = mapping(document.content.get("data")) if document.kind == "ConfigMap" else {}
        for name, value in given.items():
            if name in KNOWN:
                try:
                    Settings.load({name: text(value)})
                except Misconfigured as error:
                    yield document.fault(f"data.{name}", str(error))


def no_secrets_in_files(render: Render) -> Iterator[Fault]:
    """Outside `dev` no Secret is rendered, and no password, key or token stands in a variable or an address."""
    for document, place, name, value in _variables(render):
        if _PASSWORD_IN_ADDRESS.search(value):
            yield document.fault(place, "an address with a password in it")
        elif value and not of_dev(document) and (name in SECRET or _SECRET_NAME.search(name)):
            yield document.fault(place, "a secret in plain text")
    for document in render.documents:
        if document.kind == "Secret" and not document.group and not of_dev(document):
            for field in ("data", "stringData"):
                if mapping(document.content.get(field)):
                    yield document.fault(field, "a secret in plain text: it is made beforehand, outside these files")


def _variables(render: Render) -> Iterator[tuple[Document, str, str, str]]:
    """Yield every variable that a manifest sets: object, path, name, value."""
    for template in render.templates:
        for container in template.containers():
            for at, one in enumerate(items(container.content.get("env"))):
                field = "value" if "value" in one else "name"
                path = template.field(f"{container.path}.env[{at}].{field}")
                yield template.document, path, text(one.get("name")), text(one.get("value"))
    for document in render.documents:
        if document.kind == "ConfigMap":
            for name, value in mapping(document.content.get("data")).items():
                yield document, f"data.{name}" if name.isidentifier() else f"data[{name}]", name, text(value)


RENDER_RULES: tuple[RenderRule, ...] = (exist, load, no_secrets_in_files)
