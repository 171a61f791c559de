"""Shows a running simulation in the terminal: progress, regret, and two sparklines on one scale."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from functions.console.regret import RegretCurve

_BLOCKS = "▁▂▃▄▅▆▇█"
_SPARK_WIDTH = 30


def sparkline(values: Sequence[float], highest: float, width: int = _SPARK_WIDTH) -> str:
    """Draw `values` (>= 0) as at most `width` characters; `highest` fills a whole block.

    >>> sparkline([0.0, 1.0, 2.0, 4.0], highest=4.0)
    '▁▂▄█'
    """
    if not values or highest <= 0.0:
        return ""
    width = min(width, len(values))
    picked = [values[round(place * (len(values) - 1) / max(1, width - 1))] for place in range(width)]
    return "".join(_BLOCKS[min(len(_BLOCKS) - 1, int(value / highest * (len(_BLOCKS) - 1)))] for value in picked)


def render(policy: str, curve: RegretCurve, planned: int, elapsed_s: float) -> RenderableType:
    """Return what to show of `curve` after `elapsed_s` seconds of `planned` visits."""
    progress = Table.grid(padding=(0, 2))
    progress.add_row(
        Text(policy, style="bold"),
        ProgressBar(total=planned, completed=curve.finished, width=24),
        f"{curve.finished:,} / {planned:,}",
        f"{curve.finished / elapsed_s:,.0f} decisions/s" if elapsed_s > 0 else "",
    )
    numbers = Table(box=None, padding=(0, 2), pad_edge=False)
    numbers.add_column("cumulative regret, expected clicks")
    numbers.add_column("", justify="right")
    numbers.add_column("")
    highest = max(curve.policy_regret, curve.uniform_regret)
    for name, values in (
        ("policy", curve.policy),
        ("uniform", curve.uniform),
        ("oracle", (0.0,) * len(curve.visits)),
    ):
        numbers.add_row(name, f"{values[-1]:,.1f}", sparkline(values, highest))
    return Group(progress, "", numbers, "", Text(summary(curve)))


def summary(curve: RegretCurve) -> str:
    """Say in one line how the policy does."""
    if not curve.finished:
        return "no visit has finished yet"
    share = curve.policy_regret / curve.uniform_regret if curve.uniform_regret > 0 else 1.0
    line = (
        f"{curve.clicks:,} clicks ({100 * curve.clicks / curve.finished:.1f} %); "
        f"regret is {100 * share:.0f} % of uniform's; "
        f"{100 * curve.best_share:.0f} % of the last tenth of visits were given their best item"
    )
    return f"{line}; {curve.degraded:,} degraded answers" if curve.degraded else line
