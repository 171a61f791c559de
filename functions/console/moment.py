"""Moments as they are given on the command line: an age, a day, or a moment with a zone."""

from __future__ import annotations

import argparse
import re
from datetime import UTC, datetime, timedelta

_AGE = re.compile(r"(\d{1,6})([smhd])")
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def moment(text: str) -> str:
    """Return a moment, RFC 3339, from an age (`6h`), a day (its beginning, UTC) or a moment with a zone.

    Raises `argparse.ArgumentTypeError` for anything else.
    """
    age = _AGE.fullmatch(text)
    try:
        if age:
            meant = datetime.now(UTC) - timedelta(**{_UNITS[age.group(2)]: int(age.group(1))})
        else:
            meant = datetime.fromisoformat(text)
            if _DAY.fullmatch(text):
                meant = meant.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        meant = None
    if meant is None or meant.tzinfo is None:
        message = f"{text!r} is neither an age such as 6h, nor a day, nor a moment with a zone"
        raise argparse.ArgumentTypeError(message)
    return meant.isoformat()


def duration(text: str) -> float:
    """Return the seconds of a time such as `6h`, above 0. Raises `argparse.ArgumentTypeError`.

    >>> duration("6h")
    21600.0
    """
    age = _AGE.fullmatch(text)
    seconds = timedelta(**{_UNITS[age.group(2)]: int(age.group(1))}).total_seconds() if age else 0.0
    if seconds:
        return seconds
    message = f"{text!r} is no duration such as 30m, 6h or 1d"
    raise argparse.ArgumentTypeError(message)


def add_span(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose decisions by when they were made."""
    what = "an age (30m, 6h, 2d), a day (2026-11-25, UTC) or a moment (2026-11-25T04:00:00Z)"
    parser.add_argument("--from", dest="began", type=moment, metavar="WHEN", help=f"decisions made since then: {what}")
    parser.add_argument("--to", dest="until", type=moment, metavar="WHEN", help="and before then (default: now)")


def span(arguments: argparse.Namespace) -> tuple[float, float]:
    """Return (began, until) in POSIX seconds; without options everything up to now."""
    began = 0.0 if arguments.began is None else datetime.fromisoformat(arguments.began).timestamp()
    until = datetime.now(UTC) if arguments.until is None else datetime.fromisoformat(arguments.until)
    return began, until.timestamp()
