"""What the tool knows of a Knative Service, its revisions and their pods."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from knative.revisions.traffic import Targets, shares


class Service(msgspec.Struct, frozen=True):
    """A Knative Service as it was read.

    `resource_version`: what a write must still find. `targets`: the traffic that is wanted. `routed`: percent by
    revision as Knative has set it up, which follows within seconds. `latest_ready`, `latest_created`: names, None where
    there is none yet. `state`: the text of the roll-out's annotation.
    """

    name: str
    resource_version: str
    targets: Targets
    routed: Mapping[str, int]
    latest_ready: str | None
    latest_created: str | None
    state: str | None

    @property
    def shares(self) -> dict[str, int]:
        """Return the percents that are wanted, by revision."""
        return shares(self.targets, self.latest_ready)


class Revision(msgspec.Struct, frozen=True):
    """A revision. `created_at`: seconds since 1970. `generation`: which change of the Service's template made it.

    `ready`: whether it can serve, or could as soon as it is asked (one without pods is); `reason`: why it is not.
    """

    name: str
    created_at: float
    generation: int
    ready: bool
    reason: str
    image: str


class Pod(msgspec.Struct, frozen=True):
    """A running pod of a revision."""

    name: str
    revision: str
