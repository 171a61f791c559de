"""What a context-free policy has learned: additive statistics per action, with forgetting and slow rewards.

The state is a sum over decisions, so it can be built in any order and merged. A decision made at time t weighs
2^(-(as_of - t) / half_life_s), or 1 without a half-life: what is forgotten leaves the prior, which stands outside the
sum, and never less. Where the policy declares an expected delay, decisions are kept apart by time inside the reward
window, because what silence is worth depends on their age (`arrival`, `silence`); afterwards they are merged. The delays
of their answers are counted by the same buckets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from hashlib import sha256

import msgspec
import numpy as np

from shared.policies import arm_sums, delays, linear_learning
from shared.policies.arm_sums import ArmSums, Part
from shared.policies.arrays import encode, read
from shared.policies.arrival import Arrival
from shared.policies.buckets import (
    BUCKETS_PER_WINDOW,
    LINEAR_BUCKETS,
    SETTLED,
    bucket_of,
    is_over,
    kept,
    weight_of,
    width,
)
from shared.policies.delays import Delays
from shared.policies.kinds import completed
from shared.policies.linear_fit import RIDGE, LinearModel, encode_model, fit
from shared.policies.linear_learning import LinearStatistics, emptied
from shared.policies.ordered_kinds import LEARNERS
from shared.policies.silence import answer_rates, silence_weights
from shared.vocabulary import Context, Estimate, FeatureSpec, PolicySpec, Snapshot, Tally

_NOTHING = Tally()


class Outcome(msgspec.Struct, frozen=True):
    """What changed for one item of one decision.

    `shown`: it counts as shown from now on. `before`, `after`: its reward as counted so far and from now on, None
    for no feedback. `context`, and `features` of the action: for policies that look at them. `delay_before_s`,
    `delay_after_s`: how long after the decision the first feedback of those rewards occurred, where rewards are slow.
    `part`: of which arm it is, for policies that have several.
    """

    decided_at: float
    action: str
    shown: bool = False
    before: float | None = None
    after: float | None = None
    context: Context = {}
    features: Context = {}
    delay_before_s: float | None = None
    delay_after_s: float | None = None
    part: Part | None = None


class Posterior(msgspec.Struct, frozen=True, omit_defaults=True):
    """Tallies by decision-time bucket and action, weighted as seen from `as_of`.

    `linear`: the sums of a policy that looks at features. `delays`: the weight of answers by decision-time bucket and bin
    of delay, kept for slow rewards. `arms`: what each arm earns, of a policy that has several.
    """

    as_of: float = 0.0
    buckets: dict[int, dict[str, Tally]] = {}
    linear: LinearStatistics | None = None
    delays: Delays = {}
    arms: ArmSums | None = None


encode_posterior = encode
"""Writes a posterior as PostgreSQL keeps it."""
decode_posterior = msgspec.msgpack.Decoder(Posterior, dec_hook=read).decode
"""Reads what `encode_posterior` wrote."""


def nothing_learned(spec: PolicySpec, like: Posterior, as_of: float = 0.0) -> Posterior:
    """Return a posterior that knows nothing, its columns those of `like` where they mean the same."""
    features = _summed_features(spec)
    if features is None:
        return Posterior(as_of)
    known = like.linear
    if known is None or known.spec != features:
        return Posterior(as_of, linear=LinearStatistics(features))
    return Posterior(as_of, linear=emptied(known))


def learn(posterior: Posterior, spec: PolicySpec, outcomes: Iterable[Outcome], as_of: float) -> Posterior:
    """Return the posterior that also knows `outcomes`, seen from `as_of` (or the posterior's own, if that is later)."""
    aged = advance(posterior, spec, as_of)
    if spec.features is not None or arm_sums.is_compared(spec):
        outcomes = list(outcomes)
    sums: dict[int, dict[str, list[float]]] = {}
    counts: Delays = {}
    for outcome in outcomes:
        weight = weight_of(spec, aged.as_of - outcome.decided_at)
        index = bucket_of(spec, outcome.decided_at, aged.as_of)
        bucket = sums.setdefault(index, {})
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
        if spec.expected_delay_s is not None:
            delays.count(counts, index, -weight, outcome.delay_before_s, spec.reward_window_s)
            delays.count(counts, index, weight, outcome.delay_after_s, spec.reward_window_s)
    added = {bucket: {action: Tally(*tally) for action, tally in row.items()} for bucket, row in sums.items()}
    linear = _learned_linear(aged, spec, outcomes, posterior.as_of)
    arms = arm_sums.counted(aged.arms, spec, outcomes)
    return Posterior(aged.as_of, _added(aged.buckets, added), linear, delays.joined(aged.delays, counts), arms)


def merge(one: Posterior, other: Posterior, spec: PolicySpec) -> Posterior:
    """Return the posterior that knows what either knows; the two must have seen different decisions.

    What `other` knows of features is left out where it was learned of other features than `one` looks at.
    """
    as_of = max(one.as_of, other.as_of)
    one, other = advance(one, spec, as_of), advance(other, spec, as_of)
    linear = one.linear
    if linear is not None and other.linear is not None and linear.spec == other.linear.spec:
        linear = linear_learning.merged(linear, other.linear)
    counts = delays.joined(one.delays, other.delays)
    return Posterior(
        as_of, _added(one.buckets, other.buckets), linear, counts, arm_sums.merged(one.arms, other.arms, spec)
    )


def advance(posterior: Posterior, spec: PolicySpec, as_of: float) -> Posterior:
    """Return the posterior as seen from `as_of`: everything older by that much, settled where its window is over."""
    if as_of <= posterior.as_of or not posterior.buckets:
        return msgspec.structs.replace(posterior, as_of=max(as_of, posterior.as_of))
    factor = weight_of(spec, as_of - posterior.as_of)
    buckets: dict[int, dict[str, Tally]] = {}
    for index, row in posterior.buckets.items():
        aged = row if factor == 1.0 else {action: _scaled(tally, factor) for action, tally in row.items()}
        buckets = _added(buckets, {kept(spec, index, as_of): aged})
    linear = posterior.linear
    if linear is not None:
        linear = linear_learning.aged(
            linear, factor, lambda index: is_over(spec, index, as_of, LINEAR_BUCKETS), spec.default_reward
        )
    counts = delays.aged(posterior.delays, factor, lambda index: kept(spec, index, as_of))
    return Posterior(as_of, buckets, linear, counts, posterior.arms)


def snapshot_of(posterior: Posterior, spec: PolicySpec, snapshot_version: int) -> Snapshot:
    """Return the snapshot to publish: silence weighed by age, the policy's own actions first.

    It holds no model of a kind that learns in an order (`ordered`).
    """
    sums: dict[str, list[float]] = {action.id: [0.0, 0.0, 0.0] for action in spec.actions}
    others: dict[str, list[float]] = {}
    weights, weight_of_recent = _silence(posterior, spec)
    for index, row in sorted(posterior.buckets.items()):
        for action, tally in row.items():
            estimate = sums.get(action) or others.setdefault(action, [0.0, 0.0, 0.0])
            silent = max(tally.shown - tally.answered, 0.0) * weights[index][action]
            estimate[0] += tally.answered + silent
            estimate[1] += tally.total + silent * spec.default_reward
            estimate[2] += tally.squares + silent * spec.default_reward**2
    sums.update(sorted(others.items()))
    return Snapshot(
        policy=spec.name,
        policy_version=spec.version,
        snapshot_version=snapshot_version,
        kind=spec.kind,
        parameters=completed(spec),
        actions=spec.actions,
        estimates=tuple(Estimate(action, *estimate) for action, estimate in sums.items()),
        exploration_floor=spec.exploration_floor,
        reward_range=spec.reward_range,
        seed=_seed(spec.name, snapshot_version),
        as_of=posterior.as_of,
        features=spec.features,
        model=None if _summed_features(spec) is None else encode_model(_fitted(posterior, spec, weight_of_recent)),
        diversity=spec.diversity,
        steering=spec.steering,
        mode=spec.mode,
        baseline=spec.baseline,
    )


def _summed_features(spec: PolicySpec) -> FeatureSpec | None:
    """Return what sums are kept of; None for a kind that looks at no features, or learns them in an order."""
    return spec.features if spec.kind not in LEARNERS else None


def _learned_linear(
    aged: Posterior, spec: PolicySpec, outcomes: Iterable[Outcome], before: float
) -> LinearStatistics | None:
    features = _summed_features(spec)
    if features is None:
        return None
    linear = LinearStatistics(features) if aged.linear is None else aged.linear
    rows: dict[int, list[tuple[Outcome, float]]] = {}
    for outcome in outcomes:
        bucket = bucket_of(spec, outcome.decided_at, aged.as_of, LINEAR_BUCKETS)
        rows.setdefault(bucket, []).append((outcome, weight_of(spec, aged.as_of - outcome.decided_at)))
    return linear_learning.learn(linear, rows, spec.default_reward, before) if rows else linear


def _fitted(posterior: Posterior, spec: PolicySpec, weight_of_recent: Callable[[float], float]) -> LinearModel:
    linear = LinearStatistics(spec.features or FeatureSpec()) if posterior.linear is None else posterior.linear
    width_s = width(spec, LINEAR_BUCKETS)
    sums = linear_learning.total(
        linear, lambda index: weight_of_recent(posterior.as_of - (index + 0.5) * width_s), spec.default_reward
    )
    parameters = completed(spec)
    return fit(sums, linear.encoding, parameters.get("ridge", RIDGE), spec.reward_range, parameters.get("kinship", 0.0))


def lacks_delays(posterior: Posterior, spec: PolicySpec) -> bool:
    """Tell whether a posterior of slow rewards was learned before their delays were counted: only a refit adds them."""
    if spec.expected_delay_s is None or posterior.delays:
        return False
    return any(tally.answered > 0 for row in posterior.buckets.values() for tally in row.values())


def arrival_of(posterior: Posterior, spec: PolicySpec) -> Callable[[float], float]:
    """Return F: the share of answers, in [0, 1], that have arrived at an age in s; 1 at once unless rewards are slow."""
    if spec.expected_delay_s is None:
        return lambda age_s: 1.0  # noqa: ARG005
    width_s = width(spec, BUCKETS_PER_WINDOW)
    answers = [
        (spec.reward_window_s if index == SETTLED else posterior.as_of - (index + 1) * width_s, counts)
        for index, counts in sorted(posterior.delays.items())
    ]
    return Arrival(spec.expected_delay_s, spec.reward_window_s, answers).share


def _silence(posterior: Posterior, spec: PolicySpec) -> tuple[dict[int, dict[str, float]], Callable[[float], float]]:
    """Return what a silent decision weighs: by bucket and action, and by age whatever the action."""
    if spec.expected_delay_s is None:
        return {index: dict.fromkeys(row, 1.0) for index, row in posterior.buckets.items()}, lambda age_s: 1.0  # noqa: ARG005
    share = arrival_of(posterior, spec)
    width_s = width(spec, BUCKETS_PER_WINDOW)
    shares = np.array(
        [1.0 if index == SETTLED else share(posterior.as_of - (index + 0.5) * width_s) for index in posterior.buckets]
    )
    row_of = {action: at for at, action in enumerate(sorted({a for row in posterior.buckets.values() for a in row}))}
    answered, silent = np.zeros(len(row_of)), np.zeros((len(row_of), len(shares)))
    for column, row in enumerate(posterior.buckets.values()):
        for action, tally in row.items():
            answered[row_of[action]] += tally.answered
            silent[row_of[action], column] = max(tally.shown - tally.answered, 0.0)
    weights = silence_weights(answer_rates(answered, silent, shares), shares)
    if spec.features is None:
        pooled = np.zeros(1)  # nobody asks
    else:
        pooled = answer_rates(answered.sum(keepdims=True), silent.sum(axis=0, keepdims=True), shares)
    by_bucket = {
        index: {action: float(weights[row_of[action], column]) for action in row}
        for column, (index, row) in enumerate(posterior.buckets.items())
    }
    return by_bucket, lambda age_s: float(silence_weights(pooled, np.array([share(age_s)]))[0, 0])


def _seed(policy: str, snapshot_version: int) -> int:
    return int.from_bytes(sha256(f"{policy}\0{snapshot_version}".encode()).digest()[:7], "big")


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
