"""Prints what an evaluation says, for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from functions.console.evaluation_report import Judged, Report
from shared.evaluation.value_estimate import CONFIDENCE, ValueEstimate

if TYPE_CHECKING:
    from rich.console import Console

_GUESSES: Mapping[str, str] = {
    "direct_method": "the direct method is only as right as its reward model",
    "fitted_q_evaluation": "fitted-Q evaluation is only as right as the state says all that matters",
}
"""What holds up an estimate that is shown although it weighs nothing."""


def show(report: Report, *, whole: bool) -> None:
    """Print the table, the best candidate first; `whole`: a line for every estimator."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    rows = f"{report.rows:,} sessions of {report.decisions:,}" if report.unit == "session" else f"{report.rows:,}"
    console.print(
        f"{report.policy}: {rows} decisions, {report.blocks} times learned; reward of a {report.unit}",
        style="bold",
        markup=False,
    )
    table = Table(box=None)
    table.add_column("candidate", overflow="fold")
    for heading in ("estimate", "95 % interval", "lift", f"{report.confidence:.1%} interval", "rows' worth"):
        table.add_column(heading, justify="right")
    table.add_column("estimator" if whole else "")
    table.add_row("as logged", *_cells(report.logged), "", "", f"{report.logged.rows:,}", "", style="dim")
    for each in sorted(report.judged, key=lambda one: -one.estimate.value):
        lift, between = "", ""
        if each.lift is not None:
            lift, between = f"{each.lift.value:+.5f}", _interval(each.lift.interval(report.confidence), signed=True)
        told = each.lift is not None and each.lift.is_told_apart(report.confidence)
        for estimate in each.estimates if whole else (each.estimate,):
            main = estimate is each.estimate
            doubts = estimate.estimator if whole else "doubtful" if estimate.warnings else ""
            table.add_row(
                Text(each.name if main else ""),
                *_cells(estimate),
                Text(lift if main else "", style="green" if told and each.lift and each.lift.value > 0 else ""),
                between if main else "",
                f"{estimate.effective_sample_size:,.0f}",
                doubts,
                style="bold" if main and whole else None,
            )
    console.print(table)
    _show_doubts(console, report)


def _show_doubts(console: Console, report: Report) -> None:
    """Print what was left out, and what speaks against the estimates."""
    for reason, count in sorted(report.left_out.items()):
        console.print(f"left out: {count:,}, {reason}", markup=False)
    for note in report.notes:
        console.print(note, markup=False)
    for each in report.judged:
        for warning in each.estimate.warnings:
            console.print(f"{each.name}: {warning}", style="yellow", markup=False)
        _show_forecast(console, each)
    for estimator, guess in _GUESSES.items():
        if any(each.estimate.estimator == estimator for each in report.judged):
            console.print(f"{guess}: take it for a guess", style="yellow")


def _show_forecast(console: Console, judged: Judged) -> None:
    """Print what fitted-Q evaluation says where the estimate that is shown is doubted, and it is not."""
    for estimate in judged.estimates:
        if estimate.estimator == "fitted_q_evaluation" and judged.estimate.warnings and not estimate.warnings:
            value, interval = _cells(estimate)
            console.print(
                f"{judged.name}: fitted-Q evaluation, as right as the state says all that matters, has {value}, {interval}",
                markup=False,
            )


def _cells(estimate: ValueEstimate) -> tuple[str, str]:
    return f"{estimate.value:.5f}", _interval(estimate.interval(CONFIDENCE))


def _interval(interval: tuple[float, float] | None, *, signed: bool = False) -> str:
    if interval is None:
        return ""
    form = "+.5f" if signed else ".5f"
    return f"{interval[0]:{form}} to {interval[1]:{form}}"
