"""Counts of delays, as a posterior keeps them: the weight of answers by decision-time bucket and bin of delay. Additive."""

from __future__ import annotations

from collections.abc import Callable

from shared.policies.arrival import delay_bin

Delays = dict[int, dict[int, float]]


def count(delays: Delays, bucket: int, weight: float, delay_s: float | None, window_s: float) -> None:
    """Add the weight of one answer to `delays`, which is changed; nothing where its delay is not known."""
    if delay_s is not None:
        row, at = delays.setdefault(bucket, {}), delay_bin(delay_s, window_s)
        row[at] = row.get(at, 0.0) + weight


def joined(one: Delays, other: Delays) -> Delays:
    """Return the sums of both."""
    result = dict(one)
    for bucket, counts in other.items():
        known = result.get(bucket, {})
        result[bucket] = known | {at: known.get(at, 0.0) + weight for at, weight in counts.items()}
    return result


def aged(delays: Delays, factor: float, kept: Callable[[int], int]) -> Delays:
    """Return them when everything weighs `factor` times as much and each bucket is kept where `kept` says."""
    result: Delays = {}
    for bucket, counts in delays.items():
        faded = counts if factor == 1.0 else {at: weight * factor for at, weight in counts.items()}
        result = joined(result, {kept(bucket): faded})
    return result
