"""What two revisions earned, from PostgreSQL: by user, every decision looked at when it had the same age.

Rewards are made anew from the feedback that had come by that age, with the rule of the policy's active version, so that an old
decision has had no more time to earn than a young one. Feedback is summed up here, decisions are in the database.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any

import msgspec
import psycopg
from psycopg.rows import dict_row

from shared.errors import Unavailable
from shared.evaluation.revision_moments import PairMoments, RevisionMoments
from shared.policies.rewards import item_rewards
from shared.storage.queries import queries
from shared.vocabulary import Feedback, PolicySpec

_CONNECT_TIMEOUT_S = 5
_STATEMENT_TIMEOUT_MS = 120_000


class RevisionRewards:
    """Asks PostgreSQL what revisions earned; a connection lives as long as a question."""

    def __init__(self, database_url: str) -> None:
        """Nothing connects before the first question."""
        self._url = database_url
        self._queries = queries("revisions")

    def earned(
        self,
        candidate: str,
        serving: str,
        began: float,
        until: float,
        *,
        age_s: float,
        policies: Sequence[str] = (),
    ) -> PairMoments:
        """Return the sums of decisions made in [`began`, `until`) (POSIX seconds) as they were at `age_s`.

        `policies`: whose decisions; empty: all. Raises `Unavailable`.
        """
        scope: dict[str, Any] = {
            "began": began,
            "until": until,
            "revisions": [candidate, serving],
            "candidate": candidate,
            "age": age_s,
            "policies": list(policies) or None,
        }
        if until <= began:
            return PairMoments()
        with self._snapshot() as connection:
            specs = {
                spec.name: spec
                for row in connection.execute(self._queries["specs"])
                for spec in [msgspec.convert(row["spec"], PolicySpec)]
            }
            rows = connection.execute(self._queries["feedback_at_age"], scope)
            excess = [
                {"decision_id": decision, "excess": more}
                for decision, events in groupby(rows, key=lambda row: row["decision_id"])
                for more in [_excess(specs, list(events))]
                if more
            ]
            sums = connection.execute(
                self._queries["moments"], scope | {"excess": msgspec.json.encode(excess).decode()}
            ).fetchone()
        if sums is None or sums["candidate"][0] is None:
            return PairMoments()
        return PairMoments(RevisionMoments(*sums["candidate"]), RevisionMoments(*sums["serving"]), *sums["both_sums"])

    @contextmanager
    def _snapshot(self) -> Iterator[psycopg.Connection[dict[str, Any]]]:
        """Lend a connection on which all questions see the same rows."""
        try:
            with psycopg.connect(
                self._url,
                row_factory=dict_row,
                connect_timeout=_CONNECT_TIMEOUT_S,
                application_name="knudge revisions",
                options=f"-c timezone=UTC -c jit=off -c statement_timeout={_STATEMENT_TIMEOUT_MS}",
            ) as connection:
                connection.read_only = True
                connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
                yield connection
        except psycopg.Error as error:
            detail = f"PostgreSQL does not answer: {error}".strip()
            raise Unavailable(detail) from error


def _excess(specs: dict[str, PolicySpec], events: list[dict[str, Any]]) -> float:
    """Return by how much a decision's items earned more than the default reward; 0 for a policy that is not known."""
    first = events[0]
    spec = specs.get(first["policy"])
    if spec is None:
        return 0.0
    given = [Feedback(**{name: row[name] for name in Feedback.__struct_fields__}) for row in events]
    rewards = item_rewards(spec, first["decided_at"], first["actions"], given)
    return sum(reward - spec.default_reward for reward in rewards if reward is not None)
