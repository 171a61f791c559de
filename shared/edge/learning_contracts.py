"""The typed structures of the events by which policies are learned, trained and promoted, version 1."""

from __future__ import annotations

from typing import Literal

import msgspec


class LearningDue(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=False):
    """Data of `learning.due`: the policy to learn for; none for all of them (a sweep).

    `exposures`: only the journal of exposures, and what sticks to units, is to be drained.
    """

    policy: str | None = None
    exposures: bool = False


class LearningDone(msgspec.Struct, frozen=True):
    """What a learning run took in."""

    policies: int
    decisions: int
    feedback: int


class TrainingRequested(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Data of `training.requested`: the policy to train; none for all of them."""

    policy: str | None = None


class TrainedPolicy(msgspec.Struct, frozen=True):
    """What training made of one policy: the snapshot it published, from how many decisions of the history."""

    policy: str
    policy_version: int
    snapshot_version: int
    decisions: int
    duration_s: float


class RequestIdentity(msgspec.Struct, frozen=True):
    """The event that asked for a training."""

    source: str
    id: str


class TrainingFinished(msgspec.Struct, frozen=True):
    """Data of `training.finished`. `duration_s`: from the first run's start to the end of the last."""

    request: RequestIdentity
    outcome: Literal["refitted"]
    policies: tuple[TrainedPolicy, ...]
    duration_s: float


class PolicyPromoted(msgspec.Struct, frozen=True):
    """Data of `policy.promoted`."""

    policy: str
    version: int
    actor: str
