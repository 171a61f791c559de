"""Candidates as they are written on the command line, and how they go through a log."""

from __future__ import annotations

import numpy as np
import pytest

from functions.console.candidate import Candidate
from functions.console.candidates import candidates
from functions.console.decided_items import DecidedItem
from functions.console.failure import ConsoleFailure
from functions.console.model_columns import HASHED, Columns
from functions.console.progressive import Progress, outcomes_of
from shared.storage.decision_rows import StoredDecision
from shared.vocabulary import Action, Context, Decision, FeatureSpec, Feedback, PolicySpec, RewardRule

ACTIONS = (Action("a", {"price": 1.0}), Action("b"))
POLICY = PolicySpec(
    "p", 3, "epsilon_greedy", {"epsilon": 0.3, "prior_weight": 2.0}, ACTIONS, {"click": RewardRule()}, reward_window_s=100.0
)  # fmt: skip


def decided(
    at: float, action: str, *events: tuple[float, float], origin: str = "served", occurred: float = 0.0
) -> list[DecidedItem]:
    """Return a decision made at `at`, with feedback (received at, value) that occurred `occurred` seconds after it."""
    feedback = tuple(
        Feedback("d", "s", f"{number}", "click", value, None, at + occurred, received, "me")
        for number, (received, value) in enumerate(events)
    )
    decision = Decision(
        "d", "p", 3, 1, (action,), (0.5,), None, {"age": at}, None, None, False, False,
        "logged" if origin == "logged" else "served", "r", "me"
    )  # fmt: skip
    stored = StoredDecision(decision, at, True, (None,), feedback)
    chosen = [one.id for one in ACTIONS].index(action)
    return [DecidedItem(stored, 0, action, ACTIONS, chosen, 0.5, 0.0, False, True, 0.01)]


def test_every_combination_of_values_is_a_candidate() -> None:
    """What has no `=` is one more value of the key before; what is not named is the policy's."""
    given = candidates(["epsilon=0.05,0.1,floor=0,0.02", "kind=thompson"], POLICY)
    assert [one.name for one in given] == [
        "epsilon=0.05,floor=0", "epsilon=0.05,floor=0.02", "epsilon=0.1,floor=0", "epsilon=0.1,floor=0.02", "kind=thompson"
    ]  # fmt: skip
    assert given[1].spec.parameters == {"epsilon": 0.05, "prior_weight": 2.0}
    assert (given[1].spec.kind, given[1].spec.exploration_floor, given[0].spec.exploration_floor) == (
        "epsilon_greedy",
        0.02,
        0,
    )
    assert (given[4].spec.kind, given[4].spec.parameters, given[4].spec.features) == ("thompson", {}, None)
    assert given[4].spec.reward == POLICY.reward


def test_a_kind_looks_at_features_where_it_must_or_is_told() -> None:
    """A contextual kind looks at all features unless the policy names them; others look where they are told to."""
    [one, two, three] = candidates(["kind=lin_ucb", "kind=epsilon_greedy,features=yes", "kind=epsilon_greedy"], POLICY)
    assert (one.spec.features, two.spec.features, three.spec.features) == (FeatureSpec(), FeatureSpec(), None)
    assert two.spec.parameters == {}  # those of the policy are of another algorithm
    named = FeatureSpec(per_action=("age",))
    looking = PolicySpec("p", 1, "lin_ucb", {}, ACTIONS, features=named)
    [one, two, three] = candidates(["exploration=2", "kind=epsilon_greedy", "kind=thompson"], looking)
    assert (one.spec.features, two.spec.features, three.spec.features) == (named, named, None)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("thompson", "write it as"),
        ("kind=", "write it as"),
        ("kind=thompson,kind=ucb1", "kind stands twice"),
        ("kind=best", "kind must be one of"),
        ("kind=q_learning", "the policy has no state: give one by --state"),
        ("kind=lin_ucb,features=no", "kind must be one of"),
        ("kind=thompson,features=some", "features must be yes or no"),
        ("kind=thompson,epsilon=0.1", "thompson takes prior_alpha"),
        ("epsilon=2", "epsilon must lie between 0 and 1"),
        ("epsilon=much", "epsilon must be a number"),
        ("floor=-0.1", "floor must lie in"),
        ("half_life_s=0", "half_life_s must be above 0"),
        ("epsilon=" + ",".join(f"0.{n:03}" for n in range(51)), "51 candidates are more than 50"),
    ],
)
def test_what_is_no_candidate_is_refused(text: str, complaint: str) -> None:
    """The complaint says what is wrong with which candidate."""
    with pytest.raises(ConsoleFailure) as refused:
        candidates([text], POLICY)
    assert complaint in refused.value.detail
    assert refused.value.field == "candidate"


def test_rewards_become_known_when_they_come() -> None:
    """A served decision's by when feedback was received, a logged one's by when it happened; each step replaces the last."""
    made = outcomes_of(POLICY, decided(10.0, "a", (30.0, 0.8), (20.0, 0.3), (40.0, 0.5)), looks=True)
    steps = [(moment, one.shown, one.before, one.after) for moment, one in made]
    assert steps == [(10.0, True, None, None), (20.0, False, None, 0.3), (30.0, False, 0.3, 0.8)]
    slow = [one for _, one in outcomes_of(POLICY, decided(10.0, "a", (30.0, 0.8), occurred=7.0), looks=False)]
    assert [(one.delay_before_s, one.delay_after_s) for one in slow] == [(None, None), (None, 7.0)]
    [(_, shown), (moment, rewarded)] = outcomes_of(
        POLICY, decided(10.0, "a", (900.0, 1.0), origin="logged", occurred=5.0), looks=True
    )
    assert (moment, rewarded.after) == (15.0, 1.0)
    assert (shown.context, shown.features) == ({"age": 10.0}, {"price": 1.0})
    assert not next(outcomes_of(POLICY, decided(10.0, "a"), looks=False))[1].context


def test_nothing_is_known_before_it_came() -> None:
    """A candidate's law moves with the first block that begins after the feedback came, and not before."""
    greedy = Candidate("greedy", candidates(["epsilon=0"], POLICY)[0].spec)
    progress = Progress([greedy], POLICY, 2)
    laws = []
    for at in range(12):
        items = decided(float(at), "b", (6.5, 1.0)) if at == 1 else decided(float(at), "a")
        progress.go_on(float(at))
        [[law]] = progress.judge(items)
        laws.append(law.propensities[1])
        progress.remember(items)
    assert progress.blocks == 6
    floor = POLICY.exploration_floor / 2
    assert laws[:2] == pytest.approx([0.5, 0.5])  # nothing is known of either
    assert laws[2:4] == pytest.approx([0.5, 0.5])  # each was shown once, and silence is worth as much for both
    assert laws[4:8] == pytest.approx([1 - floor] * 4)  # a was shown oftener, in vain
    assert laws[8:] == pytest.approx([1 - floor] * 4)
    rewarded = Progress([greedy := Candidate("greedy", greedy.spec)], POLICY, 1)
    for at in range(4):
        items = decided(float(at), "a", (2.5, 1.0)) if at == 0 else decided(float(at), "b")
        rewarded.go_on(float(at))
        [[law]] = rewarded.judge(items)
        assert (law.propensities[0] > 0.9) == (at == 3), (at, law.propensities)
        rewarded.remember(items)


def test_columns_of_the_reward_model() -> None:
    """Numbers are standardised, what is missing or never varies is 0, categories fall into hashed columns."""
    columns = Columns()
    given: list[Context] = [
        {"age": 1.0, "same": 3.0, "tags": ["x", "y"]},
        {"age": 3.0, "same": 3.0, "member": True},
        {"none": None},
    ]
    for each in given:
        columns.look(each)
    assert columns.width == 3 + HASHED
    rows = np.array([columns.write(each) for each in given])
    assert rows[:, 0].tolist() == [-1.0, 1.0, 0.0]
    assert not rows[:, 1:3].any()
    assert np.abs(rows[:, 3:]).sum(axis=1).tolist() == [2.0, 0.0, 0.0]
    assert columns.write({"age": 1e9, "unseen": 4.0})[0] == pytest.approx(1e9 - 2)
