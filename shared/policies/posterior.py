"""What a context-free policy has learned: additive statistics per action, with forgetting and slow rewards.

The state is a sum over decisions, so it can be built in any order and merged. A decision made at time t weighs
2^(-(as_of - t) / half_life_s), or 1 without a half-life: what is forgotten leaves the prior, which stands outside the
sum, and never less. Where the policy declares an expected delay, decisions are kept apart by time inside the reward
window, because what silence is worth depends on their age (`arrival`); afterwards they are merged.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from math import floor

import msgspec

from shared.policies import linear_learning
from shared.policies.arrays import encode, read
from shared.policies.arrival import share_arrived
from shared.policies.linear_fit import RIDGE, LinearModel, encode_model, fit
from shared.policies.linear_learning import LinearStatistics, emptied
from shared.vocabulary import Context, Estimate, FeatureSpec, PolicySpec, Snapshot, Tally

SETTLED = -1
"""The bucket of decisions whose age no longer matters."""

_BUCKETS_PER_WINDOW = 64
_LINEAR_BUCKETS = 16
"""Fewer, because each holds matrices."""
_NOTHING = Tally()


class Outcome(msgspec.Struct, frozen=True):
    """What changed for one item of one decision.

    `shown`: it counts as shown from now on. `before`, `after`: its reward as counted so far and from now on, None
    for no feedback. `context`, and `features` of the action: for policies that look at them.
    """

    decided_at: float
    action: str
    shown: bool = False
    before: float | None = None
    after: float | None = None
    context: Context = {}
    features: Context = {}


class Posterior(msgspec.Struct, frozen=True, omit_defaults=True):
    """Tallies by decision-time bucket and action, weighted as seen from `as_of`.

    `linear`: the sums of a policy that looks at features.
    """

    as_of: float = 0.0
    buckets: dict[int, dict[str, Tally]] = {}
    linear: LinearStatistics | None = None


encode_posterior = encode
"""Writes a posterior as PostgreSQL keeps it."""
decode_posterior = msgspec.msgpack.Decoder(Posterior, dec_hook=read).decode
"""Reads what `encode_posterior` wrote."""


def nothing_learned(spec: PolicySpec, like: Posterior, as_of: float = 0.0) -> Posterior:
    """Return a posterior that knows nothing, its columns those of `like` where they mean the same."""
    if spec.features is None:
        return Posterior(as_of)
    known = like.linear
    if known is None or known.spec != spec.features:
        return Posterior(as_of, linear=LinearStatistics(spec.features))
    return Posterior(as_of, linear=emptied(known))


def learn(posterior: Posterior, spec: PolicySpec, outcomes: Iterable[Outcome], as_of: float) -> Posterior:
    """Return the posterior that also knows `outcomes`, seen from `as_of` (or the posterior's own, if that is later)."""
    aged = advance(posterior, spec, as_of)
    if spec.features is not None:
        outcomes = list(outcomes)
    sums: dict[int, dict[str, list[float]]] = {}
    for outcome in outcomes:
        weight = _weight(spec, aged.as_of - outcome.decided_at)
        bucket = sums.setdefault(_bucket(spec, outcome.decided_at, aged.as_of), {})
        tally = bucket.get(outcome.action)
        if tally is None:
            tally = bucket[outcome.action] = [0.0, 0.0, 0.0, 0.0]
        if outcome.shown:
            tally[0] += weight
        if outcome.before is not None:
            tally[1] -= weight
            tally[2] -= weight * outcome.before
            tally[3] -= weight * outcome.before * outcome.before
        if outcome.after is not None:
            tally[1] += weight
            tally[2] += weight * outcome.after
            tally[3] += weight * outcome.after * outcome.after
    added = {bucket: {action: Tally(*tally) for action, tally in row.items()} for bucket, row in sums.items()}
    return Posterior(aged.as_of, _added(aged.buckets, added), _learned_linear(aged, spec, outcomes, posterior.as_of))


def merge(one: Posterior, other: Posterior, spec: PolicySpec) -> Posterior:
    """Return the posterior that knows what either knows; the two must have seen different decisions.

    What `other` knows of features is left out where it was learned of other features than `one` looks at.
    """
    as_of = max(one.as_of, other.as_of)
    one, other = advance(one, spec, as_of), advance(other, spec, as_of)
    linear = one.linear
    if linear is not None and other.linear is not None and linear.spec == other.linear.spec:
        linear = linear_learning.merged(linear, other.linear)
    return Posterior(as_of, _added(one.buckets, other.buckets), linear)


def advance(posterior: Posterior, spec: PolicySpec, as_of: float) -> Posterior:
    """Return the posterior as seen from `as_of`: everything older by that much, settled where its window is over."""
    if as_of <= posterior.as_of or not posterior.buckets:
        return Posterior(max(as_of, posterior.as_of), posterior.buckets, posterior.linear)
    factor = _weight(spec, as_of - posterior.as_of)
    buckets: dict[int, dict[str, Tally]] = {}
    for index, row in posterior.buckets.items():
        kept = SETTLED if index == SETTLED or _over(spec, index, as_of) else index
        aged = row if factor == 1.0 else {action: _scaled(tally, factor) for action, tally in row.items()}
        buckets = _added(buckets, {kept: aged})
    linear = posterior.linear
    if linear is not None:
        linear = linear_learning.aged(
            linear, factor, lambda index: _over(spec, index, as_of, _LINEAR_BUCKETS), spec.default_reward
        )
    return Posterior(as_of, buckets, linear)


def snapshot_of(posterior: Posterior, spec: PolicySpec, snapshot_version: int) -> Snapshot:
    """Return the snapshot to publish: silence weighed by age, the policy's own actions first."""
    sums: dict[str, list[float]] = {action.id: [0.0, 0.0, 0.0] for action in spec.actions}
    others: dict[str, list[float]] = {}
    for index, row in sorted(posterior.buckets.items()):
        arrived = 1.0
        if index != SETTLED:
            arrived = _arrived(posterior, spec, index, _BUCKETS_PER_WINDOW)
        for action, tally in row.items():
            estimate = sums.get(action) or others.setdefault(action, [0.0, 0.0, 0.0])
            silent = max(tally.shown - tally.answered, 0.0) * arrived
            estimate[0] += tally.answered + silent
            estimate[1] += tally.total + silent * spec.default_reward
            estimate[2] += tally.squares + silent * spec.default_reward**2
    sums.update(sorted(others.items()))
    return Snapshot(
        policy=spec.name,
        policy_version=spec.version,
        snapshot_version=snapshot_version,
        kind=spec.kind,
        parameters=spec.parameters,
        actions=spec.actions,
        estimates=tuple(Estimate(action, *estimate) for action, estimate in sums.items()),
        exploration_floor=spec.exploration_floor,
        reward_range=spec.reward_range,
        seed=_seed(spec.name, snapshot_version),
        as_of=posterior.as_of,
        features=spec.features,
        model=None if spec.features is None else encode_model(_fitted(posterior, spec)),
    )


def _learned_linear(
    aged: Posterior, spec: PolicySpec, outcomes: Iterable[Outcome], before: float
) -> LinearStatistics | None:
    if spec.features is None:
        return None
    linear = LinearStatistics(spec.features) if aged.linear is None else aged.linear
    rows: dict[int, list[tuple[Outcome, float]]] = {}
    for outcome in outcomes:
        bucket = _bucket(spec, outcome.decided_at, aged.as_of, _LINEAR_BUCKETS)
        rows.setdefault(bucket, []).append((outcome, _weight(spec, aged.as_of - outcome.decided_at)))
    return linear_learning.learn(linear, rows, spec.default_reward, before) if rows else linear


def _fitted(posterior: Posterior, spec: PolicySpec) -> LinearModel:
    linear = LinearStatistics(spec.features or FeatureSpec()) if posterior.linear is None else posterior.linear
    sums = linear_learning.total(
        linear, lambda index: _arrived(posterior, spec, index, _LINEAR_BUCKETS), spec.default_reward
    )
    return fit(sums, linear.encoding, spec.parameters.get("ridge", RIDGE), spec.reward_range)


def _arrived(posterior: Posterior, spec: PolicySpec, index: int, buckets: int) -> float:
    """Return the share of rewards that decisions of a bucket have seen arrive."""
    age_s = posterior.as_of - (index + 0.5) * _width(spec, buckets)
    return share_arrived(age_s, spec.expected_delay_s, spec.reward_window_s)


def _seed(policy: str, snapshot_version: int) -> int:
    return int.from_bytes(sha256(f"{policy}\0{snapshot_version}".encode()).digest()[:7], "big")


def _weight(spec: PolicySpec, age_s: float) -> float:
    return 1.0 if spec.half_life_s is None else 2.0 ** (-age_s / spec.half_life_s)


def _width(spec: PolicySpec, buckets: int) -> float:
    return spec.reward_window_s / buckets


def _bucket(spec: PolicySpec, decided_at: float, as_of: float, buckets: int = _BUCKETS_PER_WINDOW) -> int:
    if spec.expected_delay_s is None:
        return SETTLED
    index = floor(decided_at / _width(spec, buckets))
    return SETTLED if _over(spec, index, as_of, buckets) else index


def _over(spec: PolicySpec, index: int, as_of: float, buckets: int = _BUCKETS_PER_WINDOW) -> bool:
    return (index + 1) * _width(spec, buckets) + spec.reward_window_s <= as_of


def _scaled(tally: Tally, factor: float) -> Tally:
    return Tally(tally.shown * factor, tally.answered * factor, tally.total * factor, tally.squares * factor)


def _added(buckets: dict[int, dict[str, Tally]], more: dict[int, dict[str, Tally]]) -> dict[int, dict[str, Tally]]:
    result = dict(buckets)
    for index, row in more.items():
        merged = dict(result.get(index, {}))
        for action, tally in row.items():
            known = merged.get(action, _NOTHING)
            merged[action] = Tally(
                known.shown + tally.shown,
                known.answered + tally.answered,
                known.total + tally.total,
                known.squares + tally.squares,
            )
        result[index] = merged
    return result
