"""Knative's annotations for autoscaling and roll-outs: names, values, and where they work."""

from __future__ import annotations

import re
from collections.abc import Iterator

from knative.checks.documents import Document, Fault, number, text
from knative.checks.notation import go_duration_s
from knative.checks.pods import SERVING, PodTemplate
from knative.checks.rules import DocumentRule, TemplateRule

GROUP = "autoscaling.knative.dev"
KPA, HPA = "kpa.autoscaling.knative.dev", "hpa.autoscaling.knative.dev"
ROLLOUT, DEADLINE = f"{SERVING}/rollout-duration", f"{SERVING}/progress-deadline"
NAMES = frozenset(
    {
        "activation-scale", "class", "initial-scale", "max-scale", "metric", "metric-aggregation-algorithm", "min-scale",
        "panic-threshold-percentage", "panic-window-percentage", "scale-down-delay", "scale-to-zero-pod-retention-period",
        "target", "target-burst-capacity", "target-utilization-percentage", "window",
    }
)  # fmt: skip
SERVING_TEMPLATE_NAMES = frozenset({DEADLINE, f"{SERVING}/no-gc", f"{SERVING}/creator", f"{SERVING}/lastModifier"})
SERVING_NAMES = frozenset({ROLLOUT, f"{SERVING}/creator", f"{SERVING}/lastModifier"})
_RETENTION = "scale-to-zero-pod-retention-period"
_BOUNDS_S = {"window": (6.0, 3600.0), "scale-down-delay": (0.0, 3600.0), _RETENTION: (0.0, 3600.0)}
_RANGES = {
    "target": (0.01, None),
    "target-utilization-percentage": (1.0, 100.0),
    "panic-window-percentage": (1.0, 100.0),
    "panic-threshold-percentage": (110.0, 1000.0),
}
_WHOLE = re.compile(r"\+?[0-9]+|-0+")
_LARGEST_SCALE = 2**31 - 1


def _field(key: str) -> str:
    return f"metadata.annotations[{key}]"


def _value(template: PodTemplate, name: str) -> str | None:
    value = template.annotations.get(f"{GROUP}/{name}")
    return value if isinstance(value, str) else None


def of_no_service(document: Document) -> Iterator[Fault]:
    """Annotations for autoscaling stand on the revision template; on the Service itself they are refused."""
    if document.group == SERVING and document.kind in {"Service", "Configuration", "Route"}:
        for key in document.annotations:
            if key.startswith(GROUP):
                yield document.fault(_field(key), "belongs to spec.template.metadata.annotations")


def known_on_services(document: Document) -> Iterator[Fault]:
    """What Knative does not know among a Service's annotations of its own group is ignored without a word."""
    if document.group == SERVING and document.kind == "Service":
        for key in document.annotations:
            if key.startswith(f"{SERVING}/") and key not in SERVING_NAMES:
                hint = (
                    "belongs to spec.template.metadata.annotations" if key in SERVING_TEMPLATE_NAMES else "no such one"
                )
                yield document.fault(_field(key), f"{hint}: Knative ignores it here")


def rollout_duration(document: Document) -> Iterator[Fault]:
    """`rollout-duration` is a whole number of seconds, with a unit, not negative."""
    if ROLLOUT in document.annotations:
        yield from (
            document.fault(_field(ROLLOUT), detail) for detail in _duration(document.annotations[ROLLOUT], None)
        )


def known_on_templates(template: PodTemplate) -> Iterator[Fault]:
    """An annotation of autoscaling or serving that Knative does not know is accepted and does nothing."""
    for key in template.annotations if template.of_knative else ():
        name = key.removeprefix(f"{GROUP}/")
        if key.startswith(f"{GROUP}/") and name not in NAMES:
            today = re.sub("[A-Z]", lambda letter: f"-{letter[0].lower()}", name)
            detail = f"an old spelling of {today}" if today in NAMES else "no such annotation: Knative ignores it"
            yield template.fault(_field(key), detail)
        if key == ROLLOUT:
            yield template.fault(_field(key), "works on the Service's own metadata only: Knative ignores it here")
        elif key.startswith(f"{SERVING}/") and key not in SERVING_TEMPLATE_NAMES:
            yield template.fault(_field(key), "no such annotation: Knative ignores it")


def durations(template: PodTemplate) -> Iterator[Fault]:
    """Durations have a unit; the window is 6 s to 1 h, delays at most 1 h, in whole seconds but for the last pod's."""
    for name, bounds in _BOUNDS_S.items():
        value = _value(template, name)
        if value is not None:
            yield from (
                template.fault(_field(f"{GROUP}/{name}"), detail)
                for detail in _duration(value, bounds, whole=name != _RETENTION)
            )
    if DEADLINE in template.annotations:
        yield from (
            template.fault(_field(DEADLINE), detail) for detail in _duration(template.annotations[DEADLINE], None)
        )


def _duration(value: object, bounds: tuple[float, float] | None, *, whole: bool = True) -> Iterator[str]:
    seconds = go_duration_s(text(value))
    if seconds is None:
        yield f"{value!r} is no duration such as 90s"
    elif seconds < 0 or (whole and seconds != round(seconds)):
        yield f"{value} must be whole seconds, not negative"
    elif bounds is not None and not bounds[0] <= seconds <= bounds[1]:
        yield f"{value} is not from {bounds[0]:g} to {bounds[1]:g} s"


def scales(template: PodTemplate) -> Iterator[Fault]:
    """Scales are whole numbers; the least is below the greatest, a start is above 0, an activation above 1."""
    found: dict[str, int] = {}
    for name in ("min-scale", "max-scale", "initial-scale", "activation-scale"):
        value = _value(template, name)
        if value is None:
            continue
        if not _WHOLE.fullmatch(value) or int(value) > _LARGEST_SCALE:
            yield template.fault(_field(f"{GROUP}/{name}"), f"{value!r} is no whole number of at least 0")
        else:
            found[name] = int(value)
    least, most = found.get("min-scale", 0), found.get("max-scale", 0)
    if 0 < most < least:
        yield template.fault(_field(f"{GROUP}/max-scale"), f"{most} is less than min-scale {least}")
    if found.get("initial-scale") == 0:
        yield template.fault(_field(f"{GROUP}/initial-scale"), "0 is refused by a cluster with default settings")
    activation = found.get("activation-scale")
    if activation is not None and (activation <= 1 or activation < least or 0 < most < activation):
        detail = f"{activation} must be above 1 and from min-scale to max-scale"
        yield template.fault(_field(f"{GROUP}/activation-scale"), detail)


def ranges(template: PodTemplate) -> Iterator[Fault]:
    """Targets, utilisations and percentages of panic have their ranges; a burst capacity is -1 or at least 0."""
    for name, (low, high) in _RANGES.items():
        value = _value(template, name)
        if value is not None:
            amount = _float(value)
            if amount is None or amount < low or (high is not None and amount > high):
                span = f"from {low:g} to {high:g}" if high is not None else f"of at least {low:g}"
                yield template.fault(_field(f"{GROUP}/{name}"), f"{value!r} is no number {span}")
    burst = _value(template, "target-burst-capacity")
    if burst is not None:
        amount = _float(burst)
        if amount is None or (amount < 0 and amount != -1):
            yield template.fault(_field(f"{GROUP}/target-burst-capacity"), f"{burst!r} is neither -1 nor at least 0")


def _float(value: str) -> float | None:
    try:
        return float(value)
    except ValueError:
        return None


def metric_and_class(template: PodTemplate) -> Iterator[Fault]:
    """A class that nobody serves leaves the revision Unknown; the default class scales on concurrency or rps alone."""
    served = _value(template, "class")
    if served is not None and served not in {KPA, HPA}:
        yield template.fault(_field(f"{GROUP}/class"), f"nobody serves {served}: the revision would never be ready")
    metric = _value(template, "metric")
    if metric is None:
        return
    if (served or KPA) == KPA and metric not in {"concurrency", "rps"}:
        detail = f"{metric!r} needs the class {HPA}; the default class knows concurrency and rps"
        yield template.fault(_field(f"{GROUP}/metric"), detail)
    if served == HPA and not metric:
        yield template.fault(_field(f"{GROUP}/metric"), "empty")


def target_within_concurrency(template: PodTemplate) -> Iterator[Fault]:
    """A target of concurrency above `containerConcurrency` is never reached, so nothing scales out in time."""
    hard = number(template.spec.get("containerConcurrency"))
    target = _float(_value(template, "target") or "")
    if hard and target is not None and target > hard and (_value(template, "metric") or "concurrency") == "concurrency":
        yield template.fault(_field(f"{GROUP}/target"), f"{target:g} is above containerConcurrency {hard:g}")


def aggregation(template: PodTemplate) -> Iterator[Fault]:
    """Metrics are aggregated linearly or by weighted exponents."""
    value = _value(template, "metric-aggregation-algorithm")
    if value is not None and value not in {"linear", "weighted-exponential", "weightedExponential"}:
        yield template.fault(_field(f"{GROUP}/metric-aggregation-algorithm"), f"no such algorithm: {value}")


DOCUMENT_RULES: tuple[DocumentRule, ...] = (of_no_service, known_on_services, rollout_duration)
TEMPLATE_RULES: tuple[TemplateRule, ...] = (
    known_on_templates, durations, scales, ranges, metric_and_class, target_within_concurrency, aggregation,
)  # fmt: skip
