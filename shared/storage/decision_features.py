"""What is learned of stored decisions: the context and the features of actions, and which arm a decision is of.

For the policies that look at features, and for those that have several arms. A decision that chose among the actions of its policy
version stores none of their features: they stand in that version. So does how the policy served when it was made.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import msgspec

from shared.policies.arm_sums import BUCKETS, Part, is_compared, serves_alike
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
        self._spec = spec
        self.are_looked_at = spec.features is not None
        self.are_compared = is_compared(spec)
        self._versions: dict[int, dict[str, Context]] = {spec.version: _features(spec.actions)}
        self._alike = {spec.version: True}

    async def load(self, decisions: Sequence[Row]) -> None:
        """Make ready what `outcome` needs of `decisions`."""
        if not (self.are_looked_at or self.are_compared):
            return
        named = {row["policy_version"] for row in decisions if self.are_compared or row["eligible"] is None}
        missing = named - self._versions.keys()
        if missing:
            parameters = {"policy": self._spec.name, "versions": sorted(missing)}
            cursor = await self._connection.execute(queries("learning")["version_specs"], parameters)
            for row in await cursor.fetchall():
                version = msgspec.convert(row["spec"], PolicySpec)
                self._versions[row["version"]] = _features(version.actions)
                self._alike[row["version"]] = serves_alike(version, self._spec)

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
        part = self._part(decision, position) if self.are_compared else None
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
            part,
        )

    def _part(self, decision: Row, position: int) -> Part | None:
        """Return how an item counts among the arms; None for what was logged, or served in another way than now."""
        propensities = decision["propensities"]
        if propensities is None or not self._alike.get(decision["policy_version"], False):
            return None
        unit = decision["user_pseudonym"] or decision["decision_id"]
        bucket = int(unit[-_HEX_DIGITS:], 16) % BUCKETS  # both end in hexadecimal digits that are as good as random
        served = decision["served_by"]
        if served is None:
            return Part("policy", bucket)
        own = served["own_propensities"]
        weight = prod(mine / theirs for mine, theirs in zip(own[: position + 1], propensities, strict=False))
        return Part(served["who"], bucket, weight, own[position], served["gains"][position])


_HEX_DIGITS = 6


def _features(actions: Sequence[Action]) -> dict[str, Context]:
    return {action.id: action.features for action in actions if action.features}
