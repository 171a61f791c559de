"""Diverse slates: what an action loses for being like those that stand above it, reckoned anew before each draw.

Maximal marginal relevance, in units of what the policy draws by: before the item at position k is drawn, every action a that is
left has its evidence (its mean, its index, each of its posterior draws) moved by

    -weight * width * max over the items b above of likeness(a, b),      width: of the reward range, 1 if it is unbounded

and the policy's own law is then that of the moved evidence. So the item's propensity is still exact given the items above it,
and the slate's is the product. Carbonell and Goldstein, The Use of MMR, Diversity-based Reranking for Reordering Documents
and Producing Summaries (1998).

Likeness is Gower's coefficient (A General Coefficient of Similarity and Some of Its Properties, 1971): the mean, over the
features that either of two actions has, of how alike they are in it. Two numbers of one sign are as alike as the lesser is
large beside the greater, which needs no scale that would have to be learned; of two signs not at all. Categories are as alike as the
sets of them overlap (Jaccard). A feature that one of them lacks counts as unlike. Without features nothing is alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

import numpy as np

from shared.policies.algorithm import FloatArray
from shared.vocabulary import Action, ContextValue, Diversity


class Likeness:
    """How alike some actions are; compiled once for a set of them."""

    __slots__ = ("_given", "_members", "_numbers", "_owners", "_sizes")

    def __init__(self, actions: Sequence[Action], names: Sequence[str] | None = None) -> None:
        """Look at the features called `names` (None: all).

        >>> import numpy as np
        >>> red, wine = Action("a", {"price": 5.0, "tags": ["red", "new"]}), Action("b", {"price": 10.0, "tags": ["red"]})
        >>> Likeness([red, wine, Action("c")]).to(0).tolist()
        [1.0, 0.5, 0.0]
        """
        present = sorted({name for action in actions for name in action.features})
        place = {name: at for at, name in enumerate(name for name in present if names is None or name in names)}
        self._numbers = np.full((len(actions), len(place)), np.nan)
        columns: dict[tuple[int, str], int] = {}
        members: list[tuple[int, int]] = []
        for row, action in enumerate(actions):
            for name, value in action.features.items():
                if name not in place:
                    continue
                at = place[name]
                if isinstance(value, float | int) and isfinite(value):
                    self._numbers[row, at] = value
                members += [(row, columns.setdefault((at, category), len(columns))) for category in _categories(value)]
        self._members = np.zeros((len(actions), len(columns)))
        self._owners = np.zeros((len(columns), len(place)))
        if members:
            self._members[tuple(zip(*members, strict=True))] = 1.0
            self._owners[np.arange(len(columns)), [at for at, _ in columns]] = 1.0
        self._sizes = self._members @ self._owners
        self._given = ~np.isnan(self._numbers) | (self._sizes > 0)

    def to(self, at: int) -> FloatArray:
        """Return how alike each action is to the one at `at`, in [0, 1], shape (n_actions,)."""
        number = self._numbers[at]
        least = np.minimum(np.abs(self._numbers), np.abs(number))
        most = np.maximum(np.abs(self._numbers), np.abs(number))
        alike = np.divide(least, most, out=np.ones_like(most), where=most != 0)
        alike[np.sign(self._numbers) != np.sign(number)] = 0.0  # NaN, for no number, is unlike itself too
        common = (self._members * self._members[at]) @ self._owners
        together = self._sizes + self._sizes[at] - common
        np.divide(common, together, out=alike, where=together > 0)
        features = (self._given | self._given[at]).sum(axis=1)
        likeness: FloatArray = alike.sum(axis=1) / np.maximum(features, 1)
        return likeness


class Penalties:
    """What each of the actions that are left loses; before anything stands above, nothing."""

    __slots__ = ("_actions", "_factor", "_likeness", "_names", "_nearest", "_rows")

    def __init__(self, diversity: Diversity, width: float, actions: Sequence[Action]) -> None:
        """Begin a slate of `actions`; what they have in common is looked at once something is taken."""
        self._factor = diversity.weight * width
        self._names = diversity.features
        self._actions = actions
        self._likeness: Likeness | None = None
        self._rows: list[int] = []
        self._nearest: FloatArray | None = None

    def without(self, at: int) -> Penalties:
        """Return the penalties of those that are left when the one at position `at` of them is taken."""
        if self._likeness is None:
            self._likeness = Likeness(self._actions, self._names)
            self._rows = list(range(len(self._actions)))
        left = object.__new__(Penalties)
        left._factor, left._names, left._actions = self._factor, self._names, self._actions
        left._likeness = self._likeness
        left._rows = self._rows[:at] + self._rows[at + 1 :]
        near = self._likeness.to(self._rows[at])[left._rows]
        left._nearest = near if self._nearest is None else np.maximum(near, np.delete(self._nearest, at))
        return left

    @property
    def shift(self) -> FloatArray | None:
        """How far the evidence of each is moved, in units of reward, 0 or less, shape (n_left,); None: nowhere."""
        return None if self._nearest is None else -self._factor * self._nearest


def _categories(value: ContextValue) -> set[str]:
    return {value} if isinstance(value, str) else set(value) if isinstance(value, list) else set()
