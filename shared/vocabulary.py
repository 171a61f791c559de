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


class Diversity(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """How much the items of a slate shall differ (`shared.policies.diversity`).

    `weight`: > 0 to 100; what an action loses that is wholly like one above it, in widths of the reward range (1 if unbounded).
    `features`: by which of the actions' features they are compared; None: all of them.
    """

    weight: float
    features: tuple[str, ...] | None = None


class Steering(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """How much a bandit is steered by Q-learning (`shared.policies.steering`).

    `weight`: > 0 to 100; what a unit of Q counts beside a unit of reward. `minimum_visits`: samples below which a state leaves the
    bandit alone.
    """

    weight: float
    minimum_visits: float = 10.0


Mode = Literal["serve", "apprentice"]
"""Of a policy: whether it decides, or the caller's default action is served and it learns beside it."""
Who = Literal["policy", "baseline", "default_action"]
"""Who decided: the policy itself, what serves its baseline, or the caller by a default action (in apprentice mode)."""


class Baseline(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A share of users that something else than the policy serves, for good.

    `share`: above 0, to 0.5; 0.01 to 0.05 do. `serve`: `uniform` over the eligible actions, the caller's `default_action`, or
    another `policy`, whose name is `policy`.
    """

    share: float
    serve: Literal["uniform", "default_action", "policy"] = "uniform"
    policy: str | None = None


class Cells(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """How a feature of the context is cut into the cells of a state: one of the two is given.

    `bins`: edges, rising; k edges make k + 1 cells, an edge belongs to the cell above it. `categories`: a cell each.
    Beside those there are always a cell for a value of another sort (`other`) and one for none at all (`missing`).
    """

    bins: tuple[float, ...] | None = None
    categories: tuple[str, ...] | None = None


class PolicySpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """One version of a policy: how it chooses, what it learns from. Immutable.

    `features`: what a contextual policy looks at; None for one that looks at nothing. `state`: the cells of each feature
    that a state is made of, for a policy that tells states apart; `session_timeout_s`: the pause that ends an episode.
    `diversity`: None for slates whose items may be as alike as they like. `steering`: None for a policy that Q-learning does
    not steer. `mode`, `baseline`: who decides (`shared.policies.arms`).
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
    diversity: Diversity | None = None
    steering: Steering | None = None
    mode: Mode = "serve"
    baseline: Baseline | None = None
    state: dict[str, Cells] = {}
    session_timeout_s: float = 1800.0


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
    `tables`: what steers it.
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
    diversity: Diversity | None = None
    steering: Steering | None = None
    mode: Mode = "serve"
    baseline: Baseline | None = None
    tables: bytes | None = None


class Item(msgspec.Struct, frozen=True):
    """One chosen action. `propensity`: in (0, 1], given the items above it; `score`: None where not yet tried."""

    action: str
    propensity: float
    score: float | None


class ServedBy(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who decided in the policy's place, and what the policy would have done.

    `policy`, `snapshot_version`: the other policy's, where one decided; else it was the default action or a uniform draw.
    `own_propensities`: what the policy itself gave each item, given those above it. `gains`: what the policy believed that its own
    choice would have gained at each, in units of reward; None where it believed nothing.
    """

    who: Who
    policy: str | None = None
    snapshot_version: int = 0
    own_propensities: tuple[float, ...] = ()
    gains: tuple[float | None, ...] = ()


class InExperiment(msgspec.Struct, frozen=True, array_like=True):
    """The variation of an experiment that a decision was made for.

    `unit`: the pseudonym of what was split, the user's unless the experiment splits by another attribute. `holdout`: the key, phase
    and variation of the holdout that the unit was exposed to as well; None for none.
    """

    key: str
    phase: int
    variation: str
    unit: str
    holdout: tuple[str, int, str] | None = None


class Decision(msgspec.Struct, frozen=True, array_like=True):
    """What was decided, as it is journalled and archived: enough to recompute and to learn from.

    `decision_id`: UUIDv8 text, carries time and policy. `eligible`: the actions it chose among, None where they were
    the snapshot's own. `propensities`: one per item, conditional on those above; None where a logged one is unknown.
    `user`, `session`: pseudonyms. `deferred`: counts as shown only once activated. `origin`: who decided.
    `position`: where a logged one stood on its page. `served_by`: None where the policy itself decided. `experiment`: None where
    the decision belongs to none.
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
    served_by: ServedBy | None = None
    experiment: InExperiment | None = None


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
