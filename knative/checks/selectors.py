"""What selectors select: labels of pod templates, and the ports that monitors name."""

from __future__ import annotations

from collections.abc import Iterator

from knative.checks.documents import Fault, Mapping, items, mapping, text
from knative.checks.pods import SERVING, SINKS, PodTemplate
from knative.checks.references import ELSEWHERE
from knative.checks.rules import Render, RenderRule


def selectors(render: Render) -> Iterator[Fault]:
    """What selects pods selects some: labels are those of pod templates, not of Services."""
    for document in render.documents:
        place = _SELECTORS.get((document.group, document.kind))
        if place is None or place not in document.spec:
            continue
        selector = mapping(document.spec[place])
        plain = document.group == "" and document.kind == "Service"
        if document.namespace in ELSEWHERE or (plain and not selector):
            continue
        if not any(
            template.namespace == document.namespace and selects(selector, template, plain=plain)
            for template in render.templates
        ):
            yield document.fault(f"spec.{place}", "selects no pod of this render")


_SELECTORS = {
    ("", "Service"): "selector",
    ("apps", "Deployment"): "selector",
    ("apps", "StatefulSet"): "selector",
    ("monitoring.coreos.com", "PodMonitor"): "selector",
    ("networking.k8s.io", "NetworkPolicy"): "podSelector",
    ("policy", "PodDisruptionBudget"): "selector",
}


def selects(selector: Mapping, template: PodTemplate, *, plain: bool = False) -> bool:
    """Say whether a selector selects the pods of a template; a `plain` one is labels alone. Empty selects all.

    Labels under `serving.knative.dev/` are Knative's own on every pod of a revision.
    """
    labels = dict(template.labels)
    if template.of_knative:
        labels |= {f"{SERVING}/service": template.document.name, f"{SERVING}/configuration": template.document.name}
    if template.document.group == SINKS:
        labels |= {f"{SINKS}/job-sink-name": template.document.name}
    wanted = selector if plain else mapping(selector.get("matchLabels"))
    if any(labels.get(name) != value for name, value in wanted.items()):
        return False
    return plain or all(_meets(labels, one) for one in items(selector.get("matchExpressions")))


def _meets(labels: Mapping, expression: Mapping) -> bool:
    key, operator = text(expression.get("key")), expression.get("operator")
    values = expression.get("values") or ()
    known = key in labels or key.startswith(f"{SERVING}/")
    return {
        "In": labels.get(key) in values,
        "NotIn": labels.get(key) not in values,
        "Exists": known,
        "DoesNotExist": not known,
    }.get(text(operator), False)


KNATIVE_PORTS = frozenset(
    {"user-port", "queue-port", "https-port", "http-queueadm", "http-autometric", "http-usermetric"}
)
"""The names that Knative gives to the ports of a revision's pods, whatever the template called its own."""


def monitored_ports(render: Render) -> Iterator[Fault]:
    """A monitor that names a port names one that its pods have: Knative's own, or a declared one; 9095 is declared nowhere."""
    for document in render.documents:
        if document.kind != "PodMonitor":
            continue
        selector = mapping(document.spec.get("selector"))
        declared = {
            text(port.get("name"))
            for template in render.templates
            if selects(selector, template) and not template.of_knative
            for container in template.containers()
            for port in items(container.content.get("ports"))
        }
        if any(selects(selector, template) and template.of_knative for template in render.templates):
            declared |= KNATIVE_PORTS
        for at, endpoint in enumerate(items(document.spec.get("podMetricsEndpoints"))):
            if "port" in endpoint and endpoint["port"] not in declared:
                detail = f"no pod declares a port {endpoint['port']}: it takes portNumber"
                yield document.fault(f"spec.podMetricsEndpoints[{at}].port", detail)


RENDER_RULES: tuple[RenderRule, ...] = (selectors, monitored_ports)
