"""The use case of dead letters: keep what no function took, show it, send it again.

A letter is kept once for each event and place where it failed; one that comes again has failed again. It is sent again as it
was, to the sink, with names sealed (`functions.control.sealing`): recipients drop what they have taken already.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import contextlib
import logging
from collections.abc import Mapping, Sequence

import msgspec

from functions.control.sealing import Sealing
from shared.edge.decoding import Bounds
from shared.edge.letters import (
    DeadLetterLine,
    DeadLetterOut,
    DeadLetterReplayed,
    DeadLetters,
    DeadLettersAsked,
)
from shared.edge.sink import Sink
from shared.errors import NotKept, TooLarge
from shared.events.dead_letter import DeadLetter
from shared.events.envelopes import Event
from shared.events.types import ASSIGNMENT_REQUESTED, EXPOSURE_RECORDED
from shared.experiments.experiment import USER_ID
from shared.identity import pseudonym
from shared.observability.metrics import Metrics
from shared.settings import Settings
from shared.storage.postgres_connection import Pool, Row
from shared.storage.postgres_dead_letters import DeadLetterStore
from shared.storage.postgres_experiments import ExperimentStore
from shared.vocabulary import Caller

_log = logging.getLogger(__name__)

ATTRIBUTES_CHARS = 16_384
"""How long an event's attributes may be together: as much as a head of HTTP bears when they are sent again."""
ERROR_CHARS = 1_024
"""How much is kept of what was answered to the last attempt; brokers send no more either."""
_LARGEST_CODE = 999
_OURS = frozenset({"specversion", "type", "source", "id", "subject", "time"})
_OF_UNITS = frozenset({ASSIGNMENT_REQUESTED, EXPOSURE_RECORDED})
_BROKERS = "knative"
"""How the names of attributes begin that a broker adds for itself: hops left, time of arrival, the failure."""


class Letters:
    """Keeps, lists and replays dead letters."""

    def __init__(self, settings: Settings, metrics: Metrics, pool: Pool, sink: Sink) -> None:
        """Keep them in PostgreSQL, replay them to the sink."""
        self._key = settings.server_key.encode()
        self._bounds = Bounds(settings)
        self._store = DeadLetterStore(pool)
        self._experiments = ExperimentStore(pool)
        self._sink = sink
        self._counts = metrics.dead_letters

    async def keep(self, events: Sequence[Event], caller: Caller) -> None:
        """Commit letters, all or none; raises `TooLarge`, `Unavailable`."""
        self._bounds.batch(len(events), "body")
        units = await self._units(events)
        letters = [self._letter(event, caller, units) for event in events]
        new = await self._store.keep(letters)
        self._counts.inc("kept", by=new)
        self._counts.inc("repeated", by=len(letters) - new)
        for letter in letters:
            _log.warning(
                "dead letter",
                extra={"knudge": {"type": letter.type, "destination": letter.destination, "status": letter.error_code}},
            )

    async def page(self, asked: DeadLettersAsked) -> DeadLetters:
        """Return a page of letters, newest first."""
        rows = await self._store.page(
            event_type=asked.type, since=asked.since, is_open=asked.open, before=asked.before, limit=asked.limit + 1
        )
        lines = [msgspec.convert(_plain(row), DeadLetterLine) for row in rows[: asked.limit]]
        return DeadLetters(lines, lines[-1].id if len(rows) > asked.limit else None)

    async def read(self, number: int) -> DeadLetterOut:
        """Return a letter with all that was kept of it; raises `UnknownDeadLetter`."""
        row = _plain(await self._store.find(number))
        return msgspec.convert(row | {"data": msgspec.Raw(row["data"] or b"null")}, DeadLetterOut)

    async def replay(self, number: int, caller: Caller) -> DeadLetterReplayed:
        """Send a letter's event again and note it.

        Raises `UnknownDeadLetter`, `NotKept` where its data was not kept, `SinkUnavailable` where the sink does not take it
        (nothing is noted then), `Unavailable` where PostgreSQL does not answer (it may have been sent then, and sent once
        more it counts once).
        """
        row = await self._store.find(number)
        if row["data"] is None:
            detail = "the event's data was no JSON and was not kept: its source may send it again"
            raise NotKept(detail, field="data")
        await self._sink.pass_on(_event(row))
        replays = await self._store.note_replay(number, row["read_at"], caller.name)
        self._counts.inc("replayed")
        return DeadLetterReplayed(number, replays)

    async def _units(self, events: Sequence[Event]) -> frozenset[str]:
        """Return the attributes that experiments split by, where an event may bring some: they name somebody."""
        if not any(event.attributes["type"] in _OF_UNITS for event in events):
            return frozenset()
        specs = await self._experiments.all()
        names = {name for spec in specs for name in (spec.hash_attribute, spec.fallback_attribute) if name is not None}
        return frozenset(names - {USER_ID})  # which is sealed wherever it stands

    def _letter(self, event: Event, caller: Caller, units: frozenset[str]) -> DeadLetter:
        given = event.attributes
        if sum(map(len, given)) + sum(map(len, given.values())) > ATTRIBUTES_CHARS:
            detail = f"attributes may have at most {ATTRIBUTES_CHARS} characters together"
            raise TooLarge(detail, field="body")
        sealing = Sealing(self._key)
        data = sealing.data(event.data, units if given["type"] in _OF_UNITS else frozenset())
        subject = given.get("subject")
        return DeadLetter(
            type=given["type"],
            source=given["source"],
            event_id=given["id"],
            subject=None if subject is None else sealing.name("subject", subject),
            time=given.get("time"),
            content_type=event.content_type,
            attributes=sealing.attributes(
                {name: value for name, value in given.items() if name not in _OURS and not name.startswith(_BROKERS)}
            ),
            data=data,
            data_bytes=len(event.data),
            data_hash=pseudonym(self._key, "data", event.data.hex()),
            destination=given.get("knativeerrordest"),
            error_code=_code(given.get("knativeerrorcode")),
            error_data=_error_text(given, sealing),
            actor=caller.name,
        )


def _event(row: Row) -> Event:
    """Return the event as it was; one that brought no time gets that of its arrival, which is nearer than the present."""
    attributes = {
        "specversion": "1.0",
        "type": row["type"],
        "source": row["source"],
        "id": row["event_id"],
        "time": row["time"] or row["received_at"].isoformat(),
        **({} if row["subject"] is None else {"subject": row["subject"]}),
        **row["attributes"],
    }
    return Event(attributes, row["content_type"], row["data"])


def _plain(row: Row) -> Row:
    """Return a row with moments as text."""
    moments = ("received_at", "failed_at", "replayed_at")
    return row | {name: row[name].isoformat() for name in moments if row[name] is not None}


def _code(text: str | None) -> int | None:
    if text is None or not text.isascii() or not text.isdigit():
        return None
    return int(text) if len(text) <= len(str(_LARGEST_CODE)) else None


def _error_text(given: Mapping[str, str], sealing: Sealing) -> str | None:
    """Return what was answered to the last attempt: brokers send it in base64, cut off where it is long; older ones as it is."""
    said = given.get("knativeerrordata")
    if said is None:
        return None
    with contextlib.suppress(binascii.Error, UnicodeDecodeError):
        raw = base64.b64decode(said[: len(said) // 4 * 4], validate=True)
        said = codecs.getincrementaldecoder("utf-8")().decode(raw)  # leaves out a character that was cut
    return sealing.text(said.replace("\0", ""))[:ERROR_CHARS]
