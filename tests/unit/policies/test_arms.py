"""Who decides in a policy's place: the law that is stored is the law that drew, and the policy's own stands beside it."""

from __future__ import annotations

from collections import Counter

import msgspec
import numpy as np
import pytest

from shared.errors import InvalidInput
from shared.policies.arms import check_default, is_plain, served_by, stand_in, who_decides
from shared.policies.choosing import Chooser, without_snapshot
from shared.policies.kinds import CONTEXTUAL_KINDS, KINDS
from shared.vocabulary import Action, Baseline, ServedBy, Snapshot
from tests.unit.policies.histories import CONTEXT, learned
from tests.unit.policies.snapshots import ACTIONS, snapshot
from tests.unit.policies.test_draws import agrees, uniforms

UNIFORM = Chooser(without_snapshot(""))
every_policy = pytest.mark.parametrize(
    "given",
    [snapshot(kind, exploration_floor=0.1) for kind in KINDS]
    + [msgspec.structs.replace(learned(kind, "interactions"), exploration_floor=0.1) for kind in CONTEXTUAL_KINDS],
    ids=[*KINDS, *(f"contextual {kind}" for kind in CONTEXTUAL_KINDS)],
)


@every_policy
def test_a_uniform_baseline_draws_uniformly_and_notes_the_policys_own_law(given: Snapshot) -> None:
    """Over every slate of two: propensities are 1/n and 1/(n-1), scores and own propensities the policy's."""
    own = Chooser(given)
    for first, second in np.random.default_rng(1).random((60, 2)).tolist():
        items, propensities, gains = stand_in(own, UNIFORM, CONTEXT, None, [first, second])
        assert [item.propensity for item in items] == pytest.approx([1 / 5, 1 / 4], abs=1e-12)
        law = own.law(CONTEXT, None)
        for item, mine in zip(items, propensities, strict=True):
            at = law.actions.index(item.action)
            assert (mine, item.score) == (law.propensities[at], law.scores[at])
            law = law.without(at)
        assert all(gain is not None for gain in gains)


@every_policy
def test_the_mean_weight_of_uniform_draws_is_one(given: Snapshot) -> None:
    """Over all actions the policy's own propensities, weighted by how they were drawn, sum to 1."""
    own, weights = Chooser(given), {}
    for draw in (np.arange(200) + 0.5) / 200:
        [item], [mine], _ = stand_in(own, UNIFORM, CONTEXT, None, [float(draw)])
        weights[item.action] = mine / item.propensity
    assert len(weights) == 5
    assert sum(weights.values()) / 5 == pytest.approx(1.0, abs=1e-9)


def test_uniform_draws_are_as_frequent_as_they_say() -> None:
    """100,000 slates of two among three of the policy's actions (chi-square)."""
    own = Chooser(snapshot("ucb1"))
    eligible = [Action("a"), Action("c"), Action("new")]
    pairs: Counter[str] = Counter()
    draws = uniforms(41, 200_000)
    for pair in zip(draws[::2], draws[1::2], strict=True):
        items = stand_in(own, UNIFORM, {}, eligible, pair)[0]
        pairs[" ".join(item.action for item in items)] += 1
    agrees(pairs, {f"{a.id} {b.id}": 1 / 6 for a in eligible for b in eligible if a != b}, 100_000)


def test_another_policy_decides_among_the_policys_actions_by_its_own_law() -> None:
    """With the features that they have here, its floor, and the propensities that it gives."""
    own, other = Chooser(snapshot("thompson")), Chooser(learned("lin_thompson", "interactions"))
    law = other.law(CONTEXT, [Action(action) for action in ACTIONS])
    for draw in uniforms(42, 50):
        [item], [mine], _ = stand_in(own, other, CONTEXT, None, [draw])
        assert (item.action, item.propensity) == (law.actions[law.draw(draw)], law.propensities[law.draw(draw)])
        assert mine == own.propensities()[item.action]


@every_policy
def test_a_default_action_is_certain(given: Snapshot) -> None:
    """Its propensity is 1; the policy's own and its score are what they are."""
    own = Chooser(given)
    law = own.law(CONTEXT, None)
    for at, action in enumerate(law.actions):
        [item], [mine], [gain] = stand_in(own, action, CONTEXT, None, [0.5])
        assert (item.action, item.propensity, item.score) == (action, 1.0, law.scores[at])
        assert mine == law.propensities[at]
        assert gain is not None


def test_a_believed_gain_is_the_policys_mean_less_that_of_what_was_served() -> None:
    """By hand: means of rewards, the mean of all for an action never seen; nothing before any reward."""
    given = snapshot("epsilon_greedy", "one action untried", parameters={"epsilon": 0.0}, exploration_floor=0.0)
    means = [12 / 40, 20 / 55, 3 / 8, 8.5 / 20, 43.5 / 123]
    assert Chooser(given).propensities()["e"] == 1.0  # its prior mean is 0.5
    for at, action in enumerate(ACTIONS):
        [gain] = stand_in(Chooser(given), action, {}, None, [0.5])[2]
        assert gain == pytest.approx(43.5 / 123 - means[at], abs=1e-12)
    assert stand_in(Chooser(snapshot("thompson", "fresh")), "a", {}, None, [0.5])[2] == (None,)


def test_gains_of_a_contextual_policy_come_from_its_model() -> None:
    """The means of this context, weighted by the propensities in this context."""
    own = Chooser(learned("lin_ucb", "interactions"))
    law = own.law(CONTEXT, None)
    means = [score or 0.0 for score in law.scores]
    for at, action in enumerate(law.actions):
        [gain] = stand_in(own, action, CONTEXT, None, [0.5])[2]
        assert gain == pytest.approx(float(np.dot(means, law.propensities)) - means[at], abs=1e-12)


def test_who_decides_depends_on_the_place_alone() -> None:
    """Below the share the baseline; above it the policy, or the caller where the policy is an apprentice."""
    plain = snapshot("thompson")
    assert is_plain(plain)
    shared = msgspec.structs.replace(plain, baseline=Baseline(0.05))
    assert not is_plain(shared)
    assert [who_decides(shared, place) for place in (0.0, 0.0499, 0.05, 0.9)] == ["baseline"] * 2 + ["policy"] * 2
    apprentice = msgspec.structs.replace(shared, mode="apprentice")
    assert not is_plain(apprentice)
    assert [who_decides(apprentice, place) for place in (0.01, 0.05)] == ["baseline", "default_action"]
    assert who_decides(msgspec.structs.replace(plain, mode="apprentice"), 0.0) == "default_action"


def test_a_default_action_is_asked_for_only_where_it_may_be_served() -> None:
    """A uniform baseline needs none; an apprentice, and a baseline of default actions, need an eligible one, alone."""
    plain = snapshot("thompson")
    for given in (plain, msgspec.structs.replace(plain, baseline=Baseline(0.05))):
        check_default(given, None, None, 3)
    for given in (
        msgspec.structs.replace(plain, mode="apprentice"),
        msgspec.structs.replace(plain, mode="apprentice", baseline=Baseline(0.05)),
        msgspec.structs.replace(plain, baseline=Baseline(0.05, "default_action")),
    ):
        check_default(given, None, "a", 1)
        check_default(given, [Action("x")], "x", 1)
        for eligible, default, count, field in [
            (None, None, 1, "default_action"),
            (None, "x", 1, "default_action"),
            ([Action("x")], "a", 1, "default_action"),
            (None, "a", 2, "count"),
        ]:
            with pytest.raises(InvalidInput) as refused:
                check_default(given, eligible, default, count)
            assert refused.value.field == field


def test_what_is_kept_names_the_other_policy_and_its_snapshot() -> None:
    """A uniform draw and a default action name none."""
    other = Chooser(snapshot("ucb1"))
    assert served_by("baseline", other, (0.5,), (0.1,)) == ServedBy("baseline", "news", 3, (0.5,), (0.1,))
    assert served_by("baseline", UNIFORM, (0.5,), (None,)) == ServedBy("baseline", None, 0, (0.5,), (None,))
    assert served_by("default_action", "a", (0.5,), (0.1,)) == ServedBy("default_action", None, 0, (0.5,), (0.1,))
