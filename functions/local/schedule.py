"""Schedules of a local run: PingSources, played by the clock of this machine, in UTC.

`Cron` understands what the manifests use: numbers, `*`, ranges, steps and lists. The event is a PingSource's own, so the
subscriber sees what it would see in a cluster.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Self
from uuid import uuid4

from functions.local.delivery import Outcome, deliver, post
from functions.local.http_client import HttpClient
from functions.local.triggers import DEFAULT_DELIVERY, Schedule
from shared.errors import Misconfigured
from shared.events.envelopes import Event

PING_TYPE = "dev.knative.sources.ping"
NAMESPACE = "default"
# Lowest and highest value of minute, hour, day of month, month, day of week (0 and 7 are Sunday).
FIELDS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
TIMEOUT_S = 60.0
LOOK_AHEAD = timedelta(days=366 * 5)
LOG = logging.getLogger("knudge.schedule")


@dataclass(frozen=True, slots=True)
class Cron:
    """A cron expression of five fields."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    any_day: bool

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an expression such as `*/10 * * * *`; raises `Misconfigured`."""
        parts = text.split()
        if len(parts) != len(FIELDS):
            raise Misconfigured(f"{text!r} is no cron expression of five fields")
        minutes, hours, days, months, weekdays = (
            _values(part, *bounds) for part, bounds in zip(parts, FIELDS, strict=True)
        )
        # When both days are restricted, cron takes either; when one is `*`, the other decides.
        any_day = not parts[2].startswith("*") and not parts[4].startswith("*")
        return cls(minutes, hours, days, months, frozenset(day % 7 for day in weekdays), any_day)

    def next_after(self, moment: datetime) -> datetime:
        """Return the first matching minute after `moment`."""
        candidate = moment.replace(second=0, microsecond=0) + timedelta(minutes=1)
        while candidate - moment < LOOK_AHEAD:
            if candidate.month not in self.months or not self._is_day(candidate):
                candidate = candidate.replace(hour=0, minute=0) + timedelta(days=1)
            elif candidate.hour not in self.hours:
                candidate = candidate.replace(minute=0) + timedelta(hours=1)
            elif candidate.minute not in self.minutes:
                candidate += timedelta(minutes=1)
            else:
                return candidate
        raise Misconfigured("the cron expression never comes true")

    def _is_day(self, moment: datetime) -> bool:
        in_month, in_week = moment.day in self.days, moment.isoweekday() % 7 in self.weekdays
        return in_month or in_week if self.any_day else in_month and in_week


def ping(schedule: Schedule) -> Event:
    """Return the event that the PingSource of `schedule` sends."""
    attributes = {
        "specversion": "1.0",
        "id": str(uuid4()),
        "source": f"/apis/v1/namespaces/{NAMESPACE}/pingsources/{schedule.name}",
        "type": PING_TYPE,
        "time": datetime.now(UTC).isoformat(),
    }
    return Event(attributes, schedule.content_type or None, schedule.data)


async def keep(schedule: Schedule, address_of: Callable[[str], str], client: HttpClient) -> None:
    """Send the event of `schedule` whenever it is due, until cancelled."""
    cron = Cron.parse(schedule.cron)
    due = datetime.now(UTC)
    while True:
        # From the last due time, should the sleep have ended a little early.
        due = cron.next_after(max(due, datetime.now(UTC)))
        await asyncio.sleep((due - datetime.now(UTC)).total_seconds())
        outcome = await send(schedule, address_of(schedule.subscriber), client)
        if outcome.failure is not None:
            LOG.error(
                "a scheduled event was not taken: %s", outcome.failure, extra={"knudge": {"schedule": schedule.name}}
            )


async def send(schedule: Schedule, url: str, client: HttpClient) -> Outcome:
    """Send one event of `schedule` to `url` now; a reply is nobody's."""
    event = ping(schedule)
    return await deliver(lambda: post(client, event, url, TIMEOUT_S), DEFAULT_DELIVERY, lambda _: True)


def _values(text: str, lowest: int, highest: int) -> frozenset[int]:
    values: set[int] = set()
    for part in text.split(","):
        span, _, step = part.partition("/")
        first, _, last = span.partition("-")
        try:
            start = lowest if span == "*" else int(first)
            end = highest if span == "*" or (step and not last) else int(last or first)
            chosen = range(start, end + 1, int(step or 1))
        except ValueError:
            chosen = range(0)
        if not chosen or chosen[0] < lowest or chosen[-1] > highest:
            raise Misconfigured(f"{part!r} is no cron field between {lowest} and {highest}")
        values.update(chosen)
    return frozenset(values)
