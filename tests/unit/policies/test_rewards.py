"""The reward is a pure function of the set of a decision's feedback."""

from __future__ import annotations

from typing import Literal, get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.policies.rewards import item_delays, item_rewards, reward_of
from shared.vocabulary import Feedback, PolicySpec, RewardRule

AT = 1_700_000_000.0
WINDOW_S = 3_600.0

Combine = Literal["max", "min", "sum", "mean", "first", "last"]


def spec(reward_range: tuple[float, float] | None = None, /, **rules: RewardRule) -> PolicySpec:
    """Return a policy with these reward rules."""
    return PolicySpec("news", 1, "thompson", reward=rules, reward_range=reward_range, reward_window_s=WINDOW_S)


def event(
    kind: str,
    value: float = 1.0,
    *,
    after_s: float = 1.0,
    action: str | None = None,
    source: str = "web",
    event_id: str = "1",
) -> Feedback:
    """Return feedback some seconds after the decision."""
    return Feedback("decision", source, event_id, kind, value, action, AT + after_s, AT + after_s, "anonymous")


RULES = {
    "click": RewardRule(0.3),
    "rating": RewardRule(0.1, combine="last"),
    "first_rating": RewardRule(0.7, combine="first"),
    "dwell": RewardRule(2.0, saturation=30.0, combine="sum"),
    "share": RewardRule(-1.5, combine="mean"),
    "scroll": RewardRule(0.01, combine="min"),
}

feedback = st.lists(
    st.builds(
        event,
        st.sampled_from([*RULES, "unknown"]),
        st.floats(-1e6, 1e6),
        after_s=st.sampled_from([0.0, 1.0, 1.0000001, 60.0, WINDOW_S, WINDOW_S + 1e-3]),
        action=st.sampled_from([None, "a", "b", "c"]),
        source=st.sampled_from(["web", "app"]),
        event_id=st.integers(0, 30).map(str),
    ),
    max_size=12,
    unique_by=lambda one: (one.source, one.event_id),
)


@given(feedback, st.randoms(use_true_random=False), st.booleans())
def test_the_order_of_arrival_does_not_matter(events: list[Feedback], random: object, bounded: bool) -> None:
    """Any permutation gives the same reward, to the bit."""
    policy = spec((-1.0, 2.0) if bounded else None, **RULES)
    shuffled = list(events)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert reward_of(policy, AT, shuffled) == reward_of(policy, AT, events)
    assert item_rewards(policy, AT, ("a", "b"), shuffled) == item_rewards(policy, AT, ("a", "b"), events)


@given(feedback)
def test_rewards_stay_in_their_range(events: list[Feedback]) -> None:
    """A reward lies in the policy's range, and there is none only where no event counts."""
    reward = reward_of(spec((-1.0, 2.0), **RULES), AT, events)
    counts = [one for one in events if one.kind in RULES and one.occurred_at <= AT + WINDOW_S]
    assert (reward is None) == (not counts)
    assert reward is None or -1.0 <= reward <= 2.0


@given(feedback)
def test_events_stay_as_they_are(events: list[Feedback]) -> None:
    """The list of events is read, not sorted in place."""
    kept = list(events)
    reward_of(spec(**RULES), AT, events)
    item_rewards(spec(**RULES), AT, ("a", "b"), events)
    assert events == kept


@pytest.mark.parametrize(
    ("combine", "expected"),
    [("max", 5.0), ("min", -2.0), ("sum", 7.0), ("mean", 7.0 / 4), ("first", 3.0), ("last", 1.0)],
)
def test_several_events_of_a_kind_combine(combine: Combine, expected: float) -> None:
    """Each rule makes one value of 3, -2, 5 and 1 (in order of occurrence), which is then weighted."""
    values = [(5.0, 30.0, "c"), (3.0, 10.0, "a"), (1.0, 40.0, "d"), (-2.0, 20.0, "b")]
    events = [event("rating", value, after_s=after_s, event_id=name) for value, after_s, name in values]
    assert reward_of(spec(rating=RewardRule(2.0, combine=combine)), AT, events) == pytest.approx(
        2 * expected, abs=1e-12
    )


def test_every_combination_is_tested_and_known() -> None:
    """The rules that a policy may name are those above."""
    assert set(get_args(get_type_hints(RewardRule)["combine"])) == set(get_args(Combine))


def test_events_of_the_same_moment_go_by_their_identity() -> None:
    """First and last of simultaneous events are decided by source, then id."""
    events = [
        event("rating", 4.0, source="web", event_id="0"),
        event("rating", 2.0, source="app", event_id="9"),
        event("rating", 3.0, source="app", event_id="8"),
    ]
    assert reward_of(spec(rating=RewardRule(combine="first")), AT, events) == 3.0
    assert reward_of(spec(rating=RewardRule(combine="last")), AT, events) == 4.0


@pytest.mark.parametrize(("dwell_s", "expected"), [(0.0, 0.0), (15.0, 0.5), (30.0, 1.0), (300.0, 1.0), (-15.0, -0.5)])
def test_saturation_counts_linearly_up_to_a_value(dwell_s: float, expected: float) -> None:
    """30 s of dwell are as good as 300."""
    assert reward_of(spec(dwell=RewardRule(saturation=30.0)), AT, [event("dwell", dwell_s)]) == expected


def test_saturation_comes_before_combination() -> None:
    """Two long visits saturate each by itself: their sum is 2, not 1."""
    events = [event("dwell", 100.0, event_id="1"), event("dwell", 40.0, event_id="2")]
    assert reward_of(spec(dwell=RewardRule(saturation=30.0, combine="sum")), AT, events) == 2.0


def test_kinds_add_up_before_clipping() -> None:
    """The weighted kinds are summed, and the sum is clipped to the range from both sides."""
    rules = {"click": RewardRule(0.8), "purchase": RewardRule(0.7), "hide": RewardRule(-3.0)}
    bought = [event("click", event_id="1"), event("purchase", event_id="2")]
    assert reward_of(spec(**rules), AT, bought) == pytest.approx(1.5)
    assert reward_of(spec((0.0, 1.0), **rules), AT, bought) == 1.0
    assert reward_of(spec((-1.0, 1.0), **rules), AT, [*bought, event("hide", event_id="3")]) == -1.0
    assert reward_of(spec(**rules), AT, [*bought, event("hide", event_id="3")]) == pytest.approx(-1.5)


def test_unknown_kinds_weigh_nothing() -> None:
    """A kind that no rule names gives no reward at all, not one of 0, and leaves others alone."""
    policy = spec(click=RewardRule(0.5))
    assert reward_of(policy, AT, [event("scroll", 9.0)]) is None
    assert reward_of(policy, AT, [event("scroll", 9.0), event("click", event_id="2")]) == 0.5
    assert reward_of(policy, AT, []) is None


def test_a_kind_of_weight_0_is_an_answer() -> None:
    """Feedback that is worth 0 is known to be 0; it is not silence."""
    assert reward_of(spec(seen=RewardRule(0.0)), AT, [event("seen")]) == 0.0


def test_feedback_counts_until_the_window_ends() -> None:
    """The end of the window is inside it; what occurred a millisecond later is not counted."""
    policy = spec(click=RewardRule())
    assert reward_of(policy, AT, [event("click", after_s=WINDOW_S)]) == 1.0
    assert reward_of(policy, AT, [event("click", after_s=WINDOW_S + 1e-3)]) is None
    late = event("click", 9.0, after_s=WINDOW_S + 1, event_id="2")
    assert reward_of(policy, AT, [event("click"), late]) == 1.0


def test_the_items_of_a_slate_are_rewarded_apart() -> None:
    """An event speaks of the action that it names; one that names none, or another, speaks of no item of a slate."""
    policy = spec(click=RewardRule(), rating=RewardRule(0.1, combine="sum"))
    events = [
        event("click", action="b", event_id="1"),
        event("rating", 4.0, action="b", event_id="2"),
        event("rating", 2.0, action="c", event_id="3"),
        event("click", action=None, event_id="4"),
        event("click", action="elsewhere", event_id="5"),
    ]
    assert item_rewards(policy, AT, ("a", "b", "c"), events) == [None, pytest.approx(1.4), pytest.approx(0.2)]


def test_an_event_without_action_speaks_of_the_only_item() -> None:
    """With one item the action may be left out; naming another than the item's counts for nothing."""
    policy = spec(click=RewardRule())
    assert item_rewards(policy, AT, ("a",), [event("click")]) == [1.0]
    assert item_rewards(policy, AT, ("a",), [event("click", action="a")]) == [1.0]
    assert item_rewards(policy, AT, ("a",), [event("click", action="b")]) == [None]


def test_a_delay_is_that_of_the_first_event_that_counts() -> None:
    """Of each item: kinds without a rule, events after the window, and other items' do not count; none is negative."""
    policy = spec(click=RewardRule(), rating=RewardRule())
    events = [
        event("view", after_s=1.0, action="a", event_id="1"),
        event("click", after_s=30.0, action="a", event_id="2"),
        event("rating", after_s=20.0, action="a", event_id="3"),
        event("click", after_s=-2.0, action="b", event_id="4"),
        event("click", after_s=WINDOW_S + 1.0, action="c", event_id="5"),
    ]
    for order in (events, events[::-1]):
        assert item_delays(policy, AT, ("a", "b", "c"), order) == [20.0, 0.0, None]
    assert item_delays(policy, AT, ("a",), [event("click", after_s=7.0)]) == [7.0]
