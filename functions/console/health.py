"""`knudge health`: are actions chosen as often as their propensities say? By policy, from `control`.

Exit status 1 where the newest version of some policy raises an alarm.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shared.edge.explanations import WatchedPropensities, WatchedVersion

ALARM = 1
_RETRY_FOR_S = 10.0


def add_to(commands: Any, add_url: Callable[[argparse.ArgumentParser], None]) -> None:  # noqa: ANN401
    """Add the command to the parser's `commands`; `add_url` adds the option that says where `control` answers."""
    parser = commands.add_parser("health", help="are actions chosen as often as their propensities say?")
    parser.description = (
        "Show what `learn` has seen of propensities: what was chosen against what was to be expected. "
        f"Status 0: nothing speaks against them; {ALARM}: the newest version of a policy raises an alarm."
    )
    add_url(parser)
    parser.add_argument("--policy", metavar="NAME", help="action by action (default: a line for every policy)")
    parser.add_argument("--json", action="store_true", help="what `control` answers, as a list")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Show health. Raises `ConsoleFailure`."""
    from urllib.parse import quote

    import msgspec

    from functions.console.client import Client
    from shared.edge.explanations import WatchedPropensities

    with Client(arguments.url, retry_for_s=_RETRY_FOR_S) as client:
        if arguments.policy is None:
            names = [line["name"] for line in client.get("/v1/policies")["policies"]]
        else:
            names = [arguments.policy]
        answers = [client.get(f"/v1/policies/{quote(name, safe='')}/propensities") for name in names]
    watched = msgspec.convert(answers, list[WatchedPropensities])
    if arguments.json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(answers)).decode() + "\n")
    elif arguments.policy is None:
        _show_policies(watched)
    else:
        _show_policy(watched[0])
    return ALARM if any(each.versions and each.versions[0].alarm for each in watched) else 0


def _show_policies(watched: list[WatchedPropensities]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None)
    table.add_column("policy", overflow="fold")
    for name in ("version", "items seen", "differ", "evidence", "alarm from"):
        table.add_column(name, justify="right")
    table.add_column("")
    for each in watched:
        if not each.versions:
            table.add_row(Text(each.policy), "", "0", "", "", "", "nothing seen yet")
            continue
        newest = each.versions[0]
        table.add_row(
            Text(each.policy),
            str(newest.policy_version),
            f"{newest.choices:,}",
            f"{newest.different:,}",
            _evidence(newest.evidence),
            f"{newest.threshold:.1f}",
            _verdict(newest),
        )
    Console().print(table)


def _show_policy(watched: WatchedPropensities) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    if not watched.versions:
        console.print(f"{escape(watched.policy)}: nothing seen yet")
    for version in watched.versions:
        name = f"version {version.policy_version}" if version.policy_version else "without a snapshot"
        console.print(
            f"[bold]{escape(watched.policy)}[/bold] {name}: {version.choices:,} items seen, {version.different:,} differ, "
            f"evidence {_evidence(version.evidence)} of {version.threshold:.1f}: {_verdict(version)}"
        )
        table = Table(box=None)
        table.add_column("chosen", overflow="fold")
        for heading in ("times", "expected", "deviation", "evidence"):
            table.add_column(heading, justify="right")
        for event in [*version.draws, *version.actions]:
            deviation = "" if event.deviation is None else f"{event.deviation:+.2f}"
            table.add_row(
                Text(event.event, style="dim" if event in version.draws else ""),
                f"{event.count:,.0f}",
                f"{event.expected:,.1f}",
                deviation,
                _evidence(event.evidence),
            )
        console.print(table)


def _evidence(evidence: float | None) -> str:
    return "infinite" if evidence is None else f"{evidence:.2f}"


def _verdict(version: WatchedVersion) -> str:
    return "[red]alarm[/red]" if version.alarm else "[green]as stated[/green]"
