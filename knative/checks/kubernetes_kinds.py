"""Kubernetes' own kinds by its published schemas, and kinds of others whose schemas nobody carries here.

The latter are listed as unchecked: only the fields that they cannot do without are looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import jsonschema
from jsonschema.protocols import Validator
from kubernetes_validate import utils as published
from referencing import Registry, Resource

from knative.checks.documents import Document, Fault, Mapping, items, mapping, text
from knative.checks.json_schema import schema_faults

_SCHEMAS = "kubernetes-json-schema/v{version}-local-strict/"
_NO_STATUS = ("status",)


@cache
def _version() -> str:
    return str(published.latest_version())


@cache
def _definitions() -> Resource[Any]:
    name = _SCHEMAS.format(version=_version()) + "_definitions.json"
    return Resource.from_contents(published.schema_contents(name, _version()))


@cache
def _validator(api_version: str, kind: str) -> Validator | None:
    """Return the strict schema of a kind of Kubernetes, None where it has no such kind."""
    group, _, version = api_version.rpartition("/")
    if "." in group and not group.endswith(".k8s.io"):
        return None
    short = f"{group.partition('.')[0]}-{version}" if group else version
    try:
        schema = published.schema_contents(
            _SCHEMAS.format(version=_version()) + f"{kind.lower()}-{short}.json", _version()
        )
    except FileNotFoundError:
        return None
    registry = Resource.from_contents(schema) @ (_definitions() @ Registry())
    return jsonschema.Draft202012Validator(schema, registry=registry)


def kubernetes_faults(document: Document) -> list[Fault]:
    """Return what Kubernetes' schemas say about an object; a kind that nobody knows is a fault."""
    if (document.api_version, document.kind) in UNCHECKED:
        return list(_required(document))
    validator = _validator(document.api_version, document.kind)
    if validator is None:
        return [
            document.fault("kind", f"Kubernetes has no kind {document.kind or '?'} in {document.api_version or '?'}")
        ]
    return schema_faults(document, validator, document.content)


def job_faults(document: Document) -> list[Fault]:
    """Return what Kubernetes' schema of a Job says about the job of a JobSink."""
    validator = _validator("batch/v1", "Job")
    if validator is None:
        raise LookupError("kubernetes-validate carries no schema of batch/v1 Job")
    job = mapping(document.spec.get("job"))
    return schema_faults(document, validator, {"apiVersion": "batch/v1", "kind": "Job"} | job, "spec.job")


def is_unchecked(document: Document) -> bool:
    """Say whether an object is of a kind whose schema nobody carries here."""
    return (document.api_version, document.kind) in UNCHECKED


def _required(document: Document) -> Iterator[Fault]:
    fields, rule = UNCHECKED[document.api_version, document.kind]
    if not document.name:
        yield document.fault("metadata.name", "missing")
    for field in fields:
        value: object = document.content
        for part in field.split("."):
            value = mapping(value).get(part)
        if value in (None, "", [], {}):
            yield document.fault(field, "missing")
    yield from rule(document)


def _http_route(document: Document) -> Iterator[Fault]:
    for at, rule in enumerate(items(document.spec.get("rules"))):
        place = f"spec.rules[{at}]"
        if not items(rule.get("backendRefs")):
            yield document.fault(f"{place}.backendRefs", "missing: nothing answers this rule")
        for number, backend in enumerate(items(rule.get("backendRefs"))):
            for field in ("name", "port"):
                if not backend.get(field):
                    yield document.fault(f"{place}.backendRefs[{number}].{field}", "missing")
        for number, match in enumerate(items(rule.get("matches"))):
            path = mapping(match.get("path"))
            if path and path.get("type", "PathPrefix") != "RegularExpression" and not _absolute(path):
                yield document.fault(f"{place}.matches[{number}].path.value", "must begin with /")
        for number, one in enumerate(items(rule.get("filters"))):
            if one.get("type") == "URLRewrite" and not mapping(one.get("urlRewrite")):
                yield document.fault(f"{place}.filters[{number}].urlRewrite", "missing: it rewrites nothing")


def _absolute(path: Mapping) -> bool:
    return text(path.get("value", "/")).startswith("/")


def _reference_grant(document: Document) -> Iterator[Fault]:
    for side, fields in (("from", ("group", "kind", "namespace")), ("to", ("kind",))):
        for at, one in enumerate(items(document.spec.get(side))):
            for field in fields:
                if not one.get(field):
                    yield document.fault(f"spec.{side}[{at}].{field}", "missing")


def _pod_monitor(document: Document) -> Iterator[Fault]:
    for at, endpoint in enumerate(items(document.spec.get("podMetricsEndpoints"))):
        if not any(endpoint.get(field) for field in ("port", "portNumber", "targetPort")):
            yield document.fault(f"spec.podMetricsEndpoints[{at}].portNumber", "missing: no port is named")


def _sink(document: Document) -> Iterator[Fault]:
    sink = mapping(document.spec.get("sink"))
    if sink and not (mapping(sink.get("ref")) or text(sink.get("uri"))):
        yield document.fault("spec.sink.ref", "missing: neither ref nor uri")


def _nothing(document: Document) -> Iterator[Fault]:
    del document
    yield from ()


UNCHECKED: dict[tuple[str, str], tuple[tuple[str, ...], Callable[[Document], Iterator[Fault]]]] = {
    ("gateway.networking.k8s.io/v1", "HTTPRoute"): (("spec.parentRefs", "spec.rules"), _http_route),
    ("gateway.networking.k8s.io/v1", "Gateway"): (("spec.gatewayClassName", "spec.listeners"), _nothing),
    ("gateway.networking.k8s.io/v1beta1", "ReferenceGrant"): (("spec.from", "spec.to"), _reference_grant),
    ("gateway.networking.k8s.io/v1", "ReferenceGrant"): (("spec.from", "spec.to"), _reference_grant),
    ("monitoring.coreos.com/v1", "PodMonitor"): (("spec.selector", "spec.podMetricsEndpoints"), _pod_monitor),
    ("monitoring.coreos.com/v1", "ServiceMonitor"): (("spec.selector", "spec.endpoints"), _nothing),
    ("monitoring.coreos.com/v1", "PrometheusRule"): (("spec.groups",), _nothing),
    ("sources.knative.dev/v1", "KafkaSource"): (
        ("spec.bootstrapServers", "spec.topics", "spec.consumerGroup", "spec.sink"), _sink,
    ),
    ("sources.knative.dev/v1alpha1", "RedisStreamSource"): (("spec.address", "spec.stream", "spec.sink"), _sink),
    ("eventing.knative.dev/v1alpha1", "KafkaSink"): (("spec.topic", "spec.bootstrapServers"), _nothing),
    ("messaging.knative.dev/v1beta1", "KafkaChannel"): (("spec",), _nothing),
}  # fmt: skip
"""Kinds that are known and whose schemas are not here: the fields they need, and a rule of ours."""
