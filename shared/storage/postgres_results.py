"""The experiments that are analysed and what every analysis found, in PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from shared.errors import UnknownExperiment
from shared.experiments.experiment import ExperimentSpec
from shared.experiments.plan import Verdict
from shared.storage.postgres_connection import Connection, Pool, Row, connection
from shared.storage.queries import queries

COURSE = 500
"""How many earlier analyses are read at most."""
_specs = msgspec.json.Decoder(ExperimentSpec)


class Phase(msgspec.Struct, frozen=True):
    """One phase of an experiment by its newest version.

    `started_at`, `ended_at`: when units could begin to see it, and when no more (POSIX seconds; None: they still can). `ran`: the versions
    of the phase that ran, the oldest first; none of one that was not running yet.
    """

    spec: ExperimentSpec
    started_at: float
    ended_at: float | None
    ran: tuple[ExperimentSpec, ...] = ()


class ResultsStore:
    """Reads experiments, reads and keeps results."""

    def __init__(self, pool: Pool) -> None:
        """Use a pool of connections."""
        self._pool = pool
        self._queries = queries("results")

    async def running(self) -> list[str]:
        """Return the keys of the experiments that run, those first whose last analysis is the longest ago."""
        async with connection(self._pool) as lent:
            return [row["key"] for row in await self._rows(lent, "running")]

    async def phase(self, key: str, phase: int | None = None) -> Phase:
        """Return a phase of an experiment, the active version's where none is named.

        Raises `UnknownExperiment` (field `key`, or `phase` where the experiment has no such phase).
        """
        async with connection(self._pool) as lent:
            versions = await self._rows(lent, "versions", key=key)
            if not versions:
                raise UnknownExperiment(f"there is no experiment {key!r}", field="key")
            if phase is None:
                [phase] = [row["phase"] for row in versions if row["active"]]
            ours = [row for row in versions if row["phase"] == phase]
            if not ours:
                raise UnknownExperiment(f"the experiment {key!r} has no phase {phase}", field="phase")
            running = [row for row in ours if row["status"] == "running"]
            wanted = [row["version"] for row in running]
            rows = await self._rows(lent, "specs", key=key, versions=[*wanted, ours[-1]["version"]])
        specs = {spec.version: spec for spec in (_specs.decode(row["spec"]) for row in rows)}
        return Phase(
            specs[ours[-1]["version"]],
            (running or ours)[0]["created_at"],
            _ended_at(versions, ours),
            tuple(specs[version] for version in wanted),
        )

    async def course(self, key: str, phase: int) -> list[Row]:
        """Return the analyses of a phase, the oldest first, thinned to about `COURSE`."""
        async with connection(self._pool) as lent:
            return await self._rows(lent, "course", key=key, phase=phase, most=COURSE)

    @asynccontextmanager
    async def keeping(self, key: str, phase: int) -> AsyncIterator[Keeping]:
        """Lend the right to keep an analysis of an experiment, which one process has at a time; commits on leaving."""
        async with connection(self._pool) as lent, lent.transaction():
            await self._rows(lent, "lock", key=key)
            found = await self._rows(lent, "last_verdict", key=key, phase=phase)
            last = found[0] if found else {"verdict": None, "analysed_at": None}
            yield Keeping(lent, key, phase, last["verdict"], last["analysed_at"])

    async def _rows(self, lent: Connection, query: str, **parameters: Any) -> list[Row]:  # noqa: ANN401
        cursor = await lent.execute(self._queries[query], parameters)
        return await cursor.fetchall() if cursor.description is not None else []


class Keeping:
    """What was kept last of a phase, None where nothing was; `keep` adds to it."""

    def __init__(
        self, lent: Connection, key: str, phase: int, verdict: Verdict | None, analysed_at: float | None
    ) -> None:
        self._lent = lent
        self._key = key
        self._phase = phase
        self.verdict = verdict
        self.analysed_at = analysed_at

    async def keep(self, version: int, analysed_at: float, verdict: Verdict, results: bytes) -> None:
        """Keep the results (JSON) of an analysis of a version made at `analysed_at`."""
        values = {
            "key": self._key,
            "phase": self._phase,
            "version": version,
            "analysed_at": analysed_at,
            "verdict": verdict,
            "results": results.decode(),
        }
        await self._lent.execute(queries("results")["insert_results"], values)


def _ended_at(versions: list[Row], ours: list[Row]) -> float | None:
    """Return when a phase ended: when it was stopped for good, or the next one began."""
    later = [row["created_at"] for row in versions if row["phase"] > ours[-1]["phase"]]
    stopped = None
    for row in reversed(ours):
        if row["status"] != "stopped":
            break
        stopped = row["created_at"]
    return min((moment for moment in (stopped, *later[:1]) if moment is not None), default=None)
