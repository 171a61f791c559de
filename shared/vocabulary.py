"""The records that functions, storage and the maths pass to one another.

Frozen, typed, without behaviour beyond their own shape. Times are POSIX seconds in UTC (`float`, microseconds kept);
durations end in `_s`. What a record means is in `docs/glossary.md`.
"""

from __future__ import annotations

from typing import Literal

import msgspec

ContextValue = float | str | bool | list[str] | None
Context = dict[str, ContextValue]


class Caller(msgspec.Struct, frozen=True):
    """Who asks: `name` is the actor that every row recording an act carries."""

    name: str = "anonymous"


class Action(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something a policy may choose, with its features (empty where it has none)."""

    id: str
    features: Context = {}


class RewardRule(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What the feedback of one kind adds to the reward.

    `weight`: any finite number; multiplies the combined value.
    `saturation`: > 0; a value counts linearly up to it, as the share `min(value, saturation) / saturation`.
    `combine`: how several events of this kind become one value; `first` and `last` go by (occurred_at, identity).
    """

    weight: float = 1.0
    saturation: float | None = None
    combine: Literal["max", "min", "sum", "mean", "first", "last"] = "max"


class FeatureSpec(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Which features a contextual policy looks at. `price` is a feature of the context, `action.price` one of the action.

    `per_action`: features of the context for which every action has weights of its own; None: all of them.
    `shared`: features for which all actions have the same weights; None: all of the action's.
    `interactions`: pairs of features whose product all actions weigh alike. `*` and `action.*` stand for all of a kind.
    `hash_dimension`: into how many columns categories are hashed, 1 to 256.
    `expansion`: how many random columns let every action's model bend, 0 to 256; None: as many as suit the policy's kind.
    """

    per_action: tuple[str, ...] | None = None
    shared: tuple[str, ...] | None = None
    interactions: tuple[tuple[str, str], ...] = ()
    hash_dimension: int = 32
    expansion: int | None = None


class PolicySpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """One version of a policy: how it chooses, what it learns from. Immutable.

    `features`: what a contextual policy looks at; None for one that looks at nothing.
    """

    name: str
    version: int
    kind: str
    parameters: dict[str, float] = {}
    actions: tuple[Action, ...] = ()
    reward: dict[str, RewardRule] = {}
    reward_range: tuple[float, float] | None = (0.0, 1.0)
    default_reward: float = 0.0
    reward_window_s: float = 86_400.0
    expected_delay_s: float | None = None
    half_life_s: float | None = None
    exploration_floor: float = 0.01
    features: FeatureSpec | None = None


class Tally(msgspec.Struct, frozen=True, array_like=True):
    """Additive statistics of one action: how often it was shown, and what came of it.

    `shown`: sum of weights of the decisions that showed it; `answered`: of those with feedback;
    `total`, `squares`: weighted sums of the answered rewards and of their squares.
    """

    shown: float = 0.0
    answered: float = 0.0
    total: float = 0.0
    squares: float = 0.0


class Estimate(msgspec.Struct, frozen=True, array_like=True):
    """What a snapshot knows of one action: `weight` rewards' worth, summing to `total`, their squares to `squares`."""

    action: str
    weight: float
    total: float
    squares: float


class Snapshot(msgspec.Struct, frozen=True, omit_defaults=True):
    """A policy's parameters at one moment: immutable, versioned, all that `choose` needs besides the request.

    `estimates` holds the policy's own actions first, in the policy's order, then others that callers brought.
    `seed` fixes the posterior draws. `as_of`: the time up to which forgetting and delay were reckoned. `model`: what a kind
    that looks at more than the action has learned, in an encoding of its own; None for the other kinds.
    """

    policy: str
    policy_version: int
    snapshot_version: int
    kind: str
    parameters: dict[str, float]
    actions: tuple[Action, ...]
    estimates: tuple[Estimate, ...]
    exploration_floor: float
    reward_range: tuple[float, float] | None
    seed: int
    as_of: float
    features: FeatureSpec | None = None
    model: bytes | None = None


class Item(msgspec.Struct, frozen=True):
    """One chosen action. `propensity`: in (0, 1], given the items above it; `score`: None where not yet tried."""

    action: str
    propensity: float
    score: float | None


class Decision(msgspec.Struct, frozen=True, array_like=True):
    """What was decided, as it is journalled and archived: enough to recompute and to learn from.

    `decision_id`: UUIDv8 text, carries time and policy. `eligible`: the actions it chose among, None where they were
    the snapshot's own. `propensities`: one per item, conditional on those above; None where a logged one is unknown.
    `user`, `session`: pseudonyms. `deferred`: counts as shown only once activated. `origin`: who decided.
    `position`: where a logged one stood on its page.
    """

    decision_id: str
    policy: str
    policy_version: int
    snapshot_version: int
    actions: tuple[str, ...]
    propensities: tuple[float | None, ...]
    eligible: tuple[Action, ...] | None
    context: Context
    user: str | None
    session: str | None
    deferred: bool
    degraded: bool
    origin: Literal["served", "logged"]
    revision: str
    actor: str
    default_action: str | None = None
    position: int | None = None


class Feedback(msgspec.Struct, frozen=True):
    """A raw reaction to one decision. `source` + `event_id` is its identity; `received_at` is the server's clock."""

    decision_id: str
    source: str
    event_id: str
    kind: str
    value: float
    action: str | None
    occurred_at: float
    received_at: float
    actor: str


class Activation(msgspec.Struct, frozen=True):
    """The fact that a deferred decision was shown after all."""

    decision_id: str
    activated_at: float
    actor: str


class DeadLetter(msgspec.Struct, frozen=True):
    """An event that its function did not take, as it is kept: names are sealed, data is JSON or left out (None).

    `time`: as it was sent. `attributes`: extension attributes, a broker's own excepted. `data_bytes`, `data_hash`: of the
    data as it was sent. `destination`: where it failed; `error_code`: the status of the last attempt, `error_data` what
    was answered to it. `actor`: who brought it.
    """

    type: str
    source: str
    event_id: str
    subject: str | None
    time: str | None
    content_type: str | None
    attributes: dict[str, str]
    data: bytes | None
    data_bytes: int
    data_hash: str
    destination: str | None
    error_code: int | None
    error_data: str | None
    actor: str
