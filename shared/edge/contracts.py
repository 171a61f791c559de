"""The typed structures of the HTTP interface and of event data, version 1.

Requests are decoded into these, answers are encoded from these, and OpenAPI is generated from these. Fields are added,
never renamed; an unknown one is refused by name, because a misspelt option that is silently ignored costs a day.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from shared.evaluation.comparison import Comparison
from shared.vocabulary import (
    Baseline,
    Cells,
    Context,
    Diversity,
    FeatureSpec,
    Item,
    Mode,
    RewardRule,
    Steering,
    Who,
)

Timestamp = Annotated[datetime, Meta(tz=True)]
Count = Annotated[int, Meta(ge=1)]
Propensity = Annotated[float, Meta(gt=0, le=1)]


class ActionIn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An action with its features."""

    id: str
    features: Context = {}


ActionsIn = list[str | ActionIn]


class RecommendRequest(msgspec.Struct, forbid_unknown_fields=True):
    """`POST /v1/recommend`: choose `count` actions for this context."""

    policy: str
    user_id: str | None = None
    session_id: str | None = None
    context: Context = {}
    actions: ActionsIn | None = None
    count: Count = 1
    exclude: list[str] = []
    request_id: str | None = None
    defer_activation: bool = False
    default_action: str | None = None


class SeenVariation(msgspec.Struct, frozen=True):
    """The experiment that a decision belongs to, and its variation."""

    key: str
    variation: str


class RecommendAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was chosen. `propensity` is conditional on the items above. `policy`: the one that decided.

    `degraded`: made without a snapshot, or not known to be journalled, so that it may not be learned from. `served_by`: who decided,
    left out where it was the policy itself. `experiment`: what split the call, left out where nothing did.
    """

    decision_id: str
    policy: str
    policy_version: int
    snapshot_version: int
    items: tuple[Item, ...]
    degraded: bool
    served_by: Who = "policy"
    experiment: SeenVariation | None = None


class RecommendBatch(msgspec.Struct, forbid_unknown_fields=True):
    """`POST /v1/recommend/batch`."""

    requests: list[RecommendRequest]


class RecommendBatchAnswer(msgspec.Struct, frozen=True):
    """The answers, in the order of the requests."""

    results: list[RecommendAnswer]


class FeedbackIn(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """One reaction, to a decision, or of a user beside decisions: `decision_id` or `user_id`, exactly one of the two.

    `action` is required where the decision has several items.
    """

    decision_id: str | None = None
    kind: str
    value: float = 1.0
    action: str | None = None
    event_id: str | None = None
    occurred_at: Timestamp | None = None
    user_id: str | None = None

    def __post_init__(self) -> None:
        """Refuse what speaks of nobody, with the message by which `decode` names a field."""
        if self.decision_id is None and self.user_id is None:
            raise ValueError(
                "Object missing required field `decision_id`, or `user_id` for what a user did beside decisions"
            )


class FeedbackBatch(msgspec.Struct, forbid_unknown_fields=True):
    """Several reactions, taken or refused together."""

    events: list[FeedbackIn]


class FeedbackAnswer(msgspec.Struct, frozen=True):
    """How many events were new, and how many had been taken before."""

    accepted: int
    duplicates: int


class LoggedDecision(msgspec.Struct, forbid_unknown_fields=True):
    """A decision that another system made. `propensity` null: learned from, left out of importance weights."""

    policy: str
    action: str
    propensity: Propensity | None
    context: Context
    occurred_at: Timestamp
    actions: ActionsIn | None = None
    user_id: str | None = None
    session_id: str | None = None
    position: Annotated[int, Meta(ge=0, le=1000)] | None = None
    decision_id: str | None = None


class LoggedDecisions(msgspec.Struct, forbid_unknown_fields=True):
    """`POST /v1/decisions`."""

    decisions: list[LoggedDecision]


class LoggedAnswer(msgspec.Struct, frozen=True):
    """How many decisions were new, and the ids under which feedback finds them, in the order sent."""

    accepted: int
    duplicates: int
    decision_ids: list[str]


class ActivationAnswer(msgspec.Struct, frozen=True):
    """Whether the decision was activated by this request or before."""

    decision_id: str
    activated: bool


class PolicyIn(msgspec.Struct, forbid_unknown_fields=True):
    """`PUT /v1/policies/{name}`: a new version, active at once."""

    kind: str
    reward: dict[str, float | RewardRule]
    parameters: dict[str, float] = {}
    actions: ActionsIn = []
    reward_range: tuple[float, float] | UnsetType | None = UNSET
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


class ActionEstimate(msgspec.Struct, frozen=True):
    """What a snapshot knows of an action: `weight` rewards' worth, their mean, and its propensity for a slate of one."""

    action: str
    weight: float
    mean: float | None
    propensity: float | None


class SnapshotOut(msgspec.Struct, frozen=True):
    """The newest snapshot of a policy."""

    snapshot_version: int
    policy_version: int
    as_of: str
    actions: list[ActionEstimate]


class ActionOut(msgspec.Struct, frozen=True, omit_defaults=True):
    """An action as a policy holds it."""

    id: str
    features: Context = {}


class PolicyOut(msgspec.Struct, frozen=True):
    """A version of a policy as it was written, whether it is active, what it has learned, and how it does beside its baseline."""

    name: str
    version: int
    active: bool
    kind: str
    parameters: dict[str, float]
    actions: list[ActionOut]
    reward: dict[str, RewardRule]
    reward_range: tuple[float, float] | None
    default_reward: float
    reward_window_s: float
    expected_delay_s: float | None
    half_life_s: float | None
    exploration_floor: float
    features: FeatureSpec | None = None
    diversity: Diversity | None = None
    steering: Steering | None = None
    mode: Mode = "serve"
    baseline: Baseline | None = None
    state: dict[str, Cells] = {}
    session_timeout_s: float = 1800.0
    learning: Literal["new", "inherited", "refitting"] | UnsetType = UNSET
    snapshot: SnapshotOut | UnsetType = UNSET
    comparison: Comparison | UnsetType = UNSET


class PolicyLine(msgspec.Struct, frozen=True):
    """A policy in the list of all."""

    name: str
    version: int
    kind: str
    snapshot_version: int


class Policies(msgspec.Struct, frozen=True):
    """`GET /v1/policies`."""

    policies: list[PolicyLine]


class VersionLine(msgspec.Struct, frozen=True):
    """A version of a policy: who wrote it and when."""

    version: int
    active: bool
    kind: str
    actor: str
    created_at: str


class Versions(msgspec.Struct, frozen=True):
    """`GET /v1/policies/{name}/versions`, newest first."""

    policy: str
    versions: list[VersionLine]


class Health(msgspec.Struct, frozen=True):
    """The answer of both health paths."""

    status: Literal["ok", "draining"]
