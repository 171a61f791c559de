"""Draws an evaluation: every candidate's estimate with its interval, and how it came about over the log."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from functions.console.evaluation_report import Judged, Report
from shared.evaluation.value_estimate import CONFIDENCE

# Okabe and Ito's palette, told apart with any colour vision.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442")
_DASHES = ("-", "--", ":")
_LOGGED = "#555555"
_MOST_CURVES = 7


def draw(report: Report, path: Path) -> None:
    """Write the plot of a report as a PNG to `path`."""
    best = sorted(report.judged, key=lambda one: one.estimate.value)
    figure = Figure(figsize=(11.0, max(3.6, 1.6 + 0.42 * len(best))), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=(1.15, 1.0))
    styles = {each.name: (_COLOURS[at % 7], _DASHES[at // 7 % 3]) for at, each in enumerate(reversed(best))}
    _draw_estimates(left, report, best, styles)
    _draw_curves(right, report, best, styles)
    unit, rows = f"reward of a {report.unit}", "sessions" if report.unit == "session" else "decisions"
    left.set_xlabel(f"estimated {unit}, 95 % intervals")
    right.set_ylabel(unit)
    right.set_xlabel(f"{rows} judged so far")
    figure.suptitle(f"{report.policy}: what candidates would have earned on {report.rows:,} logged {rows}", fontsize=11)
    figure.savefig(path, facecolor="white")


def _draw_estimates(axis: Axes, report: Report, best: list[Judged], styles: dict[str, tuple[str, str]]) -> None:
    axis.axvline(report.logged.value, color=_LOGGED, linewidth=1.0, linestyle="--")
    interval = report.logged.interval(CONFIDENCE)
    if interval is not None:
        axis.axvspan(*interval, color=_LOGGED, alpha=0.12, linewidth=0)
    for place, each in enumerate(best):
        colour = styles[each.name][0]
        interval = each.estimate.interval(CONFIDENCE)
        if interval is not None:
            axis.plot(interval, (place, place), color=colour, linewidth=2.2, solid_capstyle="round")
        doubted = bool(each.estimate.warnings)
        axis.plot(each.estimate.value, place, "o", color=colour, markersize=6, fillstyle="none" if doubted else "full")
    axis.set_yticks(range(len(best)), [each.name for each in best], fontsize=8)
    axis.set_ylim(-0.7, len(best) - 0.3)
    axis.text(report.logged.value, len(best) - 0.35, " as logged", fontsize=8, color=_LOGGED, va="top")
    axis.grid(axis="x", alpha=0.3)
    if any(each.estimate.warnings for each in best):
        axis.set_title("hollow: there are doubts", fontsize=8, color=_LOGGED, loc="left")


def _draw_curves(axis: Axes, report: Report, best: list[Judged], styles: dict[str, tuple[str, str]]) -> None:
    axis.plot(
        report.places, report.logged_curve, color=_LOGGED, linewidth=1.0, linestyle="--", label="as logged", zorder=3
    )
    for each in list(reversed(best))[:_MOST_CURVES]:
        if len(each.curve) == len(report.places):
            colour, dashes = styles[each.name]
            axis.plot(report.places, each.curve, color=colour, linestyle=dashes, linewidth=1.4, label=each.name)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=7, framealpha=0.85, edgecolor="none")
