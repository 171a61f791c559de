"""Items as Parquet: one row an item, in row groups, so that memory holds one group at a time."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from functions.console.decided_items import DecidedItem

if TYPE_CHECKING:
    import pyarrow as pa

ROW_GROUP = 50_000
_MICROSECONDS = 1e6


def schema() -> pa.Schema:
    """Return the columns; what each means stands in docs/operations/decisions.md."""
    import pyarrow as pa  # an extra of its own: an image does without

    return pa.schema(
        [
            pa.field("decision_id", pa.string(), nullable=False),
            pa.field("decided_at", pa.timestamp("us", tz="UTC"), nullable=False),
            pa.field("policy", pa.string(), nullable=False),
            pa.field("policy_version", pa.int32(), nullable=False),
            pa.field("snapshot_version", pa.int64(), nullable=False),
            pa.field("position", pa.int16(), nullable=False),
            pa.field("items", pa.int16(), nullable=False),
            pa.field("action", pa.string(), nullable=False),
            pa.field("propensity", pa.float64()),
            pa.field("exploration_floor", pa.float64()),
            pa.field("reward", pa.float64(), nullable=False),
            pa.field("answered", pa.bool_(), nullable=False),
            pa.field("settled", pa.bool_(), nullable=False),
            pa.field("eligible", pa.list_(pa.string()), nullable=False),
            pa.field("context", pa.string(), nullable=False),
            pa.field("features", pa.string(), nullable=False),
            pa.field("origin", pa.string(), nullable=False),
            pa.field("degraded", pa.bool_(), nullable=False),
            pa.field("served_by", pa.string(), nullable=False),
            pa.field("deferred", pa.bool_(), nullable=False),
            pa.field("user", pa.string()),
            pa.field("session", pa.string()),
            pa.field("revision", pa.string(), nullable=False),
            pa.field("actor", pa.string(), nullable=False),
            pa.field("default_action", pa.string()),
            pa.field("logged_position", pa.int16()),
            pa.field("experiment", pa.string()),
            pa.field("phase", pa.int32()),
            pa.field("variation", pa.string()),
            pa.field("unit", pa.string()),
        ]
    )


def write(path: Path, items: Iterable[DecidedItem]) -> int:
    """Write `items` to a file; return how many rows it has."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows, columns = 0, schema()
    remaining = iter(items)
    with pq.ParquetWriter(path, columns, compression="zstd") as writer:
        while group := [_row(item) for item in islice(remaining, ROW_GROUP)]:
            writer.write_table(pa.Table.from_pylist(group, columns), row_group_size=ROW_GROUP)
            rows += len(group)
    return rows


def _row(item: DecidedItem) -> dict[str, Any]:
    decision = item.stored.decision
    experiment = decision.experiment
    features = {} if item.chosen is None else item.eligible[item.chosen].features
    return {
        "decision_id": decision.decision_id,
        "decided_at": round(item.stored.decided_at * _MICROSECONDS),
        "policy": decision.policy,
        "policy_version": decision.policy_version,
        "snapshot_version": decision.snapshot_version,
        "position": item.position,
        "items": len(decision.actions),
        "action": item.action,
        "propensity": item.propensity,
        "exploration_floor": item.floor,
        "reward": item.reward,
        "answered": item.answered,
        "settled": item.settled,
        "eligible": [action.id for action in item.eligible],
        "context": msgspec.json.encode(decision.context).decode(),
        "features": msgspec.json.encode(features).decode(),
        "origin": decision.origin,
        "degraded": decision.degraded,
        "served_by": "policy" if decision.served_by is None else decision.served_by.who,
        "deferred": decision.deferred,
        "user": decision.user,
        "session": decision.session,
        "revision": decision.revision,
        "actor": decision.actor,
        "default_action": decision.default_action,
        "logged_position": decision.position,
        "experiment": None if experiment is None else experiment.key,
        "phase": None if experiment is None else experiment.phase,
        "variation": None if experiment is None else experiment.variation,
        "unit": None if experiment is None else experiment.unit,
    }
