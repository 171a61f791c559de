"""What objects refer to is there: brokers, subscribers, sinks, ConfigMaps, Secrets, accounts, backends.

Only what is rendered together is looked at; what an operator makes beforehand is listed in `EXTERNAL`.
"""

from __future__ import annotations

from collections.abc import Iterator

from knative.checks.documents import Document, Fault, Mapping, items, mapping, text
from knative.checks.eventing import EVENTING, declared_type, destinations_of
from knative.checks.pods import PodTemplate
from knative.checks.rules import Render, RenderRule

EXTERNAL = {("Secret", "knudge-secrets")}
"""Objects that are there before ours: the manual has an operator make them."""
ELSEWHERE = frozenset(
    {
        "default", "envoy-gateway-system", "istio-system", "knative-eventing", "knative-serving", "kourier-system",
        "kube-system", "monitoring",
    }
)  # fmt: skip
"""Namespaces of others that an object of ours may stand in or point to."""
CLUSTER_WIDE = frozenset({"ClusterRole", "ClusterRoleBinding", "Namespace", "PriorityClass", "StorageClass"})


def namespaces(render: Render) -> Iterator[Fault]:
    """Everything stands in one namespace, which is rendered too, unless it is somebody else's by intent."""
    made = render.names("Namespace", "")
    for document in render.documents:
        if document.kind in CLUSTER_WIDE:
            continue
        if not document.namespace:
            yield document.fault("metadata.namespace", "missing")
        elif document.namespace not in made | ELSEWHERE:
            yield document.fault("metadata.namespace", f"nothing makes the namespace {document.namespace}")


def identities(render: Render) -> Iterator[Fault]:
    """No object stands twice: the second would silently replace the first."""
    seen: set[tuple[str, ...]] = set()
    for document in render.documents:
        identity = (document.group, document.kind, document.namespace, document.name)
        if identity in seen:
            yield document.fault("metadata.name", "stands twice")
        seen.add(identity)


def event_flow(render: Render) -> Iterator[Fault]:
    """A Trigger's broker is there, and its type is declared by an EventType of that broker's events."""
    declared = {declared_type(one) for one in render.documents if one.kind == "EventType"}
    for document in render.documents:
        if document.kind == "Trigger" and document.group == EVENTING:
            broker = text(document.spec.get("broker"))
            if broker and not render.find("Broker", EVENTING, broker, document.namespace):
                yield document.fault("spec.broker", f"there is no Broker {broker}")
            wanted = text(mapping(mapping(document.spec.get("filter")).get("attributes")).get("type"))
            if wanted and wanted not in declared:
                yield document.fault("spec.filter.attributes.type", f"no EventType declares {wanted}")
        if document.kind in {"EventType", "Broker"} and document.group == EVENTING:
            place = "reference" if document.kind == "EventType" else "config"
            yield from _object(render, document, f"spec.{place}", mapping(document.spec.get(place)))


def destinations(render: Render) -> Iterator[Fault]:
    """What a subscriber, a sink or a dead-letter sink refers to is there."""
    for document in render.documents:
        for path, destination in destinations_of(document):
            yield from _object(render, document, f"{path}.ref", mapping(destination.get("ref")))


def _object(render: Render, document: Document, path: str, reference: Mapping) -> Iterator[Fault]:
    kind, name = text(reference.get("kind")), text(reference.get("name"))
    if not kind or not name or (kind, name) in EXTERNAL:
        return
    group = text(reference.get("apiVersion")).rpartition("/")[0]
    namespace = text(reference.get("namespace")) or document.namespace
    if namespace in ELSEWHERE:
        return
    if namespace != document.namespace:
        yield document.fault(f"{path}.namespace", f"{namespace} is not the object's own")
    elif not (found := render.find(kind, group, name, namespace)):
        yield document.fault(f"{path}.name", f"there is no {kind} {name}")
    elif found.api_version != reference.get("apiVersion"):
        yield document.fault(f"{path}.apiVersion", f"{kind} {name} is {found.api_version}")


def configuration(render: Render) -> Iterator[Fault]:
    """The ConfigMaps and Secrets that containers and volumes take are there, and so are the keys."""
    for template in render.templates:
        for place, kind, reference in _taken(template):
            name = text(reference.get("name"))
            found = render.find(kind, "", name, template.namespace)
            if found is None and (kind, name) not in EXTERNAL and reference.get("optional") is not True:
                yield template.fault(place, f"there is no {kind} {name}")
            key = reference.get("key")
            if found is not None and key is not None and key not in _keys(found):
                yield template.fault(f"{place.rpartition('.')[0]}.key", f"{kind} {name} has no key {key}")


def _taken(template: PodTemplate) -> Iterator[tuple[str, str, Mapping]]:
    """Yield what a pod takes from ConfigMaps, Secrets and claims: path, kind, reference."""
    for container in template.containers():
        yield from _references(f"{container.path}.envFrom", items(container.content.get("envFrom")), _ENV_FROM)
        variables = [mapping(one.get("valueFrom")) for one in items(container.content.get("env"))]
        yield from _references(f"{container.path}.env", variables, _VALUE_FROM, "valueFrom.")
    yield from _references("spec.volumes", items(template.spec.get("volumes")), _VOLUMES)


_Places = tuple[tuple[str, str, str], ...]
_ENV_FROM: _Places = (("ConfigMap", "configMapRef", "name"), ("Secret", "secretRef", "name"))
_VALUE_FROM: _Places = (("ConfigMap", "configMapKeyRef", "name"), ("Secret", "secretKeyRef", "name"))
_VOLUMES: _Places = (
    ("ConfigMap", "configMap", "name"), ("Secret", "secret", "secretName"),
    ("PersistentVolumeClaim", "persistentVolumeClaim", "claimName"),
)  # fmt: skip
"""Kind, the field that refers to one, and where in it the name stands."""


def _references(
    path: str, given: list[Mapping], places: _Places, between: str = ""
) -> Iterator[tuple[str, str, Mapping]]:
    for at, one in enumerate(given):
        for kind, field, named in places:
            if field in one:
                reference = mapping(one[field])
                yield f"{path}[{at}].{between}{field}.{named}", kind, reference | {"name": reference.get(named)}


def _keys(document: Document) -> set[str]:
    return {*mapping(document.content.get("data")), *mapping(document.content.get("stringData"))}


def accounts(render: Render) -> Iterator[Fault]:
    """A pod's service account is there, and its token is mounted only where a binding gives it rights."""
    bound = {
        (text(subject.get("namespace")) or document.namespace, text(subject.get("name")))
        for document in render.documents
        if document.kind in {"RoleBinding", "ClusterRoleBinding"}
        for subject in items(document.content.get("subjects"))
        if subject.get("kind") == "ServiceAccount"
    }
    for template in render.templates:
        name = template.service_account
        account = render.find("ServiceAccount", "", name, template.namespace)
        if not name:
            yield template.fault("spec.serviceAccountName", "missing: the namespace's default account is nobody's")
        elif account is None:
            yield template.fault("spec.serviceAccountName", f"there is no ServiceAccount {name}")
        token = template.spec.get("automountServiceAccountToken")
        if token is None and account is not None:
            token = account.content.get("automountServiceAccountToken")
        if token is not False and (template.namespace, name) not in bound:
            yield template.fault("spec.automountServiceAccountToken", "must be false: the account has no rights")


def bindings(render: Render) -> Iterator[Fault]:
    """A binding's role and accounts are there."""
    for document in render.documents:
        if document.kind not in {"RoleBinding", "ClusterRoleBinding"}:
            continue
        role = mapping(document.content.get("roleRef"))
        kind, name = text(role.get("kind")), text(role.get("name"))
        space = "" if kind == "ClusterRole" else document.namespace
        if kind == "Role" and not render.find(kind, "rbac.authorization.k8s.io", name, space):
            yield document.fault("roleRef.name", f"there is no {kind} {name}")
        for at, subject in enumerate(items(document.content.get("subjects"))):
            where = text(subject.get("namespace")) or document.namespace
            given = text(subject.get("name"))
            ours = subject.get("kind") == "ServiceAccount" and where not in ELSEWHERE
            if ours and not render.find("ServiceAccount", "", given, where):
                yield document.fault(f"subjects[{at}].name", f"there is no ServiceAccount {given}")


def routes(render: Render) -> Iterator[Fault]:
    """A route to a Service of another namespace has a ReferenceGrant there, else it answers 500."""
    granted = {
        (text(source.get("namespace")), document.namespace, text(target.get("name")))
        for document in render.documents
        if document.kind == "ReferenceGrant"
        for source in items(document.spec.get("from"))
        for target in items(document.spec.get("to"))
    }
    for document in render.documents:
        for at, rule in enumerate(items(document.spec.get("rules")) if document.kind == "HTTPRoute" else ()):
            for number, backend in enumerate(items(rule.get("backendRefs"))):
                where, name = text(backend.get("namespace")) or document.namespace, text(backend.get("name"))
                place = f"spec.rules[{at}].backendRefs[{number}]"
                if where == document.namespace:
                    if not render.find("Service", "", name, where):
                        yield document.fault(f"{place}.name", f"there is no Service {name}")
                elif not {(document.namespace, where, name), (document.namespace, where, "")} & granted:
                    yield document.fault(f"{place}.namespace", f"no ReferenceGrant in {where} allows it")


RENDER_RULES: tuple[RenderRule, ...] = (
    namespaces, identities, event_flow, destinations, configuration, accounts, bindings, routes,
)  # fmt: skip
