"""Experiments and flags in PostgreSQL: written once in each version, active at once, and what is published of them.

Changes are made one after another: a transaction that writes holds the catalogue's row, so that what it checks a change
against stands until it commits. The catalogue's version rises in that same transaction, and its content follows from the active
versions alone, byte for byte, however often it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from shared.errors import UnknownExperiment, UnknownFlag
from shared.experiments.assigning import PublishedCatalogue
from shared.experiments.experiment import ExperimentSpec
from shared.experiments.flags import FlagSpec
from shared.storage.postgres_connection import Connection, Pool, Row, connection
from shared.storage.queries import queries
from shared.storage.redis_catalogue import encode_catalogue

_experiment = msgspec.json.Decoder(ExperimentSpec)
_experiments = msgspec.json.Decoder(tuple[ExperimentSpec, ...])
_flag = msgspec.json.Decoder(FlagSpec)
_flags = msgspec.json.Decoder(tuple[FlagSpec, ...])


class KnownPolicy(NamedTuple):
    """What an experiment must know of a policy: whether it has actions of its own, and asks callers for a default action."""

    has_actions: bool
    asks_default: bool


class Written(NamedTuple):
    """All that stands beside a change, by key; policies by name."""

    experiments: Mapping[str, ExperimentSpec]
    flags: Mapping[str, FlagSpec]
    policies: Mapping[str, KnownPolicy]

    @property
    def everything(self) -> dict[str, ExperimentSpec | FlagSpec]:
        """Return experiments and flags together: their keys are of one namespace."""
        return {**self.experiments, **self.flags}


class StoredExperiment(NamedTuple):
    """A version of an experiment: whether it is active, who wrote it and when."""

    spec: ExperimentSpec
    active: bool
    actor: str
    created_at: datetime


class StoredFlag(NamedTuple):
    """A flag, who wrote it and when."""

    spec: FlagSpec
    actor: str
    written_at: datetime


class ExperimentStore:
    """Reads and writes experiments and flags."""

    def __init__(self, pool: Pool) -> None:
        """Use a pool of connections."""
        self._pool = pool
        self._queries = queries("experiments")

    async def write(self, key: str, make: Callable[[Written], ExperimentSpec], actor: str) -> StoredExperiment:
        """Write the next version of an experiment, active at once.

        `make`: returns it, given all that stands beside it; its version is numbered here. What it raises is passed on, and
        nothing is written.
        """
        async with connection(self._pool) as lent, lent.transaction():
            spec = make(await self._written(lent))
            return await self._insert(lent, key, spec, actor)

    async def stop(
        self,
        key: str,
        released: str | None,
        actor: str,
        check: Callable[[ExperimentSpec, Written], None] | None = None,
    ) -> tuple[StoredExperiment, bool]:
        """Stop an experiment and release a variation to everybody, None for none; return it and whether that changed anything.

        `check`: is given what would be released, and all that stands beside it; what it raises is passed on. Raises
        `UnknownExperiment` (field `key`).
        """
        async with connection(self._pool) as lent, lent.transaction():
            written = await self._written(lent)
            known = await self._read(lent, key, None)
            if (known.spec.status, known.spec.released) == ("stopped", released):
                return known, False
            stopped = msgspec.structs.replace(known.spec, status="stopped", released=released)
            if check is not None and released is not None:
                check(stopped, written)
            return await self._insert(lent, key, stopped, actor), True

    async def read(self, key: str, version: int | None = None) -> StoredExperiment:
        """Return a version of an experiment (None: the active one); raises `UnknownExperiment` (field `key` or `version`)."""
        async with connection(self._pool) as lent:
            return await self._read(lent, key, version)

    async def versions(self, key: str) -> list[Row]:
        """Return the versions of an experiment, newest first; raises `UnknownExperiment` (field `key`)."""
        async with connection(self._pool) as lent:
            rows = await self._rows(lent, "versions", key=key)
        if not rows:
            raise _unknown(key, None)
        return rows

    async def all(self) -> list[ExperimentSpec]:
        """Return the active version of every experiment, by key."""
        async with connection(self._pool) as lent:
            return [_experiment.decode(row["spec"]) for row in await self._rows(lent, "experiments")]

    async def write_flag(self, key: str, make: Callable[[Written], FlagSpec], actor: str) -> StoredFlag:
        """Write a flag as `write` does an experiment; no earlier version is kept."""
        async with connection(self._pool) as lent, lent.transaction():
            written = await self._written(lent)
            known = written.flags.get(key)
            spec = msgspec.structs.replace(make(written), version=1 if known is None else known.version + 1)
            content = msgspec.json.encode(spec).decode()
            [row] = await self._rows(lent, "put_flag", key=key, version=spec.version, spec=content, actor=actor)
            await self._rows(lent, "raise_version")
            return StoredFlag(spec, actor, row["written_at"])

    async def read_flag(self, key: str) -> StoredFlag:
        """Return a flag; raises `UnknownFlag` (field `key`)."""
        async with connection(self._pool) as lent:
            rows = await self._rows(lent, "flag", key=key)
        if not rows:
            raise UnknownFlag(f"there is no flag {key!r}", field="key")
        return StoredFlag(_flag.decode(rows[0]["spec"]), rows[0]["actor"], rows[0]["written_at"])

    async def all_flags(self) -> list[Row]:
        """Return every flag, by key."""
        async with connection(self._pool) as lent:
            return await self._rows(lent, "flags")

    async def _insert(self, lent: Connection, key: str, spec: ExperimentSpec, actor: str) -> StoredExperiment:
        [row] = await self._rows(lent, "next_version", key=key)
        numbered = msgspec.structs.replace(spec, version=row["version"])
        await self._rows(lent, "insert_experiment", key=key)
        content = msgspec.json.encode(numbered).decode()
        [made] = await self._rows(
            lent,
            "insert_version",
            key=key,
            version=numbered.version,
            phase=numbered.phase,
            spec=content,
            actor=actor,
        )
        await self._rows(lent, "raise_version")
        return StoredExperiment(numbered, True, actor, made["created_at"])

    async def _read(self, lent: Connection, key: str, version: int | None) -> StoredExperiment:
        rows = await self._rows(lent, "experiment", key=key, version=version)
        if not rows:
            raise _unknown(key, version)
        row = rows[0]
        return StoredExperiment(_experiment.decode(row["spec"]), row["active"], row["actor"], row["created_at"])

    async def _written(self, lent: Connection) -> Written:
        """Hold the catalogue, and return what stands in it."""
        await self._rows(lent, "lock_catalogue")
        [row] = await self._rows(lent, "published")
        policies = await self._rows(lent, "policies")
        return Written(
            {spec.key: spec for spec in _experiments.decode(row["experiments"])},
            {spec.key: spec for spec in _flags.decode(row["flags"])},
            {policy["name"]: KnownPolicy(policy["has_actions"], policy["asks_default"]) for policy in policies},
        )

    async def _rows(self, lent: Connection, query: str, **parameters: Any) -> list[Row]:  # noqa: ANN401
        cursor = await lent.execute(self._queries[query], parameters)
        return await cursor.fetchall() if cursor.description is not None else []


async def published(pool: Pool) -> tuple[int, bytes]:
    """Return the version and the content of the catalogue, as Redis should hold it. Raises `Unavailable`."""
    async with connection(pool) as lent:
        row = await (await lent.execute(queries("experiments")["published"])).fetchone()
    if row is None:
        raise LookupError("the catalogue has lost its row")
    catalogue = PublishedCatalogue(row["version"], _experiments.decode(row["experiments"]), _flags.decode(row["flags"]))
    return catalogue.version, encode_catalogue(catalogue)


def _unknown(key: str, version: int | None) -> UnknownExperiment:
    if version is None:
        return UnknownExperiment(f"there is no experiment {key!r}", field="key")
    return UnknownExperiment(f"there is no version {version} of an experiment {key!r}", field="version")
