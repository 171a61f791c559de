"""`assignment` on real servers: who sees what, what counts as an exposure, and what is refused."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from functions.assignment.func import door
from functions.local.servers import LocalServers
from shared.errors import Unavailable
from shared.events.types import LEARNING_DUE
from shared.experiments.assigning import Catalogue
from shared.experiments.experiment import ExperimentSpec, Layer, Variation
from shared.identity import seal, unit_pseudonym
from tests.integration.test_cloudevents import sending
from tests.stage import Answer, Stage, run

_numbers = itertools.count(1)
TWO = (Variation("control", False), Variation("new", {"colour": "red", "size": [1, 2]}))


def experiment(**fields: Any) -> ExperimentSpec:
    """Return an experiment of a name of its own, with two variations unless said otherwise."""
    given: dict[str, Any] = {"key": f"assigned-{next(_numbers)}", "version": 1, "variations": TWO}
    return ExperimentSpec(**(given | fields))


def of(stage: Stage, user: str, attribute: str = "user_id") -> str:
    """Return a unit's pseudonym."""
    return unit_pseudonym(stage.settings.server_key.encode(), attribute, user)


async def post(stage: Stage, path: str, body: Any, **headers: str) -> Answer:
    """Call `assignment`."""
    return await stage.call("assignment", "POST", path, body, headers)


def test_a_user_gets_what_the_engine_says(servers: LocalServers) -> None:
    """Answers are those of the pure catalogue, in the order asked for; all of them leaves out drafts and holdouts."""
    split, covered = experiment(), experiment(coverage=0.3, weights=(0.2, 0.8))
    draft, holdout = experiment(status="draft"), experiment(kind="holdout")

    async def play(stage: Stage) -> None:
        await stage.publish(split, covered, draft, holdout)
        catalogue = Catalogue(1, [split, covered])
        variations: Counter[str] = Counter()
        for number in range(300):
            user = f"user-{number}"
            told = await stage.assign(user)
            assert list(told) == sorted([split.key, covered.key])
            for key in told:
                meant = catalogue.assign(key, {"user_id": user}, lambda _, value: value)
                assert told[key] == {
                    "experiment": key, "variation": meant.variation, "value": meant.value,
                    "in_experiment": meant.in_experiment, "reason": meant.reason,
                }  # fmt: skip
            variations[told[split.key]["variation"]] += 1
        assert min(variations.values()) > 100
        told = await stage.assign("ada", "nobody", draft.key, split.key)
        assert [each["reason"] for each in told.values()] == ["unknown", "draft", "assigned"]
        assert told["nobody"] | {"experiment": ""} == {
            "experiment": "", "variation": None, "value": None, "in_experiment": False, "reason": "unknown",
        }  # fmt: skip

    run(servers, play)


def test_an_exposure_is_journalled_once_with_what_mattered(servers: LocalServers) -> None:
    """Naming experiments exposes once per process and unit; asking for all exposes nobody; attributes that matter are kept."""
    split = experiment(condition={"country": {"$in": ["DE", "AT"]}, "plan.name": {"$ne": "old"}})
    out = experiment(coverage=0.0)

    async def play(stage: Stage) -> None:
        await stage.publish(split, out)
        attributes = {"country": "DE", "plan": {"name": "pro", "seats": 3}, "secret": "x", "age": 30}
        before = datetime.now(UTC).timestamp()
        await stage.assign("ada", attributes=attributes)
        await stage.assign("ada", split.key, attributes=attributes, expose=False)
        assert await stage.exposures(split.key) == []
        told = await stage.assign("ada", split.key, out.key, attributes=attributes)
        for _ in range(3):
            assert await stage.assign("ada", split.key, out.key, attributes=attributes) == told
        [exposure] = await stage.exposures(split.key)
        assert exposure.variation == told[split.key]["variation"]
        assert (exposure.unit, exposure.user, exposure.phase) == (of(stage, "ada"), of(stage, "ada"), 1)
        assert exposure.attributes == {"country": "DE", "plan": '{"name":"pro","seats":3}'}
        assert before <= exposure.exposed_at <= datetime.now(UTC).timestamp()
        assert (exposure.decision_id, exposure.revision, exposure.actor) == (None, "local", "anonymous")
        assert await stage.exposures(out.key) == []
        await stage.assign("bob", attributes=attributes, expose=True)
        assert len(await stage.exposures(split.key)) == 2

    run(servers, play)


def test_exposures_come_by_themselves(servers: LocalServers) -> None:
    """One or many; without a variation the user is assigned; who is not in it, and what does not run, is outside."""
    split = experiment(hash_attribute="device")
    none, stopped = experiment(coverage=0.0), experiment(status="stopped")

    async def play(stage: Stage) -> None:
        tester = experiment(forced={of(stage, "t"): "new"})
        await stage.publish(split, none, stopped, tester)
        at = datetime.now(UTC) - timedelta(hours=2)
        one = {
            "experiment": split.key,
            "attributes": {"device": "d1"},
            "variation": "new",
            "occurred_at": at.isoformat(),
        }
        answer = await post(stage, "/v1/exposures", one, **{"X-Client-Id": "shop"})
        assert answer.body == {"accepted": 1, "duplicates": 0, "outside": 0, "degraded": False}
        assert (await post(stage, "/v1/exposures", one)).body["duplicates"] == 1
        [exposure] = await stage.exposures(split.key)
        assert (exposure.variation, exposure.unit, exposure.user) == ("new", of(stage, "d1", "device"), None)
        assert exposure.exposed_at == pytest.approx(at.timestamp())
        assert exposure.actor == "shop"
        batch = [
            {"experiment": split.key, "user_id": "ada", "attributes": {"device": "d2"}},
            {"experiment": none.key, "user_id": "ada"},
            {"experiment": stopped.key, "user_id": "ada", "variation": "new"},
            {"experiment": tester.key, "user_id": "t", "variation": "control"},
            {"experiment": none.key, "user_id": "ada", "variation": "new"},
        ]
        answer = await post(stage, "/v1/exposures", {"exposures": batch})
        assert answer.body == {"accepted": 2, "duplicates": 0, "outside": 3, "degraded": False}
        told = await stage.assign("ada", split.key, attributes={"device": "d2"}, expose=False)
        exposure = (await stage.exposures(split.key))[-1]
        assert (exposure.variation, exposure.user) == (told[split.key]["variation"], of(stage, "ada"))

    run(servers, play)


def test_holdouts_are_exposed_with_their_experiments(servers: LocalServers) -> None:
    """Whoever is asked for in earnest counts in the holdout: those who are kept out, and those who may take part."""
    holdout = experiment(kind="holdout", weights=(0.5, 0.5), variations=(Variation("out"), Variation("in")))
    held = experiment(holdout=holdout.key)

    async def play(stage: Stage) -> None:
        await stage.publish(holdout, held)
        reasons: Counter[str] = Counter()
        for number in range(40):
            told = await stage.assign(f"user-{number}", held.key)
            reasons[told[held.key]["reason"]] += 1
        exposures = await stage.exposures(holdout.key)
        assert Counter(each.variation for each in exposures) == {"out": reasons["holdout"], "in": reasons["assigned"]}
        assert min(reasons.values()) >= 8
        assert len(await stage.exposures(held.key)) == reasons["assigned"]
        await stage.assign("late", held.key, expose=False)
        assert len(await stage.exposures(holdout.key)) == 40
        answer = await post(stage, "/v1/exposures", {"experiment": held.key, "user_id": "late"})
        assert sum(answer.body[name] for name in ("accepted", "outside")) == 1
        assert len(await stage.exposures(holdout.key)) == 41

    run(servers, play)


def test_layers_exclude_each_other(servers: LocalServers) -> None:
    """No user is in two experiments of one layer whose parts do not overlap."""
    first = experiment(layer=Layer("page", 0.0, 0.5))
    second = experiment(layer=Layer("page", 0.5, 1.0))

    async def play(stage: Stage) -> None:
        await stage.publish(first, second)
        for number in range(60):
            told = await stage.assign(f"user-{number}")
            assert sorted(each["reason"] for each in told.values()) == ["assigned", "layer"]

    run(servers, play)


BAD: list[tuple[str, Any, int, str]] = [
    ("/v1/assignments", b"{", 400, "body"),
    ("/v1/assignments", [], 400, "body"),
    ("/v1/assignments", {}, 400, "user_id"),
    ("/v1/assignments", {"user_id": None}, 400, "user_id"),
    ("/v1/assignments", {"user_id": ""}, 400, "user_id"),
    ("/v1/assignments", {"user_id": 7}, 400, "user_id"),
    ("/v1/assignments", {"user_id": "u" * 257}, 413, "user_id"),
    ("/v1/assignments", {"user_id": "u\0"}, 400, "user_id"),
    ("/v1/assignments", {"user_id": "u", "attributes": []}, 400, "attributes"),
    ("/v1/assignments", {"user_id": "u", "attributes": {"user_id": "v"}}, 400, "attributes.user_id"),
    ("/v1/assignments", {"user_id": "u", "attributes": {"a": "\ud800"}}, 400, "body"),
    ("/v1/assignments", {"user_id": "u", "attributes": {"a": "\0"}}, 400, "attributes.a"),
    ("/v1/assignments", {"user_id": "u", "attributes": {"a": {"b": ["c\0"]}}}, 400, "attributes.a.b[0]"),
    ("/v1/assignments", b'{"user_id": "u", "attributes": {"a": NaN}}', 400, "body"),
    ("/v1/assignments", b'{"user_id": "u", "attributes": {"a": 1e400}}', 400, "attributes[...]"),
    ("/v1/assignments", {"user_id": "u", "attributes": {"a": [2**63]}}, 400, "attributes.a[0]"),
    ("/v1/assignments", {"user_id": "u", "attributes": {"a": "x" * 257}}, 413, "attributes.a"),
    ("/v1/assignments", {"user_id": "u", "attributes": {"a": {"b": ["x" * 257]}}}, 413, "attributes.a.b[0]"),
    ("/v1/assignments", {"user_id": "u", "attributes": {str(n): n for n in range(257)}}, 413, "attributes"),
    ("/v1/assignments", {"user_id": "u", "attributes": {"a": list(range(257))}}, 413, "attributes.a"),
    ("/v1/assignments", {"user_id": "u", "attributes": {"": 1}}, 400, "attributes"),
    ("/v1/assignments", b'{"user_id": "u", "attributes": {"a": ' + b"[" * 9 + b"]" * 9 + b"}}", 413, "attributes.a" + "[0]" * 7),
    ("/v1/assignments", b'{"user_id": "u", "attributes": {"a": ' + b"[" * 9_000 + b"]" * 9_000 + b"}}", 400, "body"),
    ("/v1/assignments", {"user_id": "u", "experiments": []}, 400, "experiments"),
    ("/v1/assignments", {"user_id": "u", "experiments": "e"}, 400, "experiments"),
    ("/v1/assignments", {"user_id": "u", "experiments": [""]}, 400, "experiments[0]"),
    ("/v1/assignments", {"user_id": "u", "experiments": ["a", "b", "a"]}, 400, "experiments[2]"),
    ("/v1/assignments", {"user_id": "u", "experiments": [str(n) for n in range(1001)]}, 413, "experiments"),
    ("/v1/assignments", {"user_id": "u", "expose": "yes"}, 400, "expose"),
    ("/v1/assignments", {"user_id": "u", "experiment": "misspelt"}, 400, "experiment"),
    ("/v1/exposures", b"nonsense", 400, "body"),
    ("/v1/exposures", {}, 400, "experiment"),
    ("/v1/exposures", {"experiment": "nobody", "user_id": "u"}, 400, "experiment"),
    ("/v1/exposures", {"experiment": "bad-draft", "user_id": "u"}, 400, "experiment"),
    ("/v1/exposures", {"experiment": "bad-split"}, 400, "user_id"),
    ("/v1/exposures", {"experiment": "bad-split", "user_id": ""}, 400, "user_id"),
    ("/v1/exposures", {"experiment": "bad-device", "user_id": "u"}, 400, "attributes.device"),
    ("/v1/exposures", {"experiment": "bad-device", "attributes": {"device": ["d"]}}, 400, "attributes.device"),
    ("/v1/exposures", {"experiment": "bad-split", "user_id": "u", "variation": "nothing"}, 400, "variation"),
    ("/v1/exposures", {"experiment": "bad-split", "user_id": "u", "variation": 1}, 400, "variation"),
    ("/v1/exposures", {"experiment": "bad-split", "user_id": "u", "occurred_at": "yesterday"}, 400, "occurred_at"),
    ("/v1/exposures", {"experiment": "bad-split", "user_id": "u", "occurred_at": "2999-01-01T00:00:00Z"}, 400, "occurred_at"),
    ("/v1/exposures", {"experiment": "bad-split", "user_id": "u", "occurred_at": "1969-01-01T00:00:00Z"}, 400, "occurred_at"),
    ("/v1/exposures", {"experiment": "bad-split", "user_id": "u", "occurred_at": "2026-01-01T00:00:00"}, 400, "occurred_at"),
    ("/v1/exposures", {"experiment": "bad-split", "user_id": "u", "shown": True}, 400, "shown"),
    ("/v1/exposures", {"exposures": []}, 400, "exposures"),
    ("/v1/exposures", {"exposures": [{"experiment": "bad-split", "user_id": "u"}, {"experiment": "nobody"}]}, 400, "exposures[1].experiment"),
    ("/v1/exposures", {"exposures": [{"experiment": "bad-split", "user_id": "u"}] * 1001}, 413, "exposures"),
]  # fmt: skip


def test_bad_input_is_refused_by_name(servers: LocalServers) -> None:
    """Every fault has a status and names its field, and nothing of a batch with one is taken."""
    known = [
        experiment(key="bad-split"),
        experiment(key="bad-device", hash_attribute="device"),
        experiment(key="bad-draft", status="draft"),
    ]

    async def play(stage: Stage) -> None:
        await stage.publish(*known)
        for path, body, status, field in BAD:
            answer = await post(stage, path, body)
            assert (answer.status, answer.body.get("field")) == (status, field), (path, body, answer)
            assert answer.body["type"].startswith("urn:knudge:problem:")
            assert answer.body["detail"]
        assert await stage.exposures("bad-split") == []
        sealed = seal(stage.settings.server_key.encode(), "user", "ada")
        answer = await post(stage, "/v1/assignments", {"user_id": sealed})
        assert (answer.status, answer.body["field"]) == (400, "user_id")
        given = {"experiment": "bad-split", "user_id": sealed}
        answer = await post(stage, "/v1/exposures", given)
        assert (answer.status, answer.body["field"]) == (400, "variation")
        answer = await post(stage, "/v1/exposures", given | {"variation": "new"})
        assert answer.body["accepted"] == 1
        [exposure] = await stage.exposures("bad-split")
        assert exposure.unit == of(stage, "ada")

    run(servers, play)


def test_events_are_assigned_and_recorded(servers: LocalServers) -> None:
    """`assignment.requested` is answered with `assignment.made`; `exposure.recorded` comes singly or in a batch, once."""
    split = experiment()

    async def play(stage: Stage) -> None:
        await stage.publish(split)
        asked = {"user_id": "ada", "experiments": [split.key]}
        answer = await stage.event("assignment", "dev.knudge.assignment.requested.v1", asked, id="a-1", source="shop")
        assert (answer.status, answer.headers["ce-type"]) == (200, "dev.knudge.assignment.made.v1")
        assert answer.body["request"] == {"source": "shop", "id": "a-1"}
        [made] = answer.body["assignments"]
        [exposure] = await stage.exposures(split.key)
        assert (exposure.variation, exposure.actor) == (made["variation"], "shop")
        shown = {"experiment": split.key, "user_id": "bob", "variation": "new"}
        for _ in range(2):
            at = (datetime.now(UTC) - timedelta(minutes=5)).isoformat()
            answer = await stage.event("assignment", "dev.knudge.exposure.recorded.v1", shown, time=at)
            assert (answer.status, answer.body) == (204, None)
        [_, exposure] = await stage.exposures(split.key)
        assert 200 < datetime.now(UTC).timestamp() - exposure.exposed_at < 400
        answer = await stage.event("assignment", "dev.knudge.exposure.recorded.v1", shown | {"variation": "none"})
        assert (answer.status, answer.body["field"]) == (400, "variation")

    run(servers, play)


def test_an_experiment_that_is_written_is_assigned_and_its_exposures_are_archived(servers: LocalServers) -> None:
    """`control` writes, `assignment` assigns and wakes `learn`, which archives each exposure once, with its user and attributes."""

    async def main() -> None:
        async with sending(servers, wake_up_ms=20) as (stage, sink):
            written = {
                "variations": [{"key": "old"}, {"key": "new", "value": {"n": 1}}],
                "condition": {"country": "DE"},
                "forced": {"tester": "new"},
            }
            key = f"written-{next(_numbers)}"
            answer = await stage.call("control", "PUT", f"/v1/experiments/{key}", written)
            assert answer.status == 201, answer
            await stage.assigning(key)
            told = await stage.assign("ada", key, attributes={"country": "DE"})
            assert told[key]["reason"] == "assigned"
            for _ in range(2):
                forced = (await stage.assign("tester", key))[key]
                assert (forced["variation"], forced["reason"], forced["in_experiment"]) == ("new", "forced", False)
            [(_, body), *_] = await sink.wait_for(LEARNING_DUE)
            due = {"exposures": True}
            assert json.loads(body) == due
            for _ in range(2):
                answer = await stage.event("learn", LEARNING_DUE, due)
                assert answer.status == 204
                [row] = stage.sql("select * from exposures where experiment = %s", key)
                assert (row["variation"], row["user_pseudonym"]) == (told[key]["variation"], of(stage, "ada"))
                assert (row["unit"], row["attributes"], row["phase"]) == (of(stage, "ada"), {"country": "DE"}, 1)
                assert await stage.redis.xlen("knudge:exposures") == 0
            counted = door.metrics.assignments.values
            assert counted[key, told[key]["variation"], "assigned"] == 1
            assert counted[key, "new", "forced"] == 2
            assert door.metrics.exposures.values[key, told[key]["variation"]] == 1

    asyncio.run(main())


def test_without_redis_it_answers_from_what_it_holds(own_servers: LocalServers) -> None:
    """A process that has a catalogue goes on, degraded; the exposures of that time are in the journal once Redis is back."""
    split = experiment()

    async def play(stage: Stage) -> None:
        await stage.publish(split)
        told = {name: (await stage.assign(name, split.key, expose=False))[split.key] for name in "abcdefgh"}
        own_servers.redis.stop()
        own_servers.postgres.stop()
        for name, expected in told.items():
            answer = await post(stage, "/v1/assignments", {"user_id": name, "experiments": [split.key]})
            assert answer.status == 200
            assert answer.body == {"assignments": [expected], "degraded": True}
        answer = await stage.event(
            "assignment", "dev.knudge.exposure.recorded.v1", {"experiment": split.key, "user_id": "z"}
        )
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert (await post(stage, "/v1/assignments", {"user_id": "a"})).body["degraded"] is False
        own_servers.redis.start()
        exposures = await _until_journalled(stage, split.key, 9)
        assert sorted(each.unit for each in exposures) == sorted(of(stage, name) for name in "abcdefghz")
        assert (await stage.assign("a", split.key))[split.key] == told["a"]
        assert len(await stage.exposures(split.key)) == 9
        own_servers.postgres.start()

    run(own_servers, play)


async def _until_journalled(stage: Stage, key: str, count: int) -> Any:
    async with asyncio.timeout(20):
        while True:
            try:
                exposures = await stage.exposures(key)
            except Unavailable:
                exposures = []
            if len(exposures) >= count:
                return exposures
            await asyncio.sleep(0.05)


def test_without_a_catalogue_callers_take_their_defaults(own_servers: LocalServers) -> None:
    """An empty Redis is not bootstrapped, never unknown: 503 with Retry-After; a bootstrapped one without experiments has none."""

    async def play(stage: Stage) -> None:
        asked = {"user_id": "ada", "experiments": ["e"]}
        for path, body in (
            ("/v1/assignments", asked),
            ("/v1/exposures", {"experiment": "e", "user_id": "ada"}),
        ):
            answer = await post(stage, path, body)
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
            assert answer.body["type"] == "urn:knudge:problem:no-catalogue"
        await stage.learn()
        await stage.publish()
        told = await stage.assign("ada", "e")
        assert told["e"]["reason"] == "unknown"

    run(own_servers, play)
