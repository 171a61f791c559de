"""Policies and their versions in PostgreSQL: written once, read by anyone, activated by name.

Activating a version inherits the running posterior where both versions make the same statistics of the same history;
otherwise the learner refits, and until it has, the old snapshot goes on serving.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from shared.errors import Conflict, UnknownPolicy
from shared.evaluation.comparison import Comparison
from shared.identity import policy_key
from shared.policies.posterior import learn
from shared.storage.learning_state import Learned, learns_alike
from shared.storage.postgres_connection import Connection, Pool, Row, connection
from shared.storage.postgres_learning import LearningTransaction
from shared.storage.queries import queries
from shared.vocabulary import PolicySpec


class Known(NamedTuple):
    """A version of a policy, whether it is active, the newest snapshot, and how it does beside what is served in its place."""

    spec: PolicySpec
    active: bool
    content: bytes | None
    comparison: Comparison | None


class PolicyStore:
    """Reads and writes policies."""

    def __init__(self, pool: Pool) -> None:
        """Use a pool of connections."""
        self._pool = pool
        self._queries = queries("policies")

    async def write(self, spec: PolicySpec, actor: str, now: float) -> tuple[PolicySpec, Learned, bool]:
        """Write the next version of a policy and activate it.

        Returns the version as it was numbered, what is to be published, and whether the policy is new. Raises
        `Conflict` (field `name`) where another policy has the same key.
        """
        async with connection(self._pool) as lent, lent.transaction():
            key = policy_key(spec.name)
            await self._rows(lent, "insert_policy", name=spec.name, key=key)
            [owner] = await self._rows(lent, "name_of_key", key=key)
            if owner["name"] != spec.name:
                detail = f"the name collides with that of {owner['name']!r}; choose another"
                raise Conflict(detail, field="name")
            await lent.execute("select from policies where name = %s for update", [spec.name])
            [row] = await self._rows(lent, "next_version", name=spec.name)
            numbered = msgspec.structs.replace(spec, version=row["version"])
            content = msgspec.json.encode(numbered).decode()
            await self._rows(lent, "insert_version", name=spec.name, version=row["version"], spec=content, actor=actor)
            return numbered, await self._activate(lent, spec.name, row["version"], actor, now), row["version"] == 1

    async def promote(self, name: str, version: int, actor: str, now: float) -> Learned:
        """Activate a version again; raises `UnknownPolicy` (field `name` or `version`)."""
        async with connection(self._pool) as lent, lent.transaction():
            if not await self._rows(lent, "has_version", name=name, version=version):
                detail = f"there is no version {version} of a policy {name!r}"
                raise UnknownPolicy(detail, field="version")
            return await self._activate(lent, name, version, actor, now)

    async def read(self, name: str, version: int | None = None) -> Known:
        """Return a version (None: the active one) and what is known of its policy; raises `UnknownPolicy`."""
        async with connection(self._pool) as lent:
            rows = await self._rows(lent, "policy", name=name, version=version)
        if not rows:
            detail = f"there is no policy {name!r}" + (f" with a version {version}" if version else "")
            raise UnknownPolicy(detail, field="name")
        spec = msgspec.convert(rows[0]["spec"], PolicySpec)
        comparison = rows[0]["comparison"]
        return Known(
            spec,
            rows[0]["active_version"] == spec.version,
            rows[0]["content"],
            None if comparison is None else msgspec.convert(comparison, Comparison),
        )

    async def versions(self, name: str) -> list[Row]:
        """Return the versions of a policy, newest first; raises `UnknownPolicy`."""
        async with connection(self._pool) as lent:
            rows = await self._rows(lent, "versions", name=name)
        if not rows:
            detail = f"there is no policy {name!r}"
            raise UnknownPolicy(detail, field="name")
        return rows

    async def all(self) -> list[Row]:
        """Return every policy, by name."""
        async with connection(self._pool) as lent:
            return await self._rows(lent, "list_policies")

    async def _activate(self, lent: Connection, name: str, version: int, actor: str, now: float) -> Learned:
        """Make a version the active one; `content` of the result is None where the learner must refit."""
        work = LearningTransaction(lent, name)
        await self._rows(lent, "activate_version", name=name, version=version, actor=actor)
        state = await work.lock()
        if state.learned is not None and not learns_alike(state.learned, state.spec):
            return Learned(name)
        posterior = learn(state.posterior, state.spec, (), now)
        return await work.store(state.spec, posterior, state.snapshot_version + 1, Learned(name))

    async def _rows(self, lent: Connection, query: str, **parameters: Any) -> list[Row]:  # noqa: ANN401
        cursor = await lent.execute(self._queries[query], parameters)
        return await cursor.fetchall() if cursor.description is not None else []
