"""`knudge audit`: every decision of a stretch of time is decided again, and whatever differs from what is stored is named.

Reads PostgreSQL directly, in one pass and in bounded memory; needs the server's key, which draws.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

from functions.console.moment import add_span, span

if TYPE_CHECKING:
    from shared.storage.postgres_log import DecisionLog
    from shared.vocabulary import Decision

DIFFERS = 1
_NAMED = 20


def add_to(commands: Any) -> None:  # noqa: ANN401 - argparse names no public type for what add_subparsers returns
    """Add the command to the parser's `commands`."""
    parser = commands.add_parser("audit", help="recompute every stored decision, and name those that differ")
    parser.description = (
        "Recompute the decisions in PostgreSQL ($KNUDGE_DATABASE_URL) by the server's key ($KNUDGE_SERVER_KEY). "
        f"Status 0: all that can be recomputed are as stored; {DIFFERS}: some are not."
    )
    parser.add_argument("--policy", metavar="NAME", help="(default: every policy)")
    add_span(parser)
    parser.add_argument("--json", action="store_true", help="figures as JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Audit decisions. Raises `Misconfigured`, `Unavailable`, `UnknownPolicy`."""
    import os

    import msgspec

    from functions.console.progress import counting
    from shared.settings import Settings
    from shared.storage.postgres_log import opened

    settings = Settings.load(os.environ, ("database_url", "server_key"))
    began, until = span(arguments)
    with opened(settings.database_url) as log:
        if arguments.policy is not None:
            log.spec(arguments.policy)  # or it is unknown
        audit = Audit(log, settings.server_key.encode())
        size = log.size(arguments.policy, began, until)
        with counting("decisions recomputed", size) as advance:
            for stored in log.decisions(arguments.policy, began, until):
                audit.look_at(stored.decision)
                advance(1)
    if arguments.json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(audit.figures())).decode() + "\n")
    else:
        _say(audit)
    return DIFFERS if audit.different else 0


class Audit:
    """Counts decisions by what recomputing them shows. `different`: (decision id, what differs), the first of them."""

    def __init__(self, log: DecisionLog, key: bytes) -> None:
        """Take snapshots from `log`; draw by `key`."""
        from functions.console.choosers import Choosers

        self._key = key
        self._choosers = Choosers(log)
        self.by_kind: dict[str, Counter[str]] = {}
        self.different: list[tuple[str, str]] = []

    def look_at(self, decision: Decision) -> None:
        """Recompute one decision."""
        from shared.identity import place, uniform
        from shared.policies.recompute import arm_differences, decider_of, differences

        if decision.origin == "logged":
            self._count("logged", "not recomputable")
            return
        own = self._choosers.of(decision.policy, decision.snapshot_version)
        decider = None if own is None else decider_of(own.snapshot, decision)
        chooser = None if decider is None else self._choosers.of(decider.policy, decider.snapshot_version)
        if own is None or chooser is None or decider is None:
            self._count("snapshot gone", "not recomputable")
            return
        places = range(len(decision.actions))
        draws = [uniform(self._key, decision.policy, decision.decision_id, at) for at in places]
        stands = place(self._key, decision.policy, decision.user or decision.decision_id)
        found = differences(chooser, decider.decision, draws) + arm_differences(own, decision, stands)
        kind = "degraded" if decision.degraded else own.snapshot.kind
        by = decision.served_by
        self._count(kind if by is None else f"{kind}, served by {by.who}", "different" if found else "as stored")
        if found and len(self.different) < _NAMED:
            self.different.append((decision.decision_id, "; ".join(found)))

    def figures(self) -> dict[str, Any]:
        """Return the counts, and the first decisions that differ."""
        return {
            "decisions": sum(counts.total() for counts in self.by_kind.values()),
            "by_kind": self.by_kind,
            "different": [{"decision_id": name, "differences": said} for name, said in self.different],
        }

    def _count(self, kind: str, outcome: str) -> None:
        self.by_kind.setdefault(kind, Counter())[outcome] += 1


def _say(audit: Audit) -> None:
    for kind, counts in sorted(audit.by_kind.items()):
        print(f"{kind}: " + ", ".join(f"{number:,} {outcome}" for outcome, number in sorted(counts.items())))
    if not audit.by_kind:
        print("no decisions")
    for name, said in audit.different:
        print(f"{name} differs: {said}")
