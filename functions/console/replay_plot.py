"""Draws what a replay found: one panel per campaign, one point with its 95 % interval per policy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from functions.console.replay_evaluation import CampaignResult, PolicyEstimate

# Okabe and Ito's palette, told apart with any colour vision; the markers differ too, for print.
_POLICY_TO_STYLE = {"learned": ("#0072B2", "o"), "uniform": ("#E69F00", "s"), "bts": ("#009E73", "D")}
_POLICY_TO_LABEL = {"learned": "learned", "uniform": "uniform", "bts": "Thompson (bts)"}


def draw(results: Sequence[CampaignResult], path: Path) -> None:
    """Write the plot of `results` (at least one) as a PNG to `path`, making its folder."""
    figure = Figure(figsize=(3.6 * len(results) + 0.6, 4.9), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(results), sharey=True, squeeze=False)[0]
    for axis, result in zip(axes, results, strict=True):
        _draw_panel(axis, result)
    axes[0].set_ylabel("clicks per 100 impressions")
    axes[0].set_ylim(bottom=0.0)
    figure.suptitle("Open Bandit Dataset: estimated click rate on held-out impressions, 95 % intervals", fontsize=11)
    figure.text(
        0.5,
        -0.01,
        "learned, uniform: self-normalised importance weighting on the random log.  Thompson (bts), the "
        "dataset's own: mean of its log.\nRows and clicks are effective numbers: what equally weighted ones "
        "would tell as much.",
        ha="center",
        va="top",
        fontsize=8,
        color="#555555",
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, bbox_inches="tight", facecolor="white")


def _draw_panel(axis: Axes, result: CampaignResult) -> None:
    rows = [row for row in result.estimates if not row.cross_check]
    for place, row in enumerate(rows):
        _draw_point(axis, place, row)
    told_apart = [c for c in result.comparisons if c.is_clear]
    verdict = "too few clicks to tell them apart"
    if told_apart:
        verdict = "told apart: " + ", ".join(f"{c.first} from {c.second}" for c in told_apart)
    axis.set_title(f"{result.campaign}\n", fontsize=11, fontweight="bold")
    axis.text(0.5, 1.02, verdict, transform=axis.transAxes, ha="center", va="bottom", fontsize=8.5, color="#555555")
    axis.set_xlim(-0.5, len(rows) - 0.5)
    axis.set_xticks(
        range(len(rows)),
        [
            f"{_POLICY_TO_LABEL[row.policy]}\n{row.estimate.effective_sample_size:,.0f} rows\n"
            f"{row.estimate.effective_rewards:.1f} clicks"
            for row in rows
        ],
        fontsize=8.5,
    )
    axis.grid(axis="y", color="#dddddd", linewidth=0.7)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)


def _draw_point(axis: Axes, place: int, row: PolicyEstimate) -> None:
    colour, marker = _POLICY_TO_STYLE[row.policy]
    rate = 100.0 * row.estimate.value
    interval = row.estimate.interval()
    # A click rate is not negative: the bar is cut at zero. Without an interval: a hollow point, no bar.
    error = None if interval is None else [[rate - 100.0 * max(0.0, interval[0])], [100.0 * interval[1] - rate]]
    face = "white" if interval is None else colour
    axis.errorbar(
        [place],
        [rate],
        yerr=error,
        fmt=marker,
        color=colour,
        markerfacecolor=face,
        markersize=8,
        capsize=5,
        linewidth=1.8,
    )
    axis.annotate(f"{rate:.2f}", (place, rate), xytext=(9, 0), textcoords="offset points", va="center", fontsize=9)
