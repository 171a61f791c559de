"""The records of what experiments measure: who was shown what, and what users did."""

from __future__ import annotations

import msgspec

from shared.vocabulary import Context


class Exposure(msgspec.Struct, frozen=True, array_like=True):
    """The fact that a unit was shown a variation.

    `unit`: as in `InExperiment`; `user`: the user's pseudonym, where there was one. `attributes`: those that the experiment looks
    at, in pseudonyms where they name somebody. `decision_id`: of the decision that showed it, None where nothing was decided.
    `revision`: `K_REVISION`; `actor`: who brought it.
    """

    experiment: str
    phase: int
    variation: str
    unit: str
    user: str | None
    exposed_at: float
    attributes: Context
    decision_id: str | None
    revision: str
    actor: str


class StickyAssignment(msgspec.Struct, frozen=True, array_like=True):
    """The variation that sticks to a unit: `key` is that of an experiment and its bucket version (`CompiledExperiment.sticky_key`).

    `unit`: the pseudonym of the unit's value of `attribute`.
    """

    attribute: str
    unit: str
    key: str
    variation: str


class UserFeedback(msgspec.Struct, frozen=True):
    """A raw event of one user, which speaks of no decision: what experiments measure. `user`: a pseudonym; the rest as in `Feedback`."""

    user: str
    source: str
    event_id: str
    kind: str
    value: float
    occurred_at: float
    received_at: float
    actor: str
