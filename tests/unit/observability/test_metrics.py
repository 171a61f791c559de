"""Metrics are counted in plain numbers and shown as Prometheus reads them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from shared.observability import exposition, metrics
from shared.observability.exposition import MetricsCollector, serve_metrics
from shared.observability.metrics import LATENCY_BUCKETS_S, Latencies, Metrics


def shown(fed: Metrics) -> dict[str, float]:
    """Return every sample by its name and labels, as Prometheus would scrape it."""
    registry = CollectorRegistry()
    registry.register(MetricsCollector(fed))
    lines = generate_latest(registry).decode().splitlines()
    samples = [line.rsplit(" ", 1) for line in lines if not line.startswith("#")]
    return {name: float(value) for name, value in samples}


def test_a_process_that_did_nothing_shows_its_counters_at_0() -> None:
    """Every name of the mission is there before anything happens, so that alerts see a 0 and not a gap."""
    samples = shown(Metrics())
    for name in (
        "journal_dropped_decisions_total",
        "journal_buffered_decisions",
        "feedback_orphaned_total",
        'recommendation_latency_seconds_count{degraded="false"}',
        'recommendation_latency_seconds_count{degraded="true"}',
    ):
        assert samples[name] == 0.0
    assert samples["cache_hit_rate_ratio"] == 1.0


def test_counters_and_gauges_show_what_they_were_fed() -> None:
    """Each family adds up or takes the present value by its labels, and counters end in `_total`."""
    fed = Metrics()
    fed.requests.inc("200")
    fed.requests.inc("200", by=2)
    fed.requests.inc("503")
    fed.journal_dropped.inc(by=7)
    fed.journal_buffered.set(5)
    fed.journal_buffered.set(3)
    fed.feedback_processed.inc("duplicate")
    fed.feedback_orphaned.inc()
    fed.decisions_archived.inc("news", by=4)
    fed.model_accuracy.set(0.25, "news")
    fed.events_failed.inc("dev.knudge.learning.due.v1")
    samples = shown(fed)
    expected = {
        'http_requests_total{status="200"}': 3,
        'http_requests_total{status="503"}': 1,
        "journal_dropped_decisions_total": 7,
        "journal_buffered_decisions": 3,
        'feedback_processed_total{outcome="duplicate"}': 1,
        "feedback_orphaned_total": 1,
        'decisions_archived_total{policy="news"}': 4,
        'model_accuracy_ratio{policy="news"}': 0.25,
        'events_failed_total{type="dev.knudge.learning.due.v1"}': 1,
    }
    assert {name: samples[name] for name in expected} == expected


def test_the_hit_rate_is_the_share_of_hits() -> None:
    """Three of four snapshots were in memory."""
    fed = Metrics()
    fed.snapshot_hits, fed.snapshot_misses = 3, 1
    assert shown(fed)["cache_hit_rate_ratio"] == 0.75


@given(st.lists(st.floats(0, 10) | st.sampled_from(LATENCY_BUCKETS_S), max_size=30))
def test_buckets_count_what_is_at_most_their_bound(latencies: list[float]) -> None:
    """Shown buckets are cumulative and include their bounds; the last holds everything, the sum is that of all."""
    fed = Metrics()
    for latency in latencies:
        fed.learning_latency.series["news"].observe(latency)
    samples = shown(fed)
    if not latencies:
        return
    for bound in LATENCY_BUCKETS_S:
        name = f'learning_latency_seconds_bucket{{le="{bound:g}",policy="news"}}'
        assert samples[name] == sum(latency <= bound for latency in latencies)
    assert samples['learning_latency_seconds_bucket{le="+Inf",policy="news"}'] == len(latencies)
    assert samples['learning_latency_seconds_count{policy="news"}'] == len(latencies)
    assert samples['learning_latency_seconds_sum{policy="news"}'] == pytest.approx(sum(latencies))


def test_degraded_answers_are_a_series_of_their_own() -> None:
    """What answers without Redis does not hide among the others."""
    fed = Metrics()
    fed.answered.observe(0.003)
    fed.answered_degraded.observe(0.03)
    fed.answered_degraded.observe(0.04)
    samples = shown(fed)
    assert samples['recommendation_latency_seconds_count{degraded="false"}'] == 1
    assert samples['recommendation_latency_seconds_count{degraded="true"}'] == 2
    assert samples['recommendation_latency_seconds_bucket{degraded="true",le="0.02"}'] == 0
    assert samples['recommendation_latency_seconds_bucket{degraded="true",le="0.05"}'] == 2


def test_every_request_has_one_series_without_labels() -> None:
    """Requests are timed for all functions alike, and the exposition has no empty label."""
    fed = Metrics()
    fed.requested.observe(0.004)
    fed.requested.observe(0.3)
    samples = shown(fed)
    assert samples["http_request_latency_seconds_count"] == 2
    assert samples['http_request_latency_seconds_bucket{le="0.2"}'] == 1
    assert samples['http_request_latency_seconds_bucket{le="0.5"}'] == 2


def test_latencies_of_an_hour_fit_the_last_bucket() -> None:
    """Nothing is too long to be counted."""
    series = Latencies()
    series.observe(3_600.0)
    assert series.counts == [0] * len(LATENCY_BUCKETS_S) + [1]


def test_actions_of_callers_are_counted_as_other() -> None:
    """An action that the policy does not hold makes no series: callers cannot fill the memory of Prometheus."""
    fed = Metrics()
    fed.select("news", "a", known=True)
    fed.select("news", "a", known=True)
    fed.select("sports", "a", known=True)
    for at in range(100):
        fed.select("news", f"made up {at}", known=False)
    assert dict(fed.selections.values) == {("news", "a"): 2, ("sports", "a"): 1, ("news", "other"): 100}
    assert shown(fed)['bandit_arm_selections_total{action="a",policy="news"}'] == 2


def test_series_are_bounded_even_where_actions_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the most series that are kept, new actions are others; those that have a series keep it."""
    monkeypatch.setattr(metrics, "MOST_LABELS", 3)
    fed = Metrics()
    for _ in range(2):
        for action in "abcde":
            fed.select("news", action, known=True)
    counts = {action: count for (_, action), count in fed.selections.values.items()}
    assert counts == {"a": 2, "b": 2, "c": 2, "other": 4}


def test_names_and_labels_that_need_escaping_are_escaped() -> None:
    """An action's name may hold anything and the exposition stays readable."""
    fed = Metrics()
    fed.select('new"s', "a\\b\nc", known=True)
    assert shown(fed)[r'bandit_arm_selections_total{action="a\\b\nc",policy="new\"s"}'] == 1


def test_metrics_are_served_on_the_port_and_host_that_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The exporter gets a registry with these metrics and those of the process."""
    started: list[tuple[int, str, Any]] = []
    monkeypatch.setattr(
        exposition, "start_http_server", lambda port, host, registry: started.append((port, host, registry))
    )
    fed = Metrics()
    fed.feedback_orphaned.inc(by=2)
    serve_metrics(fed, 9095, "127.0.0.1")
    ((port, host, registry),) = started
    assert (port, host) == (9095, "127.0.0.1")
    text = generate_latest(registry).decode()
    assert "feedback_orphaned_total 2.0" in text
    assert "process_start_time_seconds" in text
