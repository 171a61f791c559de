"""What a learning transaction finds and what it leaves; when a posterior is inherited, and when a snapshot is renewed."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from shared.evaluation.comparison import Comparison
from shared.identity import decided_at, route
from shared.policies.ordered_kinds import orders_alike
from shared.policies.posterior import Posterior
from shared.storage.decision_rows import ExperimentRow, experiment_row
from shared.storage.postgres_connection import Row
from shared.vocabulary import Action, Context, Decision, PolicySpec, ServedBy


class Learned(msgspec.Struct):
    """What one transaction did; `content` is the snapshot to publish, None where nothing had changed.

    `fresh`: the decisions that were archived, `archived` of them; `more`: whether there may be more pending rows.
    """

    policy: str
    policy_version: int = 0
    snapshot_version: int = 0
    content: bytes | None = None
    archived: int = 0
    fresh: tuple[Decision, ...] = ()
    feedback: int = 0
    more: bool = False
    accuracy: float | None = None
    comparison: Comparison | None = None


class State(msgspec.Struct):
    """A policy as the transaction finds it. `learned`: the spec its posterior was learned under."""

    spec: PolicySpec
    learned: PolicySpec | None
    snapshot_version: int
    posterior: Posterior


_AGES_S = 60.0  # how long a posterior that forgets may stand still before a run without news renews its snapshot


def is_stale(state: State, now: float) -> bool:
    """Tell whether the snapshot must be renewed although nothing was learned."""
    if state.learned is None or state.learned.version != state.spec.version:
        return True
    moves = state.spec.half_life_s is not None or state.spec.expected_delay_s is not None
    return moves and now - state.posterior.as_of >= _AGES_S


def learns_alike(one: PolicySpec, other: PolicySpec) -> bool:
    """Tell whether two versions make the same statistics of the same history: a posterior is inherited then."""
    alike = all(getattr(one, field) == getattr(other, field) for field in _LEARNING_FIELDS)
    return alike and orders_alike(one, other)


_LEARNING_FIELDS = (
    "reward",
    "reward_range",
    "default_reward",
    "reward_window_s",
    "expected_delay_s",
    "half_life_s",
    "features",
    "mode",
    "baseline",
)


class Archived(msgspec.Struct, frozen=True, omit_defaults=True):
    """A decision as the query `archive_decisions` takes it: what it has of its own, because reading JSON is most of what archiving costs."""

    decided_at: float
    decision_id: str
    policy: str
    policy_version: int
    snapshot_version: int
    actions: tuple[str, ...]
    propensities: tuple[float | None, ...]
    context: Context
    origin: str
    revision: str
    actor: str
    user_pseudonym: str | None = None
    session_pseudonym: str | None = None
    deferred: bool = False
    degraded: bool = False
    default_action: str | None = None
    eligible: tuple[Action, ...] | None = None
    served_by: ServedBy | None = None
    experiment: ExperimentRow | None = None


def as_archived(decision: Decision) -> Archived:
    """Return a journalled decision as it is archived; raises `InvalidInput` where its id is none of ours."""
    return Archived(
        route(decision.decision_id).decided_at,
        decision.decision_id,
        decision.policy,
        decision.policy_version,
        decision.snapshot_version,
        decision.actions,
        decision.propensities,
        decision.context,
        decision.origin,
        decision.revision,
        decision.actor,
        decision.user,
        decision.session,
        decision.deferred,
        decision.degraded,
        decision.default_action,
        decision.eligible,
        decision.served_by,
        None if decision.experiment is None else experiment_row(decision.experiment),
    )


def as_row(decision: Decision) -> Row:
    """Return what the query `archived` says of a decision, as far as it is learned from."""
    return {
        "decision_id": decision.decision_id,
        "decided_at": decided_at(decision.decision_id),
        "policy_version": decision.policy_version,
        "actions": decision.actions,
        "context": decision.context,
        "eligible": None if decision.eligible is None else msgspec.to_builtins(decision.eligible),
        "propensities": decision.propensities,
        "user_pseudonym": decision.user,
        "served_by": None if decision.served_by is None else msgspec.to_builtins(decision.served_by),
    }


def to_open(archived: dict[str, Decision], pending: Sequence[Row]) -> list[Row]:
    """Return the decisions that may count as shown from now on, for the kinds that depend on order."""
    rows = [{"decision_id": name, "decided_at": decided_at(name)} for name in archived]
    return rows + [row for row in pending if row["subject"] != "feedback"]
