"""Candidates as they are written on the command line, and how they go through a log."""

from __future__ import annotations

import numpy as np
import pytest
from msgspec import structs

from functions.console.candidate import Candidate
from functions.console.candidates import candidates
from functions.console.decided_items import DecidedItem
from functions.console.failure import ConsoleFailure
from functions.console.model_columns import HASHED, Columns
from functions.console.ordered_log import OrderedLog
from functions.console.progressive import Progress, outcomes_of
from shared.policies.ordered_kinds import LEARNERS
from shared.storage.decision_rows import StoredDecision
from shared.vocabulary import (
    Action,
    Cells,
    Context,
    Decision,
    FeatureSpec,
    Feedback,
    PolicySpec,
    RewardRule,
    Steering,
)

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
        ("kind=q_learning", "q_learning tells states apart, and the policy has no state: give one by --state"),
        ("steering=1", "a steered bandit tells states apart, and the policy has no state"),
        ("steering=101", "steering must lie in [0, 100]"),
        ("steering_visits=20", "steering_visits needs a steering"),
        ("steering=1,steering_visits=0", "steering_visits must lie between 1 and"),
        ("kind=fitted_q,steering=1", "fitted_q learns a model of its own in order, beside which nothing steers it"),
        ("kind=fitted_q,features=yes", "and be one that looks at features"),
        ("kind=logistic_thompson,features=no", "and be one that can do without features"),
        ("discount=0.9", "epsilon_greedy takes"),
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


def test_kinds_that_tell_states_apart_have_the_policys_state() -> None:
    """What is not named is inherited, steering and its parameters too; what a kind does not take is left behind."""
    state = {"page": Cells(categories=("home", "cart"))}
    steered = structs.replace(
        POLICY, state=state, steering=Steering(0.5, 3.0), parameters={"epsilon": 0.3, "discount": 0.8}
    )
    same, other, none, learner, fitted, logistic = candidates(
        ["epsilon=0.3", "steering=2,steering_visits=7,trace=0.1", "steering=0", "kind=q_learning,trace=0.2", "kind=fitted_q",
         "kind=logistic_thompson"], steered,
    )  # fmt: skip
    assert (same.spec.steering, same.spec.parameters) == (steered.steering, steered.parameters)
    assert other.spec.steering == Steering(2.0, 7.0)
    assert other.spec.parameters == {"epsilon": 0.3, "discount": 0.8, "trace": 0.1}
    assert (none.spec.steering, none.spec.parameters, none.learner) == (None, {"epsilon": 0.3}, None)
    assert (learner.spec.steering, learner.spec.parameters, learner.spec.state) == (None, {"trace": 0.2}, state)
    assert [each.learner is not None and each.learner.EPISODIC for each in (same, learner, fitted, logistic)] == [
        True, True, True, False
    ]  # fmt: skip
    wide = structs.replace(steered, state={f"n{at}": Cells(bins=tuple(map(float, range(200)))) for at in range(3)})
    for text, complaint in (
        ("kind=q_learning", "state makes 8,365,427 states"),
        ("kind=fitted_q", "state makes 610 cells"),
    ):
        with pytest.raises(ConsoleFailure) as refused:
            candidates([text], wide)
        assert complaint in refused.value.detail


def test_a_training_comes_when_it_is_due() -> None:
    """A kind that a training teaches knows nothing before the first one, and stands still between two."""
    policy = structs.replace(POLICY, state={"age": Cells(bins=(100.0,))}, reward_window_s=1.0, session_timeout_s=1.0)
    [fitted] = given = candidates(["kind=fitted_q,epsilon=0"], policy)
    progress = Progress(given, policy, 1, trained_from=10.0, train_every_s=6.0)
    models = []
    for at in range(24):
        progress.go_on(float(at))
        models.append(fitted.chooser().snapshot.model)
        progress.remember(
            decided(float(at), "b", (at + 0.5, 1.0)) if at < 12 else decided(float(at), "a", (at + 0.5, 1.0))
        )
    assert [at for at in range(1, 24) if models[at] != models[at - 1]] == [10, 16, 22]
    assert models[9] is None


def test_a_reward_that_comes_after_the_window_was_over_is_not_learned() -> None:
    """A closed decision counts for what was known when it was closed, however late the next block begins."""
    policy = structs.replace(POLICY, reward_window_s=5.0)
    log = OrderedLog(policy, LEARNERS["logistic_thompson"])
    for items in (decided(0.0, "a", (2.0, 1.0)), decided(1.0, "a", (40.0, 1.0))):
        name = structs.replace(items[0].stored.decision, decision_id=str(items[0].stored.decided_at))
        log.remember([structs.replace(items[0], stored=structs.replace(items[0].stored, decision=name))])
    assert [(step.rewards, step.answered) for step in log.ahead(1.5)] == [((0.0,), (False,)), ((0.0,), (False,))]
    assert [(step.rewards, step.answered) for step in log.ahead(3.0)] == [((1.0,), (True,)), ((0.0,), (False,))]
    assert log.closed(4.0) == []
    assert [(step.rewards, step.ends) for step in log.closed(100.0)] == [((1.0,), False), ((0.0,), True)]
    assert log.ahead(100.0) == []


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
