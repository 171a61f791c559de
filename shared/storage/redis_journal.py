"""The journal: one Redis stream per policy, whose entries are blocks of decisions.

Serving processes write it (`shared.storage.redis_blocks`), `learn` reads it (`shared.storage.redis_drain`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, cast

import msgspec

from shared.observability.metrics import Metrics
from shared.storage.redis_blocks import BlockWriter
from shared.storage.redis_connection import Redis, RedisError, journal_key, request_key
from shared.vocabulary import Decision

_REMEMBER_MS = 300_000

_APPEND_ONCE = """
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then
    redis.call('XADD', KEYS[2], '*', 'block', ARGV[3])
    return false
end
return redis.call('GET', KEYS[1])
"""

_encoder = msgspec.msgpack.Encoder()


class JournalWriter(BlockWriter):
    """Appends decisions; answers whether Redis holds them."""

    def __init__(
        self, client: Redis, asking: Redis, metrics: Metrics, *, wait_s: float, buffer: int, buffer_bytes: int
    ) -> None:
        """Append through `client`, as `BlockWriter` does.

        `asking`: a client of their own for requests with a `request_id`, which wait for a connection each.
        """
        super().__init__(
            client,
            metrics.journal_dropped,
            metrics.journal_buffered,
            wait_s=wait_s,
            buffer=buffer,
            buffer_bytes=buffer_bytes,
        )
        self._asking = asking

    def append(self, decision: Decision) -> Coroutine[Any, Any, bool]:
        """Return True once Redis holds the decision; False after `wait_s`, or at once while Redis is away."""
        return self.settled(self.put(journal_key(decision.policy), decision))

    async def append_once(
        self, decision: Decision, policy: str, request: str, answer: bytes
    ) -> tuple[bool, bytes | None]:
        """Append unless `request` to `policy` was answered before, whoever decided; return (held, the earlier answer or None)."""
        if not self._well:
            await self.append(decision)
            return False, None
        block = _encoder.encode([decision])
        try:
            async with asyncio.timeout(self._wait_s):
                earlier = await self._asking.eval(
                    _APPEND_ONCE,
                    2,
                    request_key(policy, request),
                    journal_key(decision.policy),
                    answer,
                    _REMEMBER_MS,
                    block,
                )
        except (RedisError, TimeoutError):
            await self.append(decision)
            return False, None
        return True, earlier

    async def answered(self, policy: str, request: str) -> bytes | None:
        """Return the answer that `request` was given, or None where there is none or Redis does not say in time."""
        if not self._well:
            return None
        try:
            async with asyncio.timeout(self._wait_s):
                return cast("bytes | None", await self._asking.get(request_key(policy, request)))
        except (RedisError, TimeoutError):
            return None
