"""`knudge experiment`: the experiments that there are, what one shows, and how many units one takes.

`list` asks `control`, `report` asks `analyse`, both behind one URL; `power` asks nobody; `actions` reads the
decisions in PostgreSQL.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from functions.console import experiment_actions, experiment_power

_RETRY_FOR_S = 10.0
_ANSWER_S = 300.0
"""Reading what a million units did takes its time."""


def add_to(commands: Any, add_url: Callable[[argparse.ArgumentParser], None]) -> None:  # noqa: ANN401
    """Add the command to the parser's `commands`; `add_url` adds the option that says where the functions answer."""
    parser = commands.add_parser("experiment", help="what experiments show, and how many units they take")
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    listing = verbs.add_parser("list", help="the experiments that there are")
    add_url(listing)
    listing.set_defaults(run=_list)

    report = verbs.add_parser("report", help="what an experiment shows: a table, and plots of its course")
    report.description = (
        "Show what an experiment has shown so far. The plots show each effect with its interval as it was found at every analysis "
        "that was kept (one an hour)."
    )
    report.add_argument("key", metavar="KEY", help="of the experiment")
    add_url(report)
    report.add_argument("--phase", type=int, metavar="N", help="(default: the newest)")
    report.add_argument(
        "--output",
        type=Path,
        default=Path("build/experiment"),
        metavar="DIR",
        help="for the plots (default: build/experiment)",
    )
    report.add_argument("--no-plots", action="store_true", help="only the table")
    report.add_argument("--json", action="store_true", help="what `analyse` answers")
    report.set_defaults(run=_report)

    experiment_power.add_to(verbs)
    experiment_actions.add_to(verbs)


def _list(arguments: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from functions.console.client import Client

    with Client(arguments.url, retry_for_s=_RETRY_FOR_S) as client:
        experiments = client.get("/v1/experiments")["experiments"]
    table = Table(box=None)
    for name in ("experiment", "status", "kind"):
        table.add_column(name, overflow="fold")
    for name in ("version", "phase"):
        table.add_column(name, justify="right")
    table.add_column("variations", overflow="fold")
    for line in experiments:
        table.add_row(
            Text(line["key"]),
            line["status"],
            line["kind"],
            str(line["version"]),
            str(line["phase"]),
            Text(", ".join(line["variations"])),
        )
    Console().print(table)
    return 0


def _report(arguments: argparse.Namespace) -> int:
    from urllib.parse import quote

    import msgspec

    from functions.console.client import Client
    from functions.console.experiment_report import show
    from shared.edge.result_contracts import Results

    phase = "" if arguments.phase is None else f"?phase={arguments.phase}"
    with Client(arguments.url, timeout_s=_ANSWER_S, retry_for_s=_RETRY_FOR_S) as client:
        answer = client.get(f"/v1/experiments/{quote(arguments.key, safe='')}/results{phase}")
    if arguments.json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(answer)).decode() + "\n")
        return 0
    results = msgspec.convert(answer, Results, strict=False)
    show(results)
    if not arguments.no_plots:
        from functions.console.experiment_plot import draw

        for path in draw(results, arguments.output):
            print(path)
    return 0
