"""OpenAPI 3.1, generated from the same typed structures that decode requests."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from types import UnionType
from typing import TYPE_CHECKING, Any, get_args

import msgspec

from shared.edge.contracts import Health
from shared.edge.problems import STATUSES, Problem

if TYPE_CHECKING:
    from shared.edge.function import Function, Refusals

_REFERENCE = "#/components/schemas/{name}"
_METHODS_WITH_NEW = {"PUT": ("200", "201")}


def document(functions: Sequence[Function[Any]]) -> bytes:
    """Return the OpenAPI document, JSON, of one function or of several that are hosted together."""
    types: list[Any] = [Problem, Health]
    for function in functions:
        for route in function.routes:
            types += [*_members(route.takes), *_members(route.gives)]
            types += [route.refuses.kind] if route.refuses else []
    schemas, components = msgspec.json.schema_components(types, ref_template=_REFERENCE)
    schema_of = dict(zip(types, schemas, strict=True))

    def schema(kind: object) -> Any:  # noqa: ANN401
        one_of = [schema_of[member] for member in _members(kind)]
        return one_of[0] if len(one_of) == 1 else {"anyOf": one_of}

    paths: dict[str, dict[str, Any]] = {}
    for function in functions:
        for route in function.routes:
            operation: dict[str, Any] = {
                "operationId": f"{function.name}_{route.method.lower()}_{re.sub(r'[^a-z0-9]+', '_', route.path[1:])}",
                "tags": [function.name],
                "responses": {"204": {"description": "Done; nothing to say."}}
                if route.gives is None
                else {
                    status: _content("The answer.", schema(route.gives))
                    for status in _METHODS_WITH_NEW.get(route.method, ("200",))
                },
            }
            operation["responses"] |= _refusals(route.refuses, schema)
            parameters = [
                {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
                for name in re.findall(r"{(\w+)}", route.path)
            ]
            parameters += _arguments(route.asks)
            parameters.append({"name": "X-Client-Id", "in": "header", "schema": {"type": "string", "maxLength": 128}})
            operation["parameters"] = parameters
            if route.takes is not None:
                operation["requestBody"] = {"required": True} | _content("", schema(route.takes), route.media)
                del operation["requestBody"]["description"]
            paths.setdefault(route.path, {})[route.method.lower()] = operation
    for path in ("/health/live", "/health/ready"):
        paths[path] = {"get": {"responses": {"200": _content("Well.", schema(Health))}, "tags": ["health"]}}
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {"title": "Knudge", "version": "1", "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"}},
            "paths": paths,
            "components": {"schemas": components},
        }
    )


def _refusals(refuses: Refusals | None, schema: Callable[[object], Any]) -> dict[str, Any]:
    """Return what may go wrong, by status: problem details, or what a route's own protocol says."""
    if refuses is not None:
        return {str(status): _content("What went wrong.", schema(refuses.kind)) for status in refuses.statuses}
    problem = _content("What went wrong.", schema(Problem), "application/problem+json")
    return {str(status): problem for status in sorted({*STATUSES.values(), 500})}


def _members(kind: object) -> tuple[Any, ...]:
    """Return the structures that a route takes or gives: one, none, or each of a union, which msgspec cannot tell apart."""
    return () if kind is None else get_args(kind) if isinstance(kind, UnionType) else (kind,)


def _arguments(kind: Any) -> list[dict[str, Any]]:  # noqa: ANN401
    """Return the parameters of a query: the fields of the structure that it is read into."""
    if kind is None:
        return []
    described = msgspec.json.schema(kind)["$defs"][kind.__name__]["properties"]
    return [{"name": name, "in": "query", "schema": schema} for name, schema in described.items()]


def _content(description: str, schema: Any, media: str = "application/json") -> dict[str, Any]:  # noqa: ANN401
    return {"description": description, "content": {media: {"schema": schema}}}
