"""A roll-out as it goes: look at the Service, gather what was seen, decide, write, say why.

Everything that it must remember stands in the Service's annotation, written together with the traffic, so that it may be
killed at any moment and go on from any machine. Several at once do no harm: each writes only what it has looked at, and
whoever comes second looks again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from typing import Any, Protocol

import msgspec

from knative.revisions.cluster import Cluster
from knative.revisions.counters import read_counters
from knative.revisions.evidence import forecast
from knative.revisions.failure import ClusterFailure, NotAllowed, NotThere, WriteConflict
from knative.revisions.pairing import Nothing, pair, ready
from knative.revisions.plan import Plan
from knative.revisions.rollout import ARRIVES_S, Look, Move, PodCounters, State, advance, begin, decode, encode
from knative.revisions.traffic import Targets, shares, steer
from knative.revisions.views import Revision, Service
from shared.errors import Conflict, KnudgeError, Misconfigured, Unavailable
from shared.evaluation.revision_moments import PairMoments

FORECAST_S = 3_600.0
_TRIES = 5
_AT_ONCE = 8


class Outcome(Enum):
    """How a turn left the roll-out."""

    NOTHING = "nothing"
    GOING = "going"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"
    STOPPED = "stopped"


class Rewards(Protocol):
    """What revisions earned; `shared.storage.postgres_revisions` asks PostgreSQL."""

    def earned(
        self, candidate: str, serving: str, began: float, until: float, *, age_s: float, policies: tuple[str, ...]
    ) -> PairMoments:
        """Return the sums of the decisions of that time, as they were at `age_s`."""
        ...


class Steering:
    """The roll-out of one Service."""

    def __init__(
        self,
        cluster: Cluster,
        name: str,
        rewards: Rewards | None,
        say: Callable[[str], None],
        *,
        dry_run: bool = False,
    ) -> None:
        """Steer the Service `name`. `rewards` may be None where only health is compared. `dry_run`: write nothing."""
        self._cluster = cluster
        self._name = name
        self._rewards = rewards
        self._say = say
        self._dry_run = dry_run
        self._read_at_s = 0.0

    def begin(self, options: Mapping[str, Any], to: str | None = None, from_: str | None = None) -> Outcome:
        """Begin a roll-out, or take the next look at the one that is under way, whose own plan then holds.

        `options`: members of `Plan` that were given; `InvalidInput` names the one that cannot be.
        """
        Plan(serving="serving", candidate="candidate", **options).check()
        return self._again(lambda service, state: self._begin(service, state, options, to, from_))

    def go_on(self) -> Outcome:
        """Take the next look at a roll-out, and move at most once."""
        return self._again(self._go_on)

    def _again(self, turn: Callable[[Service, State | None], Outcome]) -> Outcome:
        """Take a turn on what is there; where another hand was quicker, on what is there then."""
        for attempt in range(_TRIES):
            service = self._cluster.service(self._name)
            self._read_at_s = time.monotonic()
            state = decode(service.state) if service.state is not None else None
            try:
                return turn(service, state)
            except WriteConflict:
                if attempt + 1 == _TRIES:
                    raise
        raise AssertionError("unreachable")

    def _begin(
        self, service: Service, state: State | None, options: Mapping[str, Any], to: str | None, from_: str | None
    ) -> Outcome:
        if state is not None and state.phase == "running":
            if to not in {None, state.plan.candidate} or from_ not in {None, state.plan.serving}:
                detail = f"a roll-out of {state.plan.candidate} from {state.plan.serving} is under way; --stop ends it"
                raise Conflict(detail, field="to" if to not in {None, state.plan.candidate} else "from")
            self._say(f"the roll-out of {state.plan.candidate} is under way and goes on by the plan it began with")
            return self._go_on(service, state)
        chosen = pair(service, self._cluster.revisions(self._name), state, to=to, from_=from_)
        if isinstance(chosen, Nothing):
            self._say(f"nothing to roll out: {chosen.reason}")
            return Outcome.NOTHING
        plan = Plan(serving=chosen.serving, candidate=chosen.candidate, **options)
        plan.check()
        targets = self._steered(service, plan, plan.steps[0])
        self._say(f"rolling out {plan.candidate} of {self._name}; {plan.serving} serves")
        if plan.compares == "rewards":
            self._say(self._forecast(plan, service.read_at))
        pods, unread = self._pods(plan, {})
        begun = self._delayed(begin(plan, pods, service.read_at))
        self._write(service, targets, begun, "forward", (f"the first step of {_steps(plan)}", *unread))
        return Outcome.NOTHING if self._dry_run else Outcome.GOING

    def _go_on(self, service: Service, state: State | None) -> Outcome:
        if state is None:
            self._say("the roll-out was stopped by another hand; the traffic stays where it is")
            return Outcome.STOPPED
        if state.phase != "running":
            self._say(f"the roll-out has ended, {state.phase.replace('_', ' ')}: {state.reason}")
            return Outcome.PROMOTED if state.phase == "promoted" else Outcome.ROLLED_BACK
        self._check_traffic(service, state)
        revisions = self._cluster.revisions(self._name)
        pods, unread = self._pods(state.plan, state.pods)
        moments, missing = self._moments(state, service.read_at)
        look = Look(service.read_at, moments, pods, _problem(revisions, state.plan.candidate))
        after, move = advance(state, look)
        if move.kind == "roll_back":
            self._check_way_back(revisions, state.plan, move)
        if move.kind == "forward":
            after = self._delayed(after)
        targets = self._steered(service, state.plan, move.share)
        self._write(service, targets, after, move.kind, (*move.reasons, *missing, *unread))
        if self._dry_run:
            return Outcome.NOTHING
        return {"promote": Outcome.PROMOTED, "roll_back": Outcome.ROLLED_BACK}.get(move.kind, Outcome.GOING)

    def _write(self, service: Service, targets: Targets, state: State, kind: str, reasons: tuple[str, ...]) -> None:
        """Write traffic and state together, then say so; in a dry run only say what would be."""
        if not self._dry_run:
            self._cluster.shift(service, targets, encode(state))
        now = shares(targets, None)
        split = ", ".join(f"{name} {now.get(name, 0)} %" for name in (state.plan.candidate, state.plan.serving))
        words = {"hold": "stay", "forward": "forward", "promote": "promoted", "roll_back": "rolled back"}[kind]
        self._say(f"{'would be: ' if self._dry_run else ''}{words}: {split}: {reasons[0]}")
        for reason in reasons[1:]:
            self._say(f"    {reason}")

    def _delayed(self, state: State) -> State:
        """Let the window that opens with a write begin later by as long as it took to decide on that write."""
        window = state.windows[-1]
        later = msgspec.structs.replace(window, began=window.began + time.monotonic() - self._read_at_s)
        return msgspec.structs.replace(state, windows=(*state.windows[:-1], later))

    def _steered(self, service: Service, plan: Plan, share: int) -> Targets:
        return steer(
            service.targets, latest=service.latest_ready, new=plan.candidate, serving=plan.serving, percent=share
        )

    def _check_traffic(self, service: Service, state: State) -> None:
        """Refuse to go on where another hand has moved the traffic: what was seen since is not what was planned."""
        expected = shares(self._steered(service, state.plan, state.share), None)
        if service.shares != expected:
            now = ", ".join(f"{name} {share} %" for name, share in service.shares.items())
            wanted = ", ".join(f"{name} {share} %" for name, share in expected.items())
            detail = (
                f"another hand has moved the traffic of {self._name} to {now}; the roll-out had set {wanted}. "
                "Put it back, or end the roll-out by `promote`, `rollback` or `rollout --stop`"
            )
            raise Conflict(detail, field="traffic")

    def _check_way_back(self, revisions: list[Revision], plan: Plan, move: Move) -> None:
        try:
            ready(revisions, plan.serving, "from")
        except KnudgeError as error:
            raise ClusterFailure(f"{plan.candidate} must go back ({move.reasons[0]}), but {error.detail}") from error

    def _pods(self, plan: Plan, known: Mapping[str, PodCounters]) -> tuple[dict[str, PodCounters], list[str]]:
        """Return the counters of both revisions' pods, and what could not be read, in words.

        A pod that does not answer keeps what it was `known` to have counted: otherwise the next look would take all of
        it for new.
        """
        ours = [pod for pod in self._cluster.pods(self._name) if pod.revision in {plan.candidate, plan.serving}]
        name_to_counters: dict[str, PodCounters] = {}
        unread: list[str] = []

        def read(name: str, revision: str) -> PodCounters | str | None:
            try:
                return read_counters(self._cluster.metrics(name), revision, plan.slow_s)
            except NotThere:
                return None
            except NotAllowed:
                raise
            except ClusterFailure as failure:
                return failure.detail

        with ThreadPoolExecutor(_AT_ONCE) as threads:
            found = threads.map(lambda pod: read(pod.name, pod.revision), ours)
            for pod, counters in zip(ours, found, strict=True):
                if isinstance(counters, PodCounters):
                    name_to_counters[pod.name] = counters
                elif counters is not None:
                    unread.append(counters)
                    if pod.name in known:
                        name_to_counters[pod.name] = known[pod.name]
        return name_to_counters, unread

    def _moments(self, state: State, now: float) -> tuple[tuple[PairMoments, ...], tuple[str, ...]]:
        """Return what was earned in each window, as far as it is old enough; nothing, with words, while nobody says."""
        if state.plan.compares != "rewards":
            return (), ()
        until = now - state.plan.age_s - ARRIVES_S
        try:
            moments = tuple(
                window.moments
                if window.moments is not None
                else self._earned(state.plan, window.began, min(until, now if window.ended is None else window.ended))
                for window in state.windows
            )
        except Unavailable as error:
            return (), (error.detail,)
        return moments, ()

    def _earned(self, plan: Plan, began: float, until: float) -> PairMoments:
        if self._rewards is None:
            detail = "KNUDGE_DATABASE_URL is missing: rewards are compared by what PostgreSQL holds"
            raise Misconfigured(detail, field="KNUDGE_DATABASE_URL")
        return self._rewards.earned(
            plan.candidate, plan.serving, began, until, age_s=plan.age_s, policies=plan.policies
        )

    def _forecast(self, plan: Plan, now: float) -> str:
        until = now - plan.age_s - ARRIVES_S
        recent = self._earned(plan, until - FORECAST_S, until)
        # after an ordinary deployment it is the new revision that had the traffic
        before = recent.serving if recent.serving.decisions >= recent.candidate.decisions else recent.candidate
        return forecast(plan, before, FORECAST_S)


def _problem(revisions: list[Revision], candidate: str) -> str | None:
    """Return why the new revision cannot serve; what is not known yet is no problem."""
    found = next((revision for revision in revisions if revision.name == candidate), None)
    if found is None:
        return "it is gone"
    return (found.reason or "it failed") if found.ready is False else None


def _steps(plan: Plan) -> str:
    return ", ".join(f"{share} %" for share in plan.steps)
