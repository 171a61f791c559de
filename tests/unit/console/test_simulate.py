"""The simulation: a deterministic population, honest regret, and the loop against the fake server."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from functions.console import simulate
from functions.console.failure import ConsoleFailure
from functions.console.obd_log import CampaignLog, read_campaign
from functions.console.obd_source import Folder
from functions.console.population import Population, base_rates
from functions.console.regret import RegretMeter
from functions.console.simulate_display import summary
from tests.unit.console.fake_functions import FakeFunctions

VISITS = 200


@pytest.fixture
def log(dataset: Path) -> CampaignLog:
    """Read one campaign of the small dataset."""
    return read_campaign(Folder(dataset), "men")


def population(log: CampaignLog, *, seed: int = 1, taste: float = 0.0) -> Population:
    """Draw a small population."""
    return Population(log, users=20, visits=VISITS, scale=1.0, taste=taste, seed=seed)


def test_population_is_a_function_of_the_seed(log: CampaignLog) -> None:
    """The same seed gives the same visits, another seed others; the order of asking does not matter."""
    one, same, other = population(log), population(log), population(log, seed=2)
    forward = [one.visit(number) for number in range(VISITS)]
    backward = [same.visit(number) for number in reversed(range(VISITS))][::-1]
    assert [v.threshold for v in forward] == [v.threshold for v in backward]
    assert all(np.array_equal(a.rates, b.rates) for a, b in zip(forward, backward, strict=True))
    assert [v.threshold for v in forward] != [other.visit(number).threshold for number in range(VISITS)]
    population(log, seed=-1)


def test_rates_are_shrunk_towards_the_mean(log: CampaignLog) -> None:
    """The order of the items is the log's; every rate lies between the raw rate and the campaign's mean."""
    rates = base_rates(log)
    raw = np.array([np.mean([row.clicked for row in log.impressions if row.item == item]) for item in log.items])
    mean = np.mean([row.clicked for row in log.impressions])
    assert rates.argmax() == raw.argmax() == 3
    assert np.all(np.abs(rates - mean) <= np.abs(raw - mean))


def test_without_taste_all_users_have_one_best_item(log: CampaignLog) -> None:
    """Activity scales all items alike; only taste changes which is best."""
    plain = {int(population(log).visit(number).rates.argmax()) for number in range(VISITS)}
    mixed = {int(population(log, taste=3.0, seed=5).visit(number).rates.argmax()) for number in range(VISITS)}
    assert plain == {3}
    assert len(mixed) > 1


def test_regret_is_counted_against_the_best_item() -> None:
    """Always the best item: no regret; uniform's grows by the gap between best and mean."""
    meter = RegretMeter(planned=10)
    rates = np.array([0.1, 0.5])
    for _ in range(4):
        meter.record(rates, 1, clicked=True, degraded=False)
    meter.record(rates, 0, clicked=False, degraded=True)
    curve = meter.read()
    assert curve.policy_regret == pytest.approx(0.4)
    assert curve.uniform_regret == pytest.approx(5 * 0.2)
    assert (curve.finished, curve.clicks, curve.degraded) == (5, 4, 1)
    assert curve.visits == (0, 1, 2, 3, 4, 5)
    assert "40 % of uniform's" in summary(curve)


def test_the_whole_loop(functions: FakeFunctions, dataset: Path, tmp_path: Path) -> None:
    """Every visit asks once, every click is sent back with the id of its decision, and a plot is left."""
    options = simulate.Options(
        url=functions.url,
        output=tmp_path,
        decisions=VISITS,
        scale=2.0,
        data=dataset,
        policy="p",
        concurrency=3,
        exploration_floor=0.05,
    )
    output = io.StringIO()
    assert simulate.run(options, Console(file=output, width=140)) == 0
    assert functions.policies["p"]["exploration_floor"] == 0.05
    assert {decision["request_id"] for decision in functions.decisions.values()} == {f"p-{n}" for n in range(VISITS)}
    assert 0 < len(functions.clicks) < VISITS
    assert (tmp_path / "regret.png").read_bytes().startswith(b"\x89PNG")
    assert f"{len(functions.clicks)} clicks" in output.getvalue()


def test_a_failing_server_ends_the_loop(functions: FakeFunctions, dataset: Path, tmp_path: Path) -> None:
    """What stops one thread stops all, and is the command's error."""
    options = simulate.Options(url=functions.url, output=tmp_path, decisions=VISITS, data=dataset, policy="p")
    functions.refusals += [(201, {}, b"{}")]
    functions.policies["p"] = {"actions": ["unheard-of"]}
    with pytest.raises(ConsoleFailure, match="none of its actions"):
        simulate.run(options, Console(file=io.StringIO()))
