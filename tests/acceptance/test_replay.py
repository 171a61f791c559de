"""The console against the whole of Knudge: real functions, a real Redis and a real PostgreSQL.

The replay takes the first 600 rows of each log. Without the dataset (no cached wheel and no way to fetch it)
the tests are skipped.
"""

from __future__ import annotations

import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from functions.console.client import Client
from functions.console.failure import ConsoleFailure
from functions.console.main import main
from functions.console.obd_source import CACHE, find_source
from functions.console.policy_view import read_policy

ROOT = Path(__file__).resolve().parents[2]
ROWS = 600
START_LIMIT_S = 90.0
STOP_LIMIT_S = 60.0


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start everything over a data folder of its own on a free port; say where it answers."""
    data = tmp_path_factory.mktemp("knudge")
    environment = os.environ | {"KNUDGE_PORT": "0", "KNUDGE_METRICS_PORT": "0"}
    command = [sys.executable, "-m", "functions.local.run", "--data", str(data)]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as running:
        lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=_read, args=(running, lines), daemon=True).start()
        try:
            yield _address(lines)
        finally:
            running.send_signal(signal.SIGINT)
            running.wait(STOP_LIMIT_S)


@pytest.fixture(scope="module")
def data() -> str:
    """Find the dataset, or skip."""
    try:
        return find_source(None, cache=ROOT / CACHE).name
    except ConsoleFailure as error:
        pytest.skip(error.detail)


def test_replay_reaches_the_posteriors_once(
    url: str, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every row and click of the logs ends up in a snapshot, and a repeat of the replay changes nothing."""
    monkeypatch.chdir(tmp_path)
    argv = [
        "replay",
        "obd",
        "--url",
        url,
        "--data",
        data,
        "--rows",
        str(ROWS),
        "--output",
        str(tmp_path / "out"),
    ]
    assert main(argv) == 0
    first = json.loads((tmp_path / "out" / "obd.json").read_bytes())
    timings = first["timings"]
    assert timings["rows"] == timings["decisions_accepted"] == 6 * ROWS
    assert timings["feedback_duplicates"] == 0
    assert timings["click_to_snapshot_s"]
    assert max(timings["click_to_snapshot_s"]) < 10.0
    assert (tmp_path / "out" / "obd.png").stat().st_size > 10_000
    with Client(url) as client:
        views = [
            read_policy(client, f"obd-{campaign}{part}")
            for campaign in ("all", "men", "women")
            for part in ("", "-heldout")
        ]
    assert sum(view.rewards for view in views) == pytest.approx(6 * ROWS)
    assert sum(view.total for view in views) == pytest.approx(timings["feedback_accepted"])
    for view in views:
        assert sum(view.action_to_propensity.values()) == pytest.approx(1.0)

    assert main(argv) == 0
    repeated = json.loads((tmp_path / "out" / "obd.json").read_bytes())
    assert repeated["timings"]["decisions_accepted"] == repeated["timings"]["feedback_accepted"] == 0
    assert repeated["estimates"] == first["estimates"]


def test_simulated_users_are_learned_from(
    url: str, data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Over 3,000 live decisions the policy misses clearly fewer clicks than uniform choice would."""
    argv = ["simulate", "--url", url, "--data", data, "--decisions", "3000", "--concurrency", "4"]
    assert main([*argv, "--output", str(tmp_path), "--policy", "simulated"]) == 0
    printed = capsys.readouterr().out
    share = re.search(r"regret is (\d+) % of uniform's", " ".join(printed.split()))
    assert share is not None, printed
    assert int(share.group(1)) < 95
    assert (tmp_path / "regret.png").stat().st_size > 10_000
    with Client(url) as client:
        assert read_policy(client, "simulated").rewards > 0.0


def _read(running: subprocess.Popen[str], lines: queue.SimpleQueue[str]) -> None:
    for line in running.stdout or ():
        lines.put(line)
    lines.put("")


def _address(lines: queue.SimpleQueue[str]) -> str:
    """Read what the run says until it says where it answers."""
    said: list[str] = []
    while True:
        try:
            line = lines.get(timeout=START_LIMIT_S)
        except queue.Empty:
            line = ""
        if not line:
            pytest.fail("the run did not start:\n" + "".join(said))
        said.append(line)
        address = re.search(r"Knudge runs on (\S+)", line)
        if address:
            return address.group(1)
