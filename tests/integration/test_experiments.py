"""Experiments and flags as operators write them: versions, faults, phases, and what of it reaches Redis."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest

from functions.local.servers import LocalServers
from shared.experiments.assigning import PublishedCatalogue
from shared.identity import pseudonym
from tests.integration.test_http_interface import check_problem
from tests.stage import Answer, Stage, run

_numbers = itertools.count(1)
TWO: list[dict[str, Any]] = [{"key": "control"}, {"key": "new", "value": {"colour": "red"}}]


async def put(stage: Stage, key: str | None = None, **body: Any) -> Answer:
    """Write an experiment of two variations, or what `body` says."""
    key = key or f"experiment-{next(_numbers)}"
    return await stage.call("control", "PUT", f"/v1/experiments/{key}", {"variations": TWO} | body)


async def written(stage: Stage, key: str | None = None, **body: Any) -> Any:
    """Write an experiment that must be taken; return what is answered."""
    answer = await put(stage, key, **body)
    assert answer.status in {200, 201}, answer
    return answer.body


async def put_flag(stage: Stage, key: str | None = None, **body: Any) -> Answer:
    """Write a flag."""
    return await stage.call("control", "PUT", f"/v1/flags/{key or f'flag-{next(_numbers)}'}", body)


async def published(stage: Stage) -> PublishedCatalogue:
    """Return the catalogue that stands in Redis."""
    catalogue = msgspec.msgpack.decode(await stage.redis.get("knudge:catalogue"), type=PublishedCatalogue)
    assert int(await stage.redis.get("knudge:catalogue:version")) == catalogue.version
    return catalogue


def faults(answer: Answer, status: int = 400, slug: str = "invalid-input") -> dict[str, str]:
    """Return every fault that a problem names, by field, after checking that it is one."""
    assert answer.status == status, answer
    assert answer.body["type"] == f"urn:knudge:problem:{slug}"
    named = {fault["field"]: fault["detail"] for fault in answer.body["errors"]}
    assert answer.body["field"] == answer.body["errors"][0]["field"]
    for field, detail in named.items():
        assert f"{field}: {detail}" in answer.body["detail"]
    return named


def test_an_experiment_is_written_and_read_with_every_field(servers: LocalServers) -> None:
    """PUT answers 201 with what was written, GET reads the same; forced users are told by nothing but their pseudonyms."""

    async def play(stage: Stage) -> None:
        holdout = (await written(stage, kind="holdout", weights=[0.5, 0.5], coverage=0.1))["key"]
        parent = (await written(stage))["key"]
        body = {
            "variations": TWO,
            "status": "draft",
            "weights": [0.25, 0.75],
            "coverage": 0.5,
            "hash_attribute": "user_id",
            "fallback_attribute": "device",
            "seed": "seed-of-mine",
            "layer": {"name": "checkout", "low": 0.0, "high": 0.5},
            "holdout": holdout,
            "condition": {"country": {"$in": ["DE", "AT"]}},
            "prerequisites": [{"key": parent, "condition": {"value": {"colour": "red"}}}],
            "forced": {"ada": "new"},
            "sticky": True,
            "bucket_version": 2,
            "minimum_bucket_version": 1,
            "default": "control",
            "analysis": {"metrics": [{"name": "clicks", "event": "click"}], "guardrails": []},
        }
        headers = {"x-client-id": "olga"}
        made = await stage.call("control", "PUT", "/v1/experiments/full", body, headers)
        assert made.status == 201, made
        assert (made.body["key"], made.body["version"], made.body["phase"]) == ("full", 1, 1)
        assert (made.body["active"], made.body["actor"]) == (True, "olga")
        for field, value in body.items():
            if field not in {"forced", "analysis"}:
                assert made.body[field] == value, field
        assert made.body["analysis"]["metrics"][0]["name"] == "clicks"
        [(name, variation)] = made.body["forced"].items()
        held = pseudonym(stage.settings.server_key.encode(), "user", "ada")
        assert (held in name, variation) == (True, "new")
        read = await stage.call("control", "GET", "/v1/experiments/full")
        assert read.body == made.body
        stored = stage.sql("select spec::text as spec from experiment_versions where key = 'full'")[0]["spec"]
        assert '"ada"' not in stored
        again = await stage.call("control", "PUT", "/v1/experiments/full", body | {"forced": read.body["forced"]})
        assert (again.status, again.body["version"], again.body["forced"]) == (200, 2, made.body["forced"])
        assert again.body["actor"] == "anonymous"
        first = await stage.call("control", "GET", "/v1/experiments/full", query={"version": 1})
        assert first.body == made.body | {"active": False}
        listed = await stage.call("control", "GET", "/v1/experiments/full/versions")
        assert [(line["version"], line["active"], line["actor"]) for line in listed.body["versions"]] == [
            (2, True, "anonymous"), (1, False, "olga"),
        ]  # fmt: skip
        everything = await stage.call("control", "GET", "/v1/experiments")
        [line] = [line for line in everything.body["experiments"] if line["key"] == "full"]
        assert line == {
            "key": "full", "version": 2, "phase": 1, "status": "draft", "kind": "experiment", "policy": None,
            "variations": ["control", "new"],
        }  # fmt: skip

    run(servers, play)


def test_what_does_not_exist_is_404(servers: LocalServers) -> None:
    """Unknown experiments, versions and flags are named."""

    async def play(stage: Stage) -> None:
        key = (await written(stage))["key"]
        for path in ("/v1/experiments/nobody", "/v1/experiments/nobody/versions"):
            check_problem(await stage.call("control", "GET", path), 404, "unknown-experiment", "key")
        wrong = await stage.call("control", "GET", f"/v1/experiments/{key}", query={"version": 7})
        check_problem(wrong, 404, "unknown-experiment", "version")
        wrong = await stage.call("control", "GET", f"/v1/experiments/{key}", query={"version": "x"})
        check_problem(wrong, 400, "invalid-input", "version")
        check_problem(
            await stage.call("control", "POST", "/v1/experiments/nobody/stop"), 404, "unknown-experiment", "key"
        )
        check_problem(await stage.call("control", "GET", "/v1/flags/nobody"), 404, "unknown-flag", "key")

    run(servers, play)


def test_every_fault_is_named(servers: LocalServers) -> None:
    """What is wrong by itself and what is wrong beside the others is named together, and nothing is written."""

    async def play(stage: Stage) -> None:
        other = await written(stage, seed="taken")
        policy = await stage.policy()
        bare = await stage.policy(actions=[])
        apprentice = await stage.policy(mode="apprentice")
        answer = await put(
            stage,
            "wrong",
            variations=[
                {"key": "a", "value": {"policy": "no-such-policy"}},
                {"key": "b", "value": {"policy": bare}},
                {"key": "c", "value": {"policy": apprentice}},
                {"key": "d", "value": {"policy": policy, "big": 1 << 70}},
            ],
            weights=[0.5, 0.2, 0.1],
            coverage=1.5,
            seed="taken",
            phase=3,
            sticky=True,
            default="a",
            holdout=other["key"],
            condition={"user_id": {"$in": ["ada"]}, "country": {"$almost": "DE"}},
            prerequisites=[{"key": "no-such-flag", "condition": {"value": True}}],
            policy=policy,
        )
        named = faults(answer)
        assert {
            "weights", "coverage", "seed", "phase", "sticky", "default", "holdout", "condition.user_id",
            "condition.country.$almost", "prerequisites[0].key", "variations[0].value.policy",
            "variations[1].value.policy", "variations[2].value.policy", "variations[3].value.big",
        } <= set(named)  # fmt: skip
        assert other["key"] in named["seed"]
        assert (await stage.call("control", "GET", "/v1/experiments/wrong")).status == 404
        unknown = await put(
            stage, "wrong", policy="no-such-policy", variations=[TWO[0], {"key": "b", "value": {"policy": 7}}]
        )
        assert {"policy", "variations[1].value.policy"} == set(faults(unknown))

    run(servers, play)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"variations": "two"}, "variations"),
        ({"coverage": "all"}, "coverage"),
        ({"hash_version": 3}, "hash_version"),
        ({"layer": {"low": 0.1}}, "layer.name"),
        ({"analysis": {"inference": "guess"}}, "analysis.inference"),
        ({"wieghts": [0.5, 0.5]}, "wieghts"),
        ({"status": "paused"}, "status"),
    ],
)
def test_what_is_no_experiment_at_all_names_its_field(servers: LocalServers, body: dict[str, Any], field: str) -> None:
    """What cannot be decoded is refused by its field."""

    async def play(stage: Stage) -> None:
        check_problem(await put(stage, **body), 400, "invalid-input", field)

    run(servers, play)


def test_prerequisites_never_lead_back(servers: LocalServers) -> None:
    """A circle is refused wherever it is closed, over flags too; keys are of one namespace."""

    async def play(stage: Stage) -> None:
        one = (await written(stage))["key"]
        gate = [{"key": one, "condition": {"value": True}}]
        flag = await put_flag(stage, "gate-flag", default_value=False, rules=[{"value": True, "prerequisites": gate}])
        assert flag.status == 201, flag
        circle = await put(stage, one, prerequisites=[{"key": "gate-flag", "condition": {"value": True}}])
        assert "gate-flag" in faults(circle)["prerequisites[0].key"]
        assert "key" in faults(await put(stage, "gate-flag"))
        assert "key" in faults(await put_flag(stage, one, default_value=1))

    run(servers, play)


def test_a_policy_is_split_by_one_experiment_at_a_time(servers: LocalServers) -> None:
    """Two drafts may name a policy; the second that would run is refused, also while the first one's variation is released."""

    async def play(stage: Stage) -> None:
        policy, other = await stage.policy(), await stage.policy()
        body: dict[str, Any] = {
            "policy": policy,
            "variations": [{"key": "a", "value": {"policy": policy}}, {"key": "b", "value": {"policy": other}}],
        }
        first = (await written(stage, **body))["key"]
        draft = (await written(stage, **body, status="draft"))["key"]
        assert first in faults(await put(stage, draft, **body))["policy"]
        stopped = await stage.call("control", "POST", f"/v1/experiments/{first}/stop", {"released": "b"})
        assert (stopped.status, stopped.body["status"], stopped.body["released"]) == (200, "stopped", "b")
        assert "released" in faults(await put(stage, draft, **body))["policy"]
        withdrawn = await stage.call("control", "POST", f"/v1/experiments/{first}/stop")
        assert (withdrawn.body["released"], withdrawn.body["version"]) == (None, 3)
        assert (await put(stage, draft, **body)).status == 200
        late = await stage.call("control", "POST", f"/v1/experiments/{first}/stop", {"released": "a"})
        assert draft in faults(late)["policy"]

    run(servers, play)


def test_a_running_phase_moves_nobody(servers: LocalServers) -> None:
    """What would move users is a 409 that names the fields, whatever else is in order; a new phase may change it all."""

    async def play(stage: Stage) -> None:
        key = (await written(stage, coverage=0.4))["key"]
        harmless: list[dict[str, Any]] = [
            {"coverage": 0.8},
            {"coverage": 0.8, "analysis": {"metrics": [{"name": "m", "event": "click"}]}},
            {"coverage": 1.0, "forced": {"ada": "new"}},
        ]
        for change in harmless:
            assert (await put(stage, key, **change)).status == 200
        moving: list[tuple[dict[str, Any], set[str]]] = [
            ({"coverage": 0.9}, {"coverage"}),
            ({"weights": [0.2, 0.8]}, {"weights"}),
            ({"seed": "another", "hash_attribute": "device"}, {"seed", "hash_attribute"}),
            ({"variations": TWO[::-1]}, {"variations[0].key", "variations[1].key"}),
            ({"variations": [TWO[0], {"key": "new", "value": 1}]}, {"variations[1].value"}),
            ({"variations": [*TWO, {"key": "third"}]}, {"variations"}),
            (
                {"hash_version": 1, "layer": {"name": "l"}, "condition": {"a": 1}},
                {"hash_version", "layer", "condition"},
            ),
            ({"status": "draft"}, {"status"}),
            ({"phase": 3}, {"phase"}),
        ]
        for change, fields in moving:
            answer = await put(stage, key, **{"coverage": 1.0, **change})
            assert set(faults(answer, 409, "conflict")) == fields, change
        assert (await stage.call("control", "GET", f"/v1/experiments/{key}")).body["version"] == 4
        assert "seed" not in faults(await put(stage, key, weights=[1.0]))  # a fault comes before a conflict
        new = await written(stage, key, phase=2, weights=[0.2, 0.8], coverage=0.5, hash_attribute="device")
        assert (new["version"], new["phase"]) == (5, 2)
        assert set(faults(await put(stage, key, phase=1), 409, "conflict")) == {"phase"}

    run(servers, play)


def test_what_was_stopped_runs_again_in_a_new_phase_only(servers: LocalServers) -> None:
    """Draft -> running -> stopped; a phase that is over does not come back; an explicit seed does not split anew."""

    async def play(stage: Stage) -> None:
        draft = await written(stage, status="draft", weights=[0.9, 0.1], seed="mine-alone")
        key = draft["key"]
        assert (await put(stage, key, seed="mine-alone", weights=[0.1, 0.9], status="draft")).status == 200
        assert (await put(stage, key, seed="mine-alone")).status == 200
        stopped = await stage.call("control", "POST", f"/v1/experiments/{key}/stop")
        assert (stopped.status, stopped.body["status"], stopped.body["version"]) == (200, "stopped", 4)
        again = await stage.call("control", "POST", f"/v1/experiments/{key}/stop")
        assert again.body == stopped.body
        wrong = await stage.call("control", "POST", f"/v1/experiments/{key}/stop", {"released": "nothing"})
        assert set(faults(wrong)) == {"released"}
        assert set(faults(await put(stage, key, seed="mine-alone"), 409, "conflict")) == {"status"}
        assert set(faults(await put(stage, key, seed="mine-alone", phase=2))) == {"seed"}
        assert (await written(stage, key, phase=2))["status"] == "running"

    run(servers, play)


def test_flags_are_written_and_read(servers: LocalServers) -> None:
    """A flag's rules are checked like an experiment; its version rises, and it is published."""

    async def play(stage: Stage) -> None:
        experiment = (await written(stage))["key"]
        rules = [
            {"value": "x", "condition": {"country": "DE"}, "coverage": 0.5},
            {"experiment": experiment, "pass_through": ["control"]},
        ]
        made = await put_flag(stage, "banner", default_value={"text": "hello"}, rules=rules)
        assert (made.status, made.body["version"]) == (201, 1)
        assert (await put_flag(stage, "banner", default_value={"text": "hello"}, rules=rules)).body["version"] == 2
        read = await stage.call("control", "GET", "/v1/flags/banner")
        assert (read.body["default_value"], len(read.body["rules"])) == ({"text": "hello"}, 2)
        listed = await stage.call("control", "GET", "/v1/flags")
        assert [line["version"] for line in listed.body["flags"] if line["key"] == "banner"] == [2]
        assert [flag.version for flag in (await published(stage)).flags if flag.key == "banner"] == [2]
        wrong = await put_flag(
            stage,
            rules=[
                {"value": 1 << 64, "condition": {"session_id": "s"}, "seed": experiment},
                {"experiment": "nothing", "prerequisites": [{"key": "nobody", "condition": {"value": 1}}]},
                {"experiment": experiment, "pass_through": ["third"]},
            ],
        )
        assert {
            "rules[0].value", "rules[0].condition.session_id", "rules[0].seed", "rules[1].experiment",
            "rules[1].prerequisites[0].key", "rules[2].pass_through[0]",
        } <= set(faults(wrong))  # fmt: skip

    run(servers, play)


def test_what_is_written_is_published_and_comes_back(own_servers: LocalServers) -> None:
    """Every change raises the version in Redis; wiped, Redis gets the same bytes again from one sweep, and only then is it whole."""

    async def play(stage: Stage) -> None:
        key = (await written(stage, condition={"b": {"$in": [1e300, 1.5, 2]}, "a": True}, coverage=0.1))["key"]
        before = (await published(stage)).version
        await written(stage, key, condition={"b": {"$in": [1e300, 1.5, 2]}, "a": True}, coverage=0.2)
        held = await published(stage)
        assert held.version == before + 1
        [spec] = [spec for spec in held.experiments if spec.key == key]
        assert (spec.version, spec.coverage, spec.condition) == (2, 0.2, {"b": {"$in": [1e300, 1.5, 2]}, "a": True})
        content = await stage.redis.get("knudge:catalogue")
        await stage.redis.flushall()
        await stage.learn()
        assert await stage.redis.get("knudge:catalogue") == content
        assert await stage.redis.exists("knudge:bootstrapped")
        await stage.redis.set("knudge:catalogue:version", 0)
        await stage.redis.set("knudge:catalogue", b"older")
        await stage.learn()
        assert await stage.redis.get("knudge:catalogue") == content
        await stage.redis.flushall()
        await stage.policy()  # a policy that is written finds an empty Redis, and fills it with everything
        assert await stage.redis.get("knudge:catalogue") == content

    run(own_servers, play)


def test_a_refused_write_publishes_nothing(servers: LocalServers) -> None:
    """Neither the version nor the content changes where something was wrong."""

    async def play(stage: Stage) -> None:
        key = (await written(stage))["key"]
        before = await published(stage)
        assert (await put(stage, key, weights=[0.1, 0.1])).status == 400
        assert (await put(stage, key, seed="other")).status == 409
        [row] = stage.sql("select version from catalogue")
        assert (row["version"], await published(stage)) == (before.version, before)

    run(servers, play)
