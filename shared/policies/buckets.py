"""Buckets of decision time inside the reward window, and what a decision weighs by its age."""

from __future__ import annotations

from math import floor

from shared.vocabulary import PolicySpec

SETTLED = -1
"""The bucket of decisions whose age no longer matters."""
BUCKETS_PER_WINDOW = 64
LINEAR_BUCKETS = 16
"""Fewer, because each holds matrices."""


def weight_of(spec: PolicySpec, age_s: float) -> float:
    """Return what a decision of that age weighs."""
    return 1.0 if spec.half_life_s is None else 2.0 ** (-age_s / spec.half_life_s)


def width(spec: PolicySpec, buckets: int) -> float:
    """Return how long a bucket is, in seconds, where there are so many to a window."""
    return spec.reward_window_s / buckets


def bucket_of(spec: PolicySpec, decided_at: float, as_of: float, buckets: int = BUCKETS_PER_WINDOW) -> int:
    """Return the bucket of a decision, seen from `as_of`; rewards that are not slow are settled at once."""
    if spec.expected_delay_s is None:
        return SETTLED
    return kept(spec, floor(decided_at / width(spec, buckets)), as_of, buckets)


def kept(spec: PolicySpec, index: int, as_of: float, buckets: int = BUCKETS_PER_WINDOW) -> int:
    """Return the bucket that holds what was in bucket `index`, seen from `as_of`."""
    return SETTLED if index == SETTLED or is_over(spec, index, as_of, buckets) else index


def is_over(spec: PolicySpec, index: int, as_of: float, buckets: int = BUCKETS_PER_WINDOW) -> bool:
    """Return whether the reward window of every decision of a bucket is over."""
    return (index + 1) * width(spec, buckets) + spec.reward_window_s <= as_of
