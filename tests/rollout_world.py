"""A cluster with traffic: users, pods and a clock, behind the Kubernetes API faked at the level of HTTP.

Time passes when somebody reads the Service: one step, in which requests are answered by both revisions as they are routed, counted
by their pods, and, where there is a database, written as decisions and clicks.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from itertools import count
from pathlib import Path

import psycopg

from shared.identity import decision_id, policy_key
from shared.observability.metrics import Metrics
from tests.fake_kubernetes import FakeKubernetes

_numbers = count(1)
CLICK_S = 5.0


class World:
    """The Service `web` with a pinned revision that serves and a new one; `step_s` pass at each look."""

    def __init__(self, folder: Path, *, began: float, step_s: float = 60.0, requests: int = 200, seed: int = 1) -> None:
        """Make the cluster; `requests`: in each step."""
        self.fake = FakeKubernetes(folder)
        self.now = began
        self.step_s = step_s
        self.requests = requests
        self.error_rates: dict[str, float] = {}
        self.slow_rates: dict[str, float] = {}
        self.after_step: Callable[[], None] | None = None
        self._chance = random.Random(seed)
        self.serving = self.fake.deploy("web")
        self.fake.set_traffic("web", [{"revisionName": self.serving, "percent": 100, "tag": "stable"}])
        self.candidate = self.fake.deploy("web")
        self.metrics: dict[str, Metrics] = {}
        for revision in (self.serving, self.candidate):
            self.metrics[revision] = Metrics()
            self.fake.add_pod(revision, self.metrics[revision])
        self.fake.clock = lambda: self.now
        self.fake.on_read = self.step

    def step(self) -> None:
        """Let time pass."""
        for revision in (self.serving, self.candidate):
            answered = round(self.requests * self.fake.share("web", revision) / 100)
            self._answer(revision, answered)
        self.now += self.step_s
        if self.after_step:
            self.after_step()

    def _answer(self, revision: str, requests: int) -> None:
        errors = sum(self._chance.random() < self.error_rates.get(revision, 0.0) for _ in range(requests))
        slow = sum(self._chance.random() < self.slow_rates.get(revision, 0.0) for _ in range(requests))
        counted = self.metrics[revision]
        counted.requests.inc("200", by=requests - errors)
        counted.requests.inc("500", by=errors)
        for at in range(requests):
            counted.requested.observe(0.4 if at < slow else 0.01)


class Shoppers:
    """Users of a World whose decisions and clicks stand in PostgreSQL as the functions write them."""

    def __init__(self, world: World, database_url: str, rates: dict[str, float], seed: int) -> None:
        """Every revision earns a click with its own rate; each user decides three times in a step."""
        self.policy = f"rolled-{next(_numbers)}"
        self._world = world
        self._rates = rates
        self._chance = random.Random(seed)
        self._connection = psycopg.connect(database_url, autocommit=True)
        self._connection.execute(
            "insert into policies (name, policy_key, active_version) values (%s, %s, 1)",
            [self.policy, policy_key(self.policy)],
        )
        spec = {"name": self.policy, "version": 1, "kind": "thompson", "reward": {"click": {"weight": 1.0}}}
        self._connection.execute(
            "insert into policy_versions (policy, version, spec, actor) values (%s, 1, %s, 'tests')",
            [self.policy, json.dumps(spec)],
        )
        world.after_step = self.step

    def step(self) -> None:
        """Write what was decided in the step that has passed, and the clicks on it."""
        world = self._world
        self.write(world.now - world.step_s, world.step_s, world.requests, world.fake.share("web", world.candidate))

    def write(self, began: float, over_s: float, requests: int, share: int) -> None:
        """Write so many decisions, `share` percent of them by the new revision."""
        self._connection.execute("select ensure_partition(to_timestamp(%s))", [began])
        key = policy_key(self.policy)
        decisions, clicks = [], []
        for at in range(requests):
            moment = round(began + over_s * (at + 0.5) / requests, 6)
            revision = self._world.candidate if self._chance.random() * 100 < share else self._world.serving
            name = decision_id(key, int(moment * 1e6), next(_numbers), several=False)
            user = f"{self.policy}-{int(began)}-{self._chance.randrange(1 + requests // 3)}"
            decisions.append((moment, name, self.policy, user, revision))
            if self._chance.random() < self._rates[revision]:
                clicks.append((moment, name, moment + CLICK_S))
        with self._connection.transaction():
            self._connection.execute(
                "insert into decisions (decided_at, decision_id, policy, policy_version, snapshot_version, actions,"
                " propensities, context, user_pseudonym, deferred, degraded, origin, revision, actor)"
                " select to_timestamp(m), i, p, 1, 1, '{a}', '{1}', '{}', u, false, false, 'served', r, 'tests'"
                " from unnest(%s::float8[], %s::uuid[], %s::text[], %s::text[], %s::text[]) as row (m, i, p, u, r)",
                [list(column) for column in zip(*decisions, strict=True)],
            )
            self._connection.execute(
                "insert into feedback (decided_at, decision_id, source, event_id, kind, value, occurred_at, received_at,"
                " actor) select to_timestamp(m), i, 'tests', i::text, 'click', 1, to_timestamp(a), to_timestamp(a), 'tests'"
                " from unnest(%s::float8[], %s::uuid[], %s::float8[]) as row (m, i, a)",
                [list(column) for column in zip(*clicks, strict=True)] or [[], [], []],
            )

    def close(self) -> None:
        """End the connection."""
        self._connection.close()
