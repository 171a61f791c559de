"""The common input of the off-policy estimators: decisions of one item each, and what the target policy would do there.

Eligible actions differ from decision to decision, so what stands per action is *ragged*: the entries of row i are
`offsets[i]` to `offsets[i + 1]`, one an eligible action. Estimators read the arrays and never write into them. A slate is
no row of this kind (`logged_slates`), nor is a session (`logged_sequences`).

Rule: an importance weight exists only where the logging policy's probability of the logged action is known, and says something
about the target only where the logging policy could have taken *every* action. So rows without a propensity must be left out on purpose
(`known`), and a log with an exploration floor of 0 in it is refused by every estimator that weighs (`refuse_unsupported`).
"""

from __future__ import annotations

import math

import msgspec
import numpy as np
import numpy.typing as npt

from shared.errors import InvalidInput
from shared.evaluation.importance_weights import importance_weights

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Booleans = npt.NDArray[np.bool_]

_SUM_TOLERANCE = 1e-6


class LoggedDecisions(msgspec.Struct, frozen=True, kw_only=True):
    """Decisions with rewards, and a target policy. Make one by `ragged` or `dense`, which check what they are given.

    `rewards`: shape (n_rows,). `propensities`: shape (n_rows,), in (0, 1], nan where unknown. `offsets`: shape (n_rows + 1,).
    `target`: shape (n_entries,), the target policy's probability of each eligible action. `chosen`: shape (n_rows,), the place
    of the logged action within its row. `actions`: shape (n_entries,), a number for each action. `predictions`: shape
    (n_entries,), a reward model's estimate. `floors`: shape (n_rows,), the logging policy's exploration floor, nan where unknown.
    `reward_range`: lowest and highest possible reward. `left_out`: how many rows were left out for want of a propensity.
    """

    rewards: Floats
    propensities: Floats
    offsets: Integers
    target: Floats
    chosen: Integers
    actions: Integers | None = None
    predictions: Floats | None = None
    floors: Floats | None = None
    reward_range: tuple[float, float] | None = None
    left_out: int = 0

    @property
    def rows(self) -> int:
        """Return how many decisions there are."""
        return len(self.rewards)

    @property
    def sizes(self) -> Integers:
        """Return how many actions each decision chose among, shape (n_rows,)."""
        return np.diff(self.offsets)

    @property
    def places(self) -> Integers:
        """Return the entry of each row's logged action, shape (n_rows,)."""
        return self.offsets[:-1] + self.chosen

    def with_target(self, target: Floats) -> LoggedDecisions:
        """Return the same decisions with another target policy, shape (n_entries,). Raises `InvalidInput`."""
        _check_target(target, self.offsets)
        return msgspec.structs.replace(self, target=target)

    def with_predictions(self, predictions: Floats) -> LoggedDecisions:
        """Return the same decisions with a reward model's predictions, shape (n_entries,). Raises `InvalidInput`."""
        _check_entries("predictions", predictions, self.offsets)
        return msgspec.structs.replace(self, predictions=predictions)

    def known(self) -> LoggedDecisions:
        """Return the decisions whose propensity is known, and remember how many others there were."""
        return self._where(np.isfinite(self.propensities))

    def _where(self, kept: Booleans) -> LoggedDecisions:
        if bool(kept.all()):
            return self
        entries = np.repeat(kept, self.sizes)
        sizes = self.sizes[kept]
        return msgspec.structs.replace(
            self,
            rewards=self.rewards[kept],
            propensities=self.propensities[kept],
            offsets=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
            target=self.target[entries],
            chosen=self.chosen[kept],
            actions=None if self.actions is None else self.actions[entries],
            predictions=None if self.predictions is None else self.predictions[entries],
            floors=None if self.floors is None else self.floors[kept],
            left_out=self.left_out + int((~kept).sum()),
        )

    def refuse_unsupported(self) -> None:
        """Raise `InvalidInput` where importance weights do not exist: a floor of 0, or an unknown propensity."""
        if not self.rows:
            raise InvalidInput("no decision has a known propensity", field="propensities")
        if not bool(np.isfinite(self.propensities).all()):
            unknown = int((~np.isfinite(self.propensities)).sum())
            raise InvalidInput(
                f"{unknown} of {self.rows} propensities are unknown: leave those decisions out, on purpose",
                field="propensities",
            )
        if self.floors is not None and bool((self.floors == 0.0).any()):
            without = int((self.floors == 0.0).sum())
            message = f"{without} of {self.rows} decisions were made with an exploration floor of 0: importance weights say nothing"
            raise InvalidInput(message, field="floors")

    def weights(self) -> Floats:
        """Return the importance weights, shape (n_rows,). Raises `InvalidInput` where they do not exist."""
        self.refuse_unsupported()
        return importance_weights(self.target[self.places], self.propensities)

    def predicted(self) -> tuple[Floats, Floats]:
        """Return q̂(x, a) of the logged action and Σ_a π(a|x) q̂(x, a), both of shape (n_rows,). Raises `InvalidInput`."""
        if self.predictions is None:
            raise InvalidInput("this estimator needs a reward model's predictions", field="predictions")
        values = np.add.reduceat(self.target * self.predictions, self.offsets[:-1]) if self.rows else np.zeros(0)
        return self.predictions[self.places], values

    def weight_bound(self) -> float | None:
        """Return the largest weight that any action could have got, from the floors; None where a floor is unknown.

        The logging policy gave each of a row's n actions at least f/n.
        """
        if self.floors is None or not self.rows or not bool((self.floors > 0.0).all()):
            return None
        most = np.maximum.reduceat(self.target, self.offsets[:-1])
        return float((most * self.sizes / self.floors).max())


def ragged(
    rewards: Floats,
    propensities: Floats,
    offsets: Integers,
    target: Floats,
    chosen: Integers,
    *,
    actions: Integers | None = None,
    predictions: Floats | None = None,
    floors: Floats | None = None,
    reward_range: tuple[float, float] | None = None,
) -> LoggedDecisions:
    """Check and return decisions whose eligible actions differ; shapes as in `LoggedDecisions`.

    `target` must sum to 1 over each row (within 1e-6). Raises `InvalidInput`, naming the field.
    """
    _check_rows(rewards, propensities, floors)
    sizes = np.diff(offsets)
    if offsets.shape != (len(rewards) + 1,) or int(offsets[0]) != 0 or not bool((sizes > 0).all()):
        raise InvalidInput("offsets must begin at 0 and rise, one more than there are rows", field="offsets")
    if chosen.shape != rewards.shape or not bool(((chosen >= 0) & (chosen < sizes)).all()):
        raise InvalidInput("a chosen action is not among its row's eligible actions", field="chosen")
    if actions is not None and actions.shape != (int(offsets[-1]),):
        raise InvalidInput(f"actions must have one entry an eligible action, {int(offsets[-1])}", field="actions")
    if predictions is not None:
        _check_entries("predictions", predictions, offsets)
    _check_target(target, offsets)
    _check_range(rewards, reward_range)
    return LoggedDecisions(
        rewards=rewards.astype(np.float64),
        propensities=propensities.astype(np.float64),
        offsets=offsets.astype(np.int64),
        target=target,
        chosen=chosen.astype(np.int64),
        actions=actions,
        predictions=predictions,
        floors=floors,
        reward_range=reward_range,
    )


def dense(
    rewards: Floats,
    propensities: Floats,
    target: Floats,
    chosen: Integers,
    *,
    eligible: Booleans | None = None,
    predictions: Floats | None = None,
    floors: Floats | None = None,
    reward_range: tuple[float, float] | None = None,
) -> LoggedDecisions:
    """Return decisions over one numbered set of actions; `target` and `predictions` have shape (n_rows, n_actions).

    `chosen`: shape (n_rows,), the number of the logged action. `eligible`: shape (n_rows, n_actions), all where None.
    Raises `InvalidInput` as `ragged` does, and where `target` gives something to an action that is not eligible.

    >>> log = dense(np.array([1.0, 0.0]), np.array([0.5, 0.5]), np.array([[0.2, 0.8], [0.2, 0.8]]), np.array([1, 0]))
    >>> log.weights()
    array([1.6, 0.4])
    """
    if target.ndim != 2 or len(target) != len(rewards):  # noqa: PLR2004 - a matrix
        raise InvalidInput(f"target must have shape (n_rows, n_actions), got {target.shape}", field="target")
    mask = np.ones(target.shape, dtype=np.bool_) if eligible is None else eligible
    for name, values in (("eligible", mask), ("predictions", predictions)):
        if values is not None and values.shape != target.shape:
            raise InvalidInput(f"{name} must have the shape of target, {target.shape}, got {values.shape}", field=name)
    if bool((target[~mask] != 0.0).any()):
        raise InvalidInput("the target policy takes an action that is not eligible", field="target")
    in_range = (chosen >= 0) & (chosen < target.shape[1])
    rows = np.arange(len(rewards))
    if chosen.shape != rewards.shape or not bool(in_range.all()) or not bool(mask[rows, chosen].all()):
        raise InvalidInput("a chosen action is not among its row's eligible actions", field="chosen")
    places = np.cumsum(mask, axis=1) - 1
    return ragged(
        rewards,
        propensities,
        np.concatenate([[0], np.cumsum(mask.sum(axis=1))]).astype(np.int64),
        target[mask],
        places[rows, chosen].astype(np.int64),
        actions=np.broadcast_to(np.arange(target.shape[1]), target.shape)[mask].astype(np.int64),
        predictions=None if predictions is None else predictions[mask],
        floors=floors,
        reward_range=reward_range,
    )


def _check_rows(rewards: Floats, propensities: Floats, floors: Floats | None) -> None:
    if rewards.ndim != 1 or not len(rewards) or not bool(np.isfinite(rewards).all()):
        raise InvalidInput("rewards must be one row of at least one finite number", field="rewards")
    for name, values in (("propensities", propensities), ("floors", floors)):
        if values is not None and values.shape != rewards.shape:
            raise InvalidInput(f"{name} must have shape {rewards.shape}, got {values.shape}", field=name)
    known = propensities[~np.isnan(propensities)]
    if not bool(((known > 0.0) & (known <= 1.0)).all()):
        raise InvalidInput("a propensity lies outside (0, 1]; nan says that it is unknown", field="propensities")
    if floors is not None and not bool((np.isnan(floors) | ((floors >= 0.0) & (floors <= 1.0))).all()):
        raise InvalidInput("a floor lies outside [0, 1]; nan says that it is unknown", field="floors")


def _check_entries(name: str, values: Floats, offsets: Integers) -> None:
    if values.shape != (int(offsets[-1]),) or not bool(np.isfinite(values).all()):
        raise InvalidInput(f"{name} must hold one finite number an eligible action, {int(offsets[-1])}", field=name)


def _check_target(target: Floats, offsets: Integers) -> None:
    _check_entries("target", target, offsets)
    if not bool(((target >= 0.0) & (target <= 1.0)).all()):
        raise InvalidInput("a target probability lies outside [0, 1]", field="target")
    sums = np.add.reduceat(target, offsets[:-1])
    worst = float(np.abs(sums - 1.0).max())
    if worst > _SUM_TOLERANCE:
        raise InvalidInput(
            f"the target's probabilities of a row must sum to 1; one is off by {worst:.2g}", field="target"
        )


def _check_range(rewards: Floats, reward_range: tuple[float, float] | None) -> None:
    if reward_range is None:
        return
    low, high = reward_range
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise InvalidInput("reward_range must be two finite numbers, the lower one first", field="reward_range")
    if bool((rewards < low).any()) or bool((rewards > high).any()):
        raise InvalidInput(f"a reward lies outside [{low:g}, {high:g}]", field="rewards")
