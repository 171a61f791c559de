"""Draws the cumulative regret of a simulation."""

from __future__ import annotations

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from functions.console.regret import RegretCurve

_POLICY_COLOUR = "#0072B2"
_UNIFORM_COLOUR = "#E69F00"
_ORACLE_COLOUR = "#009E73"
_CLOSE = 0.05


def draw(curve: RegretCurve, path: Path, *, title: str, subtitle: str, planned: int) -> None:
    """Write the plot of `curve` as a PNG to `path`, replacing an older one in one step."""
    figure = Figure(figsize=(7.6, 4.6), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    lines = (
        ("uniform", curve.uniform, _UNIFORM_COLOUR, "--"),
        ("policy", curve.policy, _POLICY_COLOUR, "-"),
        ("oracle", (0.0,) * len(curve.visits), _ORACLE_COLOUR, ":"),
    )
    highest = max(curve.policy_regret, curve.uniform_regret, 1.0)
    for name, values, colour, style in lines:
        axis.plot(curve.visits, values, color=colour, linestyle=style, linewidth=2.0, clip_on=False)
        axis.annotate(
            f"{name} {values[-1]:,.0f}",
            (curve.visits[-1], values[-1]),
            xytext=(6, _nudge(name, curve, highest)),
            textcoords="offset points",
            va="center",
            fontsize=9.5,
            color=colour,
            fontweight="bold",
            annotation_clip=False,
        )
    axis.set_xlim(0, max(planned, 1))
    axis.set_ylim(bottom=0.0)
    axis.set_xlabel("decisions")
    axis.set_ylabel("cumulative regret (expected clicks missed)")
    axis.xaxis.set_major_formatter("{x:,.0f}")
    axis.grid(color="#dddddd", linewidth=0.7)
    axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=11.5, fontweight="bold")
    axis.set_title(subtitle, fontsize=9, color="#555555")
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.unfinished")
    figure.savefig(unfinished, format="png", facecolor="white", bbox_inches="tight")
    unfinished.replace(path)


def _nudge(name: str, curve: RegretCurve, highest: float) -> int:
    """Return by how many points to move a label so that those of two close lines do not cover each other."""
    if name == "oracle" or abs(curve.policy_regret - curve.uniform_regret) > _CLOSE * highest:
        return 0
    is_upper = (curve.policy_regret > curve.uniform_regret) == (name == "policy")
    return 7 if is_upper else -7
