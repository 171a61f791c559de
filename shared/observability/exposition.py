"""Metrics for Prometheus, on a port of their own. Imported once a process serves, not before: it is not needed to."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from shared.observability.metrics import LATENCY_BUCKETS_S, Metrics


class MetricsCollector:
    """Shows a process's metrics as the Prometheus client wants them."""

    def __init__(self, metrics: Metrics) -> None:
        """Show these metrics."""
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        """Return every metric as it stands."""
        families, latencies = self._metrics.families()
        for family in families:
            kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
            shown = kind(family.name, family.meaning, labels=family.labels)
            for labels, value in list(family.values.items()):
                shown.add_metric(labels, value)
            yield shown
        bounds = [*(f"{bound:g}" for bound in LATENCY_BUCKETS_S), "+Inf"]
        for latency in latencies:
            names = [latency.label] if latency.label else []
            histogram = HistogramMetricFamily(latency.name, latency.meaning, labels=names)
            for label, series in list(latency.series.items()):
                buckets = list(zip(bounds, accumulate(series.counts), strict=True))
                histogram.add_metric([label] if latency.label else [], buckets, series.sum_s)
            yield histogram


def serve_metrics(metrics: Metrics, port: int, host: str) -> None:
    """Serve the metrics for Prometheus, in a thread; raises `OSError` where the port is taken."""
    registry = CollectorRegistry()
    registry.register(MetricsCollector(metrics))
    ProcessCollector(registry=registry)
    start_http_server(port, host, registry=registry)
