"""The command line: statuses, one-line errors, and what is not imported for `--help`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from functions.console.main import main


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["replay"],
        ["replay", "movielens"],
        ["replay", "obd", "--rows", "0"],
        ["replay", "obd", "--held-out", "1"],
        ["simulate", "--campaign", "cats"],
        ["simulate", "--scale", "nan"],
        ["simulate", "--floor", "1.5"],
        ["simulate", "--decisions", "1e400"],
        ["evaluate", "--policy", "p", "--candidate", "kind=ucb1", "--train-every", "0d"],
        ["evaluate", "--policy", "p", "--candidate", "kind=ucb1", "--train-every", "daily"],
        ["evaluate", "--policy", "p", "--candidate", "kind=ucb1", "--horizon", "0"],
        ["deadletters"],
        ["deadletters", "list", "--since", "yesterday"],
        ["deadletters", "list", "--since", "2026-11-25T04:00:00"],
        ["deadletters", "list", "--since", "999999d"],
        ["deadletters", "list", "--limit", "0"],
        ["deadletters", "replay"],
        ["deadletters", "replay", "x"],
        ["deadletters", "replay", "7", "--all"],
        ["deadletters", "replay", "7", "--type", "t"],
    ],
)
def test_wrong_usage_ends_with_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A call that cannot be meant ends with status 2 and says why."""
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 2
    assert "usage: knudge" in capsys.readouterr().err


def test_failure_is_one_line_and_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What fails on the way ends with status 1 and one line on stderr."""
    assert main(["replay", "obd", "--data", str(tmp_path)]) == 1
    captured = capsys.readouterr().err
    assert captured.startswith("knudge: ")
    assert captured.count("\n") == 1


def test_unknown_function_is_one_line_and_1(capsys: pytest.CaptureFixture[str]) -> None:
    """A function that does not exist is no traceback."""
    assert main(["serve", "nothing"]) == 1
    assert capsys.readouterr().err == "knudge: there is no function 'nothing'\n"


def test_help_imports_nothing_heavy() -> None:
    """Neither matplotlib nor rich nor numpy is loaded before a command runs."""
    code = (
        "import sys; from functions.console.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'matplotlib', 'rich', 'numpy', 'msgspec', 'kubernetes'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    for command in ("replay", "simulate", "revisions", "serve", "migrate", "deadletters"):
        assert command in done.stdout
