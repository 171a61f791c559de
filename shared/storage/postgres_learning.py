"""A learning transaction: archive, take what is pending, revise rewards and posterior, store the snapshot.

All of it commits together, under the policy's advisory lock, so a process may be killed at any moment: either nothing
happened, or everything did and the snapshot waits in PostgreSQL to be published. What is pending is found by what is
there, never by a cursor: commit order is not sequence order.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import msgspec

from shared.errors import UnknownPolicy
from shared.evaluation.explained_variance import explained_variance
from shared.identity import policy_key
from shared.policies.posterior import (
    Outcome,
    Posterior,
    decode_posterior,
    encode_posterior,
    lacks_delays,
    learn,
    merge,
    nothing_learned,
    snapshot_of,
)
from shared.policies.rewards import item_delays, item_rewards
from shared.storage.comparison import compared
from shared.storage.decision_features import FeaturesOf
from shared.storage.learning_state import Learned, State, as_archived, as_row, is_stale, learns_alike, to_open
from shared.storage.postgres_connection import Connection, Row
from shared.storage.postgres_exposures import record_activated, record_decided
from shared.storage.postgres_ordered import NOTHING, OrderedLearning
from shared.storage.queries import queries
from shared.storage.redis_snapshots import encode_snapshot
from shared.vocabulary import Decision, Feedback, PolicySpec

_LOCKS = 0x6B6E_7564
_ANY_FIRST, _ANY_LAST = 0.0, 4e9
_PORTION = 5_000


class LearningTransaction:
    """The learner's work on one connection, inside a transaction that the caller opens and commits."""

    def __init__(self, connection: Connection, policy: str) -> None:
        """Work on one policy."""
        self._connection = connection
        self._policy = policy
        self._key = policy_key(policy)
        self._queries = queries("learning")
        self.ordered = OrderedLearning(connection, policy)
        self.fitted = 0
        """How many decisions of the history were fitted so far."""

    async def lock(self) -> State:
        """Take the policy's lock and return its state; raises `UnknownPolicy`."""
        signed = self._key - (1 << 32) if self._key >= 1 << 31 else self._key
        await self._run("lock_policy", namespace=_LOCKS, key=signed)
        rows = await self._rows("policy_state", policy=self._policy)
        if not rows:
            detail = f"there is no policy {self._policy!r}"
            raise UnknownPolicy(detail, field="policy")
        row = rows[0]
        learned = row["learned_spec"]
        return State(
            spec=msgspec.convert(row["spec"], PolicySpec),
            learned=None if learned is None else msgspec.convert(learned, PolicySpec),
            snapshot_version=row["snapshot_version"] or 0,
            posterior=Posterior() if row["statistics"] is None else decode_posterior(row["statistics"]),
        )

    async def learn(self, state: State, decisions: Sequence[Decision], now: float, most: int) -> Learned:
        """Archive `decisions`, take up to `most` pending rows, and store the posterior and snapshot that follow."""
        archived = await self._archive(decisions)
        fresh = await self._rows("fresh_pending", key=self._key, most=most)
        more = len(fresh) == most
        fresh += await self._no_longer_waiting(archived, fresh)
        features = FeaturesOf(self._connection, state.spec)
        shown, answered, kept, parked = await self._sort(features, archived, fresh)
        outcomes = [*shown, *await self._revise(state.spec, features, answered)]
        await self._run("delete_pending", ids=kept)
        await self._run("park_pending", ids=parked)
        await record_decided(self._connection, archived.values())
        await record_activated(self._connection, fresh)
        await self.ordered.open(state.spec, to_open(archived, fresh))
        refitted = None
        is_other = state.learned is not None and not learns_alike(state.learned, state.spec)
        if is_other or lacks_delays(state.posterior, state.spec):
            refitted = await self.refit(state, now)
        closed = await self.ordered.close(state.spec, now) if not more else NOTHING  # first all feedback that is there
        new, more = tuple(archived.values()), more or closed.more
        result = Learned(self._policy, archived=len(new), fresh=new, feedback=len(answered), more=more)
        if not (refitted or outcomes or closed.decisions or is_stale(state, now)):
            return result
        posterior = refitted or learn(state.posterior, state.spec, outcomes, now)
        return await self.store(state.spec, posterior, state.snapshot_version + 1, result)

    async def store(self, spec: PolicySpec, posterior: Posterior, snapshot_version: int, result: Learned) -> Learned:
        """Store a posterior and the snapshot that follows from it."""
        snapshot = snapshot_of(posterior, spec, snapshot_version)
        model = await self.ordered.model(spec, snapshot.as_of)
        if model is not None:
            place = "model" if spec.steering is None else "tables"
            snapshot = msgspec.structs.replace(snapshot, **{place: model})
        content = encode_snapshot(snapshot)
        names = {"policy": spec.name, "policy_version": spec.version, "snapshot_version": snapshot_version}
        result.comparison = compared(posterior.arms)
        comparison = None if result.comparison is None else msgspec.json.encode(result.comparison).decode()
        await self._run("put_posterior", **names, statistics=encode_posterior(posterior), comparison=comparison)
        await self._run("put_snapshot", **names, content=content)
        result.policy_version, result.snapshot_version, result.content = spec.version, snapshot_version, content
        result.accuracy = explained_variance(snapshot.estimates)
        return result

    async def refit(self, state: State, as_of: float) -> Posterior:
        """Return the posterior learned afresh from the base and the history; rewards are counted anew on the way."""
        await record_activated(self._connection, await self._rows("take_all_pending", key=self._key))
        await self._run("forget_rewards", policy=self._policy)
        nothing = nothing_learned(state.spec, state.posterior, as_of)
        posterior = await self.fit_history(state.spec, nothing, _ANY_FIRST, _ANY_LAST, recount=True)
        await self.ordered.refit(state.spec)
        base = await self.base()
        return merge(posterior, base, state.spec) if base is not None else posterior

    async def fit_history(
        self, spec: PolicySpec, posterior: Posterior, first: float, last: float, *, recount: bool
    ) -> Posterior:
        """Return `posterior` when it has also learned the decisions made in [first, last), as of its own time.

        `recount`: make the rewards, which are forgotten, anew from all feedback; else take them as they are counted.
        """
        features = FeaturesOf(self._connection, spec)
        as_of = posterior.as_of
        parameters = {
            "policy": self._policy,
            "key": self._key,
            "first": first,
            "last": last,
            "looks": features.are_looked_at,
            "compares": features.are_compared,
        }
        async with self._connection.cursor(
            name="history"
        ) as cursor:  # one query, however long: portions of it come over
            await cursor.execute(self._queries["history"], parameters)
            while portion := await cursor.fetchmany(_PORTION):
                await features.load(portion)
                outcomes = [
                    features.outcome(row, at, shown=True) for row in portion for at in range(len(row["actions"]))
                ]
                outcomes += await (
                    self._revise(spec, features, portion, anew=True) if recount else self._counted(features, portion)
                )
                posterior = learn(posterior, spec, outcomes, as_of)
                self.fitted += len(portion)
        return posterior

    async def base(self) -> Posterior | None:
        """Return the sealed part of the posterior."""
        rows = await self._rows("base", policy=self._policy)
        return decode_posterior(rows[0]["statistics"]) if rows else None

    async def put_base(self, posterior: Posterior) -> None:
        """Store the sealed part of the posterior."""
        await self._run("put_base", policy=self._policy, statistics=encode_posterior(posterior))

    async def _archive(self, decisions: Sequence[Decision]) -> dict[str, Decision]:
        """Archive decisions and return those that are new, by id."""
        rows = [as_archived(decision) for decision in decisions]
        if not rows:
            return {}
        for day in {int(row.decided_at // _DAY_S) for row in rows}:
            await self._connection.execute("select ensure_partition(to_timestamp(%s))", [day * _DAY_S])
        inserted = await self._rows("archive_decisions", rows=msgspec.json.encode(rows).decode())
        by_id = {decision.decision_id: decision for decision in decisions}
        return {row["decision_id"]: by_id[row["decision_id"]] for row in inserted}

    async def _no_longer_waiting(self, archived: dict[str, Decision], fresh: Sequence[Row]) -> list[Row]:
        ids = [*archived, *(row["decision_id"] for row in fresh if row["subject"] != "feedback")]
        if not ids:
            return []
        waiting = await self._rows("waiting_pending", ids=ids)
        revived = await self._rows("orphaned_feedback", ids=ids) if archived else []
        if revived:
            await self._run("revive_feedback", ids=[row["decision_id"] for row in revived])
        return waiting + [row | {"id": None, "subject": "feedback"} for row in revived]

    async def _sort(
        self, features: FeaturesOf, archived: dict[str, Decision], pending: Sequence[Row]
    ) -> tuple[list[Outcome], list[Row], list[int], list[int]]:
        """Return (what counts as shown from now on, decisions to revise, rows to delete, rows to park)."""
        made = [as_row(decision) for decision in archived.values() if not decision.deferred]
        found = {
            row["decision_id"]: row
            for row in await self._by_decision(
                "archived", pending, looks=features.are_looked_at, compares=features.are_compared
            )
        }
        await features.load([*made, *found.values()])
        shown = [features.outcome(row, at, shown=True) for row in made for at in range(len(row["actions"]))]
        answered: dict[str, Row] = {}
        kept: list[int] = []
        parked: list[int] = []
        for row in pending:
            decision = found.get(row["decision_id"])
            ready = decision is not None and (decision["shown"] or row["subject"] != "feedback")
            if row["id"] is not None:
                (kept if ready else parked).append(row["id"])
            if decision is None or not ready or decision["policy"] != self._policy:
                continue
            if row["subject"] == "feedback":
                answered[row["decision_id"]] = decision
            elif row["subject"] == "decision" or decision["deferred"]:
                shown += [features.outcome(decision, at, shown=True) for at in range(len(decision["actions"]))]
        return shown, list(answered.values()), kept, parked

    async def _revise(
        self, spec: PolicySpec, features: FeaturesOf, decisions: Sequence[Row], *, anew: bool = False
    ) -> list[Outcome]:
        """Return how the rewards of these decisions change, and note the new ones; `anew`: none is counted so far."""
        events: dict[str, list[Feedback]] = defaultdict(list)
        for row in await self._by_decision("feedback_of", decisions):
            events[row["decision_id"]].append(Feedback(**row))
        if not events:
            return []
        counted: dict[tuple[str, int], tuple[float, float | None]] = {
            (row["decision_id"], row["position"]): (row["reward"], row["delay_s"])
            for row in ([] if anew else await self._by_decision("rewards_of", decisions))
        }
        outcomes = []
        changed = []
        for row in decisions:
            name, at, actions = row["decision_id"], row["decided_at"], row["actions"]
            if name not in events:
                continue
            is_slow = spec.expected_delay_s is not None
            delays = item_delays(spec, at, actions, events[name]) if is_slow else [None] * len(actions)
            rewards = item_rewards(spec, at, actions, events[name])
            for position, after in enumerate(zip(rewards, delays, strict=True)):
                before = counted.get((name, position), (None, None))
                if after[0] is not None and after != before:
                    outcomes.append(features.outcome(row, position, before=before, after=after))
                    changed.append(
                        {
                            "decided_at": at,
                            "decision_id": name,
                            "position": position,
                            "reward": after[0],
                            "delay_s": after[1],
                        }
                    )
        if changed:
            await self._run("put_rewards", rows=msgspec.json.encode(changed).decode())
        return outcomes

    async def _counted(self, features: FeaturesOf, decisions: Sequence[Row]) -> list[Outcome]:
        """Return the rewards of these decisions as they are counted."""
        by_id = {row["decision_id"]: row for row in decisions}
        return [
            features.outcome(by_id[row["decision_id"]], row["position"], after=(row["reward"], row["delay_s"]))
            for row in await self._by_decision("rewards_of", decisions)
        ]

    async def _by_decision(self, query: str, rows: Sequence[Row], **parameters: Any) -> list[Row]:  # noqa: ANN401
        """Run a query for the decisions that `rows` name, each looked up by its whole key."""
        if not rows:
            return []
        moments = {row["decision_id"]: row["decided_at"] for row in rows}
        return await self._rows(query, times=list(moments.values()), ids=list(moments), **parameters)

    async def _rows(self, query: str, **parameters: Any) -> list[Row]:  # noqa: ANN401
        cursor = await self._connection.execute(self._queries[query], parameters)
        return await cursor.fetchall()

    async def _run(self, query: str, **parameters: Any) -> None:  # noqa: ANN401
        if parameters.get("ids") != []:
            await self._connection.execute(self._queries[query], parameters)


_DAY_S = 86_400
