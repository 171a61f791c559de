"""How a roll-out goes on: a pure function of its state and of what was seen. Forward, hold or back, with the reasons in words.

    state = begin(plan, pods, now)
    state, move = advance(state, look)

The state is all that a roll-out remembers, and small enough for an annotation, so any machine can take over after any step. A
*window* is the time in which the candidate had one share of the traffic: revisions are compared within windows and the comparisons
are added, so neither the time of day nor the share mixes into the difference. Who moves traffic and fetches what was seen is
`steering`.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from knative.revisions.evidence import Evidence, weigh
from knative.revisions.plan import Plan
from shared.errors import Misconfigured
from shared.evaluation.revision_moments import PairMoments
from shared.evaluation.rise import Rise, observe

SETTLES_S = 10.0
"""How long a change of the route takes to reach every ingress; decisions of that time are compared with nobody."""
ARRIVES_S = 60.0
"""How long after its age a reward may take to be written."""
RISE_ALPHA, SUSPICION_ALPHA = 0.001, 0.05
LEAST_ERRORS, LEAST_SLOW = 0.001, 0.01
"""By which share of all answers errors or slow answers must have risen to matter."""


class Window(msgspec.Struct, frozen=True, omit_defaults=True):
    """The candidate's `share` in percent from `began` to `ended` (POSIX seconds).

    `moments`: what was earned, once nothing can be added. `requests_before`: the candidate's when the window began.
    """

    share: int
    began: float
    ended: float | None = None
    moments: PairMoments | None = None
    requests_before: int = 0


class PodCounters(msgspec.Struct, frozen=True, array_like=True):
    """What a pod has counted since it started: answers, those with 5xx, those that were slow."""

    revision: str
    requests: int
    errors: int
    slow: int


class State(msgspec.Struct, frozen=True, omit_defaults=True):
    """All that a roll-out remembers. `pods`: the counters as they were last seen; `reason`: of the last move."""

    plan: Plan
    phase: Literal["running", "promoted", "rolled_back"] = "running"
    step: int = 0
    windows: tuple[Window, ...] = ()
    errors: Rise = Rise()
    slow: Rise = Rise()
    pods: dict[str, PodCounters] = {}
    reason: str = ""
    changed_at: float = 0.0

    @property
    def share(self) -> int:
        """Return the candidate's present share in percent."""
        return {"running": self.plan.steps[self.step], "promoted": _ALL, "rolled_back": 0}[self.phase]


class Look(msgspec.Struct, frozen=True):
    """What is seen now. `moments`: one for each window of the state; `problem`: why the candidate is not ready."""

    now: float
    moments: tuple[PairMoments, ...] = ()
    pods: dict[str, PodCounters] = {}
    problem: str | None = None


class Move(msgspec.Struct, frozen=True):
    """What follows. `share`: the candidate's from now on, in percent; `reasons`: in words, the deciding one first."""

    kind: Literal["hold", "forward", "promote", "roll_back"]
    share: int
    reasons: tuple[str, ...]


def begin(plan: Plan, pods: dict[str, PodCounters], now: float) -> State:
    """Return the state of a roll-out whose first share is given to the candidate now."""
    plan.check()
    return State(plan, windows=(Window(plan.steps[0], now + SETTLES_S),), pods=dict(pods), changed_at=now)


def advance(state: State, look: Look) -> tuple[State, Move]:
    """Return the state after a look, and the move; whoever carries it out must write both together."""
    if state.phase != "running":
        return state, Move("hold", state.share, (f"the roll-out has ended: {state.reason}",))
    state = _seal(_count(state, look.pods), look)
    evidence = weigh(state.plan, look.moments) if state.plan.compares == "rewards" else None
    back = _why_back(state, look, evidence)
    if back:
        return ended(state, "rolled_back", look.now, back), Move("roll_back", 0, (back, *_words(state, evidence)))
    hold = _why_hold(state, look, evidence)
    if hold:
        return msgspec.structs.replace(state, reason=hold), Move("hold", state.share, (hold, *_words(state, evidence)))
    ahead = evidence.ahead if evidence else f"{_requests(state)} requests at {state.share} % without a rise"
    words = (ahead, *_words(state, evidence))
    if state.step + 1 == len(state.plan.steps):
        return ended(state, "promoted", look.now, ahead), Move("promote", _ALL, words)
    share = state.plan.steps[state.step + 1]
    window = Window(share, look.now + SETTLES_S, requests_before=state.errors.candidate_requests)
    state = msgspec.structs.replace(
        state,
        step=state.step + 1,
        windows=(*_closed(state.windows, look.now), window),
        reason=ahead,
        changed_at=look.now,
    )
    return state, Move("forward", share, words)


def ended(state: State, phase: Literal["promoted", "rolled_back"], now: float, reason: str) -> State:
    """Return the state of a roll-out that ends now, by a verdict or by hand."""
    windows = _closed(state.windows, now)
    return msgspec.structs.replace(state, phase=phase, windows=windows, pods={}, reason=reason, changed_at=now)


def encode(state: State) -> str:
    """Return the state as the text of an annotation."""
    return msgspec.json.encode(state).decode()


def decode(text: str) -> State:
    """Read an annotation; raises `Misconfigured` where it is none of ours."""
    try:
        return msgspec.json.decode(text, type=State)
    except msgspec.DecodeError as error:
        detail = f"the roll-out's annotation cannot be read ({error}); `knudge revisions rollout --stop` removes it"
        raise Misconfigured(detail) from error


_ALL = 100


def _why_back(state: State, look: Look, evidence: Evidence | None) -> str | None:
    if look.problem is not None:
        return f"the new revision is not ready: {look.problem}"
    for what, rise, least in (("errors", state.errors, LEAST_ERRORS), ("slow answers", state.slow, LEAST_SLOW)):
        if rise.is_told(RISE_ALPHA, least):
            return f"{what} rose from {rise.serving_rate:.2%} to {rise.candidate_rate:.2%} of all answers"
    return evidence.back if evidence else None


def _why_hold(state: State, look: Look, evidence: Evidence | None) -> str | None:
    """Return what a step forward waits for; the gates of the steps rise evenly to the verdict's."""
    plan, window = state.plan, state.windows[-1]
    for what, rise, least in (("errors", state.errors, LEAST_ERRORS), ("slow answers", state.slow, LEAST_SLOW)):
        if rise.is_told(SUSPICION_ALPHA, least):
            return f"more {what} than before, not yet surely: {rise.candidate_rate:.2%} after {rise.serving_rate:.2%}"
    if look.now < window.began + plan.step_s:
        return f"at {window.share} % since {max(look.now - window.began, 0):.0f} s, {plan.step_s:.0f} s at the least"
    if evidence is None:
        missing = plan.step_requests - _requests(state)
        return f"{missing} more requests of the new revision are needed" if missing > 0 else None
    gate = (state.step + 1) / (len(plan.steps) + 1) if state.step + 1 < len(plan.steps) else 1.0
    return evidence.waits(gate)


def _requests(state: State) -> int:
    return state.errors.candidate_requests - state.windows[-1].requests_before


def _words(state: State, evidence: Evidence | None) -> tuple[str, ...]:
    health = (
        f"errors {state.errors.serving_rate:.2%} before, {state.errors.candidate_rate:.2%} new; "
        f"slow answers {state.slow.serving_rate:.2%} before, {state.slow.candidate_rate:.2%} new "
        f"({state.errors.candidate_requests:,} requests of the new revision)"
    )
    return (*(evidence.words if evidence else ()), health)


def _count(state: State, pods: dict[str, PodCounters]) -> State:
    """Add what the pods have counted since the last look; a pod that was not there then has counted all of it since."""
    sums = {state.plan.candidate: [0, 0, 0], state.plan.serving: [0, 0, 0]}
    for name, seen in pods.items():
        before = state.pods.get(name)
        if before is None or before.requests > seen.requests:  # a new pod, or a container that was started again
            before = PodCounters(seen.revision, 0, 0, 0)
        if seen.revision in sums:
            added = (seen.requests - before.requests, seen.errors - before.errors, seen.slow - before.slow)
            sums[seen.revision] = [a + b for a, b in zip(sums[seen.revision], added, strict=True)]
    (requests, errors, slow), (requests_s, errors_s, slow_s) = sums[state.plan.candidate], sums[state.plan.serving]
    return msgspec.structs.replace(
        state,
        errors=observe(state.errors, (requests, errors), (requests_s, errors_s)),
        slow=observe(state.slow, (requests, slow), (requests_s, slow_s)),
        pods={name: pod for name, pod in pods.items() if pod.revision in sums},
    )


def _seal(state: State, look: Look) -> State:
    """Keep what a window earned once every decision of it is old enough, so that it need not be asked for again."""
    if len(look.moments) != len(state.windows):
        return state
    windows = tuple(
        msgspec.structs.replace(window, moments=moments)
        if window.ended is not None and look.now > window.ended + state.plan.age_s + ARRIVES_S
        else window
        for window, moments in zip(state.windows, look.moments, strict=True)
    )
    return msgspec.structs.replace(state, windows=windows)


def _closed(windows: tuple[Window, ...], now: float) -> tuple[Window, ...]:
    last = msgspec.structs.replace(windows[-1], ended=max(now, windows[-1].began))
    return (*windows[:-1], last)
