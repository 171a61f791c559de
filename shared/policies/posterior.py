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
import numpy as np

from shared.policies.arrival import Arrival, delay_bin
from shared.policies.kinds import completed
from shared.policies.silence import silence_weights
from shared.vocabulary import Estimate, PolicySpec, Snapshot, Tally

SETTLED = -1
"""The bucket of decisions whose age no longer matters."""

_BUCKETS_PER_WINDOW = 64
_NOTHING = Tally()


class Outcome(msgspec.Struct, frozen=True):
    """What changed for one item of one decision.

    `shown`: it counts as shown from now on. `before`, `after`: its reward as counted so far and from now on, None
    for no feedback. `delay_before_s`, `delay_after_s`: how long after the decision the first feedback of those rewards
    occurred, where the policy declares that rewards are slow.
    """

    decided_at: float
    action: str
    shown: bool = False
    before: float | None = None
    after: float | None = None
    delay_before_s: float | None = None
    delay_after_s: float | None = None


class Posterior(msgspec.Struct, frozen=True):
    """Tallies by decision-time bucket and action, weighted as seen from `as_of`.

    `delays`: the weight of answers by decision-time bucket and bin of delay, kept for slow rewards.
    """

    as_of: float = 0.0
    buckets: dict[int, dict[str, Tally]] = {}
    delays: dict[int, dict[int, float]] = {}


def learn(posterior: Posterior, spec: PolicySpec, outcomes: Iterable[Outcome], as_of: float) -> Posterior:
    """Return the posterior that also knows `outcomes`, seen from `as_of` (or the posterior's own, if that is later)."""
    aged = advance(posterior, spec, as_of)
    sums: dict[int, dict[str, list[float]]] = {}
    delays: dict[int, dict[int, float]] = {}
    for outcome in outcomes:
        weight = _weight(spec, aged.as_of - outcome.decided_at)
        index = _bucket(spec, outcome.decided_at, aged.as_of)
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
            for delay_s, change in ((outcome.delay_before_s, -weight), (outcome.delay_after_s, weight)):
                if delay_s is not None:
                    row, bin_ = delays.setdefault(index, {}), delay_bin(delay_s, spec.reward_window_s)
                    row[bin_] = row.get(bin_, 0.0) + change
    added = {bucket: {action: Tally(*tally) for action, tally in row.items()} for bucket, row in sums.items()}
    return Posterior(aged.as_of, _added(aged.buckets, added), _counted(aged.delays, delays))


def merge(one: Posterior, other: Posterior, spec: PolicySpec) -> Posterior:
    """Return the posterior that knows what either knows; the two must have seen different decisions."""
    as_of = max(one.as_of, other.as_of)
    one, other = advance(one, spec, as_of), advance(other, spec, as_of)
    return Posterior(as_of, _added(one.buckets, other.buckets), _counted(one.delays, other.delays))


def advance(posterior: Posterior, spec: PolicySpec, as_of: float) -> Posterior:
    """Return the posterior as seen from `as_of`: everything older by that much, settled where its window is over."""
    if as_of <= posterior.as_of or not posterior.buckets:
        return Posterior(max(as_of, posterior.as_of), posterior.buckets, posterior.delays)
    factor = _weight(spec, as_of - posterior.as_of)
    buckets: dict[int, dict[str, Tally]] = {}
    for index, row in posterior.buckets.items():
        aged = row if factor == 1.0 else {action: _scaled(tally, factor) for action, tally in row.items()}
        buckets = _added(buckets, {_kept(spec, index, as_of): aged})
    delays: dict[int, dict[int, float]] = {}
    for index, counts in posterior.delays.items():
        faded = counts if factor == 1.0 else {bin_: weight * factor for bin_, weight in counts.items()}
        delays = _counted(delays, {_kept(spec, index, as_of): faded})
    return Posterior(as_of, buckets, delays)


def lacks_delays(posterior: Posterior, spec: PolicySpec) -> bool:
    """Tell whether a posterior of slow rewards was learned before their delays were counted: only a refit adds them."""
    if spec.expected_delay_s is None or posterior.delays:
        return False
    return any(tally.answered > 0 for row in posterior.buckets.values() for tally in row.values())


def shares_arrived(posterior: Posterior, spec: PolicySpec) -> dict[int, float]:
    """Return F(age) of every decision-time bucket: the share of its answers that have arrived; 1 where it is settled.

    The age of a bucket is that of its middle.
    """
    if spec.expected_delay_s is None:
        return dict.fromkeys(posterior.buckets, 1.0)
    width_s = _width(spec)
    answers = [
        (spec.reward_window_s if index == SETTLED else posterior.as_of - (index + 1) * width_s, counts)
        for index, counts in sorted(posterior.delays.items())
    ]
    arrival = Arrival(spec.expected_delay_s, spec.reward_window_s, answers)
    return {
        index: 1.0 if index == SETTLED else arrival.share(posterior.as_of - (index + 0.5) * width_s)
        for index in posterior.buckets
    }


def silence_of(posterior: Posterior, spec: PolicySpec) -> dict[int, dict[str, float]]:
    """Return what a silent decision weighs, in [0, 1], by decision-time bucket and action (`silence`)."""
    shares = shares_arrived(posterior, spec)
    if spec.expected_delay_s is None:
        return {index: dict.fromkeys(row, 1.0) for index, row in posterior.buckets.items()}
    actions = sorted({action for row in posterior.buckets.values() for action in row})
    row_of = {action: at for at, action in enumerate(actions)}
    answered, silent = np.zeros(len(actions)), np.zeros((len(actions), len(shares)))
    for column, index in enumerate(shares):
        for action, tally in posterior.buckets[index].items():
            answered[row_of[action]] += tally.answered
            silent[row_of[action], column] = max(tally.shown - tally.answered, 0.0)
    weights = silence_weights(answered, silent, np.array(list(shares.values())))
    return {
        index: {action: float(weights[row_of[action], column]) for action in posterior.buckets[index]}
        for column, index in enumerate(shares)
    }


def snapshot_of(posterior: Posterior, spec: PolicySpec, snapshot_version: int) -> Snapshot:
    """Return the snapshot to publish: silence weighed by age, the policy's own actions first."""
    sums: dict[str, list[float]] = {action.id: [0.0, 0.0, 0.0] for action in spec.actions}
    others: dict[str, list[float]] = {}
    weights = silence_of(posterior, spec)
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
        parameters=completed(spec.kind, spec.parameters),
        actions=spec.actions,
        estimates=tuple(Estimate(action, *estimate) for action, estimate in sums.items()),
        exploration_floor=spec.exploration_floor,
        reward_range=spec.reward_range,
        seed=_seed(spec.name, snapshot_version),
        as_of=posterior.as_of,
    )


def _seed(policy: str, snapshot_version: int) -> int:
    return int.from_bytes(sha256(f"{policy}\0{snapshot_version}".encode()).digest()[:7], "big")


def _weight(spec: PolicySpec, age_s: float) -> float:
    return 1.0 if spec.half_life_s is None else 2.0 ** (-age_s / spec.half_life_s)


def _width(spec: PolicySpec) -> float:
    return spec.reward_window_s / _BUCKETS_PER_WINDOW


def _bucket(spec: PolicySpec, decided_at: float, as_of: float) -> int:
    if spec.expected_delay_s is None:
        return SETTLED
    return _kept(spec, floor(decided_at / _width(spec)), as_of)


def _kept(spec: PolicySpec, index: int, as_of: float) -> int:
    over = index == SETTLED or (index + 1) * _width(spec) + spec.reward_window_s <= as_of
    return SETTLED if over else index


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


def _counted(delays: dict[int, dict[int, float]], more: dict[int, dict[int, float]]) -> dict[int, dict[int, float]]:
    result = dict(delays)
    for index, counts in more.items():
        known = result.get(index, {})
        result[index] = known | {bin_: known.get(bin_, 0.0) + weight for bin_, weight in counts.items()}
    return result
