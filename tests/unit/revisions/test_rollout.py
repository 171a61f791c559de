"""The course of a roll-out: forward, hold and back, what it remembers, and how often it is right."""

from __future__ import annotations

import msgspec
import pytest

from knative.revisions.evidence import forecast
from knative.revisions.plan import Plan
from knative.revisions.rollout import (
    ARRIVES_S,
    SETTLES_S,
    Look,
    PodCounters,
    State,
    advance,
    begin,
    decode,
    encode,
)
from shared.errors import InvalidInput, Misconfigured
from shared.evaluation.revision_moments import PairMoments, RevisionMoments
from tests.performance.rollouts import roll_out, share_within

PLAN = Plan("old", "new", steps=(10, 50), age_s=60.0, step_s=30.0)
HEALTH = msgspec.structs.replace(PLAN, compares="health", step_requests=100)


def earned(decisions: int, rate: float) -> RevisionMoments:
    """Return the sums of independent decisions with rewards of 1."""
    total = decisions * rate
    return RevisionMoments(decisions, total, total, decisions, total, total)


def pair(decisions: int, rate: float, serving_rate: float = 0.05) -> PairMoments:
    """Return what a candidate with so many decisions earned, and ten times as many of the serving revision."""
    return PairMoments(earned(decisions, rate), earned(10 * decisions, serving_rate))


def pods(new: tuple[int, int, int], old: tuple[int, int, int]) -> dict[str, PodCounters]:
    """Return the counters of one pod of each revision."""
    return {"new-1": PodCounters("new", *new), "old-1": PodCounters("old", *old)}


@pytest.mark.parametrize(("rate", "ratio", "phase"), [
    (0.01, 1.0, "promoted"), (0.05, 1.0, "promoted"), (0.20, 1.0, "promoted"),
    (0.01, 0.9, "rolled_back"), (0.05, 0.9, "rolled_back"), (0.20, 0.9, "rolled_back"),
])  # fmt: skip
def test_verdicts_are_right_within_the_bound(rate: float, ratio: float, phase: str) -> None:
    """Of 2,000 roll-outs 95 % end as they should within 25 σ²/δ² decisions of the new revision."""
    assert share_within(roll_out(rate, ratio, 2_000, seed=7), phase) >= 0.95


def test_a_good_revision_goes_forward_to_all_traffic() -> None:
    """Step by step; a window is closed where the next begins, and its sums are kept once nothing can be added."""
    state = begin(PLAN, {}, 1_000.0)
    assert (state.share, state.windows[0].began) == (10, 1_000.0 + SETTLES_S)
    state, move = advance(state, Look(1_200.0, (pair(60_000, 0.0505),)))
    assert (move.kind, move.share, state.share) == ("forward", 50, 50)
    assert state.windows[0].ended == 1_200.0
    state, move = advance(state, Look(1_220.0, (pair(60_000, 0.0505), PairMoments())))
    assert (move.kind, state.windows[0].moments) == ("hold", None)
    now = 1_200.0 + PLAN.age_s + ARRIVES_S + 1
    state, move = advance(state, Look(now, (pair(60_000, 0.0505), pair(100, 0.05))))
    assert (move.kind, move.share, state.phase) == ("promote", 100, "promoted")
    assert state.windows[0].moments == pair(60_000, 0.0505)
    again, move = advance(state, Look(now + 60))
    assert (again, move.kind, move.share) == (state, "hold", 100)


def test_a_worse_revision_goes_back() -> None:
    """The verdict names the margin and the evidence, and all traffic is the serving revision's again."""
    state, move = advance(begin(PLAN, {}, 0.0), Look(100.0, (pair(60_000, 0.045),)))
    assert (move.kind, move.share, state.phase, state.share) == ("roll_back", 0, "rolled_back", 0)
    assert "earns less" in move.reasons[0]
    assert "-10.0%" in " ".join(move.reasons)


def test_nothing_moves_before_its_time_or_without_evidence() -> None:
    """A share lasts its least time; too few or no rewards hold, and say so."""
    state = begin(PLAN, {}, 0.0)
    for look, word in (
        (Look(20.0, (pair(60_000, 0.05),)), "30 s at the least"),
        (Look(100.0, (pair(300, 0.05),)), "too few rewards"),
        (Look(100.0, (pair(3_000, 0.05),)), "not enough evidence"),
        (Look(100.0, (pair(60_000, 0.0, 0.0),)), "earned nothing yet"),
    ):
        held, move = advance(state, look)
        assert (move.kind, held.step) == ("hold", 0)
        assert word in move.reasons[0]


def test_the_bound_on_decisions_brings_a_verdict() -> None:
    """Where the evidence has not decided by then, the nearer hypothesis does."""
    nearly = PairMoments(earned(60_000, 0.0474), earned(60_000, 0.05))  # between equal and 10 % worse
    state = begin(PLAN, {}, 0.0)
    _, move = advance(state, Look(100.0, (nearly,)))
    assert (move.kind, "nearer" in move.reasons[0]) == ("roll_back", True)
    _, move = advance(state, Look(100.0, (PairMoments(earned(60_000, 0.0476), earned(60_000, 0.05)),)))
    assert move.kind == "forward"


@pytest.mark.parametrize(("new", "word"), [((1_000, 40, 0), "errors rose"), ((1_000, 0, 100), "slow answers rose")])
def test_more_errors_or_slow_answers_go_back_at_once(new: tuple[int, int, int], word: str) -> None:
    """Before any reward has come, and within the first share's least time."""
    state = begin(PLAN, pods((0, 0, 0), (50_000, 10, 100)), 0.0)
    state, move = advance(state, Look(15.0, (PairMoments(),), pods(new, (60_000, 11, 101))))
    assert (move.kind, state.phase) == ("roll_back", "rolled_back")
    assert word in move.reasons[0]


def test_a_suspicion_holds() -> None:
    """Some more errors than before stop the way forward until they are explained, or tell."""
    state = begin(HEALTH, pods((0, 0, 0), (0, 0, 0)), 0.0)
    held, move = advance(state, Look(100.0, (), pods((1_000, 4, 0), (9_000, 3, 0))))
    assert (move.kind, "not yet surely" in move.reasons[0]) == ("hold", True)
    _, move = advance(held, Look(200.0, (), pods((4_000, 4, 0), (60_000, 30, 0))))
    assert move.kind == "forward"


def test_pods_that_come_go_and_restart_are_counted_once() -> None:
    """What a pod counted before the roll-out is not counted, a new pod's all is, and so is a restarted container's."""
    state = begin(HEALTH, pods((500, 5, 0), (9_000, 90, 0)), 0.0)
    state, _ = advance(state, Look(5.0, (), pods((510, 5, 0), (9_100, 91, 0))))
    seen = {
        "new-1": PodCounters("new", 8, 0, 0),
        "new-2": PodCounters("new", 7, 1, 0),
        "x": PodCounters("other", 9, 9, 9),
    }
    state, _ = advance(state, Look(10.0, (), seen))
    assert (state.errors.candidate_requests, state.errors.candidate_bad) == (10 + 8 + 7, 1)
    assert (state.errors.serving_requests, state.errors.serving_bad) == (100, 1)
    assert set(state.pods) == {"new-1", "new-2"}


def test_a_service_without_rewards_goes_by_its_health() -> None:
    """Each share waits for its requests, counted from its own beginning."""
    state = begin(HEALTH, pods((0, 0, 0), (0, 0, 0)), 0.0)
    state, move = advance(state, Look(60.0, (), pods((99, 0, 0), (900, 0, 0))))
    assert (move.kind, move.reasons[0]) == ("hold", "1 more requests of the new revision are needed")
    state, move = advance(state, Look(61.0, (), pods((150, 0, 0), (900, 0, 0))))
    assert (move.kind, move.share) == ("forward", 50)
    state, move = advance(state, Look(200.0, (), pods((249, 0, 0), (950, 0, 0))))
    assert move.kind == "hold"
    state, move = advance(state, Look(201.0, (), pods((250, 0, 0), (950, 0, 0))))
    assert (move.kind, move.share) == ("promote", 100)


def test_a_candidate_that_is_not_ready_goes_back() -> None:
    """Whatever it earned."""
    _, move = advance(begin(PLAN, {}, 0.0), Look(100.0, (pair(60_000, 0.06),), problem="ContainerMissing: no image"))
    assert (move.kind, move.reasons[0]) == ("roll_back", "the new revision is not ready: ContainerMissing: no image")


def test_the_state_survives_its_encoding() -> None:
    """An annotation holds all of it, in little room."""
    state = begin(PLAN, pods((1, 0, 0), (2, 0, 0)), 0.0)
    state, _ = advance(state, Look(1_200.0, (pair(60_000, 0.0505),), pods((10, 1, 1), (20, 1, 1))))
    assert decode(encode(state)) == state
    assert len(encode(state)) < 4_000
    for text in ("", "{}", "no JSON", '{"plan": {"serving": "a"}}'):
        with pytest.raises(Misconfigured, match="rollout --stop"):
            decode(text)


@pytest.mark.parametrize(("option", "plan"), [
    ("to", {"candidate": "old"}), ("steps", {"steps": ()}), ("steps", {"steps": (5, 5)}), ("steps", {"steps": (0, 5)}),
    ("steps", {"steps": (5, 100)}), ("margin", {"margin": 0.0}), ("margin", {"margin": float("nan")}),
    ("alpha", {"alpha": 0.5}), ("age", {"age_s": -1.0}), ("step-time", {"step_s": float("inf")}),
    ("step-requests", {"step_requests": 0}),
])  # fmt: skip
def test_a_plan_that_cannot_be_carried_out_is_refused(option: str, plan: dict[str, object]) -> None:
    """By the name of the option at fault."""
    with pytest.raises(InvalidInput, match=f"--{option}") as refused:
        begin(msgspec.structs.replace(PLAN, **plan), {}, 0.0)
    assert refused.value.field == option


def test_what_a_verdict_takes_is_foretold() -> None:
    """At 5 % and a margin of 10 %: σ²/δ² is 1,900 decisions; 12 of that on average, 23 at the most."""
    words = forecast(PLAN, earned(36_000, 0.05), 3_600.0)
    assert "about 22,800 decisions of the new revision (at most 43,700)" in words
    assert "10 decisions a second" in words
    assert "76 minutes at 50 %" in words
    assert "no decision" in forecast(PLAN, RevisionMoments(), 60.0)
    assert "no verdict" in forecast(PLAN, earned(100, 0.0), 60.0)


def test_a_state_of_an_ended_roll_out_has_its_share() -> None:
    """Promoted is everything, rolled back nothing."""
    assert State(PLAN, "promoted").share == 100
    assert State(PLAN, "rolled_back").share == 0
