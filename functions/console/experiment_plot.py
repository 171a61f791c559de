"""Draws the course of an experiment: every effect with its interval, as it was found at each analysis."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from shared.edge.result_contracts import CourseEffect, EffectOut, MetricOut, Results

# Okabe and Ito's palette, told apart with any colour vision.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_QUIET = "#555555"
_ROW = 2.7

Found = CourseEffect | EffectOut


def draw(results: Results, folder: Path) -> list[Path]:
    """Write a PNG for every metric into `folder`, named `EXPERIMENT-PHASE-METRIC.png`; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for metric in results.metrics:
        path = folder / f"{_plain(results.experiment)}-{results.phase}-{_plain(metric.name)}.png"
        with rc_context({"date.converter": "concise"}):
            _draw_metric(results, metric, path)
        written.append(path)
    return written


def _draw_metric(results: Results, metric: MetricOut, path: Path) -> None:
    figure = Figure(figsize=(8.6, 1.5 + _ROW), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    is_relative = any(effect.relative_low is not None for effect in metric.effects)
    drawn = [
        _draw_effect(
            axis,
            effect,
            _course(results, metric, effect),
            relative=is_relative,
            colour=_COLOURS[at % len(_COLOURS)],
        )
        for at, effect in enumerate(metric.effects)
    ]
    axis.axhline(0.0, color=_QUIET, linewidth=1.0)
    if metric.margin:
        limit = -metric.margin if metric.goal == "increase" else metric.margin
        if is_relative:
            axis.axhline(limit, color="#D55E00", linewidth=1.0, linestyle="--")
            axis.annotate(
                f"guardrail {limit:+.1%}",
                (0.005, limit),
                xycoords=("axes fraction", "data"),
                fontsize=8,
                color="#D55E00",
                va="bottom",
            )
    if is_relative:
        axis.yaxis.set_major_formatter(PercentFormatter(1.0))
    axis.set_ylabel("relative effect" if is_relative else "difference")
    axis.grid(color="#dddddd", linewidth=0.7)
    axis.spines[["top", "right"]].set_visible(False)
    if any(drawn):
        axis.legend(fontsize=8.5, frameon=False, loc="best")
    else:
        axis.text(0.5, 0.6, "nothing can be said yet", transform=axis.transAxes, ha="center", color=_QUIET)
    sort = (
        "confidence sequence"
        if results.inference == "sequential"
        else f"{results.inference.replace('_', ' ')} interval"
    )
    axis.set_title(
        f"{metric.kind}, shall {metric.goal}; {results.confidence:.0%} {sort} against {results.control}; "
        f"{metric.complete:,} units counted",
        fontsize=9,
        color=_QUIET,
        loc="left",
    )
    verdict = results.verdict + (f": {results.variation}" if results.variation else "")
    figure.suptitle(
        f"{results.experiment}: {metric.name}   [{verdict}]", fontsize=11.5, fontweight="bold", x=0.01, ha="left"
    )
    unfinished = path.with_name(f".{path.name}.unfinished")
    figure.savefig(unfinished, format="png", facecolor="white")
    unfinished.replace(path)


def _course(results: Results, metric: MetricOut, effect: EffectOut) -> list[tuple[datetime, Found]]:
    """Return an effect at every kept analysis, and as it is now."""
    found: list[tuple[datetime, Found]] = [
        (point.analysed_at, each)
        for point in results.course
        for each in point.effects
        if (each.metric, each.variation) == (metric.name, effect.variation)
    ]
    return [*found, (results.analysed_at, effect)]


def _draw_effect(
    axis: Axes, effect: EffectOut, course: Sequence[tuple[datetime, Found]], *, relative: bool, colour: str
) -> bool:
    """Draw one variation; return whether there was anything to draw."""
    points = []
    for moment, found in course:
        bounds = (
            (found.relative, found.relative_low, found.relative_high)
            if relative
            else (found.difference, found.low, found.high)
        )
        middle, low, high = bounds
        if middle is not None and low is not None and high is not None:
            points.append((moment, middle, low, high))
    if not points:
        return False
    moments, middles, lows, highs = zip(*points, strict=True)
    form = ".1%" if relative else ".3g"
    label = f"{effect.variation}: {middles[-1]:+{form}} ({lows[-1]:+{form}} to {highs[-1]:+{form}})"
    axis.fill_between(moments, lows, highs, color=colour, alpha=0.15, linewidth=0)
    axis.plot(moments, middles, color=colour, linewidth=1.8, label=label)
    axis.errorbar(
        moments[-1:],
        middles[-1:],
        yerr=([middles[-1] - lows[-1]], [highs[-1] - middles[-1]]),
        color=colour,
        marker="o",
        markersize=5,
        capsize=4,
        linewidth=1.8,
    )
    return True


def _plain(name: str) -> str:
    """Return a name as it may stand in a file's name."""
    return "".join(character if character.isalnum() or character in "-_." else "_" for character in name)
