"""Learning in order: decisions are closed, put in an order that is stored, and learned once, each for a stored reward.

Part of the learning transaction (`postgres_learning`), under the same lock. A decision that counts as shown is *open*.
It is closed once its episode is over and the reward windows of it are (`closing`): nothing that comes later changes what was
learned. A refit walks along the stored order and makes the same model again, bit for bit, over what is retained plus the
*sealed* model of what is not.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple

import msgspec

from shared.policies.closing import CLOSED_AT_ONCE, LONGEST_EPISODE, MOST_AHEAD, MOST_FITTED, waits_s
from shared.policies.ordered import OpenStep, OrderedLearner, Step
from shared.policies.ordered_kinds import PUBLISHERS, learner_of
from shared.storage.postgres_connection import Connection, Row
from shared.storage.queries import queries
from shared.vocabulary import Action, PolicySpec

_LOOKS_PER_WAIT = 64


class Model(msgspec.Struct, frozen=True):
    """What was learned through a place of the order, under a version. `looked_at`: when closed decisions were looked for."""

    spec: PolicySpec
    place: int = 0
    model: bytes | None = None
    looked_at: float = 0.0


class Closed(NamedTuple):
    """How many decisions were closed and learned, and whether there are more."""

    decisions: int
    more: bool


NOTHING = Closed(0, more=False)
"""Nothing was closed."""


class OrderedLearning:
    """The part of a learning transaction that keeps the order, on the same connection and under the same lock.

    Every method does nothing for a policy whose kind learns sums alone.
    """

    def __init__(self, connection: Connection, policy: str) -> None:
        """Work on one policy."""
        self._connection = connection
        self._policy = policy
        self._queries = queries("ordered")
        self._actions: dict[int, tuple[Action, ...]] | None = None

    async def open(self, spec: PolicySpec, decisions: Sequence[Row]) -> None:
        """Take those of the given decisions that count as shown as open."""
        if learner_of(spec) is not None and decisions:
            await self._run("open_decisions", **_keys(decisions))

    async def close(self, spec: PolicySpec, now: float, *, before: float | None = None) -> Closed:
        """Learn what is closed by now, up to `CLOSED_AT_ONCE` decisions.

        `before`: episodes that began before it are taken as closed, whatever may still come.
        """
        learner = learner_of(spec)
        if learner is None:
            return NOTHING
        wait_s = waits_s(learner, spec)
        [oldest] = await self._rows("oldest_open")
        if oldest["decided_at"] is None or (before is None and oldest["decided_at"] + wait_s > now):
            return NOTHING
        running = (await self.models()).get(False, Model(spec))
        if before is None and running.looked_at + wait_s / _LOOKS_PER_WAIT > now:
            return NOTHING
        limits = {"wait_s": wait_s, "now": now, "before": before, "most": CLOSED_AT_ONCE}
        if learner.EPISODIC:
            episodes = {"timeout_s": spec.session_timeout_s, "longest": LONGEST_EPISODE}
            found = await self._rows("closed", **episodes, **limits)
        else:
            found = await self._rows("closed_batch", **limits)
        more = len(found) == CLOSED_AT_ONCE
        while found and not found[-1]["ends"]:
            found.pop()  # its episode does not fit: the next transaction learns it
        model = running.model
        if found:
            steps = await self._closed_steps(spec, found)
            places = range(running.place + 1, running.place + len(steps) + 1)
            learned = [
                row | {"place": place, "rewards": step.rewards}
                for row, step, place in zip(found, steps, places, strict=True)
            ]
            await self._run("put_order", rows=msgspec.json.encode(learned).decode())
            model = model if learner.OFFLINE else learner.learn(model, spec, steps)
        looked_at = running.looked_at if more else now
        await self._put(Model(spec, running.place + len(found), model, looked_at), sealed=False)
        return Closed(len(found), more)

    async def refit(self, spec: PolicySpec) -> None:
        """Make the running model anew: the sealed one, and the stored order after it.

        Where rewards are made otherwise than when they were learned, they are those that are counted now. What another kind
        learned is to be learned afresh: everything retained is open then.
        """
        learner = learner_of(spec)
        if learner is None:
            return
        models = await self.models()
        running = models.get(False)
        if running is not None and learner_of(running.spec) is not learner:
            await self._run("forget_order")
            await self._run("forget_models")
            models, running = {}, None
        await self._run("open_history")
        if running is None:
            return
        if not _rewards_alike(running.spec, spec):
            await self._run("recount", default_reward=spec.default_reward)
        model = await self._replay(learner, spec, _beginning(learner, spec, models), running.place)
        await self._put(Model(spec, running.place, model.model), sealed=False)

    async def seal(self, spec: PolicySpec, first: float, last: float) -> bool:
        """Seal what was decided in [first, last) and all that was learned before it, so that it may be dropped or erased.

        What is open of it is learned now; returns whether there was such. A policy keeps what it learned under its last
        kind that depends on order, whatever its kind is today.
        """
        spec = (await self.models()).get(False, Model(spec)).spec
        learner = learner_of(spec)
        if learner is None:
            return False
        closed = 0
        while some := (await self.close(spec, 0.0, before=last)).decisions:
            closed += some
        [row] = await self._rows("last_place_between", first=first, last=last)
        begin = _beginning(learner, spec, await self.models())
        if row["place"] is not None and row["place"] > begin.place and not learner.OFFLINE:
            await self._put(await self._replay(learner, spec, begin, row["place"]), sealed=True)
        return closed > 0

    async def model(self, spec: PolicySpec, as_of: float) -> bytes | None:
        """Return what the snapshot carries at `as_of`: the running model, and what is open where its kind looks ahead."""
        running = (await self.models()).get(False)
        is_ours = running is not None and learner_of(running.spec) is learner_of(spec) is not None
        model = running.model if running is not None and is_ours else None
        publisher = PUBLISHERS.get(spec.kind)
        if publisher is None:
            return model
        rows = await self._rows("newest_open", most=MOST_AHEAD)
        return publisher.published(model, spec, [await self._open_step(spec, row) for row in reversed(rows)], as_of)

    async def models(self) -> dict[bool, Model]:
        """Return the running model (False) and the sealed one (True), as far as there are any."""
        return {
            row["sealed"]: Model(msgspec.convert(row["spec"], PolicySpec), row["place"], row["model"], row["looked_at"])
            for row in await self._rows("models")
        }

    async def _replay(self, learner: OrderedLearner, spec: PolicySpec, begin: Model, through: int) -> Model:
        """Return the model that also knows what was learned after `begin`, through a place that ends an episode."""
        known = begin
        if learner.OFFLINE:
            retained = [
                step async for steps, _ in self._learned(spec, through - MOST_FITTED, through) for step in steps
            ]
            return Model(spec, through, learner.learn(None, spec, retained) if retained else None)
        async for steps, place in self._learned(spec, begin.place, through):
            known = Model(spec, place, learner.learn(known.model, spec, steps))
        return known

    async def _learned(self, spec: PolicySpec, after: int, through: int) -> AsyncIterator[tuple[list[Step], int]]:
        """Yield the stored order in portions of whole episodes, each with the place of its last step."""
        left: list[Row] = []
        async with self._connection.cursor(name="learned_steps") as cursor:
            await cursor.execute(
                self._queries["learned_steps"], {"policy": self._policy, "after": after, "through": through}
            )
            while portion := await cursor.fetchmany(CLOSED_AT_ONCE):
                left += portion
                ends = max((at for at, row in enumerate(left, 1) if row["ends"]), default=0)
                whole, left = left[:ends], left[ends:]
                if whole:
                    steps = [await self._step(spec, row, row["rewards"], ends=row["ends"]) for row in whole]
                    yield steps, whole[-1]["place"]

    async def _closed_steps(self, spec: PolicySpec, found: Sequence[Row]) -> list[Step]:
        known = {row["decision_id"]: row for row in await self._rows("steps_of", **_keys(found))}
        steps = []
        for closed in found:
            row = known[closed["decision_id"]]
            rewards = [spec.default_reward if reward is None else reward for reward in _counted(row)]
            steps.append(await self._step(spec, row, rewards, ends=closed["ends"]))
        return steps

    async def _open_step(self, spec: PolicySpec, row: Row) -> OpenStep:
        counted = _counted(row)
        rewards = [spec.default_reward if reward is None else reward for reward in counted]
        step = await self._step(spec, row, rewards, ends=False)
        return OpenStep(**msgspec.structs.asdict(step), answered=tuple([reward is not None for reward in counted]))

    async def _step(self, spec: PolicySpec, row: Row, rewards: Sequence[float], *, ends: bool) -> Step:
        if self._actions is None:
            self._actions = {
                version["version"]: msgspec.convert(version["actions"], tuple[Action, ...])
                for version in await self._rows("actions_of_versions")
            }
        eligible = row["eligible"]
        return Step(
            row["decided_at"],
            row["context"],
            tuple(row["actions"]),
            tuple(map(float, rewards)),
            self._actions.get(row["policy_version"], spec.actions)
            if eligible is None
            else msgspec.convert(eligible, tuple[Action, ...]),
            tuple(row["propensities"]),
            ends,
        )

    async def _put(self, model: Model, *, sealed: bool) -> None:
        await self._run(
            "put_model",
            sealed=sealed,
            spec=msgspec.json.encode(model.spec).decode(),
            place=model.place,
            model=model.model,
            looked_at=model.looked_at,
        )

    async def _rows(self, query: str, **parameters: Any) -> list[Row]:  # noqa: ANN401
        cursor = await self._connection.execute(self._queries[query], {"policy": self._policy} | parameters)
        return await cursor.fetchall()

    async def _run(self, query: str, **parameters: Any) -> None:  # noqa: ANN401
        await self._connection.execute(self._queries[query], {"policy": self._policy} | parameters)


def _counted(row: Row) -> list[float | None]:
    """Return the reward of each item of a decision as it is counted, None where there is none."""
    counted = row["counted"] or {}
    return [counted.get(str(at)) for at in range(len(row["actions"]))]


def _beginning(learner: OrderedLearner, spec: PolicySpec, models: dict[bool, Model]) -> Model:
    """Return what a walk along the order begins with: the sealed model, unless it is one that cannot be gone on with."""
    sealed = models.get(True)
    if sealed is None or any(getattr(sealed.spec, field) != getattr(spec, field) for field in learner.FIELDS):
        return Model(spec)
    return sealed


def _rewards_alike(one: PolicySpec, other: PolicySpec) -> bool:
    return all(getattr(one, field) == getattr(other, field) for field in _REWARD_FIELDS)


_REWARD_FIELDS = ("reward", "reward_range", "default_reward", "reward_window_s")


def _keys(rows: Sequence[Row]) -> dict[str, list[Any]]:
    return {"times": [row["decided_at"] for row in rows], "ids": [row["decision_id"] for row in rows]}
