"""What an evaluation is asked: which decisions to judge, and how candidates learn before them."""

from __future__ import annotations

import msgspec


class Task(msgspec.Struct, frozen=True):
    """Times in POSIX seconds.

    `began`, `until`: judged is what was decided in [began, until). `learned`: learned from is what was decided since then, at most
    `began`. `blocks`: how often candidates learn. `train_every_s`: how often those are trained that learn from a training alone. `settled`: only
    what can no longer change is judged. `horizon`: of each session only so many decisions, None for all.
    """

    began: float
    until: float
    learned: float
    blocks: int
    train_every_s: float
    settled: bool = False
    horizon: int | None = None

    def block(self, size: int) -> int:
        """Return how many of `size` decisions are a block."""
        return max(-(-size // self.blocks), 1)
