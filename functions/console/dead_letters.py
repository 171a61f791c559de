"""`knudge deadletters list|replay`: events that no function took, shown and sent again through `control`.

The list is a table in a terminal and tab-separated lines elsewhere. A replay goes from the oldest letter to the newest and
ends at the first one that fails: what was sent until then is noted, so the same command goes on from there.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from functions.console.moment import moment

if TYPE_CHECKING:
    from functions.console.client import Client

PATH = "/v1/dead-letters"
COLUMNS = ("id", "failed_at", "type", "source", "event_id", "destination", "error_code", "arrivals", "replays", "state")
"""What a line holds, before the reason."""
RETRY_FOR_S = 10.0
PAGE = 200


def add_to(commands: Any, add_url: Callable[[argparse.ArgumentParser], None]) -> None:  # noqa: ANN401
    """Add the command to the parser's `commands`; `add_url` adds the option that says where `control` answers."""
    parser = commands.add_parser("deadletters", help="show events that no function took, and send them again")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)

    listing = verbs.add_parser("list", help="newest first", description="Show dead letters, newest first.")
    add_url(listing)
    _add_filters(listing)
    listing.add_argument("--open", action="store_true", help="only those not replayed since they last failed")
    listing.add_argument("--limit", type=_positive, default=50, metavar="N", help="at most N (default: 50)")
    listing.set_defaults(run=run_list)

    replaying = verbs.add_parser(
        "replay",
        help="send letters again",
        description="Send letters again, with their own type, source, id and time: what was taken already counts once.",
    )
    add_url(replaying)
    replaying.add_argument("ids", type=_positive, nargs="*", metavar="ID", help="letters by their ids")
    replaying.add_argument("--all", action="store_true", help="all that were not replayed since they last failed")
    _add_filters(replaying)
    replaying.set_defaults(run=run_replay, wrong=replaying.error)


def run_list(arguments: argparse.Namespace) -> int:
    """Print letters. Raises `ConsoleFailure`."""
    from itertools import islice

    with _client(arguments.url) as client:
        letters = list(islice(_letters(client, arguments, is_open=arguments.open), arguments.limit))
    if sys.stdout.isatty():
        _print_table(letters)
    else:
        for letter in letters:
            print("\t".join(_cells(letter)))
    if not letters:
        sys.stderr.write("no dead letters\n")
    return 0


def run_replay(arguments: argparse.Namespace) -> int:
    """Send letters again, oldest first. Raises `ConsoleFailure` at the first that fails."""
    if bool(arguments.ids) == arguments.all:
        arguments.wrong("name letters by their ids, or say --all")
    if arguments.ids and (arguments.type or arguments.since):
        arguments.wrong("--type and --since choose among --all")
    sent = 0
    with _client(arguments.url) as client:
        if arguments.all:
            letters = list(_letters(client, arguments, is_open=True))
            numbers = [letter["id"] for letter in reversed(letters) if letter["data_kept"]]
            lost = len(letters) - len(numbers)
            if lost:
                sys.stderr.write(f"{lost} cannot be sent again: their data was no JSON and was not kept\n")
        else:
            numbers = list(dict.fromkeys(arguments.ids))
        try:
            for number in numbers:
                answer = client.post(f"{PATH}/{number}/replay", None)
                sent += 1
                print(f"{number} sent again, replay {answer['replays']}")
        finally:
            sys.stderr.write(f"{sent} of {len(numbers)} sent again\n")
    return 0


def _client(url: str) -> Client:
    from functions.console.client import Client  # with msgspec, which --help does without

    return Client(url, retry_for_s=RETRY_FOR_S)


def _add_filters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--type", metavar="TYPE", help="only events of this type, such as dev.knudge.feedback.given.v1")
    parser.add_argument(
        "--since",
        type=moment,
        metavar="WHEN",
        help="only what failed since: an age (30m, 6h, 2d) or a moment (2026-11-25T04:00:00Z)",
    )


def _letters(client: Client, arguments: argparse.Namespace, *, is_open: bool) -> Iterator[dict[str, Any]]:
    """Yield the letters that were asked for, newest first, page by page."""
    from urllib.parse import urlencode

    asked: dict[str, Any] = {"limit": PAGE}
    if arguments.type:
        asked["type"] = arguments.type
    if arguments.since:
        asked["since"] = arguments.since
    if is_open:
        asked["open"] = "true"
    while True:
        page = client.get(f"{PATH}?{urlencode(asked)}")
        yield from page["letters"]
        if page["next"] is None:
            return
        asked["before"] = page["next"]


def _cells(letter: dict[str, Any]) -> list[str]:
    """Return a letter's line: the columns and the reason, free of what would break the line."""
    shown = letter | {"state": "open" if letter["open"] else "replayed"}
    cells = ["" if shown[name] is None else str(shown[name]) for name in COLUMNS]
    return [" ".join(cell.split()) for cell in (*cells, _reason(letter))]


def _reason(letter: dict[str, Any]) -> str:
    """Return why it failed: the detail of a problem, else what was answered, else nothing."""
    said = letter["error_data"] or ""
    import json

    try:
        problem = json.loads(said)
    except ValueError:
        return said
    if not isinstance(problem, dict) or "detail" not in problem:
        return said
    field = problem.get("field")
    return f"{problem['detail']}" + (f" [{field}]" if field else "")


def _print_table(letters: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("id", justify="right")
    for name in ("failed", "type", "source, id", "where", "why", "state"):
        table.add_column(name, overflow="fold")
    for letter in letters:
        number, failed_at, event_type, source, event_id, where, code, arrivals, replays, state, reason = _cells(letter)
        times = f", {arrivals} times" if arrivals != "1" else ""
        replayed = f", {replays} replays" if replays != "0" else ""
        table.add_row(
            number,
            Text(failed_at[:19] + times),
            Text(event_type.removeprefix("dev.knudge.")),
            Text(f"{source} {event_id}"),
            Text(where.removeprefix("http://")),
            Text(f"{code} {reason}".strip()),
            Text(state + replayed, style="bold" if state == "open" else "dim"),
        )
    Console().print(table)


def _positive(text: str) -> int:
    if text.isascii() and text.isdigit() and int(text) > 0:
        return int(text)
    message = f"{text!r} is not a whole number of at least 1"
    raise argparse.ArgumentTypeError(message)
