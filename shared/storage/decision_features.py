"""The context of a decision and the features of its actions, for the policies that learn from them.

A decision that chose among the actions of its policy version stores none of their features: they stand in that version.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from shared.policies.posterior import Outcome
from shared.storage.postgres_connection import Connection, Row
from shared.storage.queries import queries
from shared.vocabulary import Action, Context, PolicySpec

Counted = tuple[float | None, float | None]
"""A reward, and its delay in s; None for none."""


class FeaturesOf:
    """Makes outcomes of stored decisions of one policy."""

    def __init__(self, connection: Connection, spec: PolicySpec) -> None:
        """Look versions up on `connection`."""
        self._connection = connection
        self._policy = spec.name
        self.are_looked_at = spec.features is not None
        self._versions: dict[int, dict[str, Context]] = {spec.version: _features(spec.actions)}

    async def load(self, decisions: Sequence[Row]) -> None:
        """Make ready what `outcome` needs of `decisions`."""
        if not self.are_looked_at:
            return
        missing = {row["policy_version"] for row in decisions if row["eligible"] is None} - self._versions.keys()
        if missing:
            parameters = {"policy": self._policy, "versions": sorted(missing)}
            cursor = await self._connection.execute(queries("learning")["version_specs"], parameters)
            for row in await cursor.fetchall():
                self._versions[row["version"]] = _features(msgspec.convert(row["spec"], PolicySpec).actions)

    def outcome(
        self,
        decision: Row,
        position: int,
        *,
        shown: bool = False,
        before: Counted = (None, None),
        after: Counted = (None, None),
    ) -> Outcome:
        """Return what happened to one item of a decision: its reward as counted so far and from now on."""
        action = decision["actions"][position]
        context: Context = decision["context"] if self.are_looked_at else {}
        features: Context = {}
        if not self.are_looked_at:
            pass
        elif decision["eligible"] is None:
            features = self._versions.get(decision["policy_version"], {}).get(action, features)
        else:
            for each in decision["eligible"]:
                if each["id"] == action:
                    features = each.get("features", features)
                    break
        return Outcome(
            decision["decided_at"],
            action,
            shown,
            before[0],
            after[0],
            context,
            features,
            before[1],
            after[1],
        )


def _features(actions: Sequence[Action]) -> dict[str, Context]:
    return {action.id: action.features for action in actions if action.features}
