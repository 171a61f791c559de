"""Exposures in PostgreSQL: one row for each variation that a unit saw in a phase, with the first time that it did.

Recording is idempotent and does not depend on the order in which exposures come: what comes again changes nothing, what
turns out to have been earlier takes the row. A unit's second variation is a row of its own, so such units can be counted and left out.

An exposure that follows from a decision is made here, from the decision: it is recorded in the transaction that archives the
decision, or in the one that finds it activated.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import psycopg

from shared.experiments.attributes import kept_of, looked_at
from shared.experiments.experiment import ExperimentSpec
from shared.experiments.exposure import Exposure
from shared.identity import decided_at
from shared.storage.decision_rows import experiment_of
from shared.storage.postgres_connection import Connection, Row
from shared.storage.queries import queries
from shared.vocabulary import Context, Decision, InExperiment

_log = logging.getLogger(__name__)
_spec = msgspec.json.Decoder(ExperimentSpec)


async def record(connection: Connection, exposures: Iterable[Exposure]) -> int:
    """Record exposures; return for how many variations of units they were the first. The caller opens and commits.

    One that PostgreSQL cannot store is dropped, and said so.
    """
    firsts: dict[tuple[str, int, str, str], Exposure] = {}
    for exposure in exposures:
        key = (exposure.experiment, exposure.phase, exposure.unit, exposure.variation)
        known = firsts.get(key)
        if known is None or exposure.exposed_at < known.exposed_at:
            firsts[key] = exposure
    if not firsts:
        return 0
    rows = [{"user_pseudonym": one.user} | msgspec.structs.asdict(one) for one in firsts.values()]
    try:
        return await _put(connection, rows)
    except psycopg.DataError as error:
        _log.warning("exposures refused by PostgreSQL", extra={"knudge": {"error": str(error)}})
    new = 0
    for row in rows:  # one that cannot be stored harms no other
        try:
            new += await _put(connection, [row])
        except psycopg.DataError as error:
            said = {"experiment": row["experiment"], "unit": row["unit"], "error": str(error)}
            _log.error("an exposure cannot be stored and is dropped", extra={"knudge": said})
    return new


async def _put(connection: Connection, rows: Sequence[dict[str, Any]]) -> int:
    async with connection.transaction():
        parameters = {"rows": msgspec.json.encode(rows).decode()}
        cursor = await connection.execute(queries("exposures")["record"], parameters)
        return sum(row["is_new"] for row in await cursor.fetchall())


async def record_decided(connection: Connection, decisions: Iterable[Decision]) -> None:
    """Record what follows from decisions that count as shown as soon as they are archived."""
    shown = [
        _Shown(
            one.experiment,
            one.context,
            one.user,
            decided_at(one.decision_id),
            one.decision_id,
            one.revision,
            one.actor,
        )
        for one in decisions
        if one.experiment is not None and not one.deferred
    ]
    await _record_shown(connection, shown)


async def record_activated(connection: Connection, pending: Iterable[Row]) -> None:
    """Record what follows from activations, the rows of `pending` with that subject, whose decisions are archived."""
    moments = {row["decision_id"]: row["decided_at"] for row in pending if row["subject"] == "activation"}
    if not moments:
        return
    parameters = {"times": list(moments.values()), "ids": list(moments)}
    cursor = await connection.execute(queries("exposures")["activated"], parameters)
    shown = [
        _Shown(
            experiment_of(row["experiment"]),
            row["context"],
            row["user_pseudonym"],
            row["shown_at"],
            row["decision_id"],
            row["revision"],
            row["actor"],
        )
        for row in await cursor.fetchall()
    ]
    await _record_shown(connection, shown)


class _Shown(msgspec.Struct, frozen=True):
    """What a decision of an experiment says of an exposure."""

    experiment: InExperiment
    context: Context
    user: str | None
    shown_at: float
    decision_id: str
    revision: str
    actor: str


async def _record_shown(connection: Connection, shown: Sequence[_Shown]) -> None:
    if not shown:
        return
    keys = {one.experiment.key for one in shown} | {
        one.experiment.holdout[0] for one in shown if one.experiment.holdout is not None
    }
    cursor = await connection.execute(queries("exposures")["specs"], {"keys": sorted(keys)})
    names = {spec.key: looked_at(spec) for row in await cursor.fetchall() for spec in [_spec.decode(row["spec"])]}
    await record(connection, [exposure for one in shown for exposure in _exposures(one, names)])


def _exposures(shown: _Shown, names: dict[str, frozenset[str]]) -> list[Exposure]:
    """Return the exposure to the experiment, and that to its holdout where one was due."""
    at = shown.experiment
    seen: list[tuple[str, int, str]] = [(at.key, at.phase, at.variation)]
    if at.holdout is not None:
        seen.append(at.holdout)
    return [
        Exposure(
            key,
            phase,
            variation,
            at.unit,
            shown.user,
            shown.shown_at,
            _kept(names.get(key), shown.context),
            shown.decision_id,
            shown.revision,
            shown.actor,
        )
        for key, phase, variation in seen
    ]


def _kept(names: frozenset[str] | None, context: Context) -> dict[str, Any]:
    return {} if names is None else kept_of(names, context)
