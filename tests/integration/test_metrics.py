"""What the units of an experiment did, read from a real PostgreSQL: who counts, which events, how they become numbers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import numpy as np
import pytest

from functions.local.servers import LocalServers
from shared.experiments.experiment import ExperimentSpec
from shared.experiments.plan import AnalysisPlan, Metric
from shared.storage.postgres_connection import open_pool
from shared.storage.postgres_metrics import LOOK_BACK_S, Units, read_units
from tests.experiment_world import DAY_S, HOUR_S, World, spec

NOW = round(time.time(), 3)
THEN = NOW - 20 * DAY_S


@pytest.fixture
def world(servers: LocalServers) -> Iterator[World]:
    """Write into the database that all tests share; every test takes an experiment of its own."""
    with World(servers.database_url) as opened:
        yield opened


def read(servers: LocalServers, of: ExperimentSpec, as_of: float = NOW) -> Units:
    """Read the units of an experiment."""

    async def main() -> Units:
        async with open_pool(servers.database_url, 1) as pool:
            return await read_units(pool, of, as_of)

    return asyncio.run(main())


def measuring(*metrics: Metric, **fields: object) -> ExperimentSpec:
    """Return an experiment that measures something."""
    plan = {"metrics": metrics} | {name: fields.pop(name) for name in ("strata",) if name in fields}
    return spec(analysis=AnalysisPlan(**plan), **fields)  # type: ignore[arg-type]


def user(of: ExperimentSpec, name: str) -> str:
    """Return a user whom only this experiment has."""
    return f"{of.key} {name}"


def test_units_stand_in_the_order_of_their_exposure(servers: LocalServers, world: World) -> None:
    """Each unit once, by first exposure, with its variation and stratum; who saw two variations is counted and left out."""
    of = measuring(Metric("clicks", "click"), strata="country")
    for name, variation, hours, country in (("c", "on", 3, "de"), ("a", "off", 1, "at"), ("b", "on", 2, None)):
        attributes = {} if country is None else {"country": country}
        world.expose(of, user(of, name), variation, THEN + hours * HOUR_S, attributes=attributes)
    for variation, hours in (("off", 0), ("on", 5)):
        world.expose(of, user(of, "both"), variation, THEN + hours * HOUR_S)
    world.expose(of, user(of, "late"), "on", NOW + HOUR_S)
    world.expose(of, user(of, "stranger"), "gone", THEN)
    world.did(user(of, "both"), "click", THEN + 6 * HOUR_S)
    world.did(user(of, "b"), "click", THEN + 6 * HOUR_S)
    units = read(servers, of)
    assert units.variation.tolist() == [0, 1, 1]
    assert units.stratum.tolist() == [1, 0, 2]
    assert units.exposed_at == pytest.approx([THEN + hours * HOUR_S for hours in (1, 2, 3)], abs=1e-5)
    assert units.double_exposed == 1
    assert units.measured["clicks"].value.tolist() == [0, 1, 0]


def test_an_experiment_without_units_or_metrics_is_read(servers: LocalServers, world: World) -> None:
    """Nobody there, or nothing to measure: empty arrays, no error."""
    of = measuring(Metric("clicks", "click"), Metric("p90", "dwell", kind="quantile", quantile=0.9))
    nobody = read(servers, of)
    assert len(nobody.variation) == len(nobody.measured["clicks"].value) == 0
    assert nobody.measured["p90"].event_value is not None
    world.expose(of, user(of, "a"), "on", THEN)
    assert read(servers, spec(of.key)).measured == {}


def test_events_count_within_the_window_and_as_they_are_aggregated(servers: LocalServers, world: World) -> None:
    """From the exposure on, until the window is over; sums, counts, highest values, and whether there was any."""
    of = measuring(
        Metric("any", "order", window_s=DAY_S),
        Metric("sum", "order", kind="mean", window_s=DAY_S),
        Metric("count", "order", kind="mean", aggregate="count", window_s=DAY_S),
        Metric("max", "order", kind="mean", aggregate="max", window_s=DAY_S),
        Metric("long", "order", kind="mean", window_s=2 * DAY_S),
        Metric("other", "click"),
    )
    world.expose(of, user(of, "a"), "on", THEN)
    world.expose(of, user(of, "b"), "off", THEN)
    for after, value in ((-1, 100.0), (0, 1.0), (HOUR_S, 5.0), (DAY_S - 1, 2.5), (DAY_S, 50.0), (3 * DAY_S, 1000.0)):
        world.did(user(of, "a"), "order", THEN + after, value)
    measured = read(servers, of).measured
    assert {name: one.value.tolist() for name, one in measured.items()} == {
        "any": [1, 0], "sum": [8.5, 0], "count": [3, 0], "max": [5, 0], "long": [58.5, 0], "other": [0, 0],
    }  # fmt: skip
    assert all(one.before is None and one.denominator is None for one in measured.values())


def test_what_is_later_than_the_moment_is_not_read(servers: LocalServers, world: World) -> None:
    """Results as of a moment know nothing of what came after it, and only windows that are over then are complete."""
    of = measuring(Metric("short", "click", window_s=HOUR_S), Metric("long", "click", window_s=DAY_S))
    world.expose(of, user(of, "a"), "on", THEN)
    world.expose(of, user(of, "b"), "off", THEN + 30 * 60)
    for after in (60.0, 2 * HOUR_S):
        world.did(user(of, "a"), "click", THEN + after)
    units = read(servers, of, THEN + HOUR_S + 60)
    assert units.measured["long"].value.tolist() == [1, 0]
    complete = {name: one.complete(units.exposed_at, THEN + HOUR_S + 60) for name, one in units.measured.items()}
    assert complete == {"short": 1, "long": 0}


def test_a_ratio_has_its_denominator(servers: LocalServers, world: World) -> None:
    """The number of events of a kind, or of decisions that were shown."""
    of = measuring(
        Metric("order value", "order", kind="ratio", denominator="order"),
        Metric("per visit", "order", kind="ratio", denominator="visit"),
        Metric("per decision", "order", kind="ratio", denominator="decisions"),
    )
    world.expose(of, user(of, "a"), "on", THEN)
    for kind, value in (("order", 10.0), ("order", 4.0), ("visit", 7.0), ("visit", 1.0), ("visit", 1.0)):
        world.did(user(of, "a"), kind, THEN + 60, value)
    for after, deferred in ((-60, False), (60, False), (61, False), (62, True), (63, True)):
        made = world.decide(user(of, "a"), THEN + after, deferred=deferred)
    world.activate(made, THEN + 63)
    measured = read(servers, of).measured
    assert [one.value.tolist() for one in measured.values()] == [[14], [14], [14]]
    assert [one.denominator.tolist() for one in measured.values() if one.denominator is not None] == [[2], [3], [3]]


def test_a_covariate_is_the_same_before_the_exposure(servers: LocalServers, world: World) -> None:
    """Events of the pre-exposure period, aggregated alike, the exposure's own moment not among them."""
    of = measuring(
        Metric("any", "click", covariate_s=DAY_S),
        Metric("sum", "order", kind="mean", covariate_s=2 * DAY_S),
        Metric("ratio", "order", kind="ratio", denominator="click", covariate_s=DAY_S),
        Metric("bare", "order", kind="mean"),
    )
    world.expose(of, user(of, "a"), "on", THEN)
    world.expose(of, user(of, "b"), "on", THEN + 1)
    for after in (-3 * DAY_S, -HOUR_S, -HOUR_S + 1, 0):
        world.did(user(of, "a"), "click", THEN + after)
    for after, value in ((-3 * DAY_S, 1.0), (-1.5 * DAY_S, 2.0), (-HOUR_S, 4.0), (60.0, 8.0)):
        world.did(user(of, "a"), "order", THEN + after, value)
    measured = read(servers, of).measured
    before = {name: None if one.before is None else one.before.tolist() for name, one in measured.items()}
    assert before == {"any": [1, 0], "sum": [6, 0], "ratio": [4, 0], "bare": None}
    assert {name: one.value.tolist() for name, one in measured.items()} == {
        "any": [1, 0], "sum": [8, 0], "ratio": [8, 0], "bare": [8, 0],
    }  # fmt: skip
    assert measured["ratio"].denominator_before is not None
    assert measured["ratio"].denominator_before.tolist() == [2, 0]


def test_feedback_reaches_a_unit_once(servers: LocalServers, world: World) -> None:
    """By the decision that names the unit, or else by its user: of several users of one unit, and of one user of several."""
    of = measuring(Metric("sum", "click", kind="mean"))
    world.expose(of, user(of, "firm"), "on", THEN, user=user(of, "ada"))
    world.expose(of, user(of, "shop"), "off", THEN + 1, user=user(of, "bob"))
    firm, shop = (of, "on", user(of, "firm")), (of, "off", user(of, "shop"))
    other = measuring()
    for owner, within, value in (
        ("ada", firm, 1.0),  # both ways lead to the firm, and it counts once
        ("cy", firm, 2.0),  # another user of the firm
        ("bob", firm, 4.0),  # a user of the shop who decided for the firm
        ("bob", None, 8.0),
        ("bob", (other, "on", user(of, "bob")), 16.0),  # another experiment's decision is its user's
        ("dan", shop, 32.0),
        ("dan", None, 64.0),  # nobody knows that dan is the shop's
    ):
        made = world.decide(user(of, owner), THEN + 10, within=within)
        world.reacted(made, THEN + 10, "click", THEN + 20, value)
    world.did(user(of, "ada"), "click", THEN + 30, 128.0)
    assert read(servers, of).measured["sum"].value.tolist() == [1 + 2 + 4 + 128, 8 + 16 + 32]


def test_phases_do_not_see_each_other(servers: LocalServers, world: World) -> None:
    """A unit of an earlier phase that saw another variation there is no double exposure of this one."""
    first = measuring(Metric("clicks", "click"))
    second = spec(first.key, phase=2, analysis=first.analysis)
    world.expose(first, user(first, "a"), "on", THEN)
    world.expose(second, user(first, "a"), "off", THEN + DAY_S)
    world.did(user(first, "a"), "click", THEN + HOUR_S)
    assert [read(servers, of).variation.tolist() for of in (first, second)] == [[1], [0]]
    assert [read(servers, of).measured["clicks"].value.tolist() for of in (first, second)] == [[1], [0]]


def test_quantiles_have_their_events(servers: LocalServers, world: World) -> None:
    """Every event's value with the place of its unit, within the window."""
    of = measuring(Metric("p50", "dwell", kind="quantile", quantile=0.5, window_s=HOUR_S), Metric("any", "dwell"))
    for at, name in enumerate("ab"):
        world.expose(of, user(of, name), "on", THEN + at)
    for name, after, value in (("b", 60, 3.0), ("b", 50, 1.0), ("a", 60, 2.0), ("a", 2 * HOUR_S, 9.0)):
        world.did(user(of, name), "dwell", THEN + after, value)
    measured = read(servers, of).measured["p50"]
    assert measured.event_unit is not None
    assert measured.event_value is not None
    assert measured.event_unit.tolist() == [0, 1, 1]
    assert measured.event_value.tolist() == [2, 1, 3]


def test_old_decisions_are_looked_back_to(servers: LocalServers, world: World) -> None:
    """Feedback on a decision from before the exposure counts, unless the decision is older than the bound."""
    of = measuring(Metric("sum", "click", kind="mean"))
    world.expose(of, user(of, "a"), "on", THEN)
    for before, value in ((HOUR_S, 1.0), (LOOK_BACK_S - HOUR_S, 2.0), (LOOK_BACK_S + HOUR_S, 4.0)):
        made = world.decide(user(of, "a"), THEN - before)
        world.reacted(made, THEN - before, "click", THEN + 60, value)
    assert read(servers, of).measured["sum"].value.tolist() == [3]


def test_many_units_are_read_as_they_are(servers: LocalServers, world: World) -> None:
    """A few thousand units with several events each give the sums that were written, bit for bit where they are whole."""
    of = measuring(Metric("sum", "order", kind="mean"), Metric("any", "order"))
    generator = np.random.default_rng(5)
    number = 3_000
    times = np.sort(generator.uniform(0, DAY_S, number))
    arms = generator.integers(0, 2, number)
    counts = generator.poisson(0.7, number)
    names = [user(of, str(at)) for at in range(number)]
    world.expose_many(of, [(names[at], ("off", "on")[arms[at]], THEN + times[at], "", {}) for at in range(number)])
    world.did_many(
        [(names[at], "order", THEN + times[at] + 60 + each, 3.0) for at in range(number) for each in range(counts[at])]
    )
    units = read(servers, of)
    assert units.variation.tolist() == arms.tolist()
    assert units.measured["sum"].value.tolist() == (3.0 * counts).tolist()
    assert units.measured["any"].value.tolist() == (counts > 0).astype(float).tolist()
