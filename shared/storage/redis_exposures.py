"""The journal of exposures: one Redis stream, whose entries are blocks of them.

Serving processes write it (`shared.storage.redis_blocks`), `learn` reads it (`shared.storage.redis_drain`). An exposure counts once per
unit and experiment, so a process does not write again what it wrote of late; what it forgets and writes twice, the archive
takes once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from shared.experiments.exposure import Exposure
from shared.observability.metrics import Metrics
from shared.ports import Recorded
from shared.storage.redis_blocks import Block, BlockWriter
from shared.storage.redis_connection import EXPOSURES, Redis


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
        self._most = remembered // 2
        self._young: dict[str, Block] = {}
        self._old: dict[str, Block] = {}
        self._turns_at = 0.0

    def holds(self, key: str) -> bool:
        """Tell whether Redis holds an exposure that this process remembers."""
        if self._turns_at < asyncio.get_running_loop().time():
            self._turn()
        block = self._young.get(key) or self._old.get(key)
        return block is not None and block.landed

    async def record(self, exposures: Sequence[tuple[str, Exposure]]) -> Recorded:
        """Return once Redis holds the exposures; after `wait_s`, or at once while Redis is away, with `held` False.

        Each comes with its key: what has the same one is the same exposure.
        """
        if len(self._young) >= self._most or self._turns_at < asyncio.get_running_loop().time():
            self._turn()
        young, old = self._young, self._old
        new: list[bool] = []
        held = True
        waiting: list[Block] = []
        for key, exposure in exposures:
            block = young.get(key) or old.get(key)
            is_new = block is None
            if block is None:
                block = self.put(EXPOSURES, exposure)
                if block is None:  # lost, so that another try is a new one
                    held = False
                else:
                    young[key] = block
            new.append(is_new)
            if block is not None and not block.landed and block not in waiting[-1:]:
                waiting.append(block)
        for block in waiting:
            held &= await self.settled(block)
        return Recorded(new, held)

    def _turn(self) -> None:
        """Forget the older half of what is remembered: what was exposed before the last turn."""
        self._old, self._young = self._young, {}
        self._turns_at = asyncio.get_running_loop().time() + REMEMBER_S / 2


REMEMBER_S = 3600.0
"""What Redis lost before it was archived is written again when the unit is exposed again after this time, or half of it."""
