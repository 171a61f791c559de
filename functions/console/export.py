"""`knudge export`: one policy's decisions with rewards, as Parquet, for Open Bandit Pipeline, or for Vowpal Wabbit.

Reads PostgreSQL directly, in bounded memory, and writes a file that stands there whole or not at all.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from functions.console.moment import add_span, span

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from functions.console.decided_items import DecidedItem, DecidedItems

FORMATS = ("parquet", "obp", "vw")


def add_to(commands: Any) -> None:  # noqa: ANN401 - argparse names no public type for what add_subparsers returns
    """Add the command to the parser's `commands`."""
    parser = commands.add_parser("export", help="write decisions with rewards as Parquet, for obp or for VW")
    parser.description = (
        "Write the decisions of a policy in PostgreSQL ($KNUDGE_DATABASE_URL), one item a row, with their rewards: "
        "parquet; obp, a bandit-feedback dictionary in an .npz; vw, dsjson lines. Users are pseudonyms."
    )
    parser.add_argument("--policy", required=True, metavar="NAME")
    add_span(parser)
    parser.add_argument("--format", required=True, choices=FORMATS)
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="is replaced where it exists")
    parser.add_argument("--settled", action="store_true", help="only decisions whose reward window is over")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the file. Raises `ConsoleFailure`, `Misconfigured`, `Unavailable`, `UnknownPolicy`."""
    import os
    import time

    from functions.console.decided_items import DecidedItems
    from functions.console.failure import ConsoleFailure
    from functions.console.progress import counting
    from shared.settings import Settings
    from shared.storage.postgres_log import opened

    settings = Settings.load(os.environ, ("database_url",))
    began, until = span(arguments)
    out: Path = arguments.out
    part = out.with_name(f".{out.name}.part")
    with opened(settings.database_url) as log:
        items = DecidedItems(log, arguments.policy, time.time())
        size = log.size(arguments.policy, began, until)
        passes = 2 if arguments.format == "obp" else 1
        with counting("decisions read", size * passes) as advance:

            def read() -> Iterator[DecidedItem]:
                items.left_out.clear()
                for item in items.read(began, until, advance):
                    if arguments.settled and not item.settled:
                        items.left_out["reward window not over"] += 1
                    else:
                        yield item

            try:
                part.parent.mkdir(parents=True, exist_ok=True)
                rows = _write(arguments.format, part, read, items)
                part.replace(out)
            except OSError as error:
                message = f"{out} cannot be written: {error.strerror or error}"
                raise ConsoleFailure(message, field="out") from error
            finally:
                part.unlink(missing_ok=True)
    for reason, count in sorted(items.left_out.items()):
        sys.stderr.write(f"left out: {count:,}, {reason}\n")
    print(f"{out}: {rows:,} items")
    return 0


def _write(form: str, path: Path, read: Callable[[], Iterable[DecidedItem]], items: DecidedItems) -> int:
    if form == "parquet":
        from functions.console import export_parquet

        return export_parquet.write(path, read())
    if form == "vw":
        from functions.console import export_vw

        return export_vw.write(path, read(), items.left_out)
    from functions.console import export_obp

    return export_obp.write(path, lambda: export_obp.usable(read(), items.left_out))
