"""A broker in memory that follows Knative's rules, behind the local run's address.

It takes any CloudEvent, answers 202, and delivers a copy to the subscriber of every trigger that matches; replies come back to
it. What it holds is bounded: beyond that it answers 503 with `Retry-After`. What cannot be delivered goes to the trigger's dead
letter sink as it came, with Knative's attributes that say where it failed and how, and is counted and logged without data or
subject, for either may be personal. What that sink does not take either is lost, and so is what this holds when it dies.
"""

from __future__ import annotations

import asyncio
import base64
import logging
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

from functions.local.delivery import Attempt, Outcome, deliver, post
from functions.local.http_client import HttpClient
from functions.local.triggers import Trigger
from shared.edge.http import Disconnected, HttpRequest, Reply, read_body
from shared.edge.problems import problem_reply
from shared.errors import KnudgeError, Overloaded
from shared.events.envelopes import Event, header_text, read_events

CAPACITY = 10_000
CONCURRENCY = 32
DEAD_LETTERS_KEPT = 1_000
BODY_LIMIT = 4 << 20
LONGEST_CHAIN = 255
# Knative tells a dead letter sink as much of the failing answer as base64 puts into 1,024 characters.
ERROR_DATA_BYTES = 768
NO_ANSWER = 500
LOG = logging.getLogger("knudge.broker")


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event that a trigger's subscriber did not take; `status`: of the last answer, 0 for none.

    `kept`: the dead letter sink took it.
    """

    trigger: str
    type: str
    source: str
    id: str
    attempts: int
    status: int
    reason: str
    kept: bool


class Broker:
    """Delivers events by `triggers`.

    `address_of`: the URL of a Knative Service by its name. `capacity`: most deliveries held at a time, those that wait for
    another attempt included. `concurrency`: most requests under way to one trigger's subscriber, so that a slow one holds up
    nobody else.
    """

    def __init__(
        self,
        triggers: Sequence[Trigger],
        address_of: Callable[[str], str],
        *,
        capacity: int = CAPACITY,
        concurrency: int = CONCURRENCY,
    ) -> None:
        """Prepare; nothing is opened before the first event."""
        self._triggers = triggers
        self._address_of = address_of
        self._capacity = capacity
        self._places = {trigger.name: asyncio.Semaphore(concurrency) for trigger in triggers}
        self._client = HttpClient()
        self._deliveries: set[asyncio.Task[None]] = set()
        self._is_closed = False
        self.counts: Counter[str] = Counter()
        self.dead_letters: deque[DeadLetter] = deque(maxlen=DEAD_LETTERS_KEPT)

    @property
    def held(self) -> int:
        """How many deliveries are under way or wait."""
        return len(self._deliveries)

    async def answer(self, request: HttpRequest) -> Reply:
        """Take the event or events of a POST: 202 once they are held, 400 for malformed ones, 503 while there is no room."""
        headers = {name.decode("latin-1"): header_text(value) for name, value in request.scope["headers"]}
        try:
            events = read_events(headers, await read_body(request, BODY_LIMIT))
            if self._is_closed or not self.take(events):
                raise Overloaded("the broker holds as many events as it can, or is stopping")
        except Disconnected:
            return Reply(400)
        except KnudgeError as error:
            return problem_reply(error, of_event=True)
        return Reply(202)

    def take(self, events: Sequence[Event]) -> bool:
        """Hold `events` for delivery, all of them or none; False while there is no room."""
        wanted = [
            (event, trigger) for event in events for trigger in self._triggers if trigger.matches(event.attributes)
        ]
        if self.held + len(wanted) > self._capacity:
            self.counts["turned away"] += len(events)
            return False
        self.counts["taken"] += len(events)
        for event, trigger in wanted:
            delivery = asyncio.create_task(self._deliver(event, trigger))
            self._deliveries.add(delivery)
            delivery.add_done_callback(self._deliveries.discard)
        return True

    async def drain(self, timeout_s: float) -> bool:
        """Wait until nothing is held, and say whether that came within `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                while self._deliveries:
                    await asyncio.wait(set(self._deliveries))
        except TimeoutError:
            return False
        return True

    async def stop(self, timeout_s: float) -> None:
        """Take nothing more, finish what is held within `timeout_s`, and give up the rest as dead letters."""
        self._is_closed = True
        if not await self.drain(timeout_s):
            left = set(self._deliveries)
            for delivery in left:
                delivery.cancel()
            await asyncio.gather(*left, return_exceptions=True)
        self._client.close()

    async def _deliver(self, event: Event, trigger: Trigger) -> None:
        attempts = 0

        async def attempt_once() -> Attempt:
            nonlocal attempts
            async with self._places[trigger.name]:
                attempts += 1
                url = self._address_of(trigger.subscriber)
                return await post(self._client, event, url, trigger.delivery.timeout_s)

        try:
            outcome = await deliver(attempt_once, trigger.delivery, lambda reply: self._take_reply(event, reply))
        except asyncio.CancelledError:
            self._bury(event, trigger, Outcome(attempts, 0, "the broker stopped"), kept=False)
            raise
        self.counts["retried"] += outcome.attempts - 1
        if outcome.failure is None:
            self.counts["delivered"] += 1
        else:
            self._bury(event, trigger, outcome, kept=await self._send_dead_letter(event, trigger, outcome))

    async def _send_dead_letter(self, event: Event, trigger: Trigger, outcome: Outcome) -> bool:
        """Deliver an event to the trigger's dead letter sink, tried as hard as the subscriber was; return whether it took it."""
        sink = trigger.dead_letter_sink
        if sink is None:
            return False
        url = self._address_of(sink.service).rstrip("/") + sink.path
        letter = replace(
            event, attributes={**event.attributes, **_failure(self._address_of(trigger.subscriber), outcome)}
        )

        async def attempt_once() -> Attempt:
            async with self._places[trigger.name]:
                return await post(self._client, letter, url, trigger.delivery.timeout_s)

        try:
            sent = await deliver(attempt_once, trigger.delivery, lambda _: True)  # a reply to a dead letter is nobody's
        except asyncio.CancelledError:
            self._bury(event, trigger, outcome, kept=False)
            raise
        if sent.failure is not None:
            LOG.error(
                "the dead letter sink did not take a letter",
                extra={"knudge": {"sink": sink.service, "reason": sent.failure}},
            )
        return sent.failure is None

    def _take_reply(self, event: Event, reply: Event) -> bool:
        """Hold a reply like any event, unless it ends a chain of replies that goes in circles."""
        if event.hops >= LONGEST_CHAIN:
            self.counts["circles cut"] += 1
            LOG.warning(
                "a chain of replies is cut", extra={"knudge": {"length": event.hops, "type": reply.attributes["type"]}}
            )
            return True
        self.counts["replies"] += 1
        return self.take([replace(reply, hops=event.hops + 1)])

    def _bury(self, event: Event, trigger: Trigger, outcome: Outcome, *, kept: bool) -> None:
        attributes = event.attributes
        letter = DeadLetter(
            trigger=trigger.name,
            type=attributes["type"],
            source=attributes["source"],
            id=attributes["id"],
            attempts=outcome.attempts,
            status=outcome.status,
            reason=outcome.failure or "",
            kept=kept,
        )
        self.counts["dead"] += 1
        self.counts["dead letters kept"] += kept
        self.dead_letters.append(letter)
        LOG.log(
            logging.WARNING if kept else logging.ERROR, "dead letter", extra={"knudge": {"dead_letter": asdict(letter)}}
        )


def _failure(url: str, outcome: Outcome) -> dict[str, str]:
    """Return the attributes by which Knative says where an event failed, with which status and answer.

    Where there was no answer, the status is 500 and the reason stands for the answer.
    """
    said = outcome.body if outcome.status else f"dispatch error: {outcome.failure}".encode()
    return {
        "knativeerrordest": url,
        "knativeerrorcode": str(outcome.status or NO_ANSWER),
        "knativeerrordata": base64.b64encode(said[:ERROR_DATA_BYTES]).decode(),
    }
