"""The published catalogue of experiments and flags: `control` puts it, serving processes watch it.

A catalogue replaces an older one only, by compare-and-set. Beside it stands its version, so that a process asks with
one small command whether anything has changed.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import cast

import msgspec

from shared.errors import Unavailable
from shared.experiments.assigning import Catalogue, PublishedCatalogue
from shared.storage.redis_connection import BOOTSTRAPPED, CATALOGUE, CATALOGUE_VERSION, Redis, RedisError

_PUBLISH = """
local held = redis.call('GET', KEYS[1])
if held and redis.call('EXISTS', KEYS[2]) == 1 and tonumber(held) >= tonumber(ARGV[1]) then return 0 end
redis.call('MSET', KEYS[2], ARGV[2], KEYS[1], ARGV[1])
return 1
"""

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(PublishedCatalogue)
_log = logging.getLogger(__name__)


def encode_catalogue(catalogue: PublishedCatalogue) -> bytes:
    """Return the bytes of a catalogue as it is published; values keep the order in which their authors wrote them."""
    return _encoder.encode(catalogue)


async def publish_catalogue(client: Redis, version: int, content: bytes) -> bool:
    """Put a catalogue where Redis holds none or an older one; return whether it was put. Raises `Unavailable`."""
    try:
        return bool(await client.eval(_PUBLISH, 2, CATALOGUE_VERSION, CATALOGUE, version, content))
    except RedisError as error:
        detail = f"Redis does not answer: {error}"
        raise Unavailable(detail) from error


class CatalogueWatch:
    """The newest catalogue, in the memory of a serving process, compiled for assigning."""

    def __init__(self, client: Redis, poll_s: float) -> None:
        """Look every `poll_s` seconds."""
        self._client = client
        self._poll_s = poll_s
        self._held = Catalogue()
        self._looked = b""
        self._found = False
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Fetch what is published, so that the first requests find it, and begin to watch.

        A Redis that is away delays nothing, one that hangs delays by `_FIRST_LOOK_S`.
        """
        try:
            async with asyncio.timeout(_FIRST_LOOK_S):
                await self._look()
        except (RedisError, OSError) as error:
            _log.warning("no catalogue at the start", extra={"knudge": {"error": str(error)}})
        self._task = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """Stop watching."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def held(self) -> Catalogue:
        """Return the catalogue that is in memory, an empty one before the first was found."""
        return self._held

    @property
    def found(self) -> bool:
        """Tell whether what is held was published: a Redis that is bootstrapped and has no catalogue says that it is empty."""
        return self._found

    async def _look(self) -> None:
        version, bootstrapped = cast("list[bytes | None]", await self._client.mget(CATALOGUE_VERSION, BOOTSTRAPPED))
        if version is None:
            self._found |= bootstrapped is not None
        elif version != self._looked:
            await self._fetch(version)

    async def _fetch(self, version: bytes) -> None:
        """Fetch a catalogue; one that cannot be used leaves what is held. Raises `RedisError`, `OSError`."""
        content = cast("bytes | None", await self._client.get(CATALOGUE))
        if content is None:
            return
        try:
            catalogue = await asyncio.to_thread(_compile, content)
        except Exception:
            _log.exception("a catalogue cannot be used", extra={"knudge": {"version": version}})
        else:
            if catalogue.broken:
                _log.error(
                    "a catalogue holds what cannot be used", extra={"knudge": {"broken": dict(catalogue.broken)}}
                )
            if catalogue.version > self._held.version or not self._found:
                self._held = catalogue
            self._found = True
        self._looked = version  # not again before it changes

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._poll_s)
            try:
                await self._look()
            except (RedisError, OSError) as error:
                _log.debug("the catalogue is not watched just now", extra={"knudge": {"error": str(error)}})
                await asyncio.sleep(_AWAY_S)
            except Exception:
                _log.exception("a look at the catalogue failed")
                await asyncio.sleep(_AWAY_S)


_FIRST_LOOK_S = 2.0
_AWAY_S = 0.2


def _compile(content: bytes) -> Catalogue:
    return Catalogue.of(_decoder.decode(content))
