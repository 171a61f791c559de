"""Logs in which every row has the importance weight that a test wants."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from shared.evaluation.logged_decisions import LoggedDecisions, dense

Floats = npt.NDArray[np.float64]


def log_with_weights(rewards: Floats, weights: Floats) -> LoggedDecisions:
    """Return decisions between two actions, the first of them logged with a propensity that leads to `weights`."""
    highest = float(max(1.0, weights.max()))
    first = weights / highest
    target = np.column_stack([first, 1.0 - first])
    return dense(rewards, np.full(len(rewards), 1.0 / highest), target, np.zeros(len(rewards), dtype=np.int64))
