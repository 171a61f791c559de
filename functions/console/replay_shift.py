"""By how many weeks a log is moved towards the present, and how a repeat finds the same number again.

Functions refuse decisions older than their retention, so a log of 2019 is moved by whole weeks (hours and
weekdays stay true) until its end lies within the last week. A decision's time is part of its identity: a
repeat must move the log by *the same* weeks, or every impression would count twice. The number is therefore
kept in a small file per server and prefix, and used again as long as the server still knows the policies and
the log is not too old by then. Without that file (another folder, another machine) a repeat within the same
week still finds the same number; later ones do not, and the replay says so when the posterior knows more than
was sent.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import msgspec

WEEK_S = 7 * 86_400.0
MEMORY = Path(".knudge/replay-obd.json")
_OLDEST_S = 300 * 86_400.0  # well within the default retention of 400 days


class Shift(msgspec.Struct, frozen=True):
    """How far to move. `reason` says to the user where the number comes from."""

    weeks: int
    reason: str

    @property
    def seconds(self) -> float:
        """The same in seconds."""
        return self.weeks * WEEK_S


def weeks_to_last_week(log_end: float, now: float) -> int:
    """Return the whole weeks that put `log_end` into the week before `now` (both POSIX seconds).

    >>> weeks_to_last_week(0.0, 3.5 * WEEK_S)
    3
    """
    return math.floor((now - log_end) / WEEK_S)


def choose_shift(
    *, asked: int | None, log_end: float, now: float, server: str, policies_exist: bool, memory: Path = MEMORY
) -> Shift:
    """Return the shift to use: the one asked for, the remembered one, or the one that leads to the last week.

    `server`: what the number is remembered under; `policies_exist`: whether an earlier replay is still known
    there.
    """
    if asked is not None:
        return Shift(asked, "as asked with --weeks")
    remembered = _recall(memory).get(server)
    if remembered is not None and policies_exist and 0.0 <= now - (log_end + remembered * WEEK_S) < _OLDEST_S:
        return Shift(remembered, "as in the earlier replay, so that a repeat adds nothing")
    return Shift(weeks_to_last_week(log_end, now), "so that its end lies within the last week")


def remember_shift(shift: Shift, server: str, memory: Path = MEMORY) -> None:
    """Keep `shift` for repeats of the replay against `server`."""
    memory.parent.mkdir(parents=True, exist_ok=True)
    memory.write_text(json.dumps(_recall(memory) | {server: shift.weeks}, indent=2) + "\n", encoding="utf-8")


def _recall(memory: Path) -> dict[str, int]:
    try:
        kept = json.loads(memory.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # never written, or damaged: the same as having forgotten
    return {key: value for key, value in kept.items() if isinstance(value, int)} if isinstance(kept, dict) else {}
