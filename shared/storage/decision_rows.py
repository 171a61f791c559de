"""A decision as it stands in PostgreSQL, made the record again that was archived."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from shared.vocabulary import Action, Context, Decision, Feedback, InExperiment, ServedBy

_eligible = msgspec.json.Decoder(tuple[Action, ...])
_served_by = msgspec.json.Decoder(ServedBy)
_context = msgspec.json.Decoder(Context)
_events = msgspec.json.Decoder(tuple[Feedback, ...])
_rewards = msgspec.json.Decoder(dict[int, float])


class ExperimentRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """An `InExperiment` as it is stored: an object, whose members queries name."""

    key: str
    phase: int
    variation: str
    unit: str
    holdout: tuple[str, int, str] | None = None


_experiment = msgspec.json.Decoder(ExperimentRow)


def experiment_row(experiment: InExperiment) -> ExperimentRow:
    """Return what the column `experiment` of a decision holds."""
    return ExperimentRow(experiment.key, experiment.phase, experiment.variation, experiment.unit, experiment.holdout)


def experiment_of(content: str) -> InExperiment:
    """Return the record that the column `experiment`, as text, was made of."""
    row = _experiment.decode(content)
    return InExperiment(row.key, row.phase, row.variation, row.unit, row.holdout)


class StoredDecision(msgspec.Struct, frozen=True):
    """An archived decision and what has come of it.

    `decided_at`: POSIX seconds. `shown`: it counts; False for a deferred one that was not activated. `rewards`: one per item,
    as the posterior counts it, None where no feedback counts. `events`: all its feedback, where that was asked for.
    """

    decision: Decision
    decided_at: float
    shown: bool
    rewards: tuple[float | None, ...]
    events: tuple[Feedback, ...] = ()


def stored_decision(row: Mapping[str, Any]) -> StoredDecision:
    """Return the record of a row of the query `log`."""
    rewards = {} if row["rewards"] is None else _rewards.decode(row["rewards"])
    decision = Decision(
        row["decision_id"],
        row["policy"],
        row["policy_version"],
        row["snapshot_version"],
        tuple(row["actions"]),
        tuple(row["propensities"]),
        None if row["eligible"] is None else _eligible.decode(row["eligible"]),
        _context.decode(row["context"]),
        row["user_pseudonym"],
        row["session_pseudonym"],
        row["deferred"],
        row["degraded"],
        row["origin"],
        row["revision"],
        row["actor"],
        row["default_action"],
        row["position"],
        None if row["served_by"] is None else _served_by.decode(row["served_by"]),
        None if row["experiment"] is None else experiment_of(row["experiment"]),
    )
    rewarded = tuple(rewards.get(position) for position in range(len(decision.actions)))
    events = () if row["events"] is None else _events.decode(row["events"])
    return StoredDecision(decision, row["decided_at"], row["shown"], rewarded, events)
