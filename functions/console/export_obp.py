"""Items as a bandit-feedback dictionary of Open Bandit Pipeline, in NumPy's own format and without pickles.

An `.npz` whose members are named as obp names them. obp's records are dense: every action that occurs has a number, every feature
a column. Numbers stay numbers, booleans are 0 and 1, a category or an entry of a list is a column `name=value`; what is missing
is 0. Columns are written one after another from files as long as the log, so memory does not grow with it: the log is read
twice, once for the names and once for the numbers.
"""

from __future__ import annotations

import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from functions.console.decided_items import DecidedItem
from functions.console.failure import ConsoleFailure
from shared.vocabulary import Context

MOST_COLUMNS = 1_000
"""Beyond these a category has too many values to be columns."""


class Names:
    """What occurs in the log, numbered as it first occurs: `actions`, columns of `context` and of `features`, and how many rows."""

    def __init__(self, items: Iterable[DecidedItem]) -> None:
        """Read the log once. Raises `ConsoleFailure` where a category has too many values."""
        self.actions: dict[str, int] = {}
        self.context: dict[str, int] = {}
        self.features: dict[str, int] = {}
        self.action_features: dict[str, Context] = {}
        self.rows = 0
        for item in items:
            self.rows += 1
            for action in item.eligible:
                self.actions.setdefault(action.id, len(self.actions))
                if action.features:
                    self.action_features[action.id] = action.features
                _number(self.features, action.features, "features of actions")
            _number(self.context, item.stored.decision.context, "context")


def usable(items: Iterable[DecidedItem], left_out: Counter[str]) -> Iterator[DecidedItem]:
    """Yield the items that obp can use: with a propensity, and chosen among what was eligible; count the others."""
    for item in items:
        if item.propensity is None:
            left_out["propensity unknown"] += 1
        elif item.chosen is None:
            left_out["chosen action not among the eligible"] += 1
        else:
            yield item


def write(path: Path, read: Callable[[], Iterable[DecidedItem]]) -> int:
    """Write what `read` yields (it is called twice, and must yield the same) to a file; return how many rows it has.

    Raises `ConsoleFailure` where there is nothing, or a category has too many values.
    """
    names = Names(read())
    if not names.rows:
        message = "nothing to export: no decision of this span has a propensity"
        raise ConsoleFailure(message)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as folder:
        columns = _columns(Path(folder), names)
        _fill(columns, read(), names)
        members = {name: Path(folder) / f"{name}.npy" for name in columns}
        for column in columns.values():
            column.flush()
        for name, array in _whole(names).items():
            members[name] = Path(folder) / f"{name}.npy"
            np.save(members[name], array, allow_pickle=False)
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, allowZip64=True) as archive:
            for name, file in members.items():
                archive.write(file, f"{name}.npy")
    return names.rows


def _columns(folder: Path, names: Names) -> dict[str, np.memmap[Any, Any]]:
    """Return one file a column, of as many rows as there are."""
    matrices = {"context": (len(names.context), "f8"), "eligible": (len(names.actions), "?")}
    columns = {
        name: np.lib.format.open_memmap(folder / f"{name}.npy", "w+", kind, (names.rows, width))
        for name, (width, kind) in matrices.items()
    }
    for name, kind in _KINDS.items():
        columns[name] = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", kind, (names.rows,))
    return columns


_KINDS = {
    "action": "i8",
    "position": "i8",
    "reward": "f8",
    "pscore": "f8",
    "pscore_cascade": "f8",
    "slate_id": "i8",
    "timestamp": "f8",
    "answered": "?",
    "settled": "?",
    "exploration_floor": "f8",
    "logged": "?",
    "degraded": "?",
    "logged_position": "i8",
    "decision_id": "S36",
}


def _fill(columns: dict[str, np.memmap[Any, Any]], items: Iterable[DecidedItem], names: Names) -> None:
    """Write every item's row."""
    slate, above = -1, 1.0
    for row, item in enumerate(items):
        decision = item.stored.decision
        if item.position == 0:
            slate, above = slate + 1, 1.0
        propensity = item.propensity or 0.0
        above *= propensity
        values = {
            "action": names.actions[item.action],
            "position": item.position,
            "reward": item.reward,
            "pscore": propensity,
            "pscore_cascade": above,
            "slate_id": slate,
            "timestamp": item.stored.decided_at,
            "answered": item.answered,
            "settled": item.settled,
            "exploration_floor": np.nan if item.floor is None else item.floor,
            "logged": decision.origin == "logged",
            "degraded": decision.degraded,
            "logged_position": -1 if decision.position is None else decision.position,
            "decision_id": decision.decision_id,
        }
        for name, value in values.items():
            columns[name][row] = value
        for action in item.eligible:
            columns["eligible"][row, names.actions[action.id]] = True
        for column, number in _numbers(decision.context):
            columns["context"][row, names.context[column]] = number


def _whole(names: Names) -> dict[str, npt.NDArray[Any]]:
    """Return what does not grow with the log."""
    features = np.zeros((len(names.actions), len(names.features)))
    for action, given in names.action_features.items():
        for column, number in _numbers(given):
            features[names.actions[action], names.features[column]] = number
    return {
        "n_rounds": np.array(names.rows),
        "n_actions": np.array(len(names.actions)),
        "action_context": features,
        "actions": np.array(list(names.actions), dtype=np.str_),
        "context_columns": np.array(list(names.context), dtype=np.str_),
        "action_context_columns": np.array(list(names.features), dtype=np.str_),
    }


def _number(columns: dict[str, int], given: Context, what: str) -> None:
    """Give columns that were not there yet a number. Raises `ConsoleFailure` beyond `MOST_COLUMNS`."""
    for column, _ in _numbers(given):
        columns.setdefault(column, len(columns))
    if len(columns) > MOST_COLUMNS:
        message = f"the {what} would take more than {MOST_COLUMNS:,} columns ({list(columns)[-1]!r} is one): export as parquet"
        raise ConsoleFailure(message, field="format")


def _numbers(given: Context) -> Iterator[tuple[str, float]]:
    """Yield features as columns and numbers; what is null has none."""
    for name, value in given.items():
        if isinstance(value, bool | float | int):
            yield name, float(value)
        elif isinstance(value, str):
            yield f"{name}={value}", 1.0
        elif value is not None:
            for entry in value:
                yield f"{name}={entry}", 1.0
