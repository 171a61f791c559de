"""Experiments from what happened to what is said of them, on real servers: verdicts whose answer is known, events, bad input."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import msgspec
import numpy as np
import pytest

from functions.local.servers import LocalServers
from shared.experiments.experiment import ExperimentSpec
from shared.experiments.plan import AnalysisPlan, Guardrail, Metric
from shared.storage.redis_connection import CATALOGUE
from tests.experiment_world import DAY_S, HOUR_S, World, spec
from tests.integration.test_cloudevents import sending
from tests.integration.test_policy_experiments import splitting
from tests.stage import Stage, run

DUE = "dev.knudge.analysis.due.v1"
DECIDED = "dev.knudge.experiment.decided.v1"
PING = "dev.knative.sources.ping"
CLICKS = Metric("clicks", "click", window_s=HOUR_S)
ERRORS = Metric("errors", "error", window_s=HOUR_S, goal="decrease")
THEN = time.time() - 10 * DAY_S


Exposed = tuple[str, str, float, str | None, dict[str, Any]]


@pytest.fixture
def world(servers: LocalServers) -> Iterator[World]:
    """Write into the database that all tests share; every test takes an experiment of its own."""
    with World(servers.database_url) as opened:
        yield opened


def happened(
    world: World,
    of: ExperimentSpec,
    rates: Mapping[str, Mapping[str, float]],
    units: int = 3_000,
    *,
    shares: Mapping[str, float] | None = None,
    both: int = 0,
    seed: int = 1,
    at: float = THEN,
) -> ExperimentSpec:
    """Write an experiment and a day of it: units of each variation, each with an event of a kind by its rate.

    `rates`: by variation and kind of event. `shares`: of the units; None for equal ones. `both`: units that saw two variations.
    """
    world.experiment(of, at - 1)
    generator = np.random.default_rng(seed)
    keys = list(rates)
    shares = shares or dict.fromkeys(keys, 1 / len(keys))
    counts = [round(units * shares[key]) for key in keys]
    arms = generator.permutation(np.repeat(np.arange(len(keys)), counts))
    times = np.sort(generator.uniform(0, DAY_S, len(arms))) + at
    names = [f"{of.key} {of.phase} {number}" for number in range(len(arms))]
    exposures: list[Exposed] = [(names[n], keys[arms[n]], float(times[n]), "", {}) for n in range(len(arms))]
    again: list[Exposed] = [(names[n], keys[arms[n] - 1], float(times[n]) + 60, "", {}) for n in range(both)]
    world.expose_many(of, exposures + again)
    for kind in sorted({kind for rate in rates.values() for kind in rate}):
        # As many as the rate says, so that what is found does not hang on luck.
        chosen: list[int] = []
        for at_arm, key in enumerate(keys):
            members = np.flatnonzero(arms == at_arm)
            chosen += generator.choice(members, round(len(members) * rates[key].get(kind, 0.0)), replace=False).tolist()
        world.did_many((names[n], kind, float(times[n]) + 120, 1.0) for n in chosen)
    return of


def clicks(off: float, on: float) -> dict[str, dict[str, float]]:
    """Return the rates of an experiment with two variations."""
    return {"off": {"click": off}, "on": {"click": on}}


def experiment(**fields: Any) -> ExperimentSpec:
    """Return an experiment whose plan has the given fields, which measures clicks unless it says otherwise."""
    return spec(analysis=AnalysisPlan(**({"metrics": (CLICKS,)} | fields)))


def results(servers: LocalServers, of: ExperimentSpec, **query: Any) -> dict[str, Any]:
    """Return what `analyse` answers."""
    found: dict[str, Any] = {}

    async def play(stage: Stage) -> None:
        answer = await stage.call("analyse", "GET", f"/v1/experiments/{of.key}/results", query=query)
        assert answer.status == 200, answer
        found.update(answer.body)

    run(servers, play)
    return found


def kept(stage: Stage, of: ExperimentSpec) -> int:
    """Return how many analyses of an experiment are kept."""
    [row] = stage.sql("select count(*) as number from experiment_results where experiment = %s", of.key)
    return int(row["number"])


# Verdicts


def test_what_is_better_is_to_be_shipped(servers: LocalServers, world: World) -> None:
    """A variation that clicks clearly more is to ship; the numbers are those that were written."""
    shown = results(servers, happened(world, experiment(), clicks(0.10, 0.16)))
    assert (shown["verdict"], shown["variation"], shown["control"]) == ("ship", "on", "off")
    assert any("clicks" in reason for reason in shown["reasons"])
    assert (shown["units"], shown["double_exposed"]) == (3_000, 0)
    assert [(each["key"], each["units"], each["share"]) for each in shown["variations"]] == [
        ("off", 1_500, 0.5), ("on", 1_500, 0.5),
    ]  # fmt: skip
    assert not shown["sample_ratio"]["mismatch"]
    [metric] = shown["metrics"]
    assert (metric["complete"], metric["waiting"], metric["primary"]) == (3_000, 0, True)
    [effect] = metric["effects"]
    assert (effect["units"], effect["control_units"]) == (1_500, 1_500)
    assert effect["value"] == pytest.approx(0.16)
    assert effect["control_value"] == pytest.approx(0.10)
    assert effect["difference"] == pytest.approx(0.06)
    assert effect["relative"] == pytest.approx(0.6)
    assert 0 < effect["low"] < 0.06 < effect["high"]
    assert 0 < effect["relative_low"] < 0.6 < effect["relative_high"]
    assert effect["p_value"] <= effect["adjusted_p_value"] < 0.05
    assert effect["better"] is True
    assert effect["method"] == "confidence_sequence"


def test_what_is_worse_is_to_be_rolled_back(servers: LocalServers, world: World) -> None:
    """A variation that clicks clearly less is to be rolled back."""
    shown = results(servers, happened(world, experiment(), clicks(0.16, 0.10)))
    assert (shown["verdict"], shown["variation"]) == ("roll_back", None)
    assert shown["metrics"][0]["effects"][0]["better"] is False


def test_what_is_open_keeps_running(servers: LocalServers, world: World) -> None:
    """No difference, too few units, and nobody at all: the experiment goes on, and says why."""
    alike = results(servers, happened(world, experiment(), clicks(0.1, 0.1)))
    few = results(servers, happened(world, experiment(), clicks(0.1, 0.4), units=60))
    nobody = results(servers, world.experiment(experiment(), THEN))
    unmeasured = results(servers, world.experiment(spec(), THEN))
    assert {shown["verdict"] for shown in (alike, few, nobody, unmeasured)} == {"keep_running"}
    assert all(shown["reasons"] for shown in (alike, few, nobody, unmeasured))
    assert alike["metrics"][0]["effects"][0]["low"] < 0 < alike["metrics"][0]["effects"][0]["high"]
    assert few["metrics"][0]["effects"][0]["low"] is None
    assert nobody["metrics"][0]["effects"][0]["difference"] is None
    assert nobody["sample_ratio"] is None


def test_units_that_are_not_split_as_planned_are_to_be_checked(servers: LocalServers, world: World) -> None:
    """However good the variation looks; where the plan's weights are uneven, so may the units be."""
    uneven = {"off": 0.6, "on": 0.4}
    wrong = results(servers, happened(world, experiment(), clicks(0.10, 0.16), shares=uneven))
    assert wrong["verdict"] == "check"
    assert wrong["sample_ratio"]["mismatch"]
    assert wrong["sample_ratio"]["sequential_p_value"] < wrong["sample_ratio"]["threshold"]
    assert "split" in wrong["reasons"][0]
    weighed = msgspec.structs.replace(experiment(), weights=(0.6, 0.4))
    right = results(servers, happened(world, weighed, clicks(0.10, 0.16), shares=uneven))
    assert right["verdict"] == "ship"
    assert [each["expected_share"] for each in right["variations"]] == pytest.approx([0.6, 0.4])
    closed = msgspec.structs.replace(experiment(), weights=(1.0, 0.0))
    assert results(servers, happened(world, closed, clicks(0.1, 0.1), units=200))["verdict"] == "check"


def test_too_many_double_exposures_are_to_be_checked(servers: LocalServers, world: World) -> None:
    """Units that saw two variations are left out and counted; a few do not matter, many do."""
    few = results(servers, happened(world, experiment(), clicks(0.10, 0.16), both=15))
    many = results(servers, happened(world, experiment(), clicks(0.10, 0.16), both=90))
    assert (few["verdict"], few["double_exposed"], few["units"]) == ("ship", 15, 2_985)
    assert (many["verdict"], many["double_exposed"], many["units"]) == ("check", 90, 2_910)


def guarded(**fields: Any) -> ExperimentSpec:
    """Return an experiment that must not make more errors."""
    plan = {"metrics": (CLICKS, ERRORS), "guardrails": (Guardrail("errors", margin=0.1),)}
    return experiment(**(plan | fields))


HARMFUL = {"off": {"click": 0.1, "error": 0.1}, "on": {"click": 0.16, "error": 0.2}}


def test_a_crossed_guardrail_is_to_be_checked(servers: LocalServers, world: World) -> None:
    """More clicks are not shipped at the price of errors, whatever the inference of the primary metric."""
    for inference in ("sequential", "group_sequential", "fixed_horizon", "bayesian"):
        shown = results(servers, happened(world, guarded(inference=inference, planned_units=3_000), HARMFUL))
        assert (shown["verdict"], shown["variation"]) == ("check", None), inference
        by_name = {metric["name"]: metric for metric in shown["metrics"]}
        assert by_name["errors"]["crossed"] == ["on"]
        assert by_name["errors"]["margin"] == 0.1
        assert by_name["errors"]["effects"][0]["method"] == "confidence_sequence"
        assert (by_name["clicks"]["margin"], by_name["clicks"]["crossed"]) == (None, [])


@pytest.mark.parametrize(
    ("inference", "method"),
    [("group_sequential", "group_sequential"), ("fixed_horizon", "welch"), ("bayesian", "bayesian")],
)
def test_other_inferences_ship_what_is_better(servers: LocalServers, world: World, inference: Any, method: str) -> None:
    """At the planned end each of them finds what is clearly there."""
    of = happened(world, experiment(inference=inference, planned_units=3_000, looks=3), clicks(0.10, 0.16))
    shown = results(servers, of)
    assert (shown["verdict"], shown["variation"]) == ("ship", "on")
    [effect] = shown["metrics"][0]["effects"]
    assert effect["method"] == method
    assert (effect["chance_to_win"] is not None) == (effect["expected_loss"] is not None) == (method == "bayesian")
    assert (effect["p_value"] is None) == (method == "bayesian")


def test_a_fixed_horizon_is_judged_at_its_end(servers: LocalServers, world: World) -> None:
    """Before the planned units are in nothing is decided, and then only they count."""
    early = results(
        servers, happened(world, experiment(inference="fixed_horizon", planned_units=3_001), clicks(0.1, 0.2))
    )
    assert early["verdict"] == "keep_running"
    late = results(
        servers, happened(world, experiment(inference="fixed_horizon", planned_units=2_000), clicks(0.1, 0.2))
    )
    assert late["verdict"] == "ship"
    [effect] = late["metrics"][0]["effects"]
    assert effect["units"] + effect["control_units"] == 2_000


def test_a_group_sequential_experiment_is_looked_at_when_it_was_planned(servers: LocalServers, world: World) -> None:
    """Between two looks nothing changes, before the first nothing is said."""
    plan = {"inference": "group_sequential", "planned_units": 4_000, "looks": 4}
    shown = results(servers, happened(world, experiment(**plan), clicks(0.10, 0.11), units=2_500))
    [effect] = shown["metrics"][0]["effects"]
    assert (effect["units"] + effect["control_units"], shown["metrics"][0]["complete"]) == (2_000, 2_500)
    before = results(servers, happened(world, experiment(**plan), clicks(0.10, 0.40), units=900))
    assert (before["verdict"], before["metrics"][0]["effects"][0]["low"]) == ("keep_running", None)
    crossed = results(servers, happened(world, experiment(**plan), clicks(0.10, 0.30), units=2_500))
    assert crossed["verdict"] == "ship"


def test_what_was_before_makes_results_sharper(servers: LocalServers, world: World) -> None:
    """With CUPED the interval of a metric that was much the same before is narrower, and the share is told."""
    plain = Metric("orders", "order", kind="mean", window_s=HOUR_S)
    adjusted = msgspec.structs.replace(plain, name="adjusted", covariate_s=DAY_S)
    of = world.experiment(experiment(metrics=(plain, adjusted)), THEN - 1)
    generator = np.random.default_rng(3)
    habit = generator.gamma(2.0, 5.0, 800)
    names = [f"{of.key} {number}" for number in range(800)]
    world.expose_many(of, [(name, ("off", "on")[n % 2], THEN + n, "", {}) for n, name in enumerate(names)])
    world.did_many((name, "order", THEN + n - HOUR_S, habit[n]) for n, name in enumerate(names))
    noise = generator.normal(0.0, 1.0, 800)
    world.did_many((name, "order", THEN + n + 60, habit[n] + noise[n] + n % 2) for n, name in enumerate(names))
    by_name = {metric["name"]: metric["effects"][0] for metric in results(servers, of)["metrics"]}
    widths = {name: effect["high"] - effect["low"] for name, effect in by_name.items()}
    assert widths["adjusted"] < 0.3 * widths["orders"]
    assert by_name["adjusted"]["variance_reduction"] > 0.9
    assert by_name["orders"]["variance_reduction"] is None
    assert by_name["adjusted"]["value"] == by_name["orders"]["value"]


# Time


def test_units_count_once_their_window_is_over(servers: LocalServers, world: World) -> None:
    """Those exposed just now are in the sample ratio, and in no effect yet."""
    of = happened(world, experiment(), clicks(0.10, 0.16), units=1_000)
    world.expose_many(of, [(f"{of.key} new {n}", ("off", "on")[n % 2], time.time() - 600, "", {}) for n in range(100)])
    world.did_many((f"{of.key} new {n}", "click", time.time() - 500, 1.0) for n in range(100))
    shown = results(servers, of)
    assert (shown["units"], shown["metrics"][0]["complete"], shown["metrics"][0]["waiting"]) == (1_100, 1_000, 100)
    [effect] = shown["metrics"][0]["effects"]
    assert effect["units"] + effect["control_units"] == 1_000


def test_an_experiment_that_has_ended_shows_what_it_showed(servers: LocalServers, world: World) -> None:
    """What happens after it was stopped, or in a later phase, does not count for the phase that ended."""
    of = happened(world, experiment(), clicks(0.10, 0.16))
    ended = THEN + DAY_S / 2
    stopped = msgspec.structs.replace(of, version=2, status="stopped")
    world.experiment(stopped, ended)
    shown = results(servers, of)
    assert (shown["status"], shown["version"]) == ("stopped", 2)
    assert shown["as_of"] == shown["ended_at"]
    assert 1_300 < shown["units"] < 1_700
    assert 0 < shown["metrics"][0]["waiting"] < 250
    second = msgspec.structs.replace(of, version=3, phase=2)
    happened(world, second, clicks(0.1, 0.1), units=400, at=THEN + 2 * DAY_S)
    assert [results(servers, of, phase=phase)["units"] for phase in (1, 2)] == [shown["units"], 400]
    newest = results(servers, of)
    assert (newest["phase"], newest["ended_at"], newest["verdict"]) == (2, None, "keep_running")


def test_a_draft_is_no_start_and_changed_shares_are_told(servers: LocalServers, world: World) -> None:
    """A phase starts when it runs; where its shares have changed they are not held against the plan, where coverage grew they are."""
    draft = msgspec.structs.replace(experiment(), status="draft", ranges=((0.0, 0.1), (0.5, 0.9)))
    world.experiment(draft, THEN - DAY_S)
    first = msgspec.structs.replace(draft, version=2, status="running", ranges=((0.0, 0.1), (0.5, 0.6)))
    happened(world, first, clicks(0.10, 0.16))
    wider = msgspec.structs.replace(first, version=3, ranges=((0.0, 0.2), (0.5, 0.7)))
    world.experiment(wider, THEN + HOUR_S)
    alike = results(servers, of=draft)
    assert alike["verdict"] == "ship"
    assert datetime.fromisoformat(alike["started_at"]).timestamp() == pytest.approx(THEN - 1, abs=1e-3)
    assert alike["sample_ratio"] is not None
    uneven = msgspec.structs.replace(wider, version=4, ranges=((0.0, 0.4), (0.5, 0.7)))
    world.experiment(uneven, THEN + 2 * HOUR_S)
    changed = results(servers, of=draft)
    assert (changed["verdict"], changed["sample_ratio"]) == ("ship", None)
    assert "shares were changed" in changed["reasons"][-1]


# Events


def test_a_changed_verdict_is_told_once(servers: LocalServers, world: World) -> None:
    """`analysis.due` keeps a point of the course each time, and sends `experiment.decided` where the verdict changes."""
    of = happened(world, experiment(), clicks(0.10, 0.16))

    async def main() -> None:
        async with sending(servers) as (stage, sink):
            for event_id in ("1", "1", "2"):
                answer = await stage.event("analyse", DUE, {"experiment": of.key}, id=event_id)
                assert answer.status == 204, answer
            [(headers, body)] = sink.of(DECIDED)
            told = json.loads(body)
            assert headers["ce-source"] == "knudge/analyse"
            assert (told["experiment"], told["phase"], told["version"]) == (of.key, 1, 1)
            assert (told["verdict"], told["previous"], told["variation"]) == ("ship", "keep_running", "on")
            assert told["reasons"]
            assert told["stopped"] is False
            shown = await stage.call("analyse", "GET", f"/v1/experiments/{of.key}/results")
            assert [point["verdict"] for point in shown.body["course"]] == ["ship"] * 3
            [effect] = shown.body["course"][0]["effects"]
            assert {name: effect[name] for name in ("metric", "variation")} == {"metric": "clicks", "variation": "on"}
            assert effect["relative"] == pytest.approx(0.6)

    asyncio.run(main())


def test_an_event_that_was_not_taken_is_told_again_under_the_same_id(servers: LocalServers, world: World) -> None:
    """Where the sink fails the analysis is not kept and the trigger delivers again; where only keeping failed, the id is the same."""
    of = happened(world, experiment(), clicks(0.10, 0.16))

    async def main() -> None:
        async with sending(servers) as (stage, sink):
            sink.status = 503
            assert (await stage.event("analyse", DUE, {"experiment": of.key})).status == 503
            assert kept(stage, of) == 0
            sink.status = 202
            assert (await stage.event("analyse", DUE, {"experiment": of.key})).status == 204
            stage.sql("delete from experiment_results where experiment = %s", of.key)
            assert (await stage.event("analyse", DUE, {"experiment": of.key})).status == 204
            ids = [headers["ce-id"] for headers, _ in sink.of(DECIDED)]
            assert len(ids) == 3
            assert len(set(ids)) == 1

    asyncio.run(main())


def test_every_running_experiment_is_analysed_by_a_ping(own_servers: LocalServers) -> None:
    """The schedule's event, and `analysis.due` without an experiment, look at all that run and at nothing else."""
    with World(own_servers.database_url) as world:
        there = [
            world.experiment(msgspec.structs.replace(experiment(), status=status), THEN)
            for status in ("running", "stopped", "draft", "running")
        ]

    async def play(stage: Stage) -> None:
        assert (await stage.event("analyse", PING, {})).status == 204
        assert [kept(stage, of) for of in there] == [1, 0, 0, 1]
        assert (await stage.event("analyse", DUE, {})).status == 204
        assert [kept(stage, of) for of in there] == [2, 0, 0, 2]
        stage.sql("delete from experiment_results where experiment = %s", there[3].key)
        assert (await stage.event("analyse", PING, {})).status == 204
        rows = stage.sql("select experiment from experiment_results order by analysed_at desc limit 2")
        assert [row["experiment"] for row in rows] == [there[0].key, there[3].key]  # whoever waited longest came first

    run(own_servers, play)


def test_a_guardrail_stops_an_experiment_that_says_so(servers: LocalServers, world: World) -> None:
    """A new version that is stopped, published, told, and rolled back; without the plan's word it only asks to be checked."""
    stops = happened(world, guarded(stops_on_guardrail=True), HARMFUL)
    asks = happened(world, guarded(), HARMFUL)

    async def main() -> None:
        async with sending(servers) as (stage, sink):
            for of in (stops, asks):
                assert (await stage.event("analyse", DUE, {"experiment": of.key})).status == 204
            told = {data["experiment"]: data for data in (json.loads(body) for _, body in sink.of(DECIDED))}
            assert (told[stops.key]["verdict"], told[stops.key]["stopped"]) == ("roll_back", True)
            assert (told[asks.key]["verdict"], told[asks.key]["stopped"]) == ("check", False)
            [version] = stage.sql(
                "select v.version, v.actor, v.spec ->> 'status' as status from experiments e "
                "join experiment_versions v on v.key = e.key and v.version = e.active_version where e.key = %s",
                stops.key,
            )
            assert version == {"version": 2, "actor": "knudge/analyse", "status": "stopped"}
            assert stops.key.encode() in await stage.redis.get(CATALOGUE)
            again = await stage.event("analyse", DUE, {"experiment": stops.key})
            assert again.status == 204
            assert len(sink.of(DECIDED)) == 2
            [row] = stage.sql("select max(version) as newest from experiment_versions where key = %s", stops.key)
            assert row == {"newest": 2}

    asyncio.run(main())


def test_those_who_ask_at_once_share_one_computation(servers: LocalServers, world: World) -> None:
    """Results are computed once for requests that come together, and answered again for some seconds."""
    of = happened(world, experiment(), clicks(0.10, 0.16))

    async def play(stage: Stage) -> None:
        path = f"/v1/experiments/{of.key}/results"
        answers = await asyncio.gather(*(stage.call("analyse", "GET", path) for _ in range(5)))
        answers.append(await stage.call("analyse", "GET", path))
        assert {answer.status for answer in answers} == {200}
        assert len({answer.body["analysed_at"] for answer in answers}) == 1

    run(servers, play)


# The whole way


def test_an_experiment_is_judged_by_what_went_through_the_functions(
    servers: LocalServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Written by `control`, split by `recommend`, archived and exposed by `learn`, told by `feedback`: the numbers are those of the users."""
    monkeypatch.setattr("functions.analyse.func.time", lambda: time.time() + 2 * HOUR_S)  # all windows are over by then

    async def play(stage: Stage) -> None:
        metrics = [
            {"name": "clicks", "event": "click", "window_s": HOUR_S},
            {"name": "orders", "event": "order", "kind": "mean", "window_s": HOUR_S},
            {
                "name": "clicks a decision",
                "event": "click",
                "kind": "ratio",
                "denominator": "decisions",
                "window_s": HOUR_S,
            },
        ]
        key, policy, _ = await splitting(stage, analysis={"metrics": metrics, "planned_units": 240})
        users: dict[str, list[str]] = {"as-it-is": [], "greedy": []}
        for number in range(240):
            name = f"{key}-{number}"
            answer = await stage.recommend(policy, user_id=name)
            again = await stage.recommend(policy, user_id=name)
            variation = answer["experiment"]["variation"]
            assert again["experiment"]["variation"] == variation
            users[variation].append(name)
            if len(users[variation]) % (2 if variation == "greedy" else 5) == 0:
                await stage.feedback(answer["decision_id"])
                body = {"user_id": name, "kind": "order", "value": 20.0}
                assert (await stage.call("feedback", "POST", "/v1/feedback", body)).status == 200
        await stage.learn()
        shown = (await stage.call("analyse", "GET", f"/v1/experiments/{key}/results")).body
        assert [(each["key"], each["units"]) for each in shown["variations"]] == [
            (variation, len(names)) for variation, names in users.items()
        ]
        assert (shown["verdict"], shown["variation"]) == ("ship", "greedy")
        rates = [len(users["as-it-is"]) // 5 / len(users["as-it-is"]), len(users["greedy"]) // 2 / len(users["greedy"])]
        for metric, scale in zip(shown["metrics"], (1.0, 20.0, 0.5), strict=True):
            [effect] = metric["effects"]
            found = (effect["control_value"], effect["value"])
            assert found == pytest.approx([rate * scale for rate in rates]), metric["name"]

    run(servers, play)


# Bad input


def test_bad_input_is_told_by_its_field(servers: LocalServers, world: World) -> None:
    """No such experiment or phase, no number, an unknown argument, no JSON, another field: a problem, never a fault."""
    of = world.experiment(experiment(), THEN)

    async def play(stage: Stage) -> None:
        path = f"/v1/experiments/{of.key}/results"
        asked: list[tuple[str, dict[str, Any], int, str]] = [
            ("/v1/experiments/nowhere/results", {}, 404, "key"),
            (path, {"phase": 7}, 404, "phase"),
            (path, {"phase": "x"}, 400, "phase"),
            (path, {"phase": 0}, 400, "phase"),
            (path, {"phase": 10**30}, 400, "phase"),
            (path, {"page": 1}, 400, "page"),
            ("/v1/experiments/a%00b/results".replace("%00", "\0"), {}, 400, "key"),
        ]
        for where, query, status, field in asked:
            answer = await stage.call("analyse", "GET", where, query=query)
            assert (answer.status, answer.body["field"]) == (status, field), (where, query, answer)
        events: list[tuple[Any, int, str]] = [
            ({"experiment": "nowhere"}, 422, "key"),
            ({"experiment": 3}, 400, "experiment"),
            ({"experiments": []}, 400, "experiments"),
            (b"{", 400, "body"),
        ]
        for data, status, field in events:
            answer = await stage.event("analyse", DUE, data)
            assert (answer.status, answer.body["field"]) == (status, field), (data, answer)

    run(servers, play)
