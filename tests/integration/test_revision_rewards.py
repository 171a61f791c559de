"""What two revisions earned, asked of a real PostgreSQL, against the same computed one decision at a time."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from itertools import count
from typing import Any

import psycopg
import pytest

from functions.local.servers import LocalServers
from shared.errors import Unavailable
from shared.evaluation.revision_moments import PairMoments
from shared.identity import decision_id, policy_key
from shared.storage.postgres_revisions import RevisionRewards
from tests.stage import Stage, run
from tests.unit.evaluation.units import Unit, moments_of

_numbers = count(1)
AGE_S = 300.0


class History:
    """Rows of `decisions`, `feedback` and `activations`, written as the functions write them."""

    def __init__(self, database_url: str) -> None:
        """Write through one connection."""
        self.connection = psycopg.connect(database_url, autocommit=True)

    def decide(
        self,
        policy: str,
        revision: str,
        decided_at: float,
        *,
        user: str | None = None,
        actions: tuple[str, ...] = ("a",),
        deferred: bool = False,
        origin: str = "served",
    ) -> str:
        """Write a decision; return its id."""
        several = len(actions) > 1
        name = decision_id(policy_key(policy), int(decided_at * 1e6), next(_numbers), several=several)
        self.connection.execute("select ensure_partition(to_timestamp(%s))", [decided_at])
        self.connection.execute(
            "insert into decisions (decided_at, decision_id, policy, policy_version, snapshot_version, actions, propensities,"
            " context, user_pseudonym, deferred, degraded, origin, revision, actor)"
            " values (to_timestamp(%s), %s, %s, 1, 1, %s, %s, '{}', %s, %s, false, %s, %s, 'tests')",
            [decided_at, name, policy, list(actions), [1.0] * len(actions), user, deferred, origin, revision],
        )
        return name

    def react(
        self, name: str, decided_at: float, after_s: float, *, value: float = 1.0, action: str | None = None
    ) -> None:
        """Write a click that came so long after the decision."""
        self.connection.execute(
            "insert into feedback (decided_at, decision_id, source, event_id, kind, value, action, occurred_at, received_at, actor)"
            " values (to_timestamp(%s), %s, 'tests', %s, 'click', %s, %s, to_timestamp(%s), to_timestamp(%s), 'tests')",
            [decided_at, name, str(next(_numbers)), value, action, decided_at + after_s, decided_at + after_s],
        )

    def activate(self, name: str, decided_at: float, after_s: float) -> None:
        """Write that a deferred decision was shown."""
        self.connection.execute(
            "insert into activations values (to_timestamp(%s), %s, to_timestamp(%s), 'tests')",
            [decided_at, name, decided_at + after_s],
        )


@pytest.fixture
def history(servers: LocalServers) -> Iterator[History]:
    """Return a history to write, closed with the test."""
    written = History(servers.database_url)
    yield written
    written.connection.close()


def policy_of(history: History, **spec: Any) -> str:
    """Write a policy; return its name."""
    name = f"compared-{next(_numbers)}"
    written = {"name": name, "version": 1, "kind": "thompson", "reward": {"click": {"weight": 1.0}}, **spec}
    history.connection.execute(
        "insert into policies (name, policy_key, active_version) values (%s, %s, 1)", [name, policy_key(name)]
    )
    history.connection.execute(
        "insert into policy_versions (policy, version, spec, actor) values (%s, 1, %s, 'tests')",
        [name, json.dumps(written)],
    )
    return name


def numbers(moments: PairMoments) -> list[float]:
    """Return the sixteen sums."""
    c, s = moments.candidate, moments.serving
    return [
        value
        for side in (c, s)
        for value in (side.decisions, side.total, side.squares, side.unit_counts, side.unit_products, side.unit_squares)
    ] + [moments.counts, moments.count_reward, moments.reward_count, moments.rewards]


@pytest.mark.parametrize("default", [0.0, 0.25])
def test_sums_equal_those_of_single_decisions(servers: LocalServers, history: History, default: float) -> None:
    """Users with decisions of both revisions, decisions without a user, several clicks, late ones: each counted as it was at its age."""
    policy = policy_of(history, default_reward=default)
    chance = random.Random(4)
    began = time.time() - 7_200
    units: dict[str, tuple[list[float], list[float]]] = {}
    for _ in range(400):
        decided_at = round(began + chance.random() * 3_600, 6)
        new = chance.random() < 0.4
        user = None if chance.random() < 0.2 else f"{policy}-user-{chance.randrange(60)}"
        name = history.decide(policy, "c-2" if new else "c-1", decided_at, user=user)
        rewards = []
        for _click in range(chance.choice([0, 0, 0, 1, 2])):
            after, value = chance.choice([1.0, 299.0, 301.0, 900.0]), chance.random()
            history.react(name, decided_at, after, value=value)
            if after <= AGE_S:
                rewards.append(value)
        unit = units.setdefault(user or name, ([], []))
        unit[0 if new else 1].append(max(rewards) if rewards else default)
    for when in (began - 1.0, began + 3_600.5):  # outside the window
        history.react(history.decide(policy, "c-2", when), when, 1.0)
    history.decide(policy, "c-3", began + 5)
    history.decide(policy, "c-2", began + 5, origin="logged")
    asked = RevisionRewards(servers.database_url).earned(
        "c-2", "c-1", began, began + 3_600, age_s=AGE_S, policies=[policy]
    )
    expected: list[Unit] = list(units.values())
    assert numbers(asked) == pytest.approx(numbers(moments_of(expected)), rel=1e-9)


def test_slates_and_deferred_decisions(servers: LocalServers, history: History) -> None:
    """A slate earns what its items earn together; a deferred decision counts once it was shown, if it was in time."""
    policy = policy_of(history)
    at = round(time.time() - 3_600, 6)
    slate = history.decide(policy, "d-2", at, actions=("a", "b", "c"))
    history.react(slate, at, 5.0, action="a")
    history.react(slate, at, 6.0, action="c", value=0.5)
    for after, shown in ((20.0, True), (AGE_S + 1, False)):
        name = history.decide(policy, "d-1", at + 1, deferred=True)
        history.react(name, at + 1, 10.0)
        history.activate(name, at + 1, after)
        assert shown == (after <= AGE_S)
    history.decide(policy, "d-1", at + 1, deferred=True)
    rewards = RevisionRewards(servers.database_url)
    found = rewards.earned("d-2", "d-1", at, at + 10, age_s=AGE_S, policies=[policy])
    assert (found.candidate.decisions, found.candidate.total) == (1, 1.5)
    assert (found.serving.decisions, found.serving.total) == (1, 1.0)
    assert rewards.earned("d-2", "d-1", at, at + 10, age_s=AGE_S).candidate.total == 1.5  # of all policies
    assert rewards.earned("d-2", "d-1", at, at + 10, age_s=AGE_S, policies=["another"]) == PairMoments()
    assert rewards.earned("d-2", "d-1", at, at, age_s=AGE_S) == PairMoments()


def test_the_functions_own_decisions_are_found(servers: LocalServers) -> None:
    """What `recommend` decided under a revision and `feedback` took is what is summed up."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy()
        began = time.time()
        for number in range(6):
            decision = await stage.recommend(policy, user_id=f"user-{number % 2}")
            if number % 3 == 0:
                await stage.feedback(decision["decision_id"])
        await stage.learn(policy)
        found = RevisionRewards(servers.database_url).earned(
            "live-7", "live-6", began, time.time(), age_s=60.0, policies=[policy]
        )
        assert (found.candidate.decisions, found.candidate.total, found.serving.decisions) == (6, 2, 0)
        assert (found.candidate.unit_counts, found.candidate.unit_squares) == (18, 2)

    run(servers, play, k_revision="live-7")


def test_a_database_that_is_away_is_named() -> None:
    """Nobody listens there."""
    with pytest.raises(Unavailable, match="PostgreSQL does not answer"):
        RevisionRewards("postgresql://knudge@127.0.0.1:9/knudge").earned("b", "a", 0.0, 1.0, age_s=1.0)
