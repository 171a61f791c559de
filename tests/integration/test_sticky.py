"""What sticks to a unit, on real servers: through changed weights, a wiped Redis, and a Redis that is away."""

from __future__ import annotations

from typing import Any

from functions.local.servers import LocalServers
from shared.experiments.experiment import ExperimentSpec, Variation
from shared.identity import unit_pseudonym
from tests.stage import Stage, run

USERS = [f"user-{number}" for number in range(40)]


def sticky(**fields: Any) -> ExperimentSpec:
    """Return a sticky experiment."""
    given: dict[str, Any] = {"key": "sticks", "version": 1, "sticky": True}
    given["variations"] = (Variation("old", "o"), Variation("new", "n"))
    return ExperimentSpec(**(given | fields))


async def told(stage: Stage, **body: Any) -> dict[str, tuple[str | None, str]]:
    """Return variation and reason of every user."""
    found = {}
    for user in USERS:
        assignment = (await stage.assign(user, "sticks", **body))["sticks"]
        found[user] = (assignment["variation"], assignment["reason"])
    return found


async def drain(stage: Stage) -> None:
    """Have `learn` take what is journalled, and restore what Redis lacks."""
    answer = await stage.event("learn", "dev.knudge.learning.due.v1", {"exposures": True})
    assert answer.status == 204, answer


def test_what_sticks_survives_new_weights_and_a_wiped_redis(own_servers: LocalServers) -> None:
    """Units keep their variation when the weights change, before and after PostgreSQL gave it back; new ones follow the weights."""

    async def play(stage: Stage) -> None:
        await drain(stage)  # nothing is stored yet, which Redis then says
        await stage.publish(sticky(weights=(0.5, 0.5)))
        first = await told(stage, expose=False)
        assert {reason for _, reason in first.values()} == {"assigned"}
        variations = {user: variation for user, (variation, _) in first.items()}
        assert set(variations.values()) == {"old", "new"}
        await stage.publish(sticky(weights=(1.0, 0.0)))
        kept = {user: (variation, "sticky") for user, variation in variations.items()}
        assert await told(stage) == kept
        assert {(each.variation, each.unit) for each in await stage.exposures("sticks")} == {
            (variation, unit_pseudonym(stage.settings.server_key.encode(), "user_id", user))
            for user, variation in variations.items()
        }
        await drain(stage)
        rows = stage.sql("select attribute, unit, assignments from sticky_assignments")
        assert len(rows) == len(USERS)
        assert {row["attribute"] for row in rows} == {"user_id"}
        assert {tuple(row["assignments"]) for row in rows} == {("sticks__0",)}
        assert await stage.redis.xlen("knudge:sticky-journal") == 0
        assert not [row for row in rows if row["unit"] in USERS]

        await stage.redis.flushall()
        answer = await stage.call(
            "assignment", "POST", "/v1/assignments", {"user_id": "user-0", "experiments": ["sticks"]}
        )
        assert (answer.status, answer.body["degraded"]) == (200, True)  # what sticks is not known just now
        assert await stage.redis.keys("knudge:sticky:*") == []  # and nothing is kept in its place
        await drain(stage)
        assert await told(stage) == kept
        assert (await stage.assign("somebody-new", "sticks"))["sticks"]["variation"] == "old"

        await stage.publish(sticky(weights=(1.0, 0.0), bucket_version=1))
        moved = await told(stage)
        assert set(moved.values()) == {("old", "assigned")}
        await stage.publish(sticky(weights=(1.0, 0.0), bucket_version=2, minimum_bucket_version=2))
        assert set((await told(stage)).values()) == {(None, "bucket_version")}

        await stage.publish(sticky(), sticky(key="plain", sticky=False))
        own_servers.redis.stop()
        for key, degraded in (("plain", False), ("sticks", True)):  # what does not stick asks nobody
            body = {"user_id": "ada", "experiments": [key], "expose": False}
            answer = await stage.call("assignment", "POST", "/v1/assignments", body)
            assert (answer.status, answer.body["degraded"]) == (200, degraded)
        own_servers.redis.start()

    run(own_servers, play)


def test_a_fallback_attribute_follows_the_user(servers: LocalServers) -> None:
    """A visitor keeps the variation of the device on logging in, and a device of another user's does not move that user."""

    async def play(stage: Stage) -> None:
        await drain(stage)
        spec = sticky(hash_attribute="account", fallback_attribute="device")
        await stage.publish(spec)
        for number in range(20):
            device = {"device": f"d{number}"}
            visiting = (await stage.assign("u", "sticks", attributes=device))["sticks"]
            assert visiting["reason"] == "assigned"
            both = device | {"account": f"a{number}"}
            logged_in = (await stage.assign("u", "sticks", attributes=both))["sticks"]
            assert (logged_in["variation"], logged_in["reason"]) == (visiting["variation"], "sticky")
        for number in range(20):
            elsewhere = {"account": f"a{number}"}
            again = (await stage.assign("u", "sticks", attributes=elsewhere))["sticks"]
            first = (await stage.assign("u", "sticks", attributes={"device": f"d{number}"}))["sticks"]
            assert (again["variation"], again["reason"]) == (first["variation"], "sticky")
        await drain(stage)
        [count] = stage.sql("select count(*) from sticky_assignments where attribute in ('account', 'device')")
        assert count["count"] == 40

    run(servers, play)
