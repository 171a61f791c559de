"""The journal of exposures: one Redis stream, whose entries are blocks of them.

Serving processes write it (`shared.storage.redis_blocks`), `learn` reads it (`shared.storage.redis_drain`). An exposure counts once per
unit and experiment, so a process does not write again what it wrote of late; what it forgets and writes twice, the archive
takes once.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable
from typing import NamedTuple

from shared.experiments.exposure import Exposure
from shared.observability.metrics import Metrics
from shared.storage.redis_blocks import Block, BlockWriter
from shared.storage.redis_connection import EXPOSURES, Redis

_Key = tuple[str, int, str, str]


class Recorded(NamedTuple):
    """What became of exposures: how many were `new` to this process, and whether Redis holds them all."""

    new: int
    held: bool


class ExposureWriter(BlockWriter):
    """Appends exposures that this process has not appended of late; answers whether Redis holds them."""

    def __init__(
        self,
        client: Redis,
        metrics: Metrics,
        *,
        wait_s: float,
        buffer: int,
        buffer_bytes: int,
        remembered: int = 50_000,
    ) -> None:
        """Append through `client`, as `BlockWriter` does; remember the last `remembered` exposures, for `REMEMBER_S` at most."""
        super().__init__(
            client,
            metrics.exposures_dropped,
            metrics.exposures_buffered,
            wait_s=wait_s,
            buffer=buffer,
            buffer_bytes=buffer_bytes,
        )
        self._remembered = remembered
        self._known: OrderedDict[_Key, tuple[float, Block | None]] = OrderedDict()

    async def record(self, exposures: Iterable[Exposure]) -> Recorded:
        """Return once Redis holds the exposures; after `wait_s`, or at once while Redis is away, with `held` False."""
        now = asyncio.get_running_loop().time()
        new = 0
        held = True
        waiting: list[tuple[_Key, Block]] = []
        for exposure in exposures:
            key = (exposure.experiment, exposure.phase, exposure.variation, exposure.unit)
            until, block = self._known.get(key, _UNKNOWN)
            if until < now:
                block = self.put(EXPOSURES, exposure)
                if block is None:
                    held = False
                    continue
                new += 1
                self._remember(key, now + REMEMBER_S, block)
            if block is not None:
                waiting.append((key, block))
        for key, block in waiting:
            if not block.landed and not await self.settled(block):
                held = False
            elif key in self._known:  # the block is let go
                self._known[key] = (self._known[key][0], None)
        return Recorded(new, held)

    def _remember(self, key: _Key, until: float, block: Block) -> None:
        self._known[key] = (until, block)
        self._known.move_to_end(key)
        if len(self._known) > self._remembered:
            self._known.popitem(last=False)


REMEMBER_S = 3600.0
"""What Redis lost before it was archived is written again when the unit is exposed again after this time."""
_UNKNOWN: tuple[float, Block | None] = (float("-inf"), None)
