"""Items as lines of dsjson, which Vowpal Wabbit reads with `--dsjson --cb_explore_adf`.

One line an item: a slate's items are decisions among what was left, with the propensity that they had then. The cost is the
negative reward. Namespaces: `Context` (shared), `Action` (the action's id) and `Features` (its own features). A category becomes
`name=value`, as VW makes it of a string; an entry of a list likewise; what is null is left out. VW keeps names that begin with
an underscore for itself, so those get a `-` before it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from functions.console.decided_items import DecidedItem
from shared.vocabulary import Context

_encode = msgspec.json.Encoder().encode


def write(path: Path, items: Iterable[DecidedItem], left_out: Counter[str]) -> int:
    """Write `items` to a file; return how many lines it has. What cannot be a line is counted in `left_out`."""
    lines = 0
    with path.open("wb") as file:
        for item in items:
            if item.propensity is None:
                left_out["propensity unknown"] += 1
            elif item.chosen is None:
                left_out["chosen action not among the eligible"] += 1
            else:
                file.write(_encode(line(item, item.chosen, item.propensity)) + b"\n")
                lines += 1
    return lines


def line(item: DecidedItem, chosen: int, propensity: float) -> dict[str, Any]:
    """Return one line, as VW names its members; actions are numbered from 1."""
    decision = item.stored.decision
    others = [number for number in range(1, len(item.eligible) + 1) if number != chosen + 1]
    shared = {"Context": _features(decision.context)} if decision.context else {}
    return {
        "_label_cost": -item.reward if item.reward else 0.0,
        "_label_probability": propensity,
        "_label_Action": chosen + 1,
        "_labelIndex": chosen,
        "Timestamp": datetime.fromtimestamp(item.stored.decided_at, UTC).isoformat().replace("+00:00", "Z"),
        "Version": "1",
        "EventId": f"{decision.decision_id}.{item.position}" if len(decision.actions) > 1 else decision.decision_id,
        "a": [chosen + 1, *others],
        "c": {
            **shared,
            "_multi": [
                {"Action": {"id": action.id}} | ({"Features": _features(action.features)} if action.features else {})
                for action in item.eligible
            ],
        },
        "p": [propensity],  # of the first in `a`; the others' are not stored
        "VWState": {"m": f"{decision.policy}/{decision.policy_version}/{decision.snapshot_version}"},
    }


def _features(given: Context) -> dict[str, float | str | bool]:
    """Return features by names and values that VW takes as they are meant."""
    features: dict[str, float | str | bool] = {}
    for name, value in given.items():
        named = f"-{name}" if name.startswith("_") else name
        if isinstance(value, list):
            features |= {f"{named}={entry}": True for entry in value}
        elif value is not None:
            features[named] = value
    return features
