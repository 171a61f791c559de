"""What a pod has counted of its requests, read from its metrics page."""

from __future__ import annotations

from knative.revisions.failure import ClusterFailure
from knative.revisions.rollout import PodCounters
from shared.errors import InvalidInput

_REQUESTS = "http_requests_total"
_LATENCY = "http_request_latency_seconds"
_FIRST_FAULT = 500


def read_counters(page: str, revision: str, slow_s: float) -> PodCounters:
    """Return what the metrics page of a revision's pod says; `slow_s`: one of the latency histogram's bounds.

    Raises `InvalidInput` for another threshold, `ClusterFailure` for a page without these metrics.
    """
    from prometheus_client.parser import text_string_to_metric_families

    requests = errors = 0
    counted: float | None = None
    quick: float | None = None
    bounds: list[str] = []
    try:
        for family in text_string_to_metric_families(page):
            for sample in family.samples:
                if sample.name == _REQUESTS:
                    requests += int(sample.value)
                    errors += int(sample.value) if int(sample.labels.get("status", "0")) >= _FIRST_FAULT else 0
                elif sample.name == f"{_LATENCY}_count":
                    counted = sample.value
                elif sample.name == f"{_LATENCY}_bucket":
                    bounds.append(sample.labels["le"])
                    if float(sample.labels["le"]) == slow_s:
                        quick = sample.value
    except (ValueError, KeyError) as error:
        raise ClusterFailure(f"the metrics page cannot be read: {error}") from error
    if counted is None:
        raise ClusterFailure(f"the metrics page has no {_LATENCY}")
    if quick is None:
        known = ", ".join(bound for bound in bounds if bound != "+Inf")
        raise InvalidInput(f"{slow_s:g} s is none of the histogram's bounds: {known}", field="slow")
    return PodCounters(revision, requests, errors, int(counted - quick))
