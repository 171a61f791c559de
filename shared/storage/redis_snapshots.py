"""Published snapshots: `learn` and `control` put them, serving processes watch them.

A snapshot replaces an older one only, by compare-and-set. Its version is in a hash of all versions, so a process asks
for many policies with one small command and fetches what has changed.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import cast

import msgspec

from shared.errors import Unavailable, UnknownPolicy
from shared.policies.choosing import Chooser
from shared.storage.redis_connection import BOOTSTRAPPED, VERSIONS, Redis, RedisError, snapshot_key
from shared.vocabulary import Snapshot

_PUBLISH = """
local held = redis.call('HGET', KEYS[1], ARGV[1])
if held and redis.call('EXISTS', KEYS[2]) == 1 then
    local version = tonumber(string.match(held, '%.(%d+)$'))
    if version >= tonumber(ARGV[3]) then return 0 end
end
redis.call('SET', KEYS[2], ARGV[4])
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. '.' .. ARGV[3])
return 1
"""

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Snapshot)
_log = logging.getLogger(__name__)


def encode_snapshot(snapshot: Snapshot) -> bytes:
    """Return the bytes of a snapshot: the same for equal snapshots, in PostgreSQL and in Redis."""
    return _encoder.encode(snapshot)


def decode_snapshot(content: bytes) -> Snapshot:
    """Return the snapshot that `encode_snapshot` wrote."""
    return _decoder.decode(content)


async def publish(client: Redis, policy: str, policy_version: int, snapshot_version: int, content: bytes) -> bool:
    """Put a snapshot where Redis holds none or an older one; return whether it was put.

    Raises `Unavailable`.
    """
    try:
        put = await client.eval(
            _PUBLISH, 2, VERSIONS, snapshot_key(policy), policy, policy_version, snapshot_version, content
        )
    except RedisError as error:
        detail = f"Redis does not answer: {error}"
        raise Unavailable(detail) from error
    return bool(put)


async def is_bootstrapped(client: Redis) -> bool:
    """Tell whether Redis holds all that PostgreSQL has published; raises `Unavailable`."""
    try:
        return bool(await client.exists(BOOTSTRAPPED))
    except RedisError as error:
        detail = f"Redis does not answer: {error}"
        raise Unavailable(detail) from error


async def mark_bootstrapped(client: Redis) -> None:
    """Say that every policy is published; raises `Unavailable`."""
    try:
        await client.set(BOOTSTRAPPED, "1")
    except RedisError as error:
        detail = f"Redis does not answer: {error}"
        raise Unavailable(detail) from error


class SnapshotWatch:
    """The newest snapshots, in the memory of a serving process, compiled for choosing."""

    def __init__(self, client: Redis, poll_s: float) -> None:
        """Watch every policy that was asked for, each `poll_s` seconds."""
        self._client = client
        self._poll_s = poll_s
        self._held: dict[str, Chooser] = {}
        self._versions: dict[str, bytes] = {}
        self._finding: dict[str, asyncio.Task[Chooser | None]] = {}
        self._task: asyncio.Task[None] | None = None
        self._away_until = 0.0

    async def start(self) -> None:
        """Fetch what is published, so that the first requests find it, and begin to watch.

        A Redis that is away delays nothing, one that hangs delays by `_FIRST_LOOK_S`; what a process then lacks, it finds
        when it is asked for it.
        """
        try:
            async with asyncio.timeout(_FIRST_LOOK_S):
                versions = cast("dict[bytes, bytes]", await self._client.hgetall(VERSIONS))
                for policy, version in list(versions.items())[:_MOST_AT_FIRST]:
                    await self._fetch_or_keep(policy.decode(), version)
        except (RedisError, OSError) as error:
            _log.warning("no snapshots at the start", extra={"knudge": {"error": str(error)}})
        self._task = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """Stop watching."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def held(self, policy: str) -> Chooser | None:
        """Return the snapshot that is in memory."""
        return self._held.get(policy)

    async def find(self, policy: str) -> Chooser | None:
        """Return the snapshot from Redis; None where Redis is away or not bootstrapped.

        Raises `UnknownPolicy` where Redis is bootstrapped and has no such policy. Requests that ask at the same time
        share one look, and one that failed is not repeated for a moment: no request waits for a Redis that is away.
        """
        task = self._finding.get(policy)
        if task is None and asyncio.get_running_loop().time() < self._away_until:
            return None
        if task is None:
            task = self._finding[policy] = asyncio.create_task(self._find(policy))
            task.add_done_callback(lambda _: self._finding.pop(policy, None))
        return await asyncio.shield(task)

    async def _find(self, policy: str) -> Chooser | None:
        try:
            async with asyncio.timeout(_FIND_S):
                version = cast("bytes | None", await self._client.hget(VERSIONS, policy))
                if version is not None:
                    return await self._fetch_or_keep(policy, version)
                bootstrapped = await self._client.exists(BOOTSTRAPPED)
        except (RedisError, OSError) as error:
            self._away_until = asyncio.get_running_loop().time() + _AWAY_S
            _log.warning("no snapshot to be had", extra={"knudge": {"policy": policy, "error": str(error)}})
            return None
        if bootstrapped:
            detail = f"there is no policy {policy!r}"
            raise UnknownPolicy(detail, field="policy")
        return None

    async def _fetch_or_keep(self, policy: str, version: bytes) -> Chooser | None:
        """Fetch; what cannot be read leaves the policy, and all others, with what is held. Raises `RedisError`, `OSError`."""
        try:
            return await self._fetch(policy, version)
        except (RedisError, OSError):
            raise
        except Exception:
            _log.exception("a snapshot cannot be used", extra={"knudge": {"policy": policy}})
            self._versions[policy] = version  # not again before it changes
            return self._held.get(policy)

    async def _fetch(self, policy: str, version: bytes) -> Chooser | None:
        content = cast("bytes | None", await self._client.get(snapshot_key(policy)))
        if content is None:
            return None
        chooser = await asyncio.to_thread(_compile, content)
        held = self._held.get(policy)
        if held is None or chooser.snapshot.snapshot_version > held.snapshot.snapshot_version:
            self._held[policy] = chooser
        self._versions[policy] = version
        return self._held[policy]

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._poll_s)
            policies = list(self._held)
            if not policies:
                continue
            try:
                versions = cast("list[bytes | None]", await self._client.hmget(VERSIONS, policies))
                for policy, version in zip(policies, versions, strict=True):
                    if version is not None and version != self._versions.get(policy):
                        await self._fetch_or_keep(policy, version)
            except RedisError as error:
                _log.debug("snapshots are not watched just now", extra={"knudge": {"error": str(error)}})
                await asyncio.sleep(_AWAY_S)
            except Exception:
                _log.exception("a look at the snapshots failed")
                await asyncio.sleep(_AWAY_S)


_FIRST_LOOK_S = 2.0
_MOST_AT_FIRST = 100
_FIND_S = 0.15
_AWAY_S = 0.2


def _compile(content: bytes) -> Chooser:
    return Chooser(decode_snapshot(content))
