"""What an operator may write about states and sessions: the cells of a state, and the pause that ends an episode."""

from __future__ import annotations

from typing import NoReturn

from shared.edge.contracts import PolicyIn
from shared.edge.decoding import Bounds
from shared.errors import InvalidInput
from shared.policies.ordered_kinds import LEARNERS, learner_named
from shared.policies.state_checks import LARGEST_STEERING, MOST_VISITS, check_state, has_states

LONGEST_TIMEOUT_S = 7 * 86_400.0


def check_sessions(body: PolicyIn, bounds: Bounds) -> None:
    """Check `state` and `session_timeout_s`; raises `InvalidInput` or `TooLarge` with the field."""
    _check_steering(body)
    learner = learner_named(body.kind, is_steered=body.steering is not None)
    if not 1 <= body.session_timeout_s <= LONGEST_TIMEOUT_S:
        _refuse("session_timeout_s", f"must lie between 1 and {LONGEST_TIMEOUT_S:g}")
    if learner is None or not has_states(learner):
        if body.state:
            _refuse("state", f"{body.kind} has no states; leave it out")
        return
    for name, cells in body.state.items():
        bounds.string(name, "state")
        for at, category in enumerate(cells.categories or ()):
            bounds.string(category, f"state.{name}.categories[{at}]")
    check_state(learner, body.kind, body.state)


def _check_steering(body: PolicyIn) -> None:
    if body.steering is None:
        return
    if body.kind in LEARNERS:
        _refuse(
            "steering",
            f"{body.kind} learns a model of its own in order, beside which no tables are learned; leave it out",
        )
    if not 0 < body.steering.weight <= LARGEST_STEERING:
        _refuse("steering.weight", f"must be above 0 and at most {LARGEST_STEERING:g}; leave steering out for none")
    if not 1 <= body.steering.minimum_visits <= MOST_VISITS:
        _refuse("steering.minimum_visits", f"must lie between 1 and {MOST_VISITS:g}")


def _refuse(field: str, detail: str) -> NoReturn:
    raise InvalidInput(detail, field=field)
