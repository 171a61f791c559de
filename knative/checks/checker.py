"""All checks of all objects: schemas first, then the rules of a control plane, then ours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from knative.checks import autoscaling, eventing, references, revision, selectors, settings, traffic, workloads
from knative.checks.documents import Document, Fault
from knative.checks.func_yaml import func_yaml_faults, is_func_yaml
from knative.checks.json_schema import KNATIVE_GROUP, CustomKinds, custom_kinds
from knative.checks.kubernetes_kinds import UNCHECKED, is_unchecked, job_faults, kubernetes_faults
from knative.checks.pods import pod_template
from knative.checks.rules import DocumentRule, Render, RenderRule, TemplateRule

DOCUMENT_RULES: tuple[DocumentRule, ...] = (
    *autoscaling.DOCUMENT_RULES, *revision.DOCUMENT_RULES, *traffic.DOCUMENT_RULES, *eventing.DOCUMENT_RULES,
)  # fmt: skip
KNATIVE_TEMPLATE_RULES: tuple[TemplateRule, ...] = (*autoscaling.TEMPLATE_RULES, *revision.TEMPLATE_RULES)
TEMPLATE_RULES: tuple[TemplateRule, ...] = workloads.TEMPLATE_RULES
RENDER_RULES: tuple[RenderRule, ...] = (*references.RENDER_RULES, *selectors.RENDER_RULES, *settings.RENDER_RULES)


def check(documents: Sequence[Document], schemas: Path | None) -> list[Fault]:
    """Return what is wrong with objects that are applied together, in order, each fault once.

    `schemas`: the folder with Knative's CustomResourceDefinitions; without it, or where it is absent, Knative's kinds are
    held against the rules alone.
    """
    described = [document for document in documents if is_func_yaml(document)]
    objects = [document for document in documents if not is_func_yaml(document)]
    kinds = custom_kinds(schemas) if schemas is not None else None
    faults: set[Fault] = set()
    for document in objects:
        faults.update(_by_schema(document, kinds), _by_rules(document))
    for rule in RENDER_RULES:
        faults.update(rule(Render(objects)))
    if schemas is not None:
        for document in described:
            faults.update(func_yaml_faults(document, schemas))
    return sorted(faults)


def check_sources(documents: Sequence[Document], schemas: Path | None) -> list[Fault]:
    """Return what is wrong with each object by itself, as it stands in the sources.

    Kustomize has yet to add namespaces, images' tags and generated names, so that references and images are not looked at.
    """
    kinds = custom_kinds(schemas) if schemas is not None else None
    rules = tuple(rule for rule in TEMPLATE_RULES if rule is not workloads.images)
    faults: set[Fault] = set()
    for document in documents:
        if not is_func_yaml(document):
            faults.update(_by_schema(document, kinds), _by_rules(document, rules))
        elif schemas is not None:
            faults.update(func_yaml_faults(document, schemas))
    return sorted(faults)


def unchecked(documents: Sequence[Document]) -> list[Document]:
    """Return the objects whose kinds are known but whose schemas nobody carries here."""
    return [document for document in documents if is_unchecked(document)]


def _by_schema(document: Document, kinds: CustomKinds | None) -> list[Fault]:
    if (document.api_version, document.kind) in UNCHECKED or not document.group.endswith(KNATIVE_GROUP):
        return kubernetes_faults(document)
    found = [] if kinds is None else kinds.faults(document)
    if (document.kind, document.group) == ("JobSink", "sinks.knative.dev"):
        found += job_faults(document)
    return found


def _by_rules(document: Document, template_rules: tuple[TemplateRule, ...] = TEMPLATE_RULES) -> Iterator[Fault]:
    for rule in DOCUMENT_RULES:
        yield from rule(document)
    template = pod_template(document)
    if template is not None:
        for template_rule in (*template_rules, *(KNATIVE_TEMPLATE_RULES if template.of_knative else ())):
            yield from template_rule(template)
