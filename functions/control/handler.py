"""The use case of `control`: policies are written, versioned, promoted and read. For operators."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

import msgspec
from msgspec import UNSET

from functions.control.policy_checks import spec_of
from shared.edge.contracts import (
    ActionEstimate,
    ActionOut,
    Policies,
    PolicyIn,
    PolicyLine,
    PolicyOut,
    SnapshotOut,
    VersionLine,
    Versions,
)
from shared.edge.decoding import Bounds
from shared.edge.learning_contracts import PolicyPromoted
from shared.edge.sink import Sink
from shared.errors import InvalidInput, Unavailable, UnknownPolicy
from shared.events.types import POLICY_PROMOTED
from shared.policies.choosing import Chooser
from shared.ports import Clock
from shared.settings import Settings
from shared.storage.learning_state import Learned
from shared.storage.postgres_connection import Pool
from shared.storage.postgres_policies import PolicyStore
from shared.storage.publication import publish_missing
from shared.storage.redis_connection import Redis
from shared.storage.redis_snapshots import decode_snapshot
from shared.vocabulary import Caller, PolicySpec

_log = logging.getLogger(__name__)


class Operators:
    """What operators may do with policies."""

    def __init__(self, settings: Settings, pool: Pool, client: Redis, sink: Sink, clock: Clock) -> None:
        """Write to PostgreSQL, publish to Redis, tell the sink."""
        self._bounds = Bounds(settings)
        self._store = PolicyStore(pool)
        self._pool = pool
        self._client = client
        self._sink = sink
        self._clock = clock

    async def write(self, name: str, body: PolicyIn, caller: Caller) -> tuple[PolicyOut, bool]:
        """Write a new version, active at once; return it and whether the policy is new."""
        spec = spec_of(name, body, self._bounds)
        await self._check_baseline(spec)
        written, learned, new = await self._store.write(spec, caller.name, self._clock())
        await self._publish(learned, written.version, caller)
        out = _policy_out(written, active=True)
        out = _with(out, learning="new" if new else "refitting" if learned.content is None else "inherited")
        return out, new

    async def promote(self, name: str, version: int, caller: Caller) -> PolicyOut:
        """Make a version the active one again."""
        learned = await self._store.promote(name, version, caller.name, self._clock())
        await self._publish(learned, version, caller)
        known = await self._store.read(name, version)
        out = _policy_out(known.spec, active=known.active)
        return _with(out, learning="refitting" if learned.content is None else "inherited")

    async def read(self, name: str) -> PolicyOut:
        """Return the active version and what it has learned."""
        known = await self._store.read(name)
        out = _policy_out(known.spec, active=known.active)
        return _with(
            out,
            snapshot=_snapshot_out(known.content) if known.content else UNSET,
            comparison=known.comparison or UNSET,
        )

    async def versions(self, name: str) -> Versions:
        """Return every version, newest first."""
        rows = await self._store.versions(name)
        lines = [
            VersionLine(row["version"], row["active"], row["kind"], row["actor"], row["created_at"].isoformat())
            for row in rows
        ]
        return Versions(name, lines)

    async def all(self) -> Policies:
        """Return every policy."""
        return Policies([PolicyLine(**row) for row in await self._store.all()])

    async def _check_baseline(self, spec: PolicySpec) -> None:
        if spec.baseline is None or spec.baseline.policy is None:
            return
        try:
            await self._store.read(spec.baseline.policy)
        except UnknownPolicy as error:
            raise InvalidInput(error.detail, field="baseline.policy") from error

    async def _publish(self, learned: Learned, version: int, caller: Caller) -> None:
        """Put the snapshot into Redis; where Redis is away the learner does so once it is back: the truth is written."""
        if learned.content is not None:
            try:
                await publish_missing(self._pool, self._client, learned.policy, learned.snapshot_version)
            except Unavailable as error:
                _log.warning("not published yet", extra={"knudge": {"policy": learned.policy, "error": error.detail}})
        self._sink.learning_due(learned.policy)
        await self._sink.send(POLICY_PROMOTED, PolicyPromoted(learned.policy, version, caller.name))


def _with(out: PolicyOut, **changes: object) -> PolicyOut:
    return msgspec.structs.replace(out, **changes)


def _policy_out(spec: PolicySpec, *, active: bool) -> PolicyOut:
    return PolicyOut(
        name=spec.name,
        version=spec.version,
        active=active,
        kind=spec.kind,
        parameters=spec.parameters,
        actions=[ActionOut(action.id, action.features) for action in spec.actions],
        reward=spec.reward,
        reward_range=spec.reward_range,
        default_reward=spec.default_reward,
        reward_window_s=spec.reward_window_s,
        expected_delay_s=spec.expected_delay_s,
        half_life_s=spec.half_life_s,
        exploration_floor=spec.exploration_floor,
        features=spec.features,
        diversity=spec.diversity,
        steering=spec.steering,
        mode=spec.mode,
        baseline=spec.baseline,
        state=spec.state,
        session_timeout_s=spec.session_timeout_s,
    )


def _snapshot_out(content: bytes) -> SnapshotOut:
    snapshot = decode_snapshot(content)
    chooser = Chooser(snapshot)
    propensities = chooser.propensities() if chooser.actions and not chooser.looks_at_context else {}
    return SnapshotOut(
        snapshot_version=snapshot.snapshot_version,
        policy_version=snapshot.policy_version,
        as_of=datetime.fromtimestamp(snapshot.as_of, UTC).isoformat(),
        actions=[
            ActionEstimate(
                known.action,
                known.weight,
                known.total / known.weight if known.weight > 0 else None,
                propensities.get(known.action),
            )
            for known in snapshot.estimates
        ],
    )
