"""The metrics of a process, counted in plain numbers.

`shared.observability.exposition` shows them to Prometheus. Counting takes no lock and imports nothing: the client
library's own counters cost a tenth of a request and of a process's start. Labels are bounded: an action that the policy
does not itself hold is counted as `other`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from typing import Literal

LATENCY_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 5.0, 10.0)
MOST_LABELS = 10_000
MOST_OTHERS = 1_000
OTHER = "other"
NONE = "none"


class Family:
    """Counters or gauges of one name: `values` by the values of its labels, in their order."""

    def __init__(self, kind: Literal["counter", "gauge"], name: str, meaning: str, *labels: str) -> None:
        """Start at nothing."""
        self.kind = kind
        self.name = name
        self.meaning = meaning
        self.labels = labels
        self.values: defaultdict[tuple[str, ...], float] = defaultdict(float)
        if not labels:
            self.values[()] = 0.0

    def inc(self, *labels: str, by: float = 1.0) -> None:
        """Count."""
        self.values[labels] += by

    def set(self, value: float, *labels: str) -> None:
        """Take the present value."""
        self.values[labels] = value


class Latencies:
    """One series of a histogram: counts per bucket, the last of them beyond every bound, and their sum in seconds."""

    __slots__ = ("counts", "sum_s")

    def __init__(self) -> None:
        self.counts = [0] * (len(LATENCY_BUCKETS_S) + 1)
        self.sum_s = 0.0

    def observe(self, seconds: float) -> None:
        """Count one."""
        self.counts[bisect_left(LATENCY_BUCKETS_S, seconds)] += 1
        self.sum_s += seconds


class LatencyFamily:
    """Histograms of one name, by the value of their one label; one without a label has a single series, `""`."""

    def __init__(self, name: str, meaning: str, label: str | None = None) -> None:
        """Start at nothing."""
        self.name = name
        self.meaning = meaning
        self.label = label
        self.series: defaultdict[str, Latencies] = defaultdict(Latencies)


class Metrics:
    """All metrics of the system; a process feeds those of its function."""

    def __init__(self) -> None:
        """Start at nothing."""
        self.recommendation_latency = LatencyFamily(
            "recommendation_latency_seconds", "From a decoded request to its answer", "degraded"
        )
        self.answered = self.recommendation_latency.series["false"]
        self.answered_degraded = self.recommendation_latency.series["true"]
        self.selections = Family("counter", "bandit_arm_selections", "Items chosen", "policy", "action")
        self.snapshot_hits = 0
        self.snapshot_misses = 0
        self.cache_hit_rate = Family(
            "gauge", "cache_hit_rate_ratio", "Share of recommendations whose snapshot was in memory"
        )
        self.requests = Family("counter", "http_requests", "Requests by status, health checks apart", "status")
        self.request_latency = LatencyFamily(
            "http_request_latency_seconds", "From a request's head to its answer, health checks apart"
        )
        self.requested = self.request_latency.series[""]
        self.journal_dropped = Family(
            "counter", "journal_dropped_decisions", "Decisions that were lost while Redis was away"
        )
        self.journal_buffered = Family("gauge", "journal_buffered_decisions", "Decisions that wait for Redis")
        self.assignment_latency = LatencyFamily(
            "assignment_latency_seconds", "From a decoded request to its answer", "degraded"
        )
        self.assigned = self.assignment_latency.series["false"]
        self.assigned_degraded = self.assignment_latency.series["true"]
        self.assignments = Family(
            "counter", "assignments", "Assignments by what was served and why", "experiment", "variation", "reason"
        )
        self.exposures = Family(
            "counter", "exposures", "Exposures taken, by experiment and variation", "experiment", "variation"
        )
        self.exposures_dropped = Family(
            "counter", "journal_dropped_exposures", "Exposures that were lost while Redis was away"
        )
        self.exposures_buffered = Family("gauge", "journal_buffered_exposures", "Exposures that wait for Redis")
        self.feedback_processed = Family("counter", "feedback_processed", "Feedback by what became of it", "outcome")
        self.feedback_orphaned = Family("counter", "feedback_orphaned", "Feedback whose decision never came")
        self.decisions_archived = Family(
            "counter", "decisions_archived", "Decisions that learn moved to PostgreSQL", "policy"
        )
        self.learning_latency = LatencyFamily(
            "learning_latency_seconds", "One learning transaction, publication included", "policy"
        )
        self.model_accuracy = Family(
            "gauge", "model_accuracy_ratio", "Share of the rewards' variance that the means explain", "policy"
        )
        self.propensity_mismatch = Family(
            "gauge",
            "propensity_mismatch",
            "1 where actions are not chosen as often as their propensities say",
            "policy",
        )
        self.propensity_evidence = Family(
            "gauge", "propensity_evidence_nats", "Log evidence against the propensities, at most so far", "policy"
        )
        self.uplift = Family(
            "gauge",
            "policy_uplift",
            "Mean reward of an item less that of the baseline (an apprentice's: of the default action), and its interval",
            "policy",
            "bound",
        )
        self.agreement = Family(
            "gauge",
            "apprentice_agreement_ratio",
            "How often an apprentice would have chosen the default action",
            "policy",
        )
        self.events_failed = Family("counter", "events_failed", "Events that the sink did not take", "type")
        self.dead_letters = Family("counter", "dead_letters", "Dead letters by what became of them", "outcome")

    def select(self, policy: str | None, action: str, *, known: bool) -> None:
        """Count an item by its policy (None where no snapshot confirms the name) and action."""
        values = self.selections.values
        key = (policy or OTHER, action)
        if key not in values and not (known and policy and len(values) < MOST_LABELS):
            key = (policy or OTHER, OTHER)
            if key not in values and len(values) >= MOST_LABELS + MOST_OTHERS:
                key = (OTHER, OTHER)
        values[key] += 1

    def assign(self, experiment: str, variation: str | None, reason: str) -> None:
        """Count an assignment; `experiment`: one of the catalogue, which bounds the labels."""
        self.assignments.values[_bounded(self.assignments, experiment, variation or NONE, reason)] += 1

    def expose(self, experiment: str, variation: str) -> None:
        """Count an exposure; `experiment`, `variation`: of the catalogue."""
        self.exposures.values[_bounded(self.exposures, experiment, variation)] += 1

    def watch(self, policy: str, evidence: float, *, alarm: bool) -> None:
        """Take the health of a policy's propensities."""
        self.propensity_mismatch.set(float(alarm), policy)
        self.propensity_evidence.set(evidence, policy)

    def families(self) -> tuple[list[Family], list[LatencyFamily]]:
        """Return every metric as it stands."""
        asked = self.snapshot_hits + self.snapshot_misses
        self.cache_hit_rate.set(self.snapshot_hits / asked if asked else 1.0)
        members = list(vars(self).values())
        return (
            [member for member in members if isinstance(member, Family)],
            [member for member in members if isinstance(member, LatencyFamily)],
        )


def _bounded(family: Family, *labels: str) -> tuple[str, ...]:
    """Return the labels under which something is counted: experiments come and go, and a process may outlive many."""
    if labels in family.values or len(family.values) < MOST_LABELS:
        return labels
    return (OTHER,) * len(labels)
