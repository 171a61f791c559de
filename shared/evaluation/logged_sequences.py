"""The common input of the estimators of several choices that belong together: a slate's positions, or a session's steps.

An item's propensity is *conditional* on what was chosen before it, the items above or the steps so far, for the target as for the logging
policy. Sequences may be shorter than the longest: what lies beyond `lengths` is not read.
"""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from shared.errors import InvalidInput

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


class LoggedSequences(msgspec.Struct, frozen=True, kw_only=True):
    """Sequences of choices, each with its reward, and a target policy. Make one by `sequences`, which checks what it is given.

    `rewards`: shape (n_rows, n_steps), 0 beyond a sequence's end. `ratios`: the same shape, the target's probability of each logged choice over
    the logging policy's, both given what came before; 1 beyond the end. `bound`: the largest possible product of a row's ratios, and
    `total_range`: the lowest and highest sum of a row's rewards, None where unknown: no empirical-Bernstein interval then.
    """

    rewards: Floats
    ratios: Floats
    bound: float | None = None
    total_range: tuple[float, float] | None = None

    @property
    def totals(self) -> Floats:
        """Return the sum of each row's rewards, shape (n_rows,)."""
        totals: Floats = self.rewards.sum(axis=1)
        return totals

    def bounds_of_terms(self) -> tuple[float, float] | None:
        """Return the least and largest possible sum of weighted rewards of a row, None where unknown."""
        if self.bound is None or self.total_range is None:
            return None
        return min(0.0, self.bound * self.total_range[0]), max(0.0, self.bound * self.total_range[1])


def sequences(
    rewards: Floats,
    propensities: Floats,
    target: Floats,
    lengths: Integers | None = None,
    *,
    bound: float | None = None,
    total_range: tuple[float, float] | None = None,
) -> LoggedSequences:
    """Check and return sequences.

    `rewards`, `propensities` (in (0, 1]), `target` (in [0, 1], the probability of the *logged* choice): shape (n_rows, n_steps). `lengths`: shape
    (n_rows,), all full where None. Raises `InvalidInput`, naming the field. Rows with an unknown propensity (nan), or logged with an exploration
    floor of 0, must be left out before.

    >>> sequences(np.ones((1, 2)), np.full((1, 2), 0.5), np.array([[1.0, 0.25]])).ratios
    array([[2. , 0.5]])
    """
    if rewards.ndim != 2 or not rewards.size:  # noqa: PLR2004 - a matrix
        raise InvalidInput("rewards must have shape (n_rows, n_steps)", field="rewards")
    count, steps = rewards.shape
    ends = np.full(count, steps) if lengths is None else lengths
    if ends.shape != (count,) or not bool(((ends >= 1) & (ends <= steps)).all()):
        raise InvalidInput(f"lengths must lie in [1, {steps}], one for each row", field="lengths")
    mask = np.arange(steps) < ends[:, None]
    for name, values in (("propensities", propensities), ("target", target)):
        if values.shape != rewards.shape:
            raise InvalidInput(
                f"{name} must have the shape of rewards, {rewards.shape}, got {values.shape}", field=name
            )
    if not bool(((propensities > 0.0) & (propensities <= 1.0))[mask].all()):
        message = "a logged propensity is zero, unknown or above 1: importance weights do not exist"
        raise InvalidInput(message, field="propensities")
    if not bool(((target >= 0.0) & (target <= 1.0))[mask].all()):
        raise InvalidInput("a target probability lies outside [0, 1]", field="target")
    if not bool(np.isfinite(rewards[mask]).all()):
        raise InvalidInput("rewards must be finite", field="rewards")
    ratios = np.ones(rewards.shape)
    ratios[mask] = target[mask] / propensities[mask]
    return LoggedSequences(rewards=np.where(mask, rewards, 0.0), ratios=ratios, bound=bound, total_range=total_range)
