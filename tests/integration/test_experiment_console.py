"""`knudge experiment` against `analyse` and `control` as processes, on a real PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from matplotlib import image

from functions.console.main import main
from functions.local.servers import LocalServers
from shared.experiments.plan import AnalysisPlan, Guardrail
from tests.experiment_world import World, spec
from tests.hosted import Hosted
from tests.integration.test_analyse import CLICKS, DUE, ERRORS, THEN, happened


@pytest.fixture(scope="module")
def analyse(servers: LocalServers) -> Iterator[Hosted]:
    """Run `analyse` for the tests of this file."""
    with Hosted("analyse", servers) as started:
        yield started


@pytest.fixture
def world(servers: LocalServers) -> Iterator[World]:
    """Write into the database that all tests share."""
    with World(servers.database_url) as opened:
        yield opened


def test_a_report_is_a_table_and_a_plot_for_each_metric(
    analyse: Hosted, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The verdict with its reasons, units, effects; PNGs that show more than a blank page."""
    plan = AnalysisPlan(metrics=(CLICKS, ERRORS), guardrails=(Guardrail("errors", margin=0.5),))
    rates = {
        "off": {"click": 0.10, "error": 0.10},
        "on": {"click": 0.16, "error": 0.10},
        "odd": {"click": 0.10, "error": 0.10},
    }
    of = happened(world, spec(None, "off", "on", "odd", analysis=plan), rates, units=6_000)
    for event_id in ("1", "2"):
        assert analyse.event(DUE, {"experiment": of.key}, event_id) == 204
    url = f"http://127.0.0.1:{analyse.port}"
    assert main(["experiment", "report", of.key, "--url", url, "--output", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "ship: on" in shown
    for text in (
        of.key,
        "off, control",
        "guardrail, may get worse by 50.0%",
        "+60.0%",
        "2,000",
        "better",
        "power of 80 %",
    ):
        assert text in shown, text
    written = sorted(tmp_path.iterdir())
    assert [path.name for path in written] == [f"{of.key}-1-clicks.png", f"{of.key}-1-errors.png"]
    for path in written:
        assert str(path) in shown
        pixels = image.imread(path)
        assert pixels.shape[0] > 300
        blue = (pixels[:, :, 2] > 0.6) & (pixels[:, :, 0] < 0.2)  # the lines of the effects
        assert blue.sum() > 500


def test_a_report_can_be_read_by_machines(
    analyse: Hosted, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--json` gives what `analyse` answers; where nothing is known yet the table and the plots say so."""
    of = world.experiment(spec(analysis=AnalysisPlan(metrics=(CLICKS,))), THEN)
    url = f"http://127.0.0.1:{analyse.port}"
    assert main(["experiment", "report", of.key, "--url", url, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == "keep_running"
    assert main(["experiment", "report", of.key, "--url", url, "--output", str(tmp_path)]) == 0
    assert "too early" in capsys.readouterr().out
    assert (tmp_path / f"{of.key}-1-clicks.png").stat().st_size > 0


def test_what_is_not_there_is_one_line(analyse: Hosted, capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown experiment ends with status 1 and a line that names it."""
    assert main(["experiment", "report", "no/where", "--url", f"http://127.0.0.1:{analyse.port}"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("knudge: ")
    assert "no/where" in said
    assert said.count("\n") == 1


def test_experiments_are_listed(servers: LocalServers, world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """A line for each, as `control` knows it."""
    of = world.experiment(spec(), THEN)
    with Hosted("control", servers) as control:
        assert main(["experiment", "list", "--url", f"http://127.0.0.1:{control.port}"]) == 0
    [line] = [line for line in capsys.readouterr().out.splitlines() if of.key in line.split()]
    assert line.split() == [of.key, "running", "experiment", "1", "1", "off,", "on"]
