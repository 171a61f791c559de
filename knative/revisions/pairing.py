"""Which revision is new and which one serves, where the operator does not say so. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from knative.revisions.failure import ClusterFailure, NotThere
from knative.revisions.rollout import State
from knative.revisions.traffic import WHOLE
from knative.revisions.views import Revision, Service
from shared.errors import InvalidInput


class Pair(msgspec.Struct, frozen=True):
    """Two revisions of a roll-out."""

    candidate: str
    serving: str


class Nothing(msgspec.Struct, frozen=True):
    """There is nothing to roll out, and why."""

    reason: str


def pair(
    service: Service,
    revisions: Sequence[Revision],
    state: State | None,
    *,
    to: str | None = None,
    from_: str | None = None,
) -> Pair | Nothing:
    """Return what a roll-out would compare.

    `state`: of the last roll-out, which has ended: what was judged is not taken up again unless `to` names it. `to`: the
    latest ready revision where None; `from_`: the one that leads the others, or that served before an ordinary deployment.
    Raises `NotThere` for a revision that does not exist, `InvalidInput` for one that is not ready.
    """
    candidate = _candidate(service, revisions, state) if to is None else ready(revisions, to, "to")
    if isinstance(candidate, Nothing):
        return candidate
    serving = _serving(service, revisions, state, candidate.name) if from_ is None else ready(revisions, from_, "from")
    return serving if isinstance(serving, Nothing) else Pair(candidate.name, serving.name)


def served_before(revisions: Sequence[Revision], leading: str, state: State | None) -> str | None:
    """Return the ready revision that served before `leading`: the one that a roll-out remembers, else the one before it."""
    generation = {revision.name: revision.generation for revision in revisions if revision.ready}
    highest = max((r.generation for r in revisions if r.name == leading), default=0)
    if state is not None:
        plan = state.plan
        remembered = [plan.candidate, plan.serving] if state.phase == "promoted" else [plan.serving]
        for name in remembered:
            if name != leading and generation.get(name, highest) < highest:
                return name
    earlier = [name for name, number in generation.items() if number < highest]
    return max(earlier, key=lambda name: generation[name], default=None)


def ready(revisions: Iterable[Revision], name: str, field: str) -> Revision:
    """Return the revision of a name, which must be there and ready."""
    found = next((revision for revision in revisions if revision.name == name), None)
    if found is None:
        raise NotThere(f"there is no revision {name!r} of this service", field=field)
    if not found.ready:
        raise InvalidInput(f"{name} is not ready: {found.reason or 'nothing is known of it yet'}", field=field)
    return found


def generation_of(revisions: Iterable[Revision], name: str) -> int:
    """Return which change of the Service made a revision; 0 for one that is gone."""
    return next((revision.generation for revision in revisions if revision.name == name), 0)


def _candidate(service: Service, revisions: Sequence[Revision], state: State | None) -> Revision | Nothing:
    if service.latest_created != service.latest_ready:
        newest = next((revision for revision in revisions if revision.name == service.latest_created), None)
        return Nothing(f"{service.latest_created} is not ready: {(newest and newest.reason) or 'nothing is known yet'}")
    if service.latest_ready is None:
        raise ClusterFailure(f"no revision of {service.name} is ready", field="to")
    candidate = ready(revisions, service.latest_ready, "to")
    if state is not None:
        judged = state.plan.candidate
        if candidate.name == judged or candidate.generation <= generation_of(revisions, judged):
            ended = "promoted" if state.phase == "promoted" else "rolled back"
            return Nothing(f"{judged} was {ended} ({state.reason}), and nothing newer is ready")
    return candidate


def _serving(
    service: Service, revisions: Sequence[Revision], state: State | None, candidate: str
) -> Revision | Nothing:
    pinned = sum(target.percent for target in service.targets if target.revision == candidate)
    if pinned == WHOLE or (pinned and service.leading == candidate):
        return Nothing(f"{candidate} serves already, with {pinned} % of the traffic")
    others = {name: share for name, share in service.shares.items() if name != candidate}
    if others:
        return ready(revisions, max(others, key=lambda name: (others[name], name)), "from")
    before = served_before(revisions, candidate, state)
    return ready(revisions, before, "from") if before else Nothing(f"there is no ready revision before {candidate}")
