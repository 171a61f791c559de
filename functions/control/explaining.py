"""The use case of trust: a stored decision is decided again and compared, and what is watched of propensities is shown."""

from __future__ import annotations

from datetime import UTC, datetime
from math import exp, log, sqrt

import msgspec

from shared.edge.explanations import (
    ExplainedAction,
    ExplainedItem,
    Explanation,
    WatchedEvent,
    WatchedPropensities,
    WatchedVersion,
)
from shared.evaluation.propensity_health import ALPHA, LOWER, OTHERS, Event
from shared.identity import place, uniform
from shared.policies.choosing import Chooser
from shared.policies.recompute import Position, Recomputation, arm_differences, decider_of, recompute, serves_default
from shared.settings import Settings
from shared.storage.decision_rows import StoredDecision
from shared.storage.postgres_connection import Pool, Row
from shared.storage.postgres_decisions import DecisionStore
from shared.storage.postgres_health import decode_health
from shared.storage.postgres_policies import PolicyStore
from shared.vocabulary import Decision, Snapshot


class Explainer:
    """Explains decisions to operators."""

    def __init__(self, settings: Settings, pool: Pool) -> None:
        """Read from PostgreSQL; draw by the server's key."""
        self._key = settings.server_key.encode()
        self._store = DecisionStore(pool)
        self._policies = PolicyStore(pool)

    async def explain(self, decision_id: str) -> Explanation:
        """Return what a stored decision was made of.

        Raises `InvalidInput`, `UnknownDecision`, `NotKept` where its snapshot is gone, `Unavailable`.
        """
        stored = await self._store.find(decision_id)
        decision = stored.decision
        if decision.origin == "logged":
            return _explanation(stored, None, None, None)
        own = await self._store.snapshot(decision.policy, decision.snapshot_version)
        decider = decider_of(own, decision)
        snapshot = own if decision.served_by is None else await self._store.snapshot(*decider[:2])
        draws = [uniform(self._key, decision.policy, decision_id, at) for at in range(len(decision.actions))]
        again = recompute(snapshot, decider.decision, draws)
        stands = place(self._key, decision.policy, decision.user or decision_id)
        more = arm_differences(Chooser(own), decision, stands)
        again = msgspec.structs.replace(again, differences=again.differences + more)
        return _explanation(msgspec.structs.replace(stored, decision=decider.decision), snapshot, again, own)

    async def propensities(self, policy: str) -> WatchedPropensities:
        """Return what `learn` has seen of every version of a policy. Raises `UnknownPolicy`, `Unavailable`."""
        await self._policies.read(policy)
        return WatchedPropensities(policy, [_version(row) for row in await self._store.watched(policy)])


def _version(row: Row) -> WatchedVersion:
    health = decode_health(row["statistics"])
    events = [_event(name, event) for name, event in health.events.items()]
    return WatchedVersion(
        policy_version=row["policy_version"],
        updated_at=row["updated_at"].isoformat(),
        choices=health.choices,
        different=health.different,
        evidence=_bounded(health.highest),
        threshold=log(1.0 / ALPHA),
        alarm=health.is_alarming(),
        draws=[_named(event) for event in events if event.event in _DRAWS],
        actions=[_named(event) for event in events if event.event not in _DRAWS],
    )


def _event(name: str, event: Event) -> WatchedEvent:
    excess = event.count - event.expected
    deviation = excess / sqrt(event.variance) if event.variance > 0 else None
    evidence = log(sum(exp(min(value, _LARGEST)) for value in event.logs) / len(event.logs))
    return WatchedEvent(name, event.count, event.expected, deviation, _bounded(evidence))


def _named(event: WatchedEvent) -> WatchedEvent:
    return msgspec.structs.replace(event, event=event.event.removeprefix("\0"))


def _bounded(evidence: float) -> float | None:
    return evidence if evidence < _LARGEST else None


_DRAWS = (LOWER, OTHERS)
_LARGEST = 700.0


def _explanation(
    stored: StoredDecision, snapshot: Snapshot | None, again: Recomputation | None, own: Snapshot | None
) -> Explanation:
    decision = stored.decision
    return Explanation(
        decision_id=decision.decision_id,
        policy=decision.policy,
        policy_version=decision.policy_version,
        snapshot_version=decision.snapshot_version,
        kind=None if snapshot is None else snapshot.kind,
        decided_at=datetime.fromtimestamp(stored.decided_at, UTC).isoformat(),
        origin=decision.origin,
        degraded=decision.degraded,
        deferred=decision.deferred,
        shown=stored.shown,
        revision=decision.revision,
        actor=decision.actor,
        exploration_floor=None if snapshot is None else snapshot.exploration_floor,
        context=decision.context,
        agrees=None if again is None else not again.differences,
        differences=[] if again is None else list(again.differences),
        notes=_notes(stored, again, own),
        items=[]
        if again is None or snapshot is None
        else [_item(at, position, stored, snapshot) for at, position in enumerate(again.positions)],
    )


def _notes(stored: StoredDecision, again: Recomputation | None, own: Snapshot | None) -> list[str]:
    decision = stored.decision
    notes = []
    by = decision.served_by
    if by is not None and own is not None:
        what = "uniformly"
        if by.policy is not None:
            what = f"by snapshot {by.snapshot_version} of {by.policy}"
        elif serves_default(own, decision):
            what = "by the caller's default action"
        shares = ", ".join(f"{share:g}" for share in by.own_propensities)
        notes.append(
            f"not the policy decided but its {by.who.replace('_', ' ')}, {what}; the policy itself gave this {shares}"
        )
    experiment = decision.experiment
    if experiment is not None:
        notes.append(
            f"it belongs to the variation {experiment.variation} of {experiment.key}, phase {experiment.phase}"
        )
    if decision.origin == "logged":
        known = _stated(decision)
        notes.append(f"another system decided and reported it{known}: Knudge holds no law to recompute it by")
    if decision.degraded:
        notes.append("no snapshot was at hand: every action that the caller brought had the same chance")
    if decision.deferred and not stored.shown:
        notes.append(
            "activation was deferred and has not come: it counts as not shown, and nothing was learned from it"
        )
    elif decision.deferred:
        notes.append("activation was deferred, and came")
    if again is not None and any(position.action != position.drawn for position in again.positions):
        notes.append(
            "draws come from the server's key: under another key than the decision's they choose other actions"
        )
    return notes


def _stated(decision: Decision) -> str:
    propensity = decision.propensities[0]
    return " without a propensity" if propensity is None else f" with a propensity of {propensity:g}"


def _item(at: int, position: Position, stored: StoredDecision, snapshot: Snapshot) -> ExplainedItem:
    known = {estimate.action: estimate for estimate in snapshot.estimates}
    eligible = snapshot.actions if stored.decision.eligible is None else stored.decision.eligible
    features = {action.id: action.features for action in eligible}
    actions = []
    for chance in position.chances:
        estimate = known.get(chance.action)
        weight = estimate.weight if estimate is not None else 0.0
        mean = estimate.total / weight if estimate is not None and weight > 0 else None
        actions.append(
            ExplainedAction(
                chance.action,
                chance.propensity,
                chance.score,
                weight,
                mean,
                features[chance.action],
                chance.contributions,
            )
        )
    return ExplainedItem(
        position=at,
        action=position.action,
        propensity=position.stored,
        reward=stored.rewards[at],
        draw=position.draw,
        drawn=position.drawn,
        recomputed=position.recomputed,
        actions=actions,
    )
