"""The use case of `control`: policies are written, versioned, promoted and read. For operators."""

from __future__ import annotations

import logging
import re
from datetime import UTC, datetime
from typing import NoReturn

import msgspec
from msgspec import UNSET

from functions.control.session_checks import check_sessions
from shared.edge.contracts import (
    ActionEstimate,
    ActionOut,
    Policies,
    PolicyIn,
    PolicyLine,
    PolicyOut,
    PolicyPromoted,
    SnapshotOut,
    VersionLine,
    Versions,
)
from shared.edge.decoding import Bounds
from shared.edge.sink import Sink
from shared.errors import InvalidInput, Unavailable
from shared.events.types import POLICY_PROMOTED
from shared.policies.choosing import Chooser
from shared.policies.kinds import CONTEXTUAL_KINDS, KINDS
from shared.ports import Clock
from shared.settings import Settings
from shared.storage.postgres_connection import Pool
from shared.storage.postgres_learning import Learned
from shared.storage.postgres_policies import PolicyStore
from shared.storage.publication import publish_missing
from shared.storage.redis_connection import Redis
from shared.storage.redis_snapshots import decode_snapshot
from shared.vocabulary import Action, Caller, PolicySpec, RewardRule

_log = logging.getLogger(__name__)

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_UNIT_RANGE = (0.0, 1.0)
LONGEST_WINDOW_S = 366 * 86_400.0
SHORTEST_HALF_LIFE_S = 10.0
LARGEST_REWARD = 1e12


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
        spec = self._spec(name, body)
        written, learned, new = await self._store.write(spec, caller.name, self._clock())
        await self._publish(learned, written.version, caller)
        out = _policy_out(written, active=True)
        out = _with(out, learning="new" if new else "refitting" if learned.content is None else "inherited")
        return out, new

    async def promote(self, name: str, version: int, caller: Caller) -> PolicyOut:
        """Make a version the active one again."""
        learned = await self._store.promote(name, version, caller.name, self._clock())
        await self._publish(learned, version, caller)
        spec, active, _ = await self._store.read(name, version)
        return _with(_policy_out(spec, active=active), learning="refitting" if learned.content is None else "inherited")

    async def read(self, name: str) -> PolicyOut:
        """Return the active version and what it has learned."""
        spec, active, content = await self._store.read(name)
        return _with(_policy_out(spec, active=active), snapshot=_snapshot_out(content) if content else UNSET)

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

    async def _publish(self, learned: Learned, version: int, caller: Caller) -> None:
        """Put the snapshot into Redis; where Redis is away the learner does so once it is back: the truth is written."""
        if learned.content is not None:
            try:
                await publish_missing(self._pool, self._client, learned.policy, learned.snapshot_version)
            except Unavailable as error:
                _log.warning("not published yet", extra={"knudge": {"policy": learned.policy, "error": error.detail}})
        self._sink.learning_due(learned.policy)
        await self._sink.send(POLICY_PROMOTED, PolicyPromoted(learned.policy, version, caller.name))

    def _spec(self, name: str, body: PolicyIn) -> PolicySpec:
        """Check everything and return the version to write."""
        if not _NAME.fullmatch(name):
            _refuse("name", "must be 1 to 64 of a-z, 0-9, '.', '_' and '-', beginning with a letter or a digit")
        kind = KINDS.get(body.kind) or CONTEXTUAL_KINDS.get(body.kind)
        if kind is None:
            _refuse("kind", f"must be one of {', '.join([*KINDS, *CONTEXTUAL_KINDS])}")
        for key, value in body.parameters.items():
            known = kind.PARAMETERS.get(key)
            if known is None:
                _refuse(f"parameters.{key}", f"{body.kind} takes {', '.join(kind.PARAMETERS)}")
            if not known.low <= value <= known.high:
                _refuse(f"parameters.{key}", f"must lie between {known.low:g} and {known.high:g}")
        reward_range = _UNIT_RANGE if body.reward_range is UNSET else body.reward_range
        if reward_range is None and kind.NEEDS_RANGE:
            _refuse("reward_range", f"{body.kind} needs one")
        self._check_reward(body, reward_range)
        self._check_times(body)
        check_sessions(body, self._bounds)
        if not 0 <= body.exploration_floor < 1:
            _refuse("exploration_floor", "must lie in [0, 1)")
        actions = tuple(Action(a) if isinstance(a, str) else Action(a.id, a.features) for a in body.actions)
        self._bounds.actions((action.id for action in actions), "actions")
        for at, action in enumerate(actions):
            self._bounds.context(action.features, f"actions[{at}].features")
        return PolicySpec(
            name=name,
            version=0,
            kind=body.kind,
            parameters=body.parameters,
            actions=actions,
            reward={
                key: rule if isinstance(rule, RewardRule) else RewardRule(rule) for key, rule in body.reward.items()
            },
            reward_range=reward_range,
            default_reward=body.default_reward,
            reward_window_s=body.reward_window_s,
            expected_delay_s=body.expected_delay_s,
            half_life_s=body.half_life_s,
            exploration_floor=body.exploration_floor,
            state=body.state,
            session_timeout_s=body.session_timeout_s,
        )

    def _check_reward(self, body: PolicyIn, reward_range: tuple[float, float] | None) -> None:
        if not body.reward:
            _refuse("reward", "must name at least one kind of feedback")
        for kind, rule in body.reward.items():
            self._bounds.string(kind, "reward")
            weight = rule.weight if isinstance(rule, RewardRule) else rule
            if abs(weight) > LARGEST_REWARD:
                _refuse(f"reward.{kind}", f"a weight may be at most {LARGEST_REWARD:g}")
            if isinstance(rule, RewardRule) and rule.saturation is not None and rule.saturation <= 0:
                _refuse(f"reward.{kind}.saturation", "must be above 0")
        low, high = reward_range or (-LARGEST_REWARD, LARGEST_REWARD)
        if not -LARGEST_REWARD <= low < high <= LARGEST_REWARD:
            _refuse("reward_range", f"must be [low, high] with low < high, both within {LARGEST_REWARD:g}")
        if not low <= body.default_reward <= high:
            _refuse("default_reward", "must lie in the reward range")

    def _check_times(self, body: PolicyIn) -> None:
        if not 1 <= body.reward_window_s <= LONGEST_WINDOW_S:
            _refuse("reward_window_s", f"must lie between 1 and {LONGEST_WINDOW_S:g}")
        if body.expected_delay_s is not None and not 0 < body.expected_delay_s <= LONGEST_WINDOW_S:
            _refuse("expected_delay_s", f"must be above 0 and at most {LONGEST_WINDOW_S:g}")
        if body.half_life_s is not None and body.half_life_s < SHORTEST_HALF_LIFE_S:
            _refuse("half_life_s", f"must be at least {SHORTEST_HALF_LIFE_S:g}")


def _refuse(field: str, detail: str) -> NoReturn:
    raise InvalidInput(detail, field=field)


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
        state=spec.state,
        session_timeout_s=spec.session_timeout_s,
    )


def _snapshot_out(content: bytes) -> SnapshotOut:
    snapshot = decode_snapshot(content)
    chooser = Chooser(snapshot)
    propensities = chooser.propensities() if chooser.actions else {}
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
