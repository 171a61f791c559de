"""Snapshots that decided, compiled: read from the log when they are first asked for, and the last ones used kept."""

from __future__ import annotations

from collections import OrderedDict

from shared.policies.choosing import Chooser
from shared.storage.postgres_log import DecisionLog

_SNAPSHOTS = 64


class Choosers:
    """The snapshots of a log."""

    def __init__(self, log: DecisionLog) -> None:
        """Read from `log`."""
        self._log = log
        self._held: OrderedDict[tuple[str, int], Chooser | None] = OrderedDict()

    def of(self, policy: str, version: int) -> Chooser | None:
        """Return the snapshot of a policy; None where it is gone."""
        key = (policy, version)
        if key not in self._held:
            snapshot = self._log.snapshot(policy, version)
            self._held[key] = None if snapshot is None else Chooser(snapshot)
            if len(self._held) > _SNAPSHOTS:
                self._held.popitem(last=False)
        self._held.move_to_end(key)
        return self._held[key]
