"""What the units of an experiment did, read from PostgreSQL as arrays: the input of its statistics.

A unit counts where it saw one variation of the phase only; the others are counted and left out. Its events are the feedback on
its users' decisions and what was reported by user, from its first exposure for as long as the metric's window lasts. Units stand in
the order of their exposure, so that those whose window is over at a moment are the first of them: `Measured.complete`. Only these
may be judged while an experiment runs. Each of them enters once and with its final value, which is what sequential inference asks for;
a unit that is taken in early would count as one that did nothing, and one taken in because it did something would be chosen by its
outcome.

The database joins and adds up; rows come through a binary COPY of fixed width, so that a million units are some seconds and some
tens of megabytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import psycopg
from psycopg.abc import Query

from shared.experiments.experiment import ExperimentSpec
from shared.experiments.plan import Metric
from shared.storage.postgres_connection import Connection, Pool, connection
from shared.storage.queries import queries

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int32]

DECISIONS = "decisions"
"""The denominator that is no kind of feedback."""
LOOK_BACK_S = 30 * 86_400.0
"""How long before the first exposure, or its pre-exposure period, a decision may lie whose feedback counts."""
_HEAD_BYTES, _TAIL_BYTES = 19, 2
_WORK_MEM = "96MB"


class Measured(msgspec.Struct, frozen=True):
    """What every unit makes of one metric; arrays of shape (n_units,) in the order of exposure, float64.

    `value`: 0 or 1 of a proportion, else what `aggregate` makes of its events, 0 where there was none. `denominator`: of a ratio,
    the number of its events; None otherwise. `before`, `denominator_before`: the same over `covariate_s` before the exposure, None where not
    asked for. `event_unit`, `event_value`: of a quantile, shape (n_events,): its events and the unit (its place) each belongs to.
    """

    metric: Metric
    value: Floats
    denominator: Floats | None
    before: Floats | None
    denominator_before: Floats | None
    event_unit: Integers | None
    event_value: Floats | None

    def complete(self, exposed_at: Floats, as_of: float) -> int:
        """Return how many units' windows are over at `as_of` (POSIX seconds): the first so many.

        `exposed_at`: shape (n_units,), rising.
        """
        return int(np.searchsorted(exposed_at, as_of - self.metric.window_s, side="right"))


class Units(msgspec.Struct, frozen=True):
    """The units of a phase, in the order of their first exposure.

    `variation`: index into the experiment's variations, shape (n_units,); `stratum`: 0 where it has none, else from 1;
    `exposed_at`: POSIX seconds, rising; `double_exposed`: units left out because they saw several variations.
    """

    variation: Integers
    stratum: Integers
    exposed_at: Floats
    double_exposed: int
    measured: dict[str, Measured]


class _Column(NamedTuple):
    name: str
    kind: str


_EXPOSED = (_Column("variation", ">i4"), _Column("stratum", ">i4"), _Column("exposed_at", ">f8"))
_CELLS = (
    _Column("no", ">i4"),
    _Column("metric", ">i4"),
    _Column("value", ">f8"),
    _Column("denominator", ">f8"),
    _Column("before", ">f8"),
    _Column("denominator_before", ">f8"),
)
_VALUES = (_Column("no", ">i4"), _Column("metric", ">i4"), _Column("value", ">f8"))


async def read_units(pool: Pool, spec: ExperimentSpec, as_of: float) -> Units:
    """Return the units exposed in the phase of `spec` up to `as_of`, and what they did up to then. Raises `Unavailable`."""
    named = queries("metrics")
    metrics = spec.analysis.metrics
    scope = {
        "experiment": spec.key,
        "phase": spec.phase,
        "variations": [variation.key for variation in spec.variations],
        "strata": spec.analysis.strata,
        "as_of": as_of,
    }
    async with connection(pool) as lent, lent.transaction():
        await lent.execute("set transaction isolation level repeatable read")
        await lent.execute(f"set local work_mem = '{_WORK_MEM}'".encode())
        await lent.execute(named["units"], scope)
        await lent.execute("analyze experiment_units")
        size = await _one(lent, named["look_at_units"])
        double = await _one(lent, named["double_exposures"], scope)
        exposed = await _columns(lent, named["exposed"], _EXPOSED)
        before_s = max((metric.covariate_s or 0.0 for metric in metrics), default=0.0)
        if size["units"] and metrics:
            await lent.execute(named["owners"])
            await lent.execute("analyze experiment_owners")
            await lent.execute(named["events"], scope | _wanted(metrics, size["first"] - before_s, before_s))
            await lent.execute("analyze experiment_events")
            given = {"metrics": msgspec.json.encode(_numbered(metrics)).decode()}
            cells = await _columns(lent, named["cells"], _CELLS, given)
            values = await _columns(lent, named["values"], _VALUES, given)
        else:
            cells, values = _empty(_CELLS), _empty(_VALUES)
    number = len(exposed)
    return Units(
        exposed["variation"].astype(np.int32),
        exposed["stratum"].astype(np.int32),
        exposed["exposed_at"].astype(np.float64),
        double["units"],
        {metric.name: _measured(metric, at, number, cells, values) for at, metric in enumerate(metrics)},
    )


def _wanted(metrics: Sequence[Metric], first: float, before_s: float) -> dict[str, object]:
    kinds = {metric.event for metric in metrics}
    denominators = {metric.denominator for metric in metrics if metric.denominator is not None}
    return {
        "kinds": sorted(kinds | denominators - {DECISIONS}),
        "counts_decisions": DECISIONS in denominators,
        "since": first - LOOK_BACK_S,
        "before_s": max(before_s, _A_MOMENT_S),
    }


_A_MOMENT_S = 1e-6
"""What happens at the moment of the exposure counts, so that the bound below it must lie beneath."""


def _numbered(metrics: Sequence[Metric]) -> list[dict[str, object]]:
    """Return the metrics as the queries take them: every field, defaults too."""
    fields = ("event", "kind", "aggregate", "denominator", "window_s", "covariate_s")
    return [{"no": at} | {name: getattr(metric, name) for name in fields} for at, metric in enumerate(metrics)]


def _measured(metric: Metric, at: int, number: int, cells: np.ndarray, values: np.ndarray) -> Measured:
    ours = cells[cells["metric"] == at]

    def spread(name: str) -> Floats:
        column = np.zeros(number)
        column[ours["no"]] = ours[name]
        return column

    is_ratio, is_quantile = metric.kind == "ratio", metric.kind == "quantile"
    has_before = metric.covariate_s is not None and not is_quantile
    events = values[values["metric"] == at] if is_quantile else None
    return Measured(
        metric,
        spread("value"),
        spread("denominator") if is_ratio else None,
        spread("before") if has_before else None,
        spread("denominator_before") if has_before and is_ratio else None,
        None if events is None else events["no"].astype(np.int32),
        None if events is None else events["value"].astype(np.float64),
    )


async def _one(lent: Connection, query: bytes, parameters: Mapping[str, object] | None = None) -> dict[str, int]:
    row = await (await lent.execute(query, parameters)).fetchone()
    assert row is not None  # noqa: S101 - an aggregate has one row
    return row


async def _columns(
    lent: Connection, query: bytes, columns: Sequence[_Column], parameters: Mapping[str, object] | None = None
) -> np.ndarray:
    """Return the rows of a query as a structured array; every column has a fixed width and is never null."""
    text: Query = b"copy (" + query + b") to stdout (format binary)"
    received = bytearray()
    async with psycopg.AsyncClientCursor(lent) as cursor, cursor.copy(text, parameters) as copy:
        async for portion in copy:
            received += portion
    return np.frombuffer(
        received, _row_type(columns), (len(received) - _HEAD_BYTES - _TAIL_BYTES) // _width(columns), _HEAD_BYTES
    )


def _row_type(columns: Sequence[_Column]) -> np.dtype[np.void]:
    """Return how a row stands in the stream: the number of its fields, then each with its length before it."""
    fields = [("", ">i2")]
    for column in columns:
        fields += [(f"length of {column.name}", ">i4"), (column.name, column.kind)]
    return np.dtype(fields)


def _width(columns: Sequence[_Column]) -> int:
    return _row_type(columns).itemsize


def _empty(columns: Sequence[_Column]) -> np.ndarray:
    return np.empty(0, _row_type(columns))
