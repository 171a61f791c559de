"""GrowthBook's published test vectors, every case that does not depend on a browser (`make conformance CASES=file` for others)."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.growthbook import Outcome, outcomes, report
from tests.conformance.rendering import ROOT

CASES = Path(os.environ.get("KNUDGE_CONFORMANCE", ROOT / "../shared/conformance")) / "growthbook/cases.json"
WHOLE = (
    "hash",
    "getBucketRange",
    "chooseVariation",
    "inNamespace",
    "getEqualWeights",
    "evalCondition",
    "stickyBucket",
    "feature",
)
"""Groups of which no case is left out."""
IN_A_BROWSER = {
    ("run", "querystring force"): "a variation forced by the address of a page in a browser",
    ("run", "querystring force with inactive"): "a variation forced by the address of a page in a browser",
    (
        "contextualBandit",
        "querystring force overrides CB routing",
    ): "a variation forced by the address of a page in a browser",
}
"""The cases that are left out, and why."""


@pytest.fixture(scope="module")
def found() -> list[Outcome]:
    """Return what became of each case."""
    if not CASES.exists():
        pytest.skip(f"GrowthBook's vectors are not in {CASES}: set KNUDGE_CONFORMANCE")
    return list(outcomes(json.loads(CASES.read_text())))


def test_every_case_that_is_run_passes(found: list[Outcome]) -> None:
    """Nothing differs from what GrowthBook's SDKs give."""
    assert [outcome for outcome in found if outcome.excluded is None and not outcome.passed] == []


def test_only_what_depends_on_a_browser_is_left_out(found: list[Outcome]) -> None:
    """Every case that is left out stands in a list, with its reason."""
    left_out = {(outcome.group, outcome.name): outcome.excluded for outcome in found if outcome.excluded is not None}
    assert left_out.items() <= IN_A_BROWSER.items()
    run = [outcome.group for outcome in found if outcome.excluded is None]
    assert {group: run.count(group) for group in WHOLE} == {group: _cases(found, group) for group in WHOLE}
    assert all(run.count(group) for group in (*WHOLE, "run"))


@pytest.mark.parametrize(
    ("cases", "status", "printed"),
    [
        ({"hash": [["", "a", 1, 0.22]]}, 0, "hash: passed 1 of 1\n"),
        (
            {"hash": [["", "a", 1, 0.22], ["", "a", 1, 0.23]]},
            1,
            "hash: passed 1 of 2\n  FAILED 'a' under '', version 1: 0.22\n",
        ),
        ({"evalCondition": [["broken", 7, {}, True]]}, 0, "evalCondition: passed 1 of 1\n"),
        ({"inNamespace": [["wrong", "a", 7, True]]}, 1, "inNamespace: passed 0 of 1\n  FAILED wrong: "),
        (
            {"run": [["by address", {"url": "/?a=1"}, {"key": "a", "variations": [0, 1]}, 1, True, False]]},
            0,
            "run: passed 0 of 0 (1 left out)\n  left out by address: a variation forced",
        ),
        ({"specVersion": "0.8.0", "decrypt": [["a", "b", "c", "d"]]}, 0, "decrypt: passed 0 of 0 (1 left out)\n"),
    ],
)
def test_the_report_counts_and_tells(
    cases: dict[str, Any], status: int, printed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A case that fails is counted, shown, and makes the exit status 1; one that is left out does neither."""
    assert report(cases) == status
    assert capsys.readouterr().out.startswith(printed)


def _cases(found: list[Outcome], group: str) -> int:
    return sum(outcome.group == group for outcome in found)
