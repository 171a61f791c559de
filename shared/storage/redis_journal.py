"""The journal: one Redis stream per policy, whose entries are blocks of decisions.

Writing (serving processes): requests that wait at the same time share one append, started every 2 ms or as soon as 32
of them wait, whatever comes first; an answer waits until Redis has acknowledged its block, or `wait_s`, after which it goes out degraded. What Redis has not
acknowledged stays in a buffer, bounded in decisions and in bytes, and is appended once Redis is back; what a full buffer
drops is counted. A block may so be appended twice: the archive takes each decision once. An entry stays small enough to be
written and read in one go, however large its decisions are.

Reading is `shared.storage.redis_drain`'s.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import cast

import msgspec

from shared.observability.metrics import Metrics
from shared.storage.redis_connection import Redis, RedisError, journal_key, request_key
from shared.vocabulary import Decision

_SHARE_S = 0.002
_SHARE_DECISIONS = 32
_REMEMBER_MS = 300_000
_RETRY_S = (0.05, 0.1, 0.25, 0.5, 1.0)

_APPEND_ONCE = """
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then
    redis.call('XADD', KEYS[2], '*', 'block', ARGV[3])
    return false
end
return redis.call('GET', KEYS[1])
"""

_encoder = msgspec.msgpack.Encoder()
_log = logging.getLogger(__name__)


class _Block:
    """Encoded decisions that are appended together, each with its policy, and the answer that their requests wait for."""

    __slots__ = ("decisions", "held", "size", "timer")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.decisions: list[tuple[str, bytes]] = []
        self.size = 0
        self.held: asyncio.Future[bool] = loop.create_future()
        self.timer: asyncio.TimerHandle | None = None

    def answer(self, held: bool) -> None:  # noqa: FBT001 - a callback's argument
        if self.timer is not None:
            self.timer.cancel()
        if not self.held.done():
            self.held.set_result(held)


class JournalWriter:
    """Appends decisions; answers whether Redis holds them."""

    def __init__(
        self, client: Redis, asking: Redis, metrics: Metrics, *, wait_s: float, buffer: int, buffer_bytes: int
    ) -> None:
        """Append through `client`; keep at most `buffer` decisions, `buffer_bytes` long, while it is away.

        `asking`: a client of their own for requests with a `request_id`, which wait for a connection each.
        """
        self._client = client
        self._asking = asking
        self._metrics = metrics
        self._wait_s = wait_s
        self._buffer = buffer
        self._buffer_bytes = buffer_bytes
        self._blocks: deque[_Block] = deque()
        self._waiting = 0
        self._waiting_bytes = 0
        self._well = True
        self._closing = False
        self._wake = asyncio.Event()
        self._task = asyncio.create_task(self._flush())

    async def append(self, decision: Decision) -> bool:
        """Return True once Redis holds the decision; False after `wait_s`, or at once while Redis is away."""
        encoded = _encoder.encode(decision)
        if self._waiting >= self._buffer or self._waiting_bytes + len(encoded) > self._buffer_bytes:
            self._metrics.journal_dropped.inc()
            return False
        self._waiting += 1
        self._waiting_bytes += len(encoded)
        block = self._blocks[-1] if self._blocks else None
        if block is None or len(block.decisions) >= _BLOCK or block.size >= _BLOCK_BYTES or block.held.done():
            loop = asyncio.get_running_loop()
            block = _Block(loop)
            if self._well:
                block.timer = loop.call_later(self._wait_s, self._give_up, block)
            self._blocks.append(block)
            self._wake.set()
        block.decisions.append((decision.policy, encoded))
        block.size += len(encoded)
        if len(block.decisions) == _SHARE_DECISIONS:
            self._wake.set()
        if not self._well:
            return False
        try:
            return await block.held
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            return False  # another request of this block was cancelled, and the answer to all with it

    async def append_once(self, decision: Decision, request: str, answer: bytes) -> tuple[bool, bytes | None]:
        """Append unless `request` was answered before; return (held, the earlier answer or None)."""
        if not self._well:
            await self.append(decision)
            return False, None
        policy = decision.policy
        block = _encoder.encode([decision])
        try:
            async with asyncio.timeout(self._wait_s):
                earlier = await self._asking.eval(
                    _APPEND_ONCE, 2, request_key(policy, request), journal_key(policy), answer, _REMEMBER_MS, block
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

    async def close(self) -> None:
        """Append what is left, as far as Redis takes it within two seconds; the rest is counted as dropped."""
        self._closing = True
        self._wake.set()
        await asyncio.wait({self._task}, timeout=_CLOSE_S)
        self._task.cancel()
        if self._waiting:
            self._metrics.journal_dropped.inc(by=self._waiting)
            _log.error("decisions are lost", extra={"knudge": {"decisions": self._waiting}})

    def _give_up(self, block: _Block) -> None:
        if not block.held.done():
            self._well = False
            block.answer(held=False)

    async def _flush(self) -> None:
        failures = 0
        started = 0.0
        while await self._share(started):
            started = asyncio.get_running_loop().time()
            blocks = self._next_blocks()
            try:
                await self._append(blocks)
            except (RedisError, OSError, TimeoutError) as error:
                self._blocks.extendleft(reversed(blocks))
                self._lost_touch(error, first=failures == 0)
                await asyncio.sleep(_RETRY_S[min(failures, len(_RETRY_S) - 1)])
                failures += 1
                continue
            except Exception:
                lost = sum(len(block.decisions) for block in blocks)
                _log.exception("decisions cannot be journalled", extra={"knudge": {"decisions": lost}})
                self._metrics.journal_dropped.inc(by=lost)
                self._settle(blocks, held=False)
            else:
                self._settle(blocks, held=True)
            failures = 0

    def _next_blocks(self) -> list[_Block]:
        blocks = [self._blocks.popleft()]
        size = blocks[0].size
        while self._blocks and len(blocks) < _BLOCKS_AT_ONCE and size + self._blocks[0].size <= _APPEND_BYTES:
            blocks.append(self._blocks.popleft())
            size += blocks[-1].size
        return blocks

    async def _share(self, started: float) -> bool:
        """Wait until the next append is due; return False once there is nothing left to append and never will be."""
        while not self._blocks:
            if self._closing:
                return False
            self._wake.clear()
            await self._wake.wait()
        loop = asyncio.get_running_loop()
        rest = started + _SHARE_S - loop.time()
        if rest > 0 and len(self._blocks[0].decisions) < _SHARE_DECISIONS and not self._closing:
            self._wake.clear()
            timer = loop.call_later(rest, self._wake.set)
            await self._wake.wait()
            timer.cancel()
        return True

    def _lost_touch(self, error: Exception, *, first: bool) -> None:
        """Answer everybody who waits: the decisions are kept, and go out degraded."""
        if self._well or first:
            _log.warning("the journal does not answer", extra={"knudge": {"error": str(error)}})
        self._well = False
        for block in self._blocks:
            block.answer(held=False)
        self._metrics.journal_buffered.set(self._waiting)

    def _settle(self, blocks: list[_Block], *, held: bool) -> None:
        for block in blocks:
            self._waiting -= len(block.decisions)
            self._waiting_bytes -= block.size
            block.answer(held=held)
        if not self._well:
            self._well = self._waiting < _BLOCK
            self._metrics.journal_buffered.set(self._waiting)

    async def _append(self, blocks: list[_Block]) -> None:
        by_policy: dict[str, list[bytes]] = {}
        for block in blocks:
            for policy, encoded in block.decisions:
                by_policy.setdefault(policy, []).append(encoded)
        if len(by_policy) == 1:
            [(policy, decisions)] = by_policy.items()
            await self._client.xadd(journal_key(policy), {"block": _array(decisions)})
            return
        pipeline = self._client.pipeline(transaction=False)
        for policy, decisions in by_policy.items():
            pipeline.xadd(journal_key(policy), {"block": _array(decisions)})
        await pipeline.execute()


_BLOCK = 500
_BLOCK_BYTES = 256 * 1024
_BLOCKS_AT_ONCE = 8
_APPEND_BYTES = 1024 * 1024
_CLOSE_S = 2.0


def _array(encoded: list[bytes]) -> bytes:
    """Return the MessagePack array of members that are encoded already."""
    return b"\xdc" + len(encoded).to_bytes(2, "big") + b"".join(encoded)
