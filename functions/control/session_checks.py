"""What an operator may write about states and sessions: the cells of a state, and the pause that ends an episode."""

from __future__ import annotations

from itertools import pairwise
from typing import NoReturn

from shared.edge.contracts import PolicyIn
from shared.edge.decoding import Bounds
from shared.errors import InvalidInput
from shared.policies.ordered_kinds import LEARNERS, learner_named
from shared.policies.state_space import StateSpace
from shared.vocabulary import Cells

MOST_STATES = 100_000
"""How many states a policy may tell apart; only those that are visited take room."""
MOST_CELLS = 500
"""The same for the cells of all features together, where they add up."""
LARGEST_STEERING = 100.0
MOST_VISITS = 1e9
LONGEST_TIMEOUT_S = 7 * 86_400.0


def check_sessions(body: PolicyIn, bounds: Bounds) -> None:
    """Check `state` and `session_timeout_s`; raises `InvalidInput` or `TooLarge` with the field."""
    _check_steering(body)
    learner = learner_named(body.kind, is_steered=body.steering is not None)
    if not 1 <= body.session_timeout_s <= LONGEST_TIMEOUT_S:
        _refuse("session_timeout_s", f"must lie between 1 and {LONGEST_TIMEOUT_S:g}")
    if learner is None or "state" not in learner.FIELDS:
        if body.state:
            _refuse("state", f"{body.kind} has no states; leave it out")
        return
    if not body.state:
        _refuse("state", f"{body.kind} needs one: at least one feature of the context with its bins or categories")
    for name, cells in body.state.items():
        bounds.string(name, "state")
        _check_cells(f"state.{name}", cells, bounds)
    space = StateSpace(body.state)
    if learner.OFFLINE and space.n_columns > MOST_CELLS:
        _refuse("state", f"makes {space.n_columns:,} cells; at most {MOST_CELLS}")
    if not learner.OFFLINE and space.size > MOST_STATES:
        _refuse("state", f"makes {space.size:,} states; at most {MOST_STATES:,}")


def _check_steering(body: PolicyIn) -> None:
    if body.steering is None:
        return
    if body.kind in LEARNERS:
        _refuse("steering", f"{body.kind} looks at what comes later by itself; leave it out")
    if not 0 < body.steering.weight <= LARGEST_STEERING:
        _refuse("steering.weight", f"must be above 0 and at most {LARGEST_STEERING:g}; leave steering out for none")
    if not 1 <= body.steering.minimum_visits <= MOST_VISITS:
        _refuse("steering.minimum_visits", f"must lie between 1 and {MOST_VISITS:g}")


def _check_cells(field: str, cells: Cells, bounds: Bounds) -> None:
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
            bounds.string(category, f"{field}.categories[{at}]")
            if category in known:
                _refuse(f"{field}.categories[{at}]", f"the category {category!r} stands twice")
            known.add(category)


def _refuse(field: str, detail: str) -> NoReturn:
    raise InvalidInput(detail, field=field)
