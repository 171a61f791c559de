"""When a delivery is tried again, how long it waits, and when it is given up."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from functions.local.delivery import Attempt, Outcome, deliver, retry_after_s
from functions.local.triggers import Delivery
from shared.events.envelopes import Event

DELIVERY = Delivery(retry=3, backoff_policy="exponential", backoff_delay_s=0.5, timeout_s=1.0)
REPLY = Event({"type": "t", "source": "s", "id": "i", "specversion": "1.0"}, None, b"")


def play(attempts: list[Attempt], *, room: bool = True) -> tuple[Outcome, list[float], list[Event]]:
    """Play `attempts` one after the other; return the outcome, the pauses and the replies that were offered."""
    pauses: list[float] = []
    replies: list[Event] = []
    left = iter(attempts)

    async def attempt_once() -> Attempt:
        return next(left)

    async def sleep(pause_s: float) -> None:
        pauses.append(pause_s)

    def take(reply: Event) -> bool:
        replies.append(reply)
        return room

    outcome = asyncio.run(deliver(attempt_once, DELIVERY, take, sleep=sleep))
    return outcome, pauses, replies


def test_success_at_once_waits_for_nothing() -> None:
    """A subscriber that takes the event is asked once."""
    assert play([Attempt(204)]) == (Outcome(1, 204), [], [])


def test_failures_are_tried_again_with_growing_pauses() -> None:
    """Pauses double from the delay that the delivery names."""
    outcome, pauses, _ = play([Attempt(503, "status 503"), Attempt(0, "no answer"), Attempt(200)])
    assert outcome == Outcome(3, 200)
    assert pauses == [0.5, 1.0]


def test_it_is_given_up_after_the_last_retry() -> None:
    """`retry: 3` means four attempts in all."""
    outcome, pauses, _ = play([Attempt(500, "status 500")] * 9)
    assert outcome == Outcome(4, 500, "status 500")
    assert pauses == [0.5, 1.0, 2.0]


def test_a_final_failure_is_not_tried_again() -> None:
    """A poison event is given up at once."""
    assert play([Attempt(400, "status 400", is_final=True)])[0] == Outcome(1, 400, "status 400")


def test_retry_after_lengthens_a_pause_and_never_shortens_it() -> None:
    """The subscriber may ask for more time than the back-off gives."""
    _, pauses, _ = play([Attempt(429, "x", wait_s=5.0), Attempt(429, "x", wait_s=0.1), Attempt(200)])
    assert pauses == [5.0, 1.0]


def test_a_reply_without_room_is_a_failed_attempt() -> None:
    """A reply that the broker cannot hold is asked for again, as Knative does."""
    outcome, _, replies = play([Attempt(200, reply=REPLY)] * 4, room=False)
    assert outcome.failure is not None
    assert len(replies) == 4


def test_retry_after_takes_seconds_and_dates() -> None:
    """Both forms of the header count, nonsense does not, and no subscriber stops the broker for long."""
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
    assert retry_after_s({"retry-after": "7"}) == 7.0
    assert retry_after_s({"retry-after": later}) == pytest.approx(20.0, abs=2.0)
    assert retry_after_s({"retry-after": "soon"}) == 0.0
    assert retry_after_s({}) == 0.0
    assert retry_after_s({"retry-after": "99999999"}) == 300.0
