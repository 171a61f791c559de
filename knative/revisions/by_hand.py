"""Moving all traffic at once, by an operator's word; and forgetting a roll-out.

What was decided by hand is remembered as a roll-out's verdict is, so that a schedule does not take up again what an
operator has just turned away, and a later `rollback` knows where to go.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

from knative.revisions.cluster import Cluster
from knative.revisions.failure import ClusterFailure, WriteConflict
from knative.revisions.pairing import generation_of, ready, served_before
from knative.revisions.plan import Plan
from knative.revisions.rollout import State, decode, encode, ended
from knative.revisions.traffic import Targets, all_to
from knative.revisions.views import Revision, Service
from shared.errors import Misconfigured

_TRIES = 5


class Wanted(msgspec.Struct, frozen=True):
    """A write that follows from a Service as it was read, and what it does in words."""

    targets: Targets
    state: str | None
    words: str


def promote(cluster: Cluster, name: str, revision: str | None, *, dry_run: bool = False) -> str:
    """Give all traffic to a revision (None: the latest ready one) and end a roll-out; return what was done in words."""

    def decide(service: Service) -> Wanted:
        revisions = cluster.revisions(name)
        target = ready(revisions, revision or _latest(service), "revision").name
        state = _remembered(service, revisions, target)
        return Wanted(all_to(service.targets, target), state, f"{target} has all traffic of {name}")

    return _write(cluster, name, decide, dry_run=dry_run)


def roll_back(cluster: Cluster, name: str, *, dry_run: bool = False) -> str:
    """Give all traffic back to the revision that served before, if it is ready; return what was done in words."""

    def decide(service: Service) -> Wanted:
        revisions = cluster.revisions(name)
        state = _state(service)
        leading = service.leading
        if leading is None:
            raise ClusterFailure(f"no revision of {name} has traffic")
        if state is not None and state.phase == "running":
            target: str | None = state.plan.serving
        else:
            target = served_before(revisions, leading, state)
        if target is None:
            raise ClusterFailure(f"there is no ready revision before {leading}")
        before = ready(revisions, target, "from").name
        targets = all_to(service.targets, before)
        return Wanted(targets, _remembered(service, revisions, before), f"{before} has all traffic of {name} again")

    return _write(cluster, name, decide, dry_run=dry_run)


def forget(cluster: Cluster, name: str, *, dry_run: bool = False) -> str:
    """Remove a roll-out's state and leave the traffic where it is; return what was done in words."""

    def decide(service: Service) -> Wanted:
        if service.state is None:
            return Wanted(service.targets, None, f"{name} has no roll-out")
        shares = ", ".join(f"{revision} {share} %" for revision, share in service.shares.items())
        return Wanted(service.targets, None, f"the roll-out of {name} is forgotten; the traffic stays: {shares}")

    return _write(cluster, name, decide, dry_run=dry_run)


def _write(cluster: Cluster, name: str, decide: Callable[[Service], Wanted], *, dry_run: bool) -> str:
    """Decide on what is there and write it; where another hand was quicker, decide anew on what is there then."""
    for attempt in range(_TRIES):
        service = cluster.service(name)
        wanted = decide(service)
        if dry_run:
            return f"would write: {wanted.words}"
        if (wanted.targets, wanted.state) == (service.targets, service.state):
            return wanted.words
        try:
            cluster.shift(service, wanted.targets, wanted.state)
        except WriteConflict:
            if attempt + 1 == _TRIES:
                raise
        else:
            return wanted.words
    raise AssertionError("unreachable")


def _latest(service: Service) -> str:
    if service.latest_ready is None:
        raise ClusterFailure(f"no revision of {service.name} is ready")
    return service.latest_ready


def _state(service: Service) -> State | None:
    """Return the state of the roll-out; one that cannot be read does not stand in an operator's way."""
    try:
        return decode(service.state) if service.state is not None else None
    except Misconfigured:
        return None


def _remembered(service: Service, revisions: Sequence[Revision], target: str) -> str | None:
    """Return the annotation after all traffic went to `target` by hand."""
    state = _state(service)
    running = state if state is not None and state.phase == "running" else None
    if running is not None and target in {running.plan.candidate, running.plan.serving}:
        is_new = target == running.plan.candidate
        return encode(ended(running, "promoted" if is_new else "rolled_back", service.read_at, _reason(is_new=is_new)))
    before = [running.plan.candidate, running.plan.serving] if running is not None else [service.leading]
    others = [name for name in before if name is not None and name != target]
    if not others:
        return service.state
    is_new = all(generation_of(revisions, target) > generation_of(revisions, name) for name in others)
    plan = Plan(serving=others[-1], candidate=target) if is_new else Plan(serving=target, candidate=others[0])
    phase: Literal["promoted", "rolled_back"] = "promoted" if is_new else "rolled_back"
    return encode(State(plan, phase, reason=_reason(is_new=is_new), changed_at=service.read_at))


def _reason(*, is_new: bool) -> str:
    return "promoted by hand" if is_new else "rolled back by hand"
