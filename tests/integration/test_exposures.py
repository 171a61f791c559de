"""Exposures and what users do beside decisions, on their way into PostgreSQL."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import Any

import msgspec
import pytest

from functions.local.servers import LocalServers
from shared.experiments.exposure import Exposure
from shared.identity import decision_id, policy_key, pseudonym, seal
from shared.storage.postgres_connection import connection, open_pool
from shared.storage.postgres_exposures import record
from shared.storage.postgres_retention import drop_expired
from shared.storage.redis_connection import EXPOSURES
from tests.integration.test_http_interface import check_problem, moment
from tests.stage import Stage, run

FEEDBACK_GIVEN = "dev.knudge.feedback.given.v1"
LEARNING_DUE = "dev.knudge.learning.due.v1"
DAY_S = 86_400.0
LATELY = time.time() // 1 - 5_000
"""A moment that retention leaves alone."""
_numbers = itertools.count(1)


def exposure(experiment: str, variation: str = "a", unit: str = "u", at: float = LATELY, **changes: Any) -> Exposure:
    """Return an exposure."""
    made = Exposure(experiment, 1, variation, unit, "user-of-" + unit, at, {"country": "DE"}, None, "r", "me")
    return msgspec.structs.replace(made, **changes)


async def journal(stage: Stage, *exposures: Exposure) -> None:
    """Append a block of exposures to their journal."""
    await stage.redis.xadd(EXPOSURES, {"block": msgspec.msgpack.encode(exposures)})


def recorded(stage: Stage, experiment: str) -> list[tuple[Any, ...]]:
    """Return what is recorded of an experiment, by unit and variation."""
    rows = stage.sql(
        "select unit, variation, extract(epoch from exposed_at)::float8 as at, actor from exposures"
        " where experiment = %s order by unit, variation",
        experiment,
    )
    return [(row["unit"], row["variation"], row["at"], row["actor"]) for row in rows]


# Exposures


@pytest.mark.parametrize("due", [{"exposures": True}, {}])
def test_the_journal_of_exposures_is_drained(servers: LocalServers, due: dict[str, Any]) -> None:
    """A wake-up for exposures and a sweep record what stands in the journal, and trim it; what cannot be read harms nobody."""

    async def play(stage: Stage) -> None:
        name = f"drained-{next(_numbers)}"
        await journal(stage, exposure(name), exposure(name, unit="v", at=LATELY + 1))
        await stage.redis.xadd(EXPOSURES, {"block": b"nonsense"})
        await journal(stage, exposure(name, at=LATELY + 5), exposure(name, unit="w"))
        assert (await stage.event("learn", LEARNING_DUE, due)).status == 204
        assert recorded(stage, name) == [
            ("u", "a", LATELY, "me"), ("v", "a", LATELY + 1, "me"), ("w", "a", LATELY, "me"),
        ]  # fmt: skip
        assert await stage.redis.xlen(EXPOSURES) == 0

    run(servers, play)


def test_a_poison_exposure_harms_only_itself(servers: LocalServers) -> None:
    """What PostgreSQL cannot store is dropped; what stood beside it in the journal is recorded, and the journal goes on."""

    async def play(stage: Stage) -> None:
        name = f"poison-{next(_numbers)}"
        poison = [exposure(name, unit="w", attributes={"country": "D\0E"}), exposure(name, unit="x\0")]
        await journal(stage, exposure(name), *poison, exposure(name, unit="v"))
        assert (await stage.event("learn", LEARNING_DUE, {"exposures": True})).status == 204
        assert [unit for unit, *_ in recorded(stage, name)] == ["u", "v"]
        assert await stage.redis.xlen(EXPOSURES) == 0

    run(servers, play)


def test_many_who_ask_at_once_share_a_run(servers: LocalServers) -> None:
    """Wake-ups for exposures at once are answered after a run that began after they asked."""

    async def play(stage: Stage) -> None:
        name = f"shared-{next(_numbers)}"

        async def one(at: int) -> None:
            await journal(stage, exposure(name, unit=f"unit-{at:03d}"))
            assert (await stage.event("learn", LEARNING_DUE, {"exposures": True})).status == 204
            assert f"unit-{at:03d}" in {unit for unit, *_ in recorded(stage, name)}

        await asyncio.gather(*(one(at) for at in range(30)))
        assert len(recorded(stage, name)) == 30

    run(servers, play)


def test_the_first_exposure_wins_in_whatever_order(servers: LocalServers) -> None:
    """The same rows come of the same exposures, in any order and however often; a unit's second variation is a row of its own."""

    async def play(stage: Stage) -> None:
        name = f"ordered-{next(_numbers)}"
        async with open_pool(servers.database_url, 2) as pool:
            for number, order in enumerate(itertools.permutations(range(4))):
                key = f"{name}-{number}"
                given = [
                    exposure(key, at=2e9, actor="late"),
                    exposure(key, at=1e9, actor="first"),
                    exposure(key, "b", at=1.5e9, actor="other"),
                    exposure(key, at=1.2e9, actor="middle"),
                ]
                new = 0
                for at in order:
                    async with connection(pool) as lent, lent.transaction():
                        new += await record(lent, [given[at]])
                async with connection(pool) as lent, lent.transaction():
                    assert await record(lent, given) == 0
                assert new == 2
                assert recorded(stage, key) == [("u", "a", 1e9, "first"), ("u", "b", 1.5e9, "other")]
            twice = stage.sql(
                "select count(*) as n from (select unit from exposures where experiment = %s and phase = 1"
                " group by unit having count(*) > 1) as both_sides",
                f"{name}-0",
            )
            assert twice == [{"n": 1}]

    run(servers, play)


def test_old_exposures_and_user_feedback_are_dropped(own_servers: LocalServers) -> None:
    """Retention takes both by their age, and leaves what is younger."""

    async def play(stage: Stage) -> None:
        now = time.time()
        await journal(stage, exposure("e", unit="old", at=now - 30 * DAY_S), exposure("e", unit="new", at=now - DAY_S))
        await stage.learn()
        assert (await given(stage, user_id="ada")).status == 200
        stage.sql("update user_feedback set received_at = received_at - interval '30 days'")
        assert (await given(stage, user_id="bob")).status == 200
        async with open_pool(own_servers.database_url, 1) as pool, connection(pool) as lent:
            await drop_expired(lent, now - 20 * DAY_S)
        assert [unit for unit, *_ in recorded(stage, "e")] == ["new"]
        assert len(stage.sql("select 1 from user_feedback")) == 1

    run(own_servers, play)


# What users do beside decisions


async def given(stage: Stage, **body: Any) -> Any:
    """Report something."""
    return await stage.call("feedback", "POST", "/v1/feedback", {"kind": "purchase"} | body)


def kept(stage: Stage, name: str) -> list[dict[str, Any]]:
    """Return what is kept of a user."""
    user = pseudonym(stage.settings.server_key.encode(), "user", name)
    return stage.sql("select * from user_feedback where user_pseudonym = %s order by received_at", user)


def test_what_a_user_did_is_kept_once(servers: LocalServers) -> None:
    """By event_id, by the hash of what was sent, and by a CloudEvent's own identity: repeats are counted, never kept twice."""

    async def play(stage: Stage) -> None:
        name = f"user-{next(_numbers)}"
        one = {"user_id": name, "value": 12.5, "event_id": "e-1"}
        assert (await given(stage, **one)).body == {"accepted": 1, "duplicates": 0}
        assert (await given(stage, **one)).body == {"accepted": 0, "duplicates": 1}
        plain = {"user_id": name, "kind": "visit", "occurred_at": moment()}
        assert (await given(stage, **plain)).body == {"accepted": 1, "duplicates": 0}
        assert (await given(stage, **plain)).body == {"accepted": 0, "duplicates": 1}
        sealed = plain | {"user_id": seal(stage.settings.server_key.encode(), "user", name)}
        assert (await given(stage, **sealed)).body == {"accepted": 0, "duplicates": 1}
        for _ in range(2):
            data = {"user_id": name, "kind": "visit"}
            assert (await stage.event("feedback", FEEDBACK_GIVEN, data, id="ce-1")).status == 204
        rows = kept(stage, name)
        assert [(row["kind"], row["value"], row["source"], row["actor"]) for row in rows] == [
            ("purchase", 12.5, "client/anonymous", "anonymous"),
            ("visit", 1.0, "client/anonymous", "anonymous"),
            ("visit", 1.0, "tests", "tests"),
        ]
        assert name not in str(rows)
        assert stage.sql("select 1 from pending where received_at >= %s", rows[0]["received_at"]) == []

    run(servers, play)


def test_a_batch_may_hold_both(servers: LocalServers) -> None:
    """Events of decisions and of users are taken together or not at all; each is counted."""

    async def play(stage: Stage) -> None:
        name, policy = f"user-{next(_numbers)}", await stage.policy()
        decision = (await stage.recommend(policy))["decision_id"]
        events: list[dict[str, Any]] = [
            {"decision_id": decision, "kind": "click", "event_id": "1"},
            {"user_id": name, "kind": "visit", "event_id": "1"},
            {"user_id": name, "kind": "visit", "event_id": "2"},
        ]
        body = {"events": events}
        answer = await stage.call("feedback", "POST", "/v1/feedback", body)
        assert answer.body == {"accepted": 3, "duplicates": 0}
        assert (await stage.call("feedback", "POST", "/v1/feedback", body)).body == {"accepted": 0, "duplicates": 3}
        assert len(kept(stage, name)) == 2
        assert len(stage.sql("select 1 from feedback where decision_id = %s", decision)) == 1
        events += [{"user_id": name, "kind": "visit", "event_id": "3"}, {"user_id": name, "kind": "k", "value": 1e13}]
        check_problem(
            await stage.call("feedback", "POST", "/v1/feedback", body), 400, "invalid-input", "events[4].value"
        )
        assert len(kept(stage, name)) == 2
        await stage.learn(policy)
        assert sum(one["weight"] for one in (await stage.snapshot(policy))["actions"].values()) == pytest.approx(1.0)

    run(servers, play)


def test_a_batch_of_both_may_need_a_partition(own_servers: LocalServers) -> None:
    """A decision of a week that has no partition yet does not keep the user's events beside it from being taken."""

    async def play(stage: Stage) -> None:
        policy = await stage.policy()
        at = round((time.time() - 100 * DAY_S) * 1e6)
        decision = decision_id(policy_key(policy), at, 7, several=False)
        body = {"events": [{"user_id": "u", "kind": "visit"}, {"decision_id": decision, "kind": "click"}]}
        answer = await stage.call("feedback", "POST", "/v1/feedback", body)
        assert (answer.status, answer.body) == (200, {"accepted": 2, "duplicates": 0})

    run(own_servers, play)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "decision_id"),
        ({"decision_id": None, "user_id": None}, "decision_id"),
        ({"decision_id": "00000000-0000-8000-8000-000000000000", "user_id": "ada"}, "user_id"),
        ({"user_id": "ada", "action": "a"}, "action"),
        ({"user_id": ""}, "user_id"),
        ({"user_id": "a\0"}, "user_id"),
        ({"user_id": 7}, "user_id"),
        ({"user_id": "ada", "occurred_at": "2001-01-01T00:00:00Z"}, "occurred_at"),
        ({"user_id": "ada", "occurred_at": "2999-01-01T00:00:00Z"}, "occurred_at"),
        ({"user_id": "ada", "value": 1e13}, "value"),
        ({"user_id": "ada", "kind": ""}, "kind"),
    ],
)
def test_what_speaks_of_nobody_or_of_two_is_refused(servers: LocalServers, body: dict[str, Any], field: str) -> None:
    """Exactly one of decision and user is spoken of; the field at fault is named, by HTTP, in a batch and by event."""

    async def play(stage: Stage) -> None:
        check_problem(await given(stage, **body), 400, "invalid-input", field)
        whole = {"kind": "purchase"} | body
        batch = {"events": [{"user_id": "ada", "kind": "visit"}, whole]}
        answer = await stage.call("feedback", "POST", "/v1/feedback", batch)
        check_problem(answer, 400, "invalid-input", f"events[1].{field}")
        check_problem(await stage.event("feedback", FEEDBACK_GIVEN, whole), 400, "invalid-input", field)

    run(servers, play)
