"""`knudge experiment power`: the numbers of textbooks, and what cannot be asked."""

from __future__ import annotations

import pytest

from functions.console.main import main


def shown(capsys: pytest.CaptureFixture[str], *argv: str) -> dict[str, list[str]]:
    """Return the columns that the command prints, by inference."""
    assert main(["experiment", "power", *argv]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    return {words[0]: words[1:] for words in lines if words and words[0] in {"sequential", "fixed_horizon"}}


def test_units_for_an_effect(capsys: pytest.CaptureFixture[str]) -> None:
    """From 10 to 12 %: about 3,840 units a variation at a fixed horizon (2,000 (z + z')² pooled: 3,841), at most 1.9 times that sequentially."""
    found = shown(capsys, "--rate", "0.1", "--effect", "0.2", "--daily", "1000")
    units = {name: int(columns[0].replace(",", "")) for name, columns in found.items()}
    assert units["fixed_horizon"] == pytest.approx(2 * 3_841, rel=0.002)
    assert 1.4 < units["sequential"] / units["fixed_horizon"] < 1.9
    assert found["fixed_horizon"][3:] == ["7.7", "+0.02", "+20.00%"]


def test_a_difference_in_uneven_shares(capsys: pytest.CaptureFixture[str]) -> None:
    """A fifth of the units in the variation: (z + z')² σ² (1/n + 1/m) = δ² where n = 4 m."""
    found = shown(capsys, "--mean", "10", "--deviation", "30", "--difference", "0.5", "--share", "0.2")
    units = float(found["fixed_horizon"][0].replace(",", ""))
    expected = (1.959964 + 0.841621) ** 2 * 30**2 * (1 / 0.8 + 1 / 0.2) / 0.5**2
    assert units == pytest.approx(expected, rel=1e-3)
    control, treated = (int(text.replace(",", "")) for text in found["fixed_horizon"][1:3])
    assert treated / (control + treated) == pytest.approx(0.2, abs=1e-4)


def test_the_effect_that_units_find(capsys: pytest.CaptureFixture[str]) -> None:
    """The question the other way round has the same answer."""
    found = shown(capsys, "--mean", "10", "--deviation", "30", "--units", "176606", "--share", "0.2")
    assert float(found["fixed_horizon"][3]) == pytest.approx(0.5, rel=1e-3)
    assert float(found["sequential"][3]) > 0.55


@pytest.mark.parametrize(
    ("argv", "word"),
    [
        (["--rate", "0.1", "--effect", "20"], "rate"),
        (["--rate", "1.1", "--effect", "0.1"], "rate"),
        (["--rate", "0.1", "--effect", "0"], "difference of 0"),
        (["--rate", "0.1", "--effect", "0.1", "--power", "0.01"], "power"),
        (["--rate", "0.1", "--effect", "0.1", "--confidence", "1"], "--confidence"),
        (["--rate", "0.1", "--effect", "0.1", "--share", "0"], "--share"),
        (["--rate", "0.1", "--effect", "0.1", "--daily", "0"], "--daily"),
        (["--rate", "0.1", "--units", "3"], "--units"),
        (["--mean", "3", "--units", "100"], "--deviation"),
        (["--rate", "0.1", "--deviation", "3", "--units", "100"], "--deviation"),
        (["--mean", "0", "--deviation", "3", "--effect", "0.1"], "--effect"),
    ],
)
def test_what_cannot_be_asked_is_one_line(capsys: pytest.CaptureFixture[str], argv: list[str], word: str) -> None:
    """Status 1, and a line that says what does not fit."""
    assert main(["experiment", "power", *argv]) == 1
    said = capsys.readouterr().err
    assert word in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("argv", [[], ["--rate", "x", "--effect", "1"], ["--rate", "0.1"], ["--effect", "0.1"]])
def test_a_wrong_call_is_status_2(argv: list[str]) -> None:
    """As everywhere: the parser says how it is called."""
    with pytest.raises(SystemExit) as ended:
        main(["experiment", "power", *argv])
    assert ended.value.code == 2
