"""Propensity health: the learner looks at a sample of the decisions that it has just archived, in the same transaction.

Each is decided again from its snapshot, which needs no key: the law says what chance every eligible action had, and what was
chosen and stored is held against it (`shared.evaluation.propensity_health`). The sample goes by the random bits of decision ids,
which are made before anything is drawn, so it does not depend on what was chosen. Whatever goes wrong here is logged and costs no
learning.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from heapq import nsmallest

import msgspec

from shared.evaluation.propensity_health import Choice, Health, observe
from shared.identity import route
from shared.policies.choosing import Chooser, without_snapshot
from shared.policies.recompute import TOLERANCE
from shared.storage.postgres_connection import Connection
from shared.storage.queries import queries
from shared.storage.redis_snapshots import decode_snapshot
from shared.vocabulary import Decision

DECISIONS = 64
"""How many decisions of one transaction are looked at, at most."""
SNAPSHOTS = 2
"""From how many snapshots these come, at most: compiling one takes as long as many decisions."""

_log = logging.getLogger(__name__)
_health = msgspec.msgpack.Decoder(Health)
_encode = msgspec.msgpack.Encoder().encode


def decode_health(content: bytes) -> Health:
    """Return what is stored of a policy version."""
    return _health.decode(content)


async def watch(connection: Connection, policy: str, archived: Sequence[Decision]) -> Health | None:
    """Look at some of the decisions that this transaction archived; return the health of the newest version among them.

    None where nothing could be looked at.
    """
    try:
        async with connection.transaction():  # what fails here takes nothing else with it
            return await _watch(connection, policy, sample(archived))
    except Exception:
        _log.exception("propensities cannot be watched", extra={"knudge": {"policy": policy}})
        return None


def sample(archived: Sequence[Decision]) -> list[Decision]:
    """Return the decisions to look at, in the order in which they were made: those that the policy itself decided."""
    chosen: list[Decision] = []
    snapshots: set[int] = set()
    served = [one for one in archived if one.origin == "served" and one.actions and one.served_by is None]
    for decision in nsmallest(4 * DECISIONS, served, key=lambda decision: decision.decision_id[::-1]):
        if len(chosen) < DECISIONS and (decision.snapshot_version in snapshots or len(snapshots) < SNAPSHOTS):
            snapshots.add(decision.snapshot_version)
            chosen.append(decision)
    return sorted(chosen, key=lambda decision: (route(decision.decision_id).decided_at, decision.decision_id))


def choices_of(chooser: Chooser, decision: Decision) -> Iterator[Choice]:
    """Yield the items of a decision with their laws; one that was not eligible has no law, and ends them."""
    laws = chooser.laws(decision.context, decision.eligible, decision.actions)
    for action, stored, law in zip(decision.actions, decision.propensities, laws, strict=False):
        if action not in law.actions:
            yield Choice(law.actions, law.propensities, 0, agrees=False)
            return
        at = law.actions.index(action)
        agrees = stored is not None and abs(stored - law.propensities[at]) <= TOLERANCE
        yield Choice(law.actions, law.propensities, at, agrees)


async def _watch(connection: Connection, policy: str, decisions: Sequence[Decision]) -> Health | None:
    named = queries("health")
    choosers: dict[int, Chooser | None] = {}
    choices: dict[int, list[Choice]] = {}
    for decision in decisions:
        version = decision.snapshot_version
        if version not in choosers:
            choosers[version] = await _chooser(connection, policy, version)
        chooser = choosers[version]
        if chooser is not None:
            choices.setdefault(decision.policy_version, []).extend(choices_of(chooser, decision))
    newest = None
    for policy_version, seen in sorted(choices.items()):
        key = {"policy": policy, "policy_version": policy_version}
        row = await (await connection.execute(named["health"], key)).fetchone()
        before = Health() if row is None else _health.decode(row["statistics"])
        newest = observe(before, seen)
        await connection.execute(named["put_health"], key | {"statistics": _encode(newest)})
        if newest.is_alarming() and not before.is_alarming():
            _log.error("propensities are not what happens", extra={"knudge": key | {"different": newest.different}})
    return newest


async def _chooser(connection: Connection, policy: str, version: int) -> Chooser | None:
    if not version:
        return Chooser(without_snapshot(policy))
    key = {"policy": policy, "snapshot_version": version}
    row = await (await connection.execute(queries("decisions")["snapshot"], key)).fetchone()
    return None if row is None else Chooser(decode_snapshot(row["content"]))
