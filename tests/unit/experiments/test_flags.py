"""Flags: the first rule that takes a unit decides, and experiments on the way are told."""

from __future__ import annotations

from typing import Any

from shared.experiments.assigning import Evaluation
from shared.experiments.experiment import ExperimentSpec, Filter
from shared.experiments.flags import FlagSpec, Rule, RulePrerequisite
from shared.experiments.hashing import place
from tests.unit.experiments.catalogues import USERS, catalogue, experiment, pseudonym


def evaluate(rules: tuple[Rule, ...], *experiments: ExperimentSpec, user: str = "u", **attributes: Any) -> Evaluation:
    """Return what a user gets of the flag `f` with these rules, whose default value is 0."""
    of = catalogue(FlagSpec("f", 1, 0, rules), *experiments)
    assert of.broken == {}
    return of.evaluate("f", {"user_id": user} | attributes, pseudonym)


def test_the_first_rule_that_takes_a_unit_decides() -> None:
    """Its variant is its id, or its number."""
    rules = (
        Rule(value=1, condition={"a": 1}),
        Rule(id="two", value=2, condition={"a": 2}),
        Rule(value=3, condition={"a": {"$gt": 0}}),
    )
    found = [evaluate(rules, a=a) for a in (1, 2, 3, 0)]
    assert [(each.value, each.variant, each.source, each.rule) for each in found] == [
        (1, "rule-1", "value", None),
        (2, "two", "value", "two"),
        (3, "rule-3", "value", None),
        (0, "default", "default", None),
    ]


def test_an_unknown_flag_gives_nothing() -> None:
    """Null, and that it is unknown."""
    assert catalogue().evaluate("f", {}, pseudonym) == Evaluation("f", None, "default", "unknown")


def test_a_rule_may_give_null_or_nothing() -> None:
    """Null is a value; a rule without a value and without an experiment is none."""
    assert evaluate((Rule(value=None),)).source == "value"
    assert evaluate((Rule(),)).source == "default"


def test_a_rollout_grows_without_moving_anybody() -> None:
    """Whoever has it at 20 % has it at 60 %; shares are as asked for; without the attribute nobody has it."""
    rules = {share: (Rule(value=1, coverage=share),) for share in (0.0, 0.2, 0.6, 1.0)}
    have = {share: {user for user in USERS if evaluate(rule, user=user).value == 1} for share, rule in rules.items()}
    assert have[0.0] < have[0.2] < have[0.6] < have[1.0] == set(USERS)
    assert len(USERS) * 0.56 < len(have[0.6]) < len(USERS) * 0.64
    assert evaluate(rules[0.6], user="").value == 0


def test_a_rollouts_edge_is_in_it() -> None:
    """As in GrowthBook: a place that is the share itself has the value; a share of 0 has nobody, not even who stands at 0."""
    by_place = {place("f", str(number), 2): str(number) for number in range(60_000)}
    assert evaluate((Rule(value=1, coverage=0.25),), user=by_place[0.25]).value == 1
    assert evaluate((Rule(value=1, coverage=0.25),), user=by_place[0.2501]).value == 0
    assert evaluate((Rule(value=1, coverage=0.0),), user=by_place[0.0]).value == 0


def test_a_range_and_a_seed_pick_other_units() -> None:
    """Two ranges of one seed have nobody in common; another seed mixes them."""
    low = {user for user in USERS if evaluate((Rule(value=1, range=(0.0, 0.5)),), user=user).value}
    high = {user for user in USERS if evaluate((Rule(value=1, range=(0.5, 1.0)),), user=user).value}
    seeded = {user for user in USERS if evaluate((Rule(value=1, range=(0.0, 0.5), seed="s"),), user=user).value}
    assert (low & high, low | high) == (set(), set(USERS))
    assert len(USERS) * 0.2 < len(low & seeded) < len(USERS) * 0.3


def test_a_fallback_attribute_stands_in() -> None:
    """For whoever is not known yet."""
    rule = Rule(value=1, coverage=1.0, fallback_attribute="device")
    assert evaluate((rule,), user="", device="d").value == 1


def test_filters_keep_units_out_of_a_rule() -> None:
    """All of them must let a unit in."""
    rule = Rule(value=1, filters=(Filter("s", ((0.0, 0.5),)), Filter("t", ((0.0, 0.5),), hash_version=1)))
    have = [user for user in USERS if evaluate((rule,), user=user).value == 1]
    assert len(USERS) * 0.2 < len(have) < len(USERS) * 0.3


def test_an_experiment_in_a_rule() -> None:
    """Its variation's value and key; whoever is not in it goes on to the next rule; what was looked at is told."""
    rules = (Rule(id="trial", experiment="e"), Rule(value=9))
    found = {user: evaluate(rules, experiment("e", coverage=0.5), user=user) for user in USERS[:300]}
    assert {(each.value, each.variant, each.source, each.rule) for each in found.values()} == {
        (1, "a", "experiment", "trial"),
        (2, "b", "experiment", "trial"),
        (9, "rule-2", "value", None),
    }
    assert all(each.assignments[0].in_experiment is (each.source == "experiment") for each in found.values())


def test_an_experiments_value_may_be_the_next_rules() -> None:
    """Units of a variation that passes through take part, and the next rule decides."""
    rules = (Rule(experiment="h", pass_through=("b",)), Rule(experiment="e"))
    for user in USERS[:200]:
        found = evaluate(rules, experiment("h", seed="1"), experiment("e", seed="2"), user=user)
        assert [each.experiment for each in found.assignments] == (
            ["h"] if found.assignments[0].variation == "a" else ["h", "e"]
        )
        assert all(each.in_experiment for each in found.assignments)


def test_a_gate_closes_the_whole_flag() -> None:
    """Without being one, a prerequisite skips its rule alone."""
    off = experiment("p", coverage=0.0)
    unmet = RulePrerequisite("p", {"value": 2})
    assert evaluate((Rule(value=1, prerequisites=(unmet,)), Rule(value=2)), off).value == 2
    gate = RulePrerequisite("p", {"value": 2}, gate=True)
    found = evaluate((Rule(prerequisites=(gate,)), Rule(value=2)), off)
    assert (found.value, found.source, found.variant) == (None, "prerequisite", "default")


def test_what_a_prerequisite_looked_at_is_no_exposure() -> None:
    """The unit was not shown it."""
    met = RulePrerequisite("p", {"value": {"$in": [1, 2]}})
    assert evaluate((Rule(value=1, prerequisites=(met,)),), experiment("p")).assignments == ()


def test_an_experiment_is_a_flag_too() -> None:
    """Asked for by its key: its variation, or its default variation's value and key."""
    of = catalogue(experiment("e", coverage=0.5, default="b"))
    found = {of.evaluate("e", {"user_id": user}, pseudonym)[1:4] for user in USERS[:300]}
    assert found == {(1, "a", "experiment"), (2, "b", "experiment"), (2, "b", "default")}
