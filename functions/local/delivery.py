"""One event to one subscriber, as Knative does it: try, wait, try again, or give up.

Tried again: no answer, 404, 408, 409, 429 and every 5xx, after the pause that the delivery names, or the longer one that
the subscriber asks for by `Retry-After`. Every other status from 300 is final. A 2xx may carry a reply event; a body that is no
CloudEvent counts as a failed attempt, because Knative's broker takes it for a 502.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from functions.local.http_client import Answer, HttpClient
from functions.local.triggers import Delivery
from shared.errors import InvalidInput
from shared.events.envelopes import Event, read_event

TRIED_AGAIN = frozenset({404, 408, 409, 429})
SUCCESSES, FAULTS = range(200, 300), range(500, 600)
LONGEST_RETRY_AFTER_S = 300.0
PREFER = {"prefer": "reply"}
# What Knative's broker makes of a 2xx whose body is no event.
BAD_GATEWAY = 502
NO_ROOM = 503


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a delivery ended. `status`: of the last answer, 0 for none; `failure`: why it was given up, or None.

    `body`: of a last answer that was a refusal.
    """

    attempts: int
    status: int
    failure: str | None = None
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What came of one attempt; `wait_s`: the pause that the subscriber asked for; `body`: of a refusal."""

    status: int
    failure: str | None = None
    is_final: bool = False
    wait_s: float = 0.0
    reply: Event | None = None
    body: bytes = b""


TakeReply = Callable[[Event], bool]
Sleep = Callable[[float], Awaitable[None]]


async def deliver(
    attempt_once: Callable[[], Awaitable[Attempt]],
    delivery: Delivery,
    take_reply: TakeReply,
    *,
    sleep: Sleep = asyncio.sleep,
) -> Outcome:
    """Attempt until it succeeds, cannot succeed, or has been tried often enough.

    `take_reply`: takes a reply event, or answers False while it has no room; then the attempt counts as failed.
    """
    retries = 0
    while True:
        attempt = await attempt_once()
        if attempt.reply is not None and not take_reply(attempt.reply):
            attempt = Attempt(NO_ROOM, "the broker has no room for the reply")
        if attempt.failure is None or attempt.is_final or retries >= delivery.retry:
            return Outcome(retries + 1, attempt.status, attempt.failure, attempt.body)
        await sleep(max(delivery.pause_s(retries), attempt.wait_s))
        retries += 1


async def post(client: HttpClient, event: Event, url: str, timeout_s: float) -> Attempt:
    """Post `event` once, in binary mode, and judge the answer."""
    try:
        answer = await client.request("POST", url, event.headers() | PREFER, event.data, timeout_s=timeout_s)
    except TimeoutError:
        return Attempt(0, f"no answer within {timeout_s:g} s")
    except OSError as error:
        return Attempt(0, f"no answer: {error}")
    if answer.status in SUCCESSES:
        return _judge_success(answer)
    if answer.status in TRIED_AGAIN or answer.status in FAULTS:
        wait_s = retry_after_s(answer.headers)
        return Attempt(answer.status, f"status {answer.status}", wait_s=wait_s, body=answer.body)
    return Attempt(answer.status, f"status {answer.status}", is_final=True, body=answer.body)


def retry_after_s(headers: Mapping[str, str]) -> float:
    """Return the pause that `Retry-After` asks for, in seconds or up to a date; 0 without one, 300 at most."""
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        pause_s = float(text)
    else:
        try:
            until = parsedate_to_datetime(text)
        except ValueError:
            return 0.0
        pause_s = (until.replace(tzinfo=until.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return min(max(pause_s, 0.0), LONGEST_RETRY_AFTER_S)


def _judge_success(answer: Answer) -> Attempt:
    if not answer.body and "ce-specversion" not in answer.headers:
        return Attempt(answer.status)
    try:
        return Attempt(answer.status, reply=read_event(answer.headers, answer.body))
    except InvalidInput as error:
        return Attempt(BAD_GATEWAY, f"the reply is no CloudEvent: {error.detail}")
