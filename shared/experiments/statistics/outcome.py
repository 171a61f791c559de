"""What one metric says of one variation: the records that a verdict is made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from shared.experiments.statistics.effect import Effect

State = Literal["better", "worse", "kept", "crossed", "open", "silent"]
Effects = Mapping[str, Mapping[str, Effect]]
"""Effects by metric and variation; one that is missing is silent."""


class Outcome(msgspec.Struct, frozen=True):
    """What one metric says of one variation. `p_value`: corrected, of a primary metric; None where there is none."""

    metric: str
    variation: str
    state: State
    p_value: float | None = None

    def effect(self, effects: Effects) -> Effect | None:
        """Return the effect it was made of."""
        return effects.get(self.metric, {}).get(self.variation)
