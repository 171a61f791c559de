"""How a linear model's sums follow from outcomes, and how they age.

A decision without feedback counts as the default reward, with weight F(age) while it is inside its window (`arrival`). So
decisions of a policy whose rewards are slow are kept in buckets of time, those with and those without feedback in sums of
their own; when their window is over, both are settled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import inf
from typing import Protocol

import msgspec
import numpy as np

from shared.policies.algorithm import FloatArray
from shared.policies.encoder import Encoder
from shared.policies.encoding import Encoding, discover, inputs_of, joined
from shared.policies.expansion import ENOUGH, Expansion
from shared.policies.features import Seen
from shared.policies.linear_statistics import Rows, Sums, added, encoded_as, no_sums, scaled, sums_of
from shared.vocabulary import Context, FeatureSpec

CLOCKS_APART_S = 1.0
"""How far the clocks of two processes may be apart."""
_SETTLED = -1


class Shown(Protocol):
    """What is learned of one item of a decision; `Outcome` of the posterior is one."""

    @property
    def decided_at(self) -> float: ...  # noqa: D102
    @property
    def action(self) -> str: ...  # noqa: D102
    @property
    def shown(self) -> bool: ...  # noqa: D102
    @property
    def before(self) -> float | None: ...  # noqa: D102
    @property
    def after(self) -> float | None: ...  # noqa: D102
    @property
    def context(self) -> Context: ...  # noqa: D102
    @property
    def features(self) -> Context: ...  # noqa: D102


class Recent(msgspec.Struct, frozen=True, array_like=True, eq=False):
    """The sums of one bucket of time: of decisions with feedback, and of those without, which hold no rewards."""

    answered: Sums
    silent: Sums


class LinearStatistics(msgspec.Struct, frozen=True, array_like=True, eq=False):
    """All that a linear model has learned of what `spec` names.

    `settled`: silence counted as the default reward; `recent`: by bucket.
    """

    spec: FeatureSpec = FeatureSpec()
    encoding: Encoding = Encoding()
    settled: Sums = msgspec.field(default_factory=lambda: no_sums(1, 0))
    recent: dict[int, Recent] = {}


def learn(
    statistics: LinearStatistics,
    outcomes: Mapping[int, Sequence[tuple[Shown, float]]],
    default_reward: float,
    as_of: float,
) -> LinearStatistics:
    """Return the statistics that also know `outcomes`: by bucket (-1: settled), each with the weight of its decision.

    `as_of`: what was learned before was decided by then.
    """
    seen = {
        index: Seen([outcome.context for outcome, _ in rows], [outcome.features for outcome, _ in rows])
        for index, rows in outcomes.items()
    }
    encoding = statistics.encoding
    is_first = not statistics.settled.actions and not statistics.recent
    for each in seen.values():
        encoding = discover(statistics.spec, encoding, each, is_first=is_first)
        is_first = False
    encoding = _with_expansion(statistics, encoding, seen.values(), as_of)
    grown = regrown(statistics, encoding)
    encoder = Encoder(statistics.spec, encoding)
    settled, recent = grown.settled, dict(grown.recent)
    for index, rows in outcomes.items():
        own, shared = encoder.rows(seen[index])
        if encoding.expansion is not None:
            early = np.array([outcome.decided_at for outcome, _ in rows]) <= encoding.expansion.since
            own[early, -encoding.expansion.size :] = 0.0
        answered, silent = _columns((own, shared), rows)
        if index == _SETTLED:
            settled = added(settled, sums_of(_settled(answered, silent, default_reward)))
        else:
            bucket = recent.get(index)
            more = Recent(sums_of(answered), sums_of(silent))
            recent[index] = more if bucket is None else _joined(bucket, more)
    return LinearStatistics(statistics.spec, grown.encoding, settled, recent)


def _with_expansion(statistics: LinearStatistics, encoding: Encoding, seen: Iterable[Seen], as_of: float) -> Encoding:
    """Return the encoding with the expansion that its specification asks for, once enough is known to make one."""
    size = statistics.spec.expansion or 0
    if encoding.expansion is not None or not size:
        return encoding
    known = regrown(statistics, encoding)
    gram = known.settled.gram.sum(axis=0)
    for bucket in known.recent.values():
        gram = gram + bucket.answered.gram.sum(axis=0) + bucket.silent.gram.sum(axis=0)
    since = as_of + CLOCKS_APART_S
    if not gram[0, 0]:  # nothing was learned before: what is learned now can be expanded by itself
        encoder = Encoder(statistics.spec, encoding)
        rows = np.vstack([encoder.rows(each)[0] for each in seen])
        gram, since = rows.T @ rows, -inf
    inputs = inputs_of(encoding.own, gram) if gram[0, 0] >= ENOUGH else ()
    return msgspec.structs.replace(encoding, expansion=Expansion(since, size, inputs)) if inputs else encoding


def emptied(statistics: LinearStatistics) -> LinearStatistics:
    """Return statistics that know nothing, of the same columns."""
    encoding = statistics.encoding
    return LinearStatistics(statistics.spec, encoding, no_sums(encoding.own_width, encoding.shared.width))


def regrown(statistics: LinearStatistics, encoding: Encoding) -> LinearStatistics:
    """Return the statistics for an encoding that has grown out of theirs."""
    before = statistics.encoding
    if encoding == before:
        return statistics
    return LinearStatistics(
        statistics.spec,
        encoding,
        encoded_as(statistics.settled, before, encoding),
        {
            index: Recent(encoded_as(bucket.answered, before, encoding), encoded_as(bucket.silent, before, encoding))
            for index, bucket in statistics.recent.items()
        },
    )


def aged(
    statistics: LinearStatistics, factor: float, is_over: Callable[[int], bool], default_reward: float
) -> LinearStatistics:
    """Return the statistics when everything weighs `factor` times as much, settled where a bucket's window is over."""
    settled, recent = scaled(statistics.settled, factor), {}
    for index, bucket in statistics.recent.items():
        older = Recent(scaled(bucket.answered, factor), scaled(bucket.silent, factor))
        if is_over(index):
            settled = added(settled, _total(older, 1.0, default_reward))
        else:
            recent[index] = older
    return LinearStatistics(statistics.spec, statistics.encoding, settled, recent)


def merged(one: LinearStatistics, other: LinearStatistics) -> LinearStatistics:
    """Return the statistics that know what either knows.

    Their encodings must be the same, or one grown out of the other: a column means the same in both.
    """
    encoding = joined(one.encoding, other.encoding)
    one, other = regrown(one, encoding), regrown(other, encoding)
    recent = dict(one.recent)
    for index, bucket in other.recent.items():
        recent[index] = _joined(recent[index], bucket) if index in recent else bucket
    return LinearStatistics(one.spec, encoding, added(one.settled, other.settled), recent)


def total(statistics: LinearStatistics, arrived: Callable[[int], float], default_reward: float) -> Sums:
    """Return the sums to fit a model to; `arrived`: the share of rewards in [0, 1] that a bucket has seen arrive."""
    sums = statistics.settled
    for index, bucket in sorted(statistics.recent.items()):
        sums = added(sums, _total(bucket, arrived(index), default_reward))
    return sums


def _total(bucket: Recent, arrived: float, default_reward: float) -> Sums:
    ones = bucket.silent.gram[:, :, 0]
    silent = msgspec.structs.replace(
        bucket.silent,
        response=default_reward * ones,
        squares=default_reward**2 * ones[:, 0],
        shared_response=default_reward * bucket.silent.cross[:, 0, :].sum(axis=0),
    )
    return added(bucket.answered, silent, arrived)


def _joined(one: Recent, other: Recent) -> Recent:
    return Recent(added(one.answered, other.answered), added(one.silent, other.silent))


def _columns(blocks: tuple[FloatArray, FloatArray], rows: Sequence[tuple[Shown, float]]) -> tuple[Rows, Rows]:
    """Return what `rows` add to the decisions with feedback, and to those without."""
    own, shared = blocks
    outcomes = [outcome for outcome, _ in rows]
    actions = [outcome.action for outcome in outcomes]
    weights = np.array([weight for _, weight in rows])
    before = np.array([np.nan if outcome.before is None else outcome.before for outcome in outcomes])
    after = np.array([np.nan if outcome.after is None else outcome.after for outcome in outcomes])
    appears = (~np.isnan(after)).astype(float) - ~np.isnan(before)
    shown = np.array([outcome.shown for outcome in outcomes], dtype=float)
    before, after = np.nan_to_num(before), np.nan_to_num(after)
    nothing = np.zeros(len(rows))
    answered = Rows(
        own, shared, actions, weights * appears, weights * (after - before), weights * (after**2 - before**2)
    )
    return answered, Rows(own, shared, actions, weights * (shown - appears), nothing, nothing)


def _settled(answered: Rows, silent: Rows, default_reward: float) -> Rows:
    return msgspec.structs.replace(
        answered,
        weights=answered.weights + silent.weights,
        responses=answered.responses + default_reward * silent.weights,
        squares=answered.squares + default_reward**2 * silent.weights,
    )
