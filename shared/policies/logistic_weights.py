"""What logistic Thompson sampling learns, in order: each closed batch of decisions once, to second order (`logistic_fit`).

A batch is what storage closed at one time; the stored order keeps where it ends, so a refit learns the same batches. What is
older than the batch by t seconds weighs 2^(-t / half_life_s): the sums lose it, the prior stands outside them and stays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import msgspec
import numpy as np

from shared.policies.algorithm import Parameter, parameter
from shared.policies.arrays import encode, read
from shared.policies.arrival import declared_share
from shared.policies.encoder import Encoder
from shared.policies.encoding import Encoding, discover
from shared.policies.features import Seen
from shared.policies.linear_fit import encode_model
from shared.policies.linear_statistics import Rows, Sums, added, encoded_as, no_sums, scaled, sums_of
from shared.policies.logistic_fit import Batch, compiled, learned, standards_of
from shared.policies.ordered import OpenStep, Step
from shared.vocabulary import Context, FeatureSpec, PolicySpec

LOGISTIC_PARAMETERS: Mapping[str, Parameter] = {
    "ridge": Parameter(0.3, 1e-6, 1e6, "precision of a weight's prior, in squared log-odds, for each column there is"),
}
"""The parameters on which the weights depend."""


class Weights(msgspec.Struct, frozen=True, array_like=True, eq=False):
    """All that was learned of what `spec` names, seen from `as_of`.

    `sums`: the Gaussian that stands for the likelihood of all batches. `moments`: sums over their decisions themselves, as of
    one action, by which columns are standardised.
    """

    spec: FeatureSpec
    as_of: float = 0.0
    encoding: Encoding = Encoding()
    sums: Sums = msgspec.field(default_factory=lambda: no_sums(1, 0))
    moments: Sums = msgspec.field(default_factory=lambda: no_sums(1, 0))


_decoder = msgspec.msgpack.Decoder(Weights, dec_hook=read)


class LogisticWeights:
    """Learns the weights in order."""

    EPISODIC: ClassVar[bool] = False
    OFFLINE: ClassVar[bool] = False
    FIELDS: ClassVar[tuple[str, ...]] = ("features", "reward_range")
    PARAMETERS: ClassVar[tuple[str, ...]] = tuple(LOGISTIC_PARAMETERS)

    def learn(self, model: bytes | None, spec: PolicySpec, steps: Sequence[Step]) -> bytes:
        """Return the weights that also know `steps`, batch by batch; weights of other features are left behind."""
        weights = _known(model, spec)
        batch: list[Step] = []
        for step in steps:
            batch.append(step)
            if step.ends:
                weights = _learned(weights, spec, batch, batch[-1].decided_at)
                batch = []
        return encode(weights)

    def published(self, model: bytes | None, spec: PolicySpec, ahead: Sequence[OpenStep], as_of: float) -> bytes:
        """Return the linear model of the log-odds for a snapshot: the weights, and on top of them what is still open.

        An open decision without feedback weighs as the default reward times F(age), the share of rewards that have arrived.
        """
        weights = _learned(_known(model, spec), spec, ahead, as_of)
        ridge = parameter(spec, LOGISTIC_PARAMETERS, "ridge")
        rewards = float(weights.moments.gram[:, 0, 0].sum())
        using = standards_of(weights.moments, weights.encoding)
        return encode_model(compiled(weights.sums, using, weights.encoding, ridge, rewards))


def unpack(model: bytes) -> Weights:
    """Read what `learn` returned."""
    return _decoder.decode(model)


def _known(model: bytes | None, spec: PolicySpec) -> Weights:
    features = spec.features or FeatureSpec()
    weights = None if model is None else unpack(model)
    return weights if weights is not None and weights.spec == features else Weights(features)


def _learned(weights: Weights, spec: PolicySpec, steps: Sequence[Step], as_of: float) -> Weights:
    """Return the weights that also know one batch, as of its last decision, `as_of` or their own time if that is later."""
    as_of = max(weights.as_of, as_of, *(step.decided_at for step in steps))
    if weights.sums.actions:
        fading = _fading(spec, as_of - weights.as_of)
        sums, moments = scaled(weights.sums, fading), scaled(weights.moments, fading)
        weights = Weights(weights.spec, as_of, weights.encoding, sums, moments)
    if not steps:
        return weights
    contexts: list[Context] = []
    features: list[Context] = []
    actions: list[str] = []
    for step in steps:
        known = {action.id: action.features for action in step.eligible}
        for action in step.actions:
            contexts.append(step.context)
            features.append(known.get(action, {}))
            actions.append(action)
    seen = Seen(contexts, features)
    encoding = discover(weights.spec, weights.encoding, seen, is_first=not weights.sums.actions)
    own, shared = Encoder(weights.spec, encoding).rows(seen)
    counts = np.array([_weight(spec, step, at, as_of) for step in steps for at in range(len(step.actions))])
    low, high = spec.reward_range or (0.0, 1.0)
    rewards = (np.array([reward for step in steps for reward in step.rewards]) - low) / (high - low)
    batch = Batch(own, shared, actions, np.clip(rewards, 0.0, 1.0), counts)
    moments = added(encoded_as(weights.moments, weights.encoding, encoding), _moments(batch))
    sums = encoded_as(weights.sums, weights.encoding, encoding)
    ridge = parameter(spec, LOGISTIC_PARAMETERS, "ridge")
    sums = learned(sums, standards_of(moments, encoding), ridge, batch)
    return Weights(weights.spec, as_of, encoding, sums, moments)


def _moments(batch: Batch) -> Sums:
    pooled = [_ALL] * len(batch.y)
    return sums_of(
        Rows(batch.own, batch.shared, pooled, batch.weights, batch.weights * batch.y, np.zeros(len(batch.y)))
    )


def _weight(spec: PolicySpec, step: Step, at: int, as_of: float) -> float:
    age_s = as_of - step.decided_at
    weight = _fading(spec, age_s)
    if isinstance(step, OpenStep) and not step.answered[at] and spec.expected_delay_s is not None:
        weight *= declared_share(age_s, spec.expected_delay_s, spec.reward_window_s)
    return weight


def _fading(spec: PolicySpec, age_s: float) -> float:
    return 1.0 if spec.half_life_s is None else 2.0 ** (-age_s / spec.half_life_s)


_ALL = ""
"""The one action of the moments."""
