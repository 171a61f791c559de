"""The use case of experiments and flags: they are checked, written, published, stopped and read. For operators."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import UNSET

from functions.control.experiment_checks import change_conflicts, faults_beside, phase_faults
from functions.control.flag_checks import flag_faults_beside
from shared.edge.decoding import Bounds
from shared.edge.experiment_contracts import (
    ExperimentIn,
    ExperimentLine,
    ExperimentOut,
    Experiments,
    ExperimentVersionLine,
    ExperimentVersions,
    FlagIn,
    FlagLine,
    FlagOut,
    Flags,
)
from shared.edge.sink import Sink
from shared.errors import Conflict, InvalidInput, Unavailable
from shared.experiments.catalogue_faults import catalogue_faults
from shared.experiments.experiment import ExperimentSpec
from shared.experiments.fault import Fault
from shared.experiments.faults import experiment_faults
from shared.experiments.flag_faults import flag_faults
from shared.experiments.flags import FlagSpec
from shared.identity import sealed, unit_kind, unit_pseudonym
from shared.settings import Settings
from shared.storage.postgres_connection import Pool
from shared.storage.postgres_experiments import ExperimentStore, StoredExperiment, StoredFlag, Written
from shared.storage.publication import publish_experiments
from shared.storage.redis_connection import Redis
from shared.vocabulary import Caller

_log = logging.getLogger(__name__)


class Experimenters:
    """What operators may do with experiments and flags."""

    def __init__(self, settings: Settings, pool: Pool, client: Redis, sink: Sink) -> None:
        """Write to PostgreSQL, publish to Redis; where Redis is away, tell the sink."""
        self._key = settings.server_key.encode()
        self._bounds = Bounds(settings)
        self._store = ExperimentStore(pool)
        self._pool = pool
        self._client = client
        self._sink = sink

    async def write(self, key: str, body: ExperimentIn, caller: Caller) -> tuple[ExperimentOut, bool]:
        """Write a version, active at once; return it and whether the experiment is new.

        Raises `InvalidInput` with every fault, `Conflict` with every field that a running phase does not allow to change.
        """
        self._bounds.string(key, "key")
        stored = await self._store.write(key, self._checked(key, body), caller.name)
        await self._publish()
        return self._out(stored), stored.spec.version == 1

    async def stop(self, key: str, released: str | None, caller: Caller) -> ExperimentOut:
        """Stop an experiment and release a variation to everybody, None for none.

        Raises `UnknownExperiment`, `InvalidInput` where the variation cannot be released.
        """
        stored, changed = await self._store.stop(key, released, caller.name, _check_release)
        if changed:
            await self._publish()
        return self._out(stored)

    async def read(self, key: str, version: int | None) -> ExperimentOut:
        """Return a version, the active one where none is named. Raises `UnknownExperiment`."""
        return self._out(await self._store.read(key, version))

    async def versions(self, key: str) -> ExperimentVersions:
        """Return every version, newest first. Raises `UnknownExperiment`."""
        rows = await self._store.versions(key)
        lines = [
            msgspec.convert(row | {"created_at": row["created_at"].isoformat()}, ExperimentVersionLine) for row in rows
        ]
        return ExperimentVersions(key, lines)

    async def all(self) -> Experiments:
        """Return every experiment, by key."""
        return Experiments(
            [
                ExperimentLine(
                    spec.key,
                    spec.version,
                    spec.phase,
                    spec.status,
                    spec.kind,
                    spec.policy,
                    [variation.key for variation in spec.variations],
                )
                for spec in await self._store.all()
            ]
        )

    async def write_flag(self, key: str, body: FlagIn, caller: Caller) -> tuple[FlagOut, bool]:
        """Write a flag; return it and whether it is new. Raises `InvalidInput` with every fault."""
        self._bounds.string(key, "key")
        spec = FlagSpec(key, 0, body.default_value, body.rules)

        def make(written: Written) -> FlagSpec:
            beside = flag_faults_beside(spec, written)
            _refuse([*flag_faults(spec), *catalogue_faults(spec, written.everything), *beside])
            return spec

        stored = await self._store.write_flag(key, make, caller.name)
        await self._publish()
        return _flag_out(stored), stored.spec.version == 1

    async def read_flag(self, key: str) -> FlagOut:
        """Return a flag. Raises `UnknownFlag`."""
        return _flag_out(await self._store.read_flag(key))

    async def all_flags(self) -> Flags:
        """Return every flag, by key."""
        rows = await self._store.all_flags()
        return Flags([msgspec.convert(row | {"written_at": row["written_at"].isoformat()}, FlagLine) for row in rows])

    def _checked(self, key: str, body: ExperimentIn) -> Callable[[Written], ExperimentSpec]:
        given: dict[str, Any] = {field: getattr(body, field) for field in body.__struct_fields__}
        given["forced"] = {
            unit_pseudonym(self._key, body.hash_attribute, value): variation for value, variation in body.forced.items()
        }

        def make(written: Written) -> ExperimentSpec:
            active = written.experiments.get(key)
            if body.phase is UNSET:
                given["phase"] = 1 if active is None else active.phase
            spec = ExperimentSpec(key=key, version=0, **given)
            _refuse(
                [
                    *experiment_faults(spec),
                    *phase_faults(active, spec),
                    *catalogue_faults(spec, written.everything),
                    *faults_beside(spec, written),
                ]
            )
            conflicts = change_conflicts(active, spec)
            if conflicts:
                raise Conflict.of(conflicts)
            return spec

        return make

    async def _publish(self) -> None:
        """Put the catalogue into Redis; where Redis is away the sweep does so once it is back: the truth is written."""
        try:
            await publish_experiments(self._pool, self._client)
        except Unavailable as error:
            _log.warning("the catalogue is not published yet", extra={"knudge": {"error": error.detail}})
            self._sink.learning_due(None)

    def _out(self, stored: StoredExperiment) -> ExperimentOut:
        spec = stored.spec
        kind = unit_kind(spec.hash_attribute)
        said: dict[str, Any] = {field: getattr(spec, field) for field in spec.__struct_fields__}
        said["forced"] = {sealed(self._key, kind, held): variation for held, variation in spec.forced.items()}
        return ExperimentOut(active=stored.active, actor=stored.actor, created_at=stored.created_at.isoformat(), **said)


def _check_release(stopped: ExperimentSpec, written: Written) -> None:
    _refuse([*experiment_faults(stopped), *faults_beside(stopped, written)])


def _refuse(faults: list[Fault]) -> None:
    if faults:
        raise InvalidInput.of(faults)


def _flag_out(stored: StoredFlag) -> FlagOut:
    spec = stored.spec
    return FlagOut(spec.key, spec.version, stored.actor, stored.written_at.isoformat(), spec.default_value, spec.rules)
