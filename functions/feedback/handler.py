"""The use case of `feedback`: check what callers report, commit it, wake the learner.

An answer goes out after the commit. A batch is taken as a whole or not at all; the first invalid member is named by
its index.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

import msgspec

from shared.edge.contracts import ActivationAnswer, FeedbackAnswer, FeedbackIn, LoggedAnswer, LoggedDecision
from shared.edge.decoding import Bounds
from shared.errors import InvalidInput, KnudgeError, Unavailable, UnknownPolicy
from shared.experiments.exposure import UserFeedback
from shared.identity import RANDOM_BITS, content_identity, decision_id, policy_key, pseudonym, route
from shared.observability.metrics import Metrics
from shared.ports import Clock, Wakes
from shared.settings import Settings
from shared.storage.postgres_feedback import FeedbackStore, feedback_key
from shared.vocabulary import Action, Activation, Caller, Decision, Feedback

LARGEST_VALUE = 1e12
"""Largest magnitude of a feedback's value, so that sums of squares stay finite."""
CLOCK_SKEW_S = 60.0
"""How far a caller's clock may run ahead."""

_DAY_S = 86_400.0


class Taker:
    """Takes feedback, logged decisions and activations."""

    def __init__(self, settings: Settings, metrics: Metrics, store: FeedbackStore, wakes: Wakes, clock: Clock) -> None:
        """Commit to `store`, then tell `wakes`."""
        self._key = settings.server_key.encode()
        self._revision = settings.k_revision
        self._retention_s = settings.retention_days * _DAY_S or float("inf")
        self._bounds = Bounds(settings)
        self._store = store
        self._wakes = wakes
        self._clock = clock
        self._processed = metrics.feedback_processed

    async def take_feedback(
        self,
        events: Sequence[FeedbackIn],
        caller: Caller,
        identities: Sequence[tuple[str, str]] | None = None,
        *,
        place: str = "",
    ) -> FeedbackAnswer:
        """Commit events; `identities`: their (source, id), where CloudEvents brought them: the source is then the caller.

        `place`: where an event stands in what was sent, its index as `{}`, for the field that an error names.
        """
        self._bounds.batch(len(events), "events")
        now = self._clock()
        rows: list[Feedback | UserFeedback] = []
        for at, event in enumerate(events):
            try:
                source, event_id = identities[at] if identities else self._identity(event, caller)
                rows.append(self._event(event, source, event_id, Caller(source) if identities else caller, now))
            except KnudgeError as error:
                raise _placed(error, place, at) from None
        new = await self._store.take_feedback(rows)
        named = (row.decision_id for row in rows if isinstance(row, Feedback) and feedback_key(row) in new)
        await self._wake(route(decision).policy_key for decision in named)
        self._processed.inc("accepted", by=len(new))
        self._processed.inc("duplicate", by=len(rows) - len(new))
        return FeedbackAnswer(len(new), len(rows) - len(new))

    async def take_decisions(
        self,
        decisions: Sequence[LoggedDecision],
        caller: Caller,
        identities: Sequence[tuple[str, str]] | None = None,
        *,
        place: str = "",
    ) -> LoggedAnswer:
        """Commit decisions that another system made; `identities` and `place` as for `take_feedback`."""
        self._bounds.batch(len(decisions), "decisions")
        now = self._clock()
        rows = []
        for at, logged in enumerate(decisions):
            try:
                identity = "\0".join(identities[at]) if identities else None
                by = Caller(identities[at][0]) if identities else caller
                rows.append(await self._decision(logged, by, identity, now))
            except KnudgeError as error:
                raise _placed(error, place, at) from None
        new = await self._store.take_decisions(rows)
        await self._wake(policy_key(row.policy) for row in rows if row.decision_id in new)
        return LoggedAnswer(len(new), len(rows) - len(new), [row.decision_id for row in rows])

    async def activate(self, decision: str, caller: Caller) -> ActivationAnswer:
        """Note that a deferred decision was shown."""
        now = self._clock()
        where = route(decision)
        self._timely(where.decided_at, now, "decision_id")
        new = await self._store.take_activation(Activation(decision, now, caller.name))
        await self._wake([where.policy_key] if new else [])
        return ActivationAnswer(decision, new)

    def _event(
        self, event: FeedbackIn, source: str, event_id: str, caller: Caller, now: float
    ) -> Feedback | UserFeedback:
        self._bounds.string(event.kind, "kind")
        self._bounds.string(event.action, "action")
        self._bounds.string(event.event_id, "event_id")
        if not -LARGEST_VALUE <= event.value <= LARGEST_VALUE:
            detail = f"must lie between -{LARGEST_VALUE:g} and {LARGEST_VALUE:g}"
            raise InvalidInput(detail, field="value")
        occurred_at = now if event.occurred_at is None else event.occurred_at.timestamp()
        if event.user_id is not None:
            return self._user_feedback(event, event.user_id, (source, event_id), caller, (occurred_at, now))
        decision_id = event.decision_id or ""  # one of the two is there: `FeedbackIn` sees to it
        where = route(decision_id)
        self._timely(where.decided_at, now, "decision_id")
        if where.several and event.action is None:
            detail = "is required: the decision has several items"
            raise InvalidInput(detail, field="action")
        if not where.decided_at - _DAY_S <= occurred_at <= now + CLOCK_SKEW_S:
            detail = "must not lie in the future, nor more than a day before the decision"
            raise InvalidInput(detail, field="occurred_at")
        return Feedback(
            decision_id, source, event_id, event.kind, event.value, event.action, occurred_at, now, caller.name
        )

    def _user_feedback(
        self, event: FeedbackIn, user: str, identity: tuple[str, str], caller: Caller, times: tuple[float, float]
    ) -> UserFeedback:
        self._bounds.string(user, "user_id")
        if event.decision_id is not None:
            detail = "takes the place of decision_id; give one of the two"
            raise InvalidInput(detail, field="user_id")
        if event.action is not None:
            detail = "is an item of a decision; leave it out beside user_id"
            raise InvalidInput(detail, field="action")
        self._timely(*times, "occurred_at")
        name = pseudonym(self._key, "user", user)
        return UserFeedback(name, *identity, event.kind, event.value, *times, caller.name)

    async def _decision(self, logged: LoggedDecision, caller: Caller, identity: str | None, now: float) -> Decision:
        for field in ("policy", "action", "user_id", "session_id", "decision_id"):
            self._bounds.string(getattr(logged, field), field)
        self._bounds.context(logged.context, "context")
        eligible = None
        if logged.actions is not None:
            eligible = tuple(Action(a) if isinstance(a, str) else Action(a.id, a.features) for a in logged.actions)
            self._bounds.actions((action.id for action in eligible), "actions")
            for at, action in enumerate(eligible):
                self._bounds.context(action.features, f"actions[{at}].features")
            if all(action.id != logged.action for action in eligible):
                detail = "is not among the actions"
                raise InvalidInput(detail, field="action")
        self._timely(logged.occurred_at.timestamp(), now, "occurred_at")
        if await self._store.policy_name(policy_key(logged.policy)) != logged.policy:
            detail = f"there is no policy {logged.policy!r}"
            raise UnknownPolicy(detail, field="policy")
        return Decision(
            self._logged_id(logged, caller, identity),
            logged.policy,
            0,
            0,
            (logged.action,),
            (logged.propensity,),
            eligible,
            logged.context,
            self._pseudonym("user", logged.user_id),
            self._pseudonym("session", logged.session_id),
            deferred=False,
            degraded=False,
            origin="logged",
            revision=self._revision,
            actor=caller.name,
            position=logged.position,
        )

    def _logged_id(self, logged: LoggedDecision, caller: Caller, identity: str | None) -> str:
        """Return the decision's own id where it is one of ours, else one derived from what identifies it."""
        microseconds = _microseconds(logged.occurred_at)
        key = policy_key(logged.policy)
        if logged.decision_id is not None:
            try:
                where = route(logged.decision_id)
            except InvalidInput:
                identity = f"{caller.name}\0{logged.decision_id}"
            else:
                if where.policy_key != key or round(where.decided_at * 1e6) != microseconds:
                    detail = "speaks of another policy or time than the decision"
                    raise InvalidInput(detail, field="decision_id")
                return logged.decision_id
        sent = identity if identity is not None else msgspec.json.encode((caller.name, logged)).decode()
        digest = int(content_identity(sent.encode()).rpartition(":")[2], 16)
        return decision_id(key, microseconds, digest & ((1 << RANDOM_BITS) - 1), several=False)

    def _identity(self, event: FeedbackIn, caller: Caller) -> tuple[str, str]:
        return f"client/{caller.name}", event.event_id if event.event_id is not None else self._sent(event)

    def _sent(self, event: FeedbackIn) -> str:
        """Return the hash of what was sent; of a user by the pseudonym, which a sealed name has, too."""
        of: dict[str, str | None] = {"decision_id": event.decision_id}
        if event.user_id is not None:
            of = {"user": pseudonym(self._key, "user", event.user_id)}
        said = {field: getattr(event, field) for field in ("kind", "value", "action", "event_id", "occurred_at")}
        return content_identity(msgspec.json.encode(of | said))

    def _timely(self, moment: float, now: float, field: str) -> None:
        if moment > now + CLOCK_SKEW_S:
            detail = "lies in the future"
            raise InvalidInput(detail, field=field)
        if moment < max(now - self._retention_s, 0):
            detail = "is older than what is kept"
            raise InvalidInput(detail, field=field)

    def _pseudonym(self, kind: str, name: str | None) -> str | None:
        return None if name is None else pseudonym(self._key, kind, name)

    async def _wake(self, keys: Iterable[int]) -> None:
        for key in set(keys):
            try:
                policy = await self._store.policy_name(key)
            except Unavailable:  # what was taken is committed; the sweep finds it
                return
            if policy is not None:
                self._wakes.learning_due(policy)


def _placed(error: KnudgeError, place: str, at: int) -> KnudgeError:
    error.field = place.format(at) + (error.field or "")
    return error


def _microseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1e6)
