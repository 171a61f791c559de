"""Whether the cells of a state can be what a policy tells states apart by, and how far it may be steered by that."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import NoReturn

from shared.errors import InvalidInput
from shared.policies.ordered import OrderedLearner
from shared.policies.state_space import StateSpace
from shared.vocabulary import Cells

MOST_STATES = 100_000
"""How many states a policy may tell apart; only those that are visited take room."""
MOST_CELLS = 500
"""The same for the cells of all features together, where they add up."""
LARGEST_STEERING = 100.0
MOST_VISITS = 1e9
"""How many samples of a state `Steering.minimum_visits` may ask for."""


def has_states(learner: OrderedLearner | None) -> bool:
    """Tell whether what learns in order (None: nothing does) tells states apart."""
    return learner is not None and "state" in learner.FIELDS


def check_state(learner: OrderedLearner, kind: str, state: Mapping[str, Cells]) -> None:
    """Check the state of a policy of a kind whose learner `has_states`; raises `InvalidInput` with the field."""
    if not state:
        _refuse("state", f"{kind} needs one: at least one feature of the context with its bins or categories")
    for name, cells in state.items():
        _check_cells(f"state.{name}", cells)
    space = StateSpace(state)
    if learner.OFFLINE and space.n_columns > MOST_CELLS:
        _refuse("state", f"makes {space.n_columns:,} cells; at most {MOST_CELLS}")
    if not learner.OFFLINE and space.size > MOST_STATES:
        _refuse("state", f"makes {space.size:,} states; at most {MOST_STATES:,}")


def _check_cells(field: str, cells: Cells) -> None:
    if (cells.bins is None) == (cells.categories is None):
        _refuse(field, "takes either bins or categories")
    if cells.bins is not None:
        if not cells.bins:
            _refuse(f"{field}.bins", "must name at least one edge")
        for at, (below, above) in enumerate(pairwise(cells.bins)):
            if not below < above:
                _refuse(f"{field}.bins[{at + 1}]", "edges must rise")
    if cells.categories is not None:
        if not cells.categories:
            _refuse(f"{field}.categories", "must name at least one")
        known: set[str] = set()
        for at, category in enumerate(cells.categories):
            if category in known:
                _refuse(f"{field}.categories[{at}]", f"the category {category!r} stands twice")
            known.add(category)


def _refuse(field: str, detail: str) -> NoReturn:
    raise InvalidInput(detail, field=field)
