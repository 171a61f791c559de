"""The traffic of a Knative Service or Route."""

from __future__ import annotations

from collections.abc import Iterator

from knative.checks.documents import Document, Fault, items, number
from knative.checks.notation import is_dns_label
from knative.checks.pods import SERVING
from knative.checks.rules import DocumentRule

ALL = 100


def _has_traffic(document: Document) -> bool:
    return document.group == SERVING and document.kind in {"Service", "Route"} and bool(document.spec.get("traffic"))


def adds_up(document: Document) -> Iterator[Fault]:
    """Shares are from 0 to 100 and add up to 100."""
    if not _has_traffic(document):
        return
    shares = [number(target.get("percent")) or 0 for target in items(document.spec["traffic"])]
    for at, share in enumerate(shares):
        if not 0 <= share <= ALL:
            yield document.fault(f"spec.traffic[{at}].percent", f"{share:g} is not from 0 to {ALL}")
    if sum(shares) != ALL:
        yield document.fault("spec.traffic", f"the shares add up to {sum(shares):g}, not to {ALL}")


def tags(document: Document) -> Iterator[Fault]:
    """Tags are DNS labels, because they become part of a host name, and each stands once."""
    seen: set[object] = set()
    for at, target in enumerate(items(document.spec["traffic"]) if _has_traffic(document) else ()):
        tag = target.get("tag")
        if not isinstance(tag, str) or not tag:
            continue
        if not is_dns_label(tag):
            yield document.fault(f"spec.traffic[{at}].tag", f"{tag} is no DNS label")
        if tag in seen:
            yield document.fault(f"spec.traffic[{at}].tag", f"{tag} stands twice")
        seen.add(tag)


def targets(document: Document) -> Iterator[Fault]:
    """A target is the latest revision or a named one, never both; a Route's names one."""
    for at, target in enumerate(items(document.spec["traffic"]) if _has_traffic(document) else ()):
        place, pinned = f"spec.traffic[{at}]", bool(target.get("revisionName"))
        latest = target.get("latestRevision")
        if isinstance(latest, bool) and latest == pinned:
            detail = "true goes without revisionName, false with it"
            yield document.fault(f"{place}.latestRevision", detail)
        if "configurationName" in target and (document.kind == "Service" or pinned):
            yield document.fault(f"{place}.configurationName", "has no place here")
        if document.kind == "Route" and not pinned and not target.get("configurationName"):
            yield document.fault(f"{place}.configurationName", "missing, and no revisionName either")
        if "url" in target:
            yield document.fault(f"{place}.url", "is status, not spec")


DOCUMENT_RULES: tuple[DocumentRule, ...] = (adds_up, tags, targets)
