"""An experiment that has happened: what `control`, `assignment`, `learn` and `feedback` would have written, straight into the tables."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

import msgspec
import psycopg

from shared.experiments.experiment import ExperimentSpec, Variation
from shared.experiments.plan import AnalysisPlan
from shared.identity import RANDOM_BITS, decision_id, policy_key
from shared.vocabulary import Action, PolicySpec, RewardRule

HOUR_S, DAY_S = 3_600.0, 86_400.0
POLICY = "world"
"""Whose decisions they are."""
_numbers = itertools.count(1)


def spec(key: str | None = None, *variations: str, **fields: Any) -> ExperimentSpec:
    """Return an experiment of the variations `off` and `on` unless others are named, with a key of its own."""
    names = variations or ("off", "on")
    given: dict[str, Any] = {"version": 1, "analysis": AnalysisPlan()} | fields
    return ExperimentSpec(
        key or f"world-{next(_numbers)}", variations=tuple(Variation(name) for name in names), **given
    )


class World:
    """Writes what happened."""

    def __init__(self, database_url: str) -> None:
        """Connect to a migrated database."""
        self._connection = psycopg.connect(database_url, autocommit=True)
        self._weeks: set[int] = set()
        policy = PolicySpec(POLICY, 1, "thompson", actions=(Action("a"),), reward={"click": RewardRule()})
        self._connection.execute(
            "insert into policies (name, policy_key, active_version) values (%s, %s, 1) on conflict do nothing",
            [POLICY, policy_key(POLICY)],
        )
        self._connection.execute(
            "insert into policy_versions (policy, version, spec, actor) values (%s, 1, %s, 'tests') on conflict do nothing",
            [POLICY, msgspec.json.encode(policy).decode()],
        )

    def __enter__(self) -> Self:
        """Use it as a context."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnect."""
        self._connection.close()

    def experiment(self, written: ExperimentSpec, at: float) -> ExperimentSpec:
        """Write a version of an experiment, active from `at` (POSIX seconds)."""
        self._connection.execute(
            "insert into experiments (key, active_version, created_at) values (%s, %s, to_timestamp(%s)) "
            "on conflict (key) do update set active_version = excluded.active_version",
            [written.key, written.version, at],
        )
        self._connection.execute(
            "insert into experiment_versions (key, version, phase, spec, actor, created_at) "
            "values (%s, %s, %s, %s, 'tests', to_timestamp(%s))",
            [written.key, written.version, written.phase, msgspec.json.encode(written).decode(), at],
        )
        return written

    def expose(
        self,
        of: ExperimentSpec,
        unit: str,
        variation: str,
        at: float,
        *,
        user: str | None = "",
        attributes: dict[str, Any] | None = None,
    ) -> None:
        """Expose a unit; its user is the unit itself unless said otherwise."""
        self.expose_many(of, [(unit, variation, at, user, attributes or {})])

    def expose_many(
        self, of: ExperimentSpec, exposures: Iterable[tuple[str, str, float, str | None, dict[str, Any]]]
    ) -> None:
        """Expose units: (unit, variation, POSIX seconds, user or "" for the unit, attributes)."""
        with self._connection.cursor().copy(
            "copy exposures (experiment, phase, unit, variation, user_pseudonym, exposed_at, attributes, revision, actor) from stdin"
        ) as copy:
            for unit, variation, at, user, attributes in exposures:
                owner = unit if user == "" else user
                encoded = msgspec.json.encode(attributes).decode()
                copy.write_row((of.key, of.phase, unit, variation, owner, _moment(at), encoded, "r", "tests"))

    def did(self, user: str, kind: str, at: float, value: float = 1.0) -> None:
        """Have a user do something that speaks of no decision."""
        self.did_many([(user, kind, at, value)])

    def did_many(self, events: Iterable[tuple[str, str, float, float]]) -> None:
        """Have users do things that speak of no decision: (user, kind, POSIX seconds, value)."""
        with self._connection.cursor().copy(
            "copy user_feedback (user_pseudonym, source, event_id, kind, value, occurred_at, received_at, actor) from stdin"
        ) as copy:
            for user, kind, at, value in events:
                number = str(next(_numbers))
                copy.write_row((user, "tests", number, kind, value, _moment(at), _moment(at), "tests"))

    def decide(
        self,
        user: str | None,
        at: float,
        *,
        within: tuple[ExperimentSpec, str, str] | None = None,
        deferred: bool = False,
    ) -> str:
        """Make a decision for a user, within an experiment: (experiment, variation, unit). Return its id."""
        self._ensure(at)
        made = decision_id(policy_key(POLICY), round(at * 1e6), next(_numbers) % (1 << RANDOM_BITS), several=False)
        experiment = None
        if within is not None:
            of, variation, unit = within
            experiment = msgspec.json.encode(
                {"key": of.key, "phase": of.phase, "variation": variation, "unit": unit}
            ).decode()
        self._connection.execute(
            "insert into decisions (decided_at, decision_id, policy, policy_version, snapshot_version, actions, propensities, "
            "context, user_pseudonym, deferred, degraded, origin, revision, actor, experiment) "
            "values (to_timestamp(%s), %s, %s, 1, 1, array['a'], array[0.5], '{}', %s, %s, false, 'served', 'r', 'tests', %s)",
            [at, made, POLICY, user, deferred, experiment],
        )
        return made

    def activate(self, decision: str, decided_at: float) -> None:
        """Note that a deferred decision was shown."""
        self._connection.execute(
            "insert into activations (decided_at, decision_id, activated_at, actor) "
            "values (to_timestamp(%s), %s, to_timestamp(%s), 'tests')",
            [decided_at, decision, decided_at],
        )

    def reacted(self, decision: str, decided_at: float, kind: str, at: float, value: float = 1.0) -> None:
        """Give feedback on a decision."""
        self._ensure(decided_at)
        self._connection.execute(
            "insert into feedback (decided_at, decision_id, source, event_id, kind, value, occurred_at, received_at, actor) "
            "values (to_timestamp(%s), %s, 'tests', %s, %s, %s, to_timestamp(%s), to_timestamp(%s), 'tests')",
            [decided_at, decision, str(next(_numbers)), kind, value, at, at],
        )

    def _ensure(self, at: float) -> None:
        week = int(at // (7 * DAY_S))
        if week not in self._weeks:
            for moment in (at - DAY_S, at + DAY_S):
                self._connection.execute("select ensure_partition(to_timestamp(%s))", [moment])
            self._connection.execute("select ensure_partition(to_timestamp(%s))", [at])
            self._weeks.add(week)


def _moment(at: float) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(at, UTC).isoformat()
