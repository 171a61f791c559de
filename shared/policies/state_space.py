"""From a context to a state: each feature that the policy names is cut into cells, and a state is one cell of each.

A number falls between two edges, a string into its category. What is of another sort (a string for bins, a category
that nobody named, a list) falls into the cell `other`, what is absent or null into `missing`; booleans are the
numbers 0 and 1 to bins, `true` and `false` to categories. Which features and cells there are is part of a policy's version,
and stands in every model that was learned over them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from math import prod

from shared.vocabulary import Cells, Context, ContextValue

_OTHER, _MISSING = 0, 1
_NAMED_FROM = 2


class StateSpace:
    """The states of a policy, numbered from 0.

    Where features add up, a state is its columns: one for each feature, among those of all cells; column 0 is nobody's.

    >>> space = StateSpace({"age": Cells(bins=(18.0, 65.0)), "page": Cells(categories=("home", "cart"))})
    >>> space.size, space.state({"age": 18.0, "page": "cart"}), space.state({"age": "old"})
    (20, 15, 1)
    >>> space.n_columns, space.columns(15)
    (10, [4, 9])
    """

    __slots__ = ("_cuts", "n_columns", "size")

    def __init__(self, cells: Mapping[str, Cells]) -> None:
        """Number the states over these features; the order in which they are given does not matter."""
        self._cuts = [(name, *_cut(cells[name])) for name in sorted(cells)]
        self.size = prod(n_cells for _, n_cells, _, _ in self._cuts)
        self.n_columns = 1 + sum(n_cells for _, n_cells, _, _ in self._cuts)

    def state(self, context: Context) -> int:
        """Return the number of the state that a context is in, in [0, size)."""
        state = 0
        for name, n_cells, edges, categories in self._cuts:
            value = context.get(name)
            cell = _bin(edges, value) if edges is not None else _category(categories, value)
            state = state * n_cells + cell
        return state

    def columns(self, state: int) -> list[int]:
        """Return the columns of a state, one for each feature, in [1, n_columns)."""
        columns = []
        end = self.n_columns
        for _, n_cells, _, _ in reversed(self._cuts):
            state, cell = divmod(state, n_cells)
            end -= n_cells
            columns.append(end + cell)
        return columns[::-1]


def _cut(cells: Cells) -> tuple[int, tuple[float, ...] | None, dict[str, int]]:
    if cells.bins is not None:
        return _NAMED_FROM + len(cells.bins) + 1, cells.bins, {}
    named = cells.categories or ()
    return _NAMED_FROM + len(named), None, {category: at for at, category in enumerate(named, _NAMED_FROM)}


def _bin(edges: tuple[float, ...], value: ContextValue) -> int:
    if value is None:
        return _MISSING
    return _NAMED_FROM + bisect_right(edges, value) if isinstance(value, float | int) else _OTHER


def _category(categories: Mapping[str, int], value: ContextValue) -> int:
    if value is None:
        return _MISSING
    if isinstance(value, bool):
        value = "true" if value else "false"
    return categories.get(value, _OTHER) if isinstance(value, str) else _OTHER
