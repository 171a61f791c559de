"""What the tool knows of a Knative Service, its revisions and their pods."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from knative.revisions.traffic import Targets, shares


class Service(msgspec.Struct, frozen=True):
    """A Knative Service as it was read.

    `resource_version`: what a write must still find. `targets`: the traffic that is wanted. `routed`: percent by
    revision as Knative has set it up, which follows within seconds. `latest_ready`, `latest_created`: names, None where
    there is none yet. `state`: the text of the roll-out's annotation. `read_at`: seconds since 1970 by the API server's
    clock, so that whoever goes on with a roll-out goes by the same one.
    """

    name: str
    resource_version: str
    targets: Targets
    routed: Mapping[str, int]
    latest_ready: str | None
    latest_created: str | None
    state: str | None
    read_at: float

    @property
    def shares(self) -> dict[str, int]:
        """Return the percents that are wanted, by revision."""
        return shares(self.targets, self.latest_ready)

    @property
    def leading(self) -> str | None:
        """Return the revision with the largest share; None while no revision is ready."""
        revision_to_share = self.shares
        return max(revision_to_share, key=lambda name: (revision_to_share[name], name), default=None)


class Revision(msgspec.Struct, frozen=True):
    """A revision. `created_at`: seconds since 1970. `generation`: which change of the Service's template made it.

    `ready`: True where it serves or could as soon as it is asked (also without pods), False where it failed, None where
    that is not known yet; `reason`: why it is not True.
    """

    name: str
    created_at: float
    generation: int
    ready: bool | None
    reason: str
    image: str


class Pod(msgspec.Struct, frozen=True):
    """A running pod of a revision."""

    name: str
    revision: str
