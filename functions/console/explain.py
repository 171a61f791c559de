"""`knudge explain DECISION_ID`: a stored decision, decided again by `control`, shown position by position.

Exit status 1 where what is stored is not what the snapshot, the context and the server's key give.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from shared.edge.explanations import ExplainedItem, Explanation

DIFFERS = 1
MOST_ACTIONS = 20
MOST_FEATURES = 6
_RETRY_FOR_S = 10.0


def add_to(commands: Any, add_url: Callable[[argparse.ArgumentParser], None]) -> None:  # noqa: ANN401
    """Add the command to the parser's `commands`; `add_url` adds the option that says where `control` answers."""
    parser = commands.add_parser("explain", help="recompute a stored decision: chances, draw, what moved it")
    parser.description = (
        "Recompute a stored decision from its snapshot, its context and the server's key, and compare. "
        "Status 0: it is as stored; 1: it differs, or cannot be read."
    )
    add_url(parser)
    parser.add_argument("decision", metavar="DECISION_ID", help="the id that a recommendation gave")
    parser.add_argument("--json", action="store_true", help="the answer of `control` as it is")
    parser.add_argument("--all", action="store_true", help=f"every action (default: {MOST_ACTIONS} a position)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Explain one decision. Raises `ConsoleFailure`."""
    from urllib.parse import quote

    import msgspec

    from functions.console.client import Client
    from shared.edge.explanations import Explanation

    with Client(arguments.url, retry_for_s=_RETRY_FOR_S) as client:
        answer = client.get(f"/v1/decisions/{quote(arguments.decision, safe='')}/explanation")
    if arguments.json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(answer)).decode() + "\n")
    else:
        _show(msgspec.convert(answer, Explanation), whole=arguments.all)
    return DIFFERS if answer["agrees"] is False else 0


def _show(explanation: Explanation, *, whole: bool) -> None:
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False)
    version = f"version {explanation.policy_version}, snapshot {explanation.snapshot_version}"
    kind = "" if explanation.kind is None else f", {explanation.kind}, floor {explanation.exploration_floor:g}"
    console.print(f"[bold]{escape(explanation.policy)}[/bold] {version}{kind}")
    console.print(f"decided {explanation.decided_at} by revision {escape(explanation.revision)}")
    if explanation.context:
        given = ", ".join(f"{name}={value!r}" for name, value in explanation.context.items())
        console.print(f"context {escape(given)}")
    for note in explanation.notes:
        console.print(escape(note))
    for item in explanation.items:
        _show_item(console, item, len(explanation.items), whole=whole)
    if explanation.agrees:
        console.print("[green]as stored[/green]: the same actions, and their propensities to 1e-9")
    for difference in explanation.differences:
        console.print(f"[red]differs[/red]: {escape(difference)}")


def _show_item(console: Console, item: ExplainedItem, items: int, *, whole: bool) -> None:
    from rich.table import Table
    from rich.text import Text

    place = "" if items == 1 else f"position {item.position}: "
    reward = "no feedback" if item.reward is None else f"reward {item.reward:g}"
    stored = "unknown" if item.propensity is None else f"{item.propensity:.12g}"
    table = Table(
        title=f"{place}{item.action}, propensity {stored}, {reward}", title_justify="left", title_style="bold", box=None
    )
    table.add_column("action", overflow="fold")
    for name in ("propensity", "up to", "score", "rewards", "mean"):
        table.add_column(name, justify="right")
    moved = any(action.contributions for action in item.actions)
    if moved:
        table.add_column("features that moved the score", overflow="fold")
    below = 0.0
    rows = []
    for action in item.actions:
        below += action.propensity
        cells: list[str | Text] = [
            Text(action.action),
            f"{action.propensity:.6f}",
            f"{below:.6f}",
            "untried" if action.score is None else f"{action.score:.6g}",
            f"{action.weight:.6g}",
            "" if action.mean is None else f"{action.mean:.6g}",
        ]
        if moved:
            cells.append(_contributions(action.contributions))
        rows.append((action.action in {item.action, item.drawn}, action.propensity, cells))
    likely = sorted(rows, key=lambda row: (not row[0], -row[1]))
    shown = rows if whole else [row for row in rows if row in likely[:MOST_ACTIONS]]
    for chosen, _, cells in shown:
        table.add_row(*cells, style="bold cyan" if chosen else None)
    console.print(table)
    if len(shown) < len(rows):
        console.print(f"and {len(rows) - len(shown)} more (--all)", style="dim")
    console.print(f"the draw {item.draw:.6f} chooses {item.drawn}", markup=False)


def _contributions(contributions: dict[str, float]) -> str:
    largest = sorted(contributions.items(), key=lambda pair: -abs(pair[1]))
    said = ", ".join(f"{name} {value:+.3g}" for name, value in largest[:MOST_FEATURES])
    return said + (f", {len(largest) - MOST_FEATURES} more" if len(largest) > MOST_FEATURES else "")
