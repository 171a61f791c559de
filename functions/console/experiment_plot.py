"""Draws the course of an experiment: every effect with its interval, as it was found at each analysis that was kept."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from shared.edge.result_contracts import CourseEffect, EffectOut, MetricOut, Results

_EFFECT, _LIMIT, _QUIET = "#0072B2", "#D55E00", "#555555"
_ABREAST = 3
_WIDENING = 2.5
"""How far the plot reaches, in widths of what is known now: the first intervals are far wider than what one wants to see."""


class _Point(NamedTuple):
    moment: datetime
    middle: float
    low: float
    high: float


def draw(results: Results, folder: Path) -> list[Path]:
    """Write a PNG for every metric into `folder`, named `EXPERIMENT-PHASE-METRIC.png`; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for metric in results.metrics:
        path = folder / f"{_plain(results.experiment)}-{results.phase}-{_plain(metric.name)}.png"
        with rc_context({"date.converter": "concise"}):
            figure = _figure(results, metric)
        unfinished = path.with_name(f".{path.name}.unfinished")
        figure.savefig(unfinished, format="png", facecolor="white")
        unfinished.replace(path)
        written.append(path)
    return written


def _figure(results: Results, metric: MetricOut) -> Figure:
    """Return the plot of a metric: a panel for each variation."""
    panels = max(len(metric.effects), 1)
    abreast = min(panels, _ABREAST)
    rows = -(-panels // abreast)
    figure = Figure(figsize=(2.4 + 3.4 * abreast, 1.2 + 2.7 * rows), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, abreast, sharex=True, sharey=True, squeeze=False)
    relative = any(effect.relative_low is not None for effect in metric.effects)
    courses = [_course(results, metric, effect, relative=relative) for effect in metric.effects]
    for axis, effect, course in zip(axes.flat, metric.effects, courses, strict=False):
        _draw_effect(axis, effect, course, relative=relative)
        if metric.margin and relative:
            _draw_limit(axis, metric, metric.margin)
    for axis in axes.flat[len(courses) :]:
        axis.axis("off")
    _bound(axes[0, 0], metric, [course for course in courses if course], relative=relative)
    for axis in axes[:, 0]:
        axis.set_ylabel("relative effect" if relative else "difference")
    inference = results.inference.replace("_", " ")
    sort = "confidence sequence" if results.inference == "sequential" else f"{inference} interval"
    verdict = results.verdict.replace("_", " ") + (f" {results.variation}" if results.variation else "")
    figure.suptitle(
        f"{results.experiment}: {metric.name}, shall {metric.goal}. Verdict of the experiment: {verdict}\n"
        f"{results.confidence:.0%} {sort} against {results.control}; {metric.complete:,} units counted",
        fontsize=10,
    )
    return figure


def _course(results: Results, metric: MetricOut, effect: EffectOut, *, relative: bool) -> list[_Point]:
    """Return an effect at every kept analysis and as it is now, where there was an interval."""
    found: list[tuple[datetime, CourseEffect | EffectOut]] = [
        (point.analysed_at, each)
        for point in results.course
        for each in point.effects
        if (each.metric, each.variation) == (metric.name, effect.variation)
    ]
    points = []
    for moment, each in [*found, (results.analysed_at, effect)]:
        bounds = (each.difference, each.low, each.high)
        middle, low, high = (each.relative, each.relative_low, each.relative_high) if relative else bounds
        if middle is not None and low is not None and high is not None:
            points.append(_Point(moment, middle, low, high))
    return points


def _draw_effect(axis: Axes, effect: EffectOut, course: Sequence[_Point], *, relative: bool) -> None:
    axis.axhline(0.0, color=_QUIET, linewidth=1.0)
    axis.grid(color="#dddddd", linewidth=0.7)
    axis.spines[["top", "right"]].set_visible(False)
    if relative:
        axis.yaxis.set_major_formatter(PercentFormatter(1.0))
    if not course:
        axis.set_title(f"{effect.variation}: nothing can be said yet", fontsize=9, color=_QUIET)
        return
    moments, middles, lows, highs = zip(*course, strict=True)
    form = "+.1%" if relative else "+.3g"
    axis.set_title(
        f"{effect.variation}: {middles[-1]:{form}} ({lows[-1]:{form}} to {highs[-1]:{form}})", fontsize=9, color=_EFFECT
    )
    axis.fill_between(moments, lows, highs, color=_EFFECT, alpha=0.18, linewidth=0)
    axis.plot(moments, middles, color=_EFFECT, linewidth=1.8)
    axis.vlines(moments[-1], lows[-1], highs[-1], color=_EFFECT, linewidth=2.2)
    axis.plot(moments[-1], middles[-1], "o", color=_EFFECT, markersize=5)


def _draw_limit(axis: Axes, metric: MetricOut, margin: float) -> None:
    limit = -margin if metric.goal == "increase" else margin
    axis.axhline(limit, color=_LIMIT, linewidth=1.2, linestyle="--")
    axis.annotate(
        f"guardrail {limit:+.1%}",
        (0.015, limit),
        xycoords=("axes fraction", "data"),
        xytext=(0, 3 if limit > 0 else -3),
        textcoords="offset points",
        fontsize=8,
        color=_LIMIT,
        va="bottom" if limit > 0 else "top",
        bbox={"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 1.0},
    )


def _bound(axis: Axes, metric: MetricOut, courses: Sequence[Sequence[_Point]], *, relative: bool) -> None:
    """Let the plot reach as far as what is known now asks for, however wide the first intervals were."""
    if not courses:
        axis.set_ylim(-1.0, 1.0)
        return
    known = max(max(abs(course[-1].low), abs(course[-1].high)) for course in courses)
    reach = max(_WIDENING * known, 1.5 * (metric.margin or 0.0) if relative else 0.0) or 1.0
    low = min(point.low for course in courses for point in course)
    high = max(point.high for course in courses for point in course)
    margin = metric.margin or 0.0 if relative else 0.0
    low, high = min(low, -1.3 * margin), max(high, 1.3 * margin)
    bottom, top = np.clip((low, high), -reach, reach).tolist()
    axis.set_ylim(bottom - 0.05 * (top - bottom), top + 0.05 * (top - bottom))


def _plain(name: str) -> str:
    """Return a name as it may stand in a file's name."""
    return "".join(character if character.isalnum() or character in "-_." else "_" for character in name)
