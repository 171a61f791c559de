"""The whole replay against the fake server, and the evaluation against known data."""

from __future__ import annotations

import io
import json
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from functions.console import replay
from functions.console.failure import ConsoleFailure
from functions.console.obd_log import CAMPAIGNS, is_held_out, read_campaign
from functions.console.obd_source import Folder
from functions.console.replay_evaluation import Comparison, evaluate_campaign, impressions_factor
from functions.console.replay_report import describe
from shared.evaluation.value_estimate import Difference
from tests.unit.console.conftest import ROWS
from tests.unit.console.fake_functions import FakeFunctions

PNG = b"\x89PNG"


@pytest.fixture
def options(functions: FakeFunctions, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> replay.Options:
    """Describe a replay of the small dataset to the fake server, from a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return replay.Options(url=functions.url, data=dataset, output=tmp_path / "out", batch_size=64, wait_s=10.0)


def run(options: replay.Options) -> str:
    """Run and return what was printed."""
    output = io.StringIO()
    assert replay.run(options, Console(file=output, width=140)) == 0
    return " ".join(output.getvalue().split())


def test_replay_sends_everything_once(options: replay.Options, functions: FakeFunctions) -> None:
    """Every row reaches its policy with its true propensity; a repeat adds nothing and says so."""
    printed = run(options)
    rows = 2 * len(CAMPAIGNS) * ROWS
    assert len(functions.decisions) == rows
    names = {f"obd-{campaign}{part}" for campaign in CAMPAIGNS for part in ("", "-heldout")}
    assert set(functions.policies) == names
    by_name = {decision["decision_id"]: decision for decision in functions.decisions.values()}
    for campaign in CAMPAIGNS:
        log = read_campaign(Folder(options.data or Path()), campaign)
        for row in log.impressions:
            decision = by_name[f"obd-{row.key}"]
            assert decision["policy"] == f"obd-{campaign}" + ("-heldout" if is_held_out(row, 0.5) else "")
            assert decision["propensity"] == row.propensity
            assert decision["position"] == row.position
            assert decision["context"] == row.context
    found = json.loads((options.output / "obd.json").read_bytes())
    assert found["timings"]["rows"] == rows
    assert len(found["timings"]["click_to_snapshot_s"]) == 15
    assert (options.output / "obd.png").read_bytes().startswith(PNG)
    assert "within the last week" in printed

    again = run(options)
    assert len(functions.decisions) == rows
    assert "so that a repeat adds nothing" in again
    assert "not measured: every click was already known" in again
    repeated = json.loads((options.output / "obd.json").read_bytes())
    assert repeated["estimates"] == found["estimates"]
    assert repeated["timings"]["decisions_accepted"] == 0
    assert [policy["version"] for policy in functions.policies.values()] == [1] * 6


def test_another_split_is_noticed(options: replay.Options) -> None:
    """Rows that went to the other policy in an earlier replay are told, not hidden."""
    run(options)
    printed = run(msgspec.structs.replace(options, held_out_share=0.2))
    assert "obd-men-heldout knows" in printed
    assert "--prefix starts afresh" in printed


def test_a_learner_that_sleeps_is_an_error(
    options: replay.Options, functions: FakeFunctions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wait for the posteriors is bounded and its end says what the snapshot knows."""
    snapshot = {"snapshot_version": 3, "actions": []}
    monkeypatch.setattr(functions, "_snapshot", lambda _name: snapshot)
    with pytest.raises(ConsoleFailure, match=r"gave up waiting for policy obd-all: its snapshot 3 knows 0\.0"):
        run(msgspec.structs.replace(options, wait_s=0.1))


def test_policies_that_differ_are_told_apart(dataset: Path) -> None:
    """A policy that favours the item clicked ten times as often is seen to be better than uniform."""
    rows = read_campaign(Folder(dataset), "all").impressions
    held_out = [row for row in rows if is_held_out(row, 0.5)]
    result = evaluate_campaign("all", held_out, {"0": 0.01, "1": 0.01, "2": 0.01, "3": 0.97})
    learned, uniform, bts, *checks = result.estimates
    assert learned.estimate.value > 0.3 > uniform.estimate.value
    assert uniform.estimate.effective_sample_size == pytest.approx(uniform.estimate.rows)
    assert bts.estimate.value == pytest.approx(bts.clicks / bts.estimate.rows)
    assert [check.log for check in checks] == ["bts", "bts"]
    against_uniform = result.comparisons[0]
    assert against_uniform.difference.is_told_apart()
    assert "too few to believe it" in describe(against_uniform)  # 17 clicks
    enough = msgspec.structs.replace(against_uniform, effective_clicks=30.0)
    assert "the difference is clear, learned is higher" in describe(enough)


def test_propensities_must_be_a_distribution(dataset: Path) -> None:
    """An answer whose propensities do not sum to one is no policy."""
    rows = read_campaign(Folder(dataset), "all").impressions
    with pytest.raises(ConsoleFailure, match=r"sum to 0\.9"):
        evaluate_campaign("all", rows, {"0": 0.3, "1": 0.3, "2": 0.3})


def test_few_clicks_are_said_plainly() -> None:
    """A difference of half its margin needs four times the rows; no click at all says nothing."""
    unclear = Comparison("learned", "bts", 12, 12.0, Difference(0.01, 0.02 / 1.959963984540054))
    assert impressions_factor(unclear.difference) == pytest.approx(4.0)
    assert "12 clicks cannot tell them apart" in describe(unclear)
    assert "about 4 times as many impressions" in describe(unclear)
    assert "over 1,000 times" in describe(Comparison("a", "b", 12, 12.0, Difference(0.0001, 0.02)))
    assert "too few to believe it" in describe(Comparison("a", "b", 40, 3.0, Difference(0.1, 0.01)))
    assert "nothing can be said" in describe(Comparison("a", "b", 0, 0.0, Difference(0.0, None)))
