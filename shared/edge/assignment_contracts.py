"""The typed structures of assignments and exposures, version 1."""

from __future__ import annotations

import msgspec

from shared.edge.contracts import Timestamp
from shared.edge.learning_contracts import RequestIdentity
from shared.experiments.assignment import Reason
from shared.experiments.experiment import Json


class AssignmentRequest(msgspec.Struct, forbid_unknown_fields=True):
    """`POST /v1/assignments`: what this user gets of experiments; of all that are not drafts where none are named.

    `attributes`: what conditions may ask for and what experiments may split by; any JSON. `expose`: whether the user is shown what is
    answered, so that it counts; left out: where experiments are named.
    """

    user_id: str
    attributes: dict[str, Json] = {}
    experiments: list[str] | None = None
    expose: bool | None = None


class AssignmentOut(msgspec.Struct, frozen=True):
    """What a user gets of one experiment.

    `variation`: null for whoever is not in it, who is served `value`, that of the default variation. `in_experiment`: whether the
    user counts in the analysis.
    """

    experiment: str
    variation: str | None
    value: Json
    in_experiment: bool
    reason: Reason


class AssignmentAnswer(msgspec.Struct, frozen=True):
    """The assignments, in the order asked for, or by key.

    `degraded`: an exposure is not known to be journalled, or what sticks to the user was not to be had.
    """

    assignments: list[AssignmentOut]
    degraded: bool = False


class AssignmentMade(msgspec.Struct, frozen=True):
    """Data of `assignment.made`. `request`: the event that asked."""

    request: RequestIdentity
    assignments: list[AssignmentOut]
    degraded: bool = False


class ExposureIn(msgspec.Struct, forbid_unknown_fields=True):
    """One exposure: a user was shown an experiment's variation; left out, the variation that the user is assigned.

    `user_id`: required by experiments that split by it; others need their attribute.
    """

    experiment: str
    user_id: str | None = None
    variation: str | None = None
    attributes: dict[str, Json] = {}
    occurred_at: Timestamp | None = None


class ExposureBatch(msgspec.Struct, forbid_unknown_fields=True):
    """Several exposures, taken or refused together."""

    exposures: list[ExposureIn]


class ExposureAnswer(msgspec.Struct, frozen=True):
    """What became of exposures.

    `accepted`: new to the process that answers; `duplicates`: it took them of late; `outside`: the experiment does not run, or the user is
    not in it. `degraded`: not all are known to be journalled.
    """

    accepted: int
    duplicates: int
    outside: int
    degraded: bool = False
