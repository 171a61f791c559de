"""Cron expressions come true when cron says so, and the event is a PingSource's."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from functions.local.schedule import Cron, ping
from functions.local.triggers import read_schedules
from shared.errors import Misconfigured


def at(text: str) -> datetime:
    """Return a moment in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("cron", "after", "due"),
    [
        ("*/10 * * * *", "2026-03-01 10:00:00", "2026-03-01 10:10:00"),
        ("*/10 * * * *", "2026-03-01 10:59:59", "2026-03-01 11:00:00"),
        ("*/10 * * * *", "2026-12-31 23:55:00", "2027-01-01 00:00:00"),
        ("5,35 8-10 * * *", "2026-03-01 10:35:00", "2026-03-02 08:05:00"),
        ("0 3 * * 1", "2026-03-01 10:00:00", "2026-03-02 03:00:00"),
        ("0 0 * * 7", "2026-03-02 10:00:00", "2026-03-08 00:00:00"),
        ("0 0 29 2 *", "2026-03-01 00:00:00", "2028-02-29 00:00:00"),
        ("0 0 15 * 1", "2026-03-03 00:00:00", "2026-03-09 00:00:00"),
        ("0 0 */2 * 1", "2026-03-03 00:00:00", "2026-03-09 00:00:00"),
        ("7/20 * * * *", "2026-03-01 10:10:00", "2026-03-01 10:27:00"),
    ],
)
def test_the_next_time(cron: str, after: str, due: str) -> None:
    """The next time is the first matching minute that is later."""
    assert Cron.parse(cron).next_after(at(after)) == at(due)


@pytest.mark.parametrize("cron", ["", "* * * *", "60 * * * *", "* 24 * * *", "*/0 * * * *", "a * * * *", "5-1 * * * *"])
def test_nonsense_is_refused(cron: str) -> None:
    """What cron would not take is refused."""
    with pytest.raises(Misconfigured):
        Cron.parse(cron)


def test_a_day_that_never_comes_is_refused() -> None:
    """The thirtieth of February is an error, not an endless search."""
    with pytest.raises(Misconfigured):
        Cron.parse("0 0 30 2 *").next_after(at("2026-01-01 00:00:00"))


def test_the_event_is_a_ping() -> None:
    """A schedule sends the type that a PingSource sends, and its data."""
    [schedule] = [each for each in read_schedules() if each.subscriber == "learn"]
    event = ping(schedule)
    assert event.attributes["type"] == "dev.knative.sources.ping"
    assert event.attributes["source"].endswith("/pingsources/learn-sweep")
    assert (event.data, event.content_type) == (b"{}", "application/json")
