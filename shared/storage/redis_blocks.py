"""Group commit to streams in Redis: records that wait at the same time share one append.

An append starts every 2 ms or as soon as 32 records wait, whatever comes first; a record is waited for until Redis has acknowledged
its block, or `wait_s`, after which its answer goes out degraded. What Redis has not acknowledged stays in a buffer, bounded in
records and in bytes, and is appended once Redis is back; what a full buffer drops is counted. A block may so be appended twice:
whoever archives takes each record once. An entry stays small enough to be written and read in one go, however large its
records are.

Reading is `shared.storage.redis_drain`'s.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque

import msgspec

from shared.observability.metrics import Family
from shared.storage.redis_connection import Redis, RedisError

_SHARE_S = 0.002
_SHARE_RECORDS = 32
_RETRY_S = (0.05, 0.1, 0.25, 0.5, 1.0)

_encoder = msgspec.msgpack.Encoder()
_log = logging.getLogger(__name__)


class Block:
    """Encoded records that are appended together, each with its stream, and the answer that their requests wait for.

    `landed`: Redis has acknowledged it, be it later than anybody waited.
    """

    __slots__ = ("held", "landed", "records", "size", "timer")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start with no records."""
        self.records: list[tuple[str, bytes]] = []
        self.size = 0
        self.held: asyncio.Future[bool] = loop.create_future()
        self.landed = False
        self.timer: asyncio.TimerHandle | None = None

    def answer(self, held: bool) -> None:  # noqa: FBT001 - a callback's argument
        """Answer those who wait."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if not self.held.done():
            self.held.set_result(held)


class BlockWriter:
    """Appends records to streams; answers whether Redis holds them."""

    def __init__(
        self, client: Redis, dropped: Family, buffered: Family, *, wait_s: float, buffer: int, buffer_bytes: int
    ) -> None:
        """Append through `client`; keep at most `buffer` records, `buffer_bytes` long, while it is away.

        `dropped`, `buffered`: the metrics that count the records that are lost, and those that wait for Redis.
        """
        self._client = client
        self._dropped = dropped
        self._buffered = buffered
        self._wait_s = wait_s
        self._buffer = buffer
        self._buffer_bytes = buffer_bytes
        self._blocks: deque[Block] = deque()
        self._waiting = 0
        self._waiting_bytes = 0
        self._well = True
        self._closing = False
        self._wake = asyncio.Event()
        self._task = asyncio.create_task(self._flush())

    def put(self, stream: str, record: msgspec.Struct) -> Block | None:
        """Take a record that will be appended to `stream`; return its block, None where the buffer is full and it is lost."""
        encoded = _encoder.encode(record)
        if self._waiting >= self._buffer or self._waiting_bytes + len(encoded) > self._buffer_bytes:
            self._dropped.inc()
            return None
        self._waiting += 1
        self._waiting_bytes += len(encoded)
        block = self._blocks[-1] if self._blocks else None
        if block is None or len(block.records) >= _BLOCK or block.size >= _BLOCK_BYTES or block.held.done():
            loop = asyncio.get_running_loop()
            block = Block(loop)
            if self._well:
                block.timer = loop.call_later(self._wait_s, self._give_up, block)
            self._blocks.append(block)
            self._wake.set()
        block.records.append((stream, encoded))
        block.size += len(encoded)
        if len(block.records) == _SHARE_RECORDS:
            self._wake.set()
        return block

    async def settled(self, block: Block | None) -> bool:
        """Return True once Redis holds a block; False after `wait_s`, or at once while Redis is away."""
        if block is None or not self._well:
            return block is not None and block.landed
        try:
            return await block.held
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            return False  # another request of this block was cancelled, and the answer to all with it

    async def close(self) -> None:
        """Append what is left, as far as Redis takes it within two seconds; the rest is counted as dropped."""
        self._closing = True
        self._wake.set()
        await asyncio.wait({self._task}, timeout=_CLOSE_S)
        self._task.cancel()
        if self._waiting:
            self._dropped.inc(by=self._waiting)
            _log.error("records are lost", extra={"knudge": {"records": self._waiting}})

    def _give_up(self, block: Block) -> None:
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
                lost = sum(len(block.records) for block in blocks)
                _log.exception("records cannot be journalled", extra={"knudge": {"records": lost}})
                self._dropped.inc(by=lost)
                self._settle(blocks, held=False)
            else:
                self._settle(blocks, held=True)
            failures = 0

    def _next_blocks(self) -> list[Block]:
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
        if rest > 0 and len(self._blocks[0].records) < _SHARE_RECORDS and not self._closing:
            self._wake.clear()
            timer = loop.call_later(rest, self._wake.set)
            await self._wake.wait()
            timer.cancel()
        return True

    def _lost_touch(self, error: Exception, *, first: bool) -> None:
        """Answer everybody who waits: the records are kept, and go out degraded."""
        if self._well or first:
            _log.warning("the journal does not answer", extra={"knudge": {"error": str(error)}})
        self._well = False
        for block in self._blocks:
            block.answer(held=False)
        self._buffered.set(self._waiting)

    def _settle(self, blocks: list[Block], *, held: bool) -> None:
        for block in blocks:
            self._waiting -= len(block.records)
            self._waiting_bytes -= block.size
            block.landed = held
            block.records = []
            block.answer(held=held)
        if not self._well:
            self._well = self._waiting < _BLOCK
            self._buffered.set(self._waiting)

    async def _append(self, blocks: list[Block]) -> None:
        by_stream: dict[str, list[bytes]] = {}
        for block in blocks:
            for stream, encoded in block.records:
                by_stream.setdefault(stream, []).append(encoded)
        if len(by_stream) == 1:
            [(stream, records)] = by_stream.items()
            await self._client.xadd(stream, {"block": _array(records)})
            return
        pipeline = self._client.pipeline(transaction=False)
        for stream, records in by_stream.items():
            pipeline.xadd(stream, {"block": _array(records)})
        await pipeline.execute()


_BLOCK = 500
_BLOCK_BYTES = 256 * 1024
_BLOCKS_AT_ONCE = 8
_APPEND_BYTES = 1024 * 1024
_CLOSE_S = 2.0


def _array(encoded: list[bytes]) -> bytes:
    """Return the MessagePack array of members that are encoded already."""
    return b"\xdc" + len(encoded).to_bytes(2, "big") + b"".join(encoded)
