"""Draining the journals (`learn`): from the start, without a checkpoint; entries are trimmed after the commit that archived them."""

from __future__ import annotations

import logging
from typing import Any, NamedTuple, TypeVar, cast

import msgspec

from shared.errors import Unavailable
from shared.experiments.exposure import Exposure, StickyAssignment
from shared.storage.redis_connection import EXPOSURES, STICKY_JOURNAL, Redis, RedisError, journal_key
from shared.vocabulary import Decision

R = TypeVar("R")

_decisions = msgspec.msgpack.Decoder(list[Decision])
_exposures = msgspec.msgpack.Decoder(list[Exposure])
_sticky = msgspec.msgpack.Decoder(list[StickyAssignment])
_log = logging.getLogger(__name__)


class Portion(NamedTuple):
    """Decisions from the start of a journal, the id of the last entry they stood in, and whether more may follow."""

    decisions: list[Decision]
    last: bytes | None
    more: bool


class Exposures(NamedTuple):
    """Exposures from the start of their journal, the id of the last entry they stood in, and whether more may follow."""

    exposures: list[Exposure]
    last: bytes | None
    more: bool


async def read_journal(client: Redis, policy: str, most: int, *, upto: bytes = b"+") -> Portion:
    """Return a portion of a policy's journal, from its start to the entry `upto`.

    It ends with the entry that makes it `most` decisions or `PORTION_BYTES` long. Raises `Unavailable`.
    """
    return Portion(*await _read(client, journal_key(policy), _decisions, most, upto))


async def read_exposures(client: Redis, most: int, *, upto: bytes = b"+") -> Exposures:
    """Return a portion of the journal of exposures, as `read_journal` does of a policy's. Raises `Unavailable`."""
    return Exposures(*await _read(client, EXPOSURES, _exposures, most, upto))


async def read_sticky(client: Redis, most: int) -> tuple[list[StickyAssignment], bytes | None, bool]:
    """Return a portion of what sticks since the last drain, the id of its last entry, and whether more may follow.

    Raises `Unavailable`.
    """
    return await _read(client, STICKY_JOURNAL, _sticky, most, b"+")


async def _read(
    client: Redis, key: str, decoder: msgspec.msgpack.Decoder[list[R]], most: int, upto: bytes
) -> tuple[list[R], bytes | None, bool]:
    records: list[R] = []
    last: bytes | None = None
    size = 0
    try:
        while True:
            start = b"-" if last is None else b"(" + last
            found = await client.xrange(key, min=start, max=upto, count=_ENTRIES)
            entries = cast("list[tuple[bytes, dict[bytes, bytes]]]", found)
            for entry, fields in entries:
                last = entry
                block = fields.get(b"block", b"")
                size += len(block)
                try:
                    records.extend(decoder.decode(block))
                except msgspec.DecodeError:
                    _log.exception("a journal entry cannot be read", extra={"knudge": {"key": key, "entry": entry}})
                if len(records) >= most or size >= PORTION_BYTES:
                    return records, last, True
            if len(entries) < _ENTRIES:
                return records, last, False
    except RedisError as error:
        detail = f"Redis does not answer: {error}"
        raise Unavailable(detail) from error


async def journals(client: Redis) -> dict[str, bytes]:
    """Return the policies that have a journal, with the id of its last entry. Raises `Unavailable`."""
    lasts: dict[str, bytes] = {}
    try:
        async for key in client.scan_iter(match=journal_key("*"), count=_KEYS):
            found = cast("list[tuple[bytes, Any]]", await client.xrevrange(key, count=1))
            if found:
                lasts[bytes(key).decode().removeprefix(journal_key(""))] = found[0][0]
    except RedisError as error:
        detail = f"Redis does not answer: {error}"
        raise Unavailable(detail) from error
    return lasts


async def drop_journal(client: Redis, policy: str, upto: bytes) -> int:
    """Drop a journal's entries up to `upto`; return how many decisions they held. Raises `Unavailable`."""
    dropped = 0
    while True:
        portion = await read_journal(client, policy, _PORTION, upto=upto)
        if portion.last is None:
            break
        await trim_journal(client, policy, portion.last)
        dropped += len(portion.decisions)
    try:
        await client.eval(_DELETE_EMPTY, 1, journal_key(policy))
    except RedisError as error:
        detail = f"Redis does not answer: {error}"
        raise Unavailable(detail) from error
    return dropped


async def trim_journal(client: Redis, policy: str, last: bytes) -> None:
    """Drop every entry up to and including `last`; raises `Unavailable`."""
    await _trim(client, journal_key(policy), last)


async def trim_exposures(client: Redis, last: bytes) -> None:
    """Drop every entry of the journal of exposures up to and including `last`; raises `Unavailable`."""
    await _trim(client, EXPOSURES, last)


async def trim_sticky(client: Redis, last: bytes) -> None:
    """Drop what sticks up to and including the entry `last`; raises `Unavailable`."""
    await _trim(client, STICKY_JOURNAL, last)


async def _trim(client: Redis, key: str, last: bytes) -> None:
    moment, _, number = last.partition(b"-")
    try:
        await client.xtrim(key, minid=b"%s-%d" % (moment, int(number) + 1), approximate=False)
    except RedisError as error:
        detail = f"Redis does not answer: {error}"
        raise Unavailable(detail) from error


_DELETE_EMPTY = "if redis.call('XLEN', KEYS[1]) == 0 then redis.call('DEL', KEYS[1]) end"
PORTION_BYTES = 16 * 1024 * 1024
"""About how much of a journal is read at a time."""
_ENTRIES = 16
_KEYS = 200
_PORTION = 5_000
