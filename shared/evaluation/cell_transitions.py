"""Transitions between the cells of a state space, for fitted-Q evaluation with one indicator for each pair of state and action.

φ(s, a) is 1 in the place of (s, a) and 0 elsewhere, so Φ'Φ counts how often each pair was logged, and the fixed point is the value in
the decision process that the log's frequencies make: exact, up to chance, where the state says all that matters of what happened before.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import numpy as np
import numpy.typing as npt

from shared.errors import InvalidInput

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

MOST_PAIRS = 2_000
"""How many pairs may have been logged: equations as many as that are solved."""
LARGEST_UNLOGGED = 0.01


class CellTransitions(msgspec.Struct, frozen=True, kw_only=True):
    """Logged decisions with one item each, episode after episode; a `Regression`.

    `pairs`: shape (n,), the pair of state and action that was logged, in [0, n_pairs). `rewards`, `episodes`: shape (n,); episodes are numbered
    from 0 in this order. `law`: the target's probabilities of all eligible actions of all decisions, one decision after another, shape
    (n_entries,); decision i has those from `offsets[i]` to `offsets[i + 1]`. `law_pairs`: the pairs that they are of, -1 for one that was never logged, which
    is taken to be worth 0.
    """

    pairs: Integers
    rewards: Floats
    episodes: Integers
    offsets: Integers
    law: Floats
    law_pairs: Integers
    n_pairs: int

    def check(self) -> None:
        """Do what `Regression` says."""
        count = len(self.pairs)
        if not count or self.n_pairs > MOST_PAIRS:
            message = f"between 1 and {MOST_PAIRS:,} pairs of state and action can be told apart, not {self.n_pairs:,}"
            raise InvalidInput(message, field="pairs")
        if self.rewards.shape != (count,) or not bool(np.isfinite(self.rewards).all()):
            raise InvalidInput(f"rewards must have shape ({count},) and be finite", field="rewards")
        steps = np.diff(self.episodes)
        if self.episodes.shape != (count,) or self.episodes[0] or not bool(((steps == 0) | (steps == 1)).all()):
            raise InvalidInput("episodes must be numbered from 0, one after another", field="episodes")
        entries = (int(self.offsets[-1]),)
        if self.offsets.shape != (count + 1,) or {self.law.shape, self.law_pairs.shape} != {entries}:
            raise InvalidInput("law and law_pairs must have an entry for each eligible action", field="law")

    def gram(self) -> Floats:
        """Do what `Regression` says."""
        return np.diag(np.bincount(self.pairs, minlength=self.n_pairs).astype(np.float64))

    def cross(self) -> Floats:
        """Do what `Regression` says."""
        following = np.repeat(np.concatenate([[False], ~self._begins()[1:]]), np.diff(self.offsets))
        counted = following & (self.law_pairs >= 0)
        before = np.repeat(np.concatenate([[0], self.pairs[:-1]]), np.diff(self.offsets))
        flat = before[counted] * self.n_pairs + self.law_pairs[counted]
        sums = np.bincount(flat, self.law[counted], minlength=self.n_pairs**2)
        return sums.astype(np.float64).reshape(self.n_pairs, self.n_pairs)

    def weighed(self, numbers: Floats) -> Floats:
        """Do what `Regression` says."""
        return np.bincount(self.pairs, numbers, minlength=self.n_pairs).astype(np.float64)

    def values(self, weights: Floats) -> Floats:
        """Do what `Regression` says."""
        values: Floats = weights[self.pairs]
        return values

    def next_values(self, weights: Floats) -> Floats:
        """Do what `Regression` says."""
        following: Floats = np.append(self.expected(weights)[1:], 0.0)
        following[:-1][self._begins()[1:]] = 0.0
        return following

    def initial_values(self, weights: Floats) -> Floats:
        """Do what `Regression` says."""
        values: Floats = self.expected(weights)[self._begins()]
        return values

    def initial(self) -> Floats:
        """Do what `Regression` says."""
        counted = np.repeat(self._begins(), np.diff(self.offsets)) & (self.law_pairs >= 0)
        sums = np.bincount(self.law_pairs[counted], self.law[counted], minlength=self.n_pairs)
        means: Floats = sums / (self.episodes[-1] + 1)
        return means

    def expected(self, weights: Floats) -> Floats:
        """Return what the target's own choice is worth at each decision, Σ_a π(a | s_i) w(s_i, a), shape (n,)."""
        worth = np.append(weights, 0.0)[self.law_pairs]  # -1 is the last one
        expected: Floats = np.add.reduceat(self.law * worth, self.offsets[:-1])
        return expected

    def only(self, kept: npt.NDArray[np.bool_]) -> CellTransitions:
        """Return the transitions of the episodes that are `kept`, shape (n_episodes,), of which there is one."""
        at = kept[self.episodes]
        sizes = np.diff(self.offsets)
        entries = np.repeat(at, sizes)
        return msgspec.structs.replace(
            self,
            pairs=self.pairs[at],
            rewards=self.rewards[at],
            episodes=(np.cumsum(kept) - 1)[self.episodes[at]],
            offsets=np.concatenate([[0], np.cumsum(sizes[at])]),
            law=self.law[entries],
            law_pairs=self.law_pairs[entries],
        )

    def doubts(self) -> Iterator[str]:
        """Say where the target takes what was never logged in a state."""
        share = float(self.law[self.law_pairs < 0].sum()) / len(self.pairs)
        if share > LARGEST_UNLOGGED:
            yield f"in {share:.0%} of its choices the target takes what was never logged in that state: it is taken to be worth 0"

    def _begins(self) -> npt.NDArray[np.bool_]:
        begins: npt.NDArray[np.bool_] = np.concatenate([[True], np.diff(self.episodes) > 0])
        return begins
