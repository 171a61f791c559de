"""The typed structures of explained decisions and of watched propensities over HTTP, version 1; the rules of `shared.edge.contracts` hold."""

from __future__ import annotations

from typing import Literal

import msgspec

from shared.vocabulary import Context


class ExplainedAction(msgspec.Struct, frozen=True):
    """An action that was eligible for one item. `propensity`: given the items above; `score`: null where not yet tried.

    `weight`, `mean`: how many rewards' worth the snapshot knew of it, and their mean. `features`: the action's own.
    `contributions`: what each feature added to the score; empty where the kind looks at none.
    """

    action: str
    propensity: float
    score: float | None
    weight: float
    mean: float | None
    features: Context
    contributions: dict[str, float]


class ExplainedItem(msgspec.Struct, frozen=True):
    """One item. `action`, `propensity`: as stored; `recomputed`: the propensity that the snapshot gives, null: not eligible.

    `draw`: the decision's uniform number at this position; `drawn`: the action that it chooses. `reward`: as it is counted, null
    without feedback. `actions`: all that was eligible, in the order in which the draw runs through them.
    """

    position: int
    action: str
    propensity: float | None
    reward: float | None
    draw: float
    drawn: str
    recomputed: float | None
    actions: list[ExplainedAction]


class Explanation(msgspec.Struct, frozen=True):
    """`GET /v1/decisions/{decision_id}/explanation`: a stored decision, decided again.

    `agrees`: whether that gives what is stored; null where nothing can be recomputed (logged decisions). `differences`: what
    is not as stored, in words; `notes`: what else there is to say. `items`: empty where nothing can be recomputed.
    """

    decision_id: str
    policy: str
    policy_version: int
    snapshot_version: int
    kind: str | None
    decided_at: str
    origin: Literal["served", "logged"]
    degraded: bool
    deferred: bool
    shown: bool
    revision: str
    actor: str
    exploration_floor: float | None
    context: Context
    agrees: bool | None
    differences: list[str]
    notes: list[str]
    items: list[ExplainedItem]


class WatchedEvent(msgspec.Struct, frozen=True):
    """How often something was chosen, and how often that was to be expected. `deviation`: in standard deviations, null where none.

    `evidence`: log evidence that it is chosen more or less often than stated, as it stands; null: without bound.
    """

    event: str
    count: float
    expected: float
    deviation: float | None
    evidence: float | None


class WatchedVersion(msgspec.Struct, frozen=True):
    """What was seen of one policy version. `choices`: items looked at; `different`: of those, stored otherwise than recomputed.

    `evidence`: log evidence against the propensities, at most so far, null: without bound; `alarm`: it reached `threshold`, or
    something differs. `draws`: of the draw and of the likeliest action; `actions`: of each action.
    """

    policy_version: int
    updated_at: str
    choices: int
    different: int
    evidence: float | None
    threshold: float
    alarm: bool
    draws: list[WatchedEvent]
    actions: list[WatchedEvent]


class WatchedPropensities(msgspec.Struct, frozen=True):
    """`GET /v1/policies/{name}/propensities`: are actions chosen as often as said? The newest version first; 0: without a snapshot."""

    policy: str
    versions: list[WatchedVersion]
