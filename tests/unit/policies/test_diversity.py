"""Diverse slates: what likeness is, that the law of every item is the policy's own over moved evidence, and that draws match it."""

from __future__ import annotations

from collections import Counter
from itertools import permutations

import msgspec
import numpy as np
import pytest

from shared.policies.choosing import Chooser, choose
from shared.policies.diversity import Likeness
from shared.policies.kinds import CONTEXTUAL_KINDS, KINDS, SEQUENTIAL_KINDS
from shared.vocabulary import Action, Context, Diversity, Snapshot
from tests.unit.policies.episodes import taught
from tests.unit.policies.histories import ACTIONS, CONTEXT, learned
from tests.unit.policies.slate_draws import pairs_of
from tests.unit.policies.snapshots import snapshot
from tests.unit.policies.test_draws import N_DRAWS, agrees, uniforms

WEIGHT = 0.3
IDS = [action.id for action in ACTIONS]


def diverse(given: Snapshot) -> Snapshot:
    """Return a snapshot over actions with features, whose slates are diverse."""
    return msgspec.structs.replace(given, actions=ACTIONS, exploration_floor=0.1, diversity=Diversity(WEIGHT))


every_kind = pytest.mark.parametrize(
    "given",
    [
        *[pytest.param(diverse(snapshot(kind, "with data")), id=kind) for kind in KINDS],
        *[pytest.param(diverse(learned(kind, "interactions")), id=f"contextual {kind}") for kind in CONTEXTUAL_KINDS],
        *[pytest.param(diverse(taught(kind, "many sessions")), id=f"sequential {kind}") for kind in SEQUENTIAL_KINDS],
        *[pytest.param(diverse(taught(kind, "nothing learned")), id=f"untaught {kind}") for kind in SEQUENTIAL_KINDS],
    ],
)


def gower(one: Context, other: Context) -> float:
    """Return the likeness of two actions' features, feature by feature."""
    total, features = 0.0, 0
    for name in sorted(one.keys() | other.keys()):
        mine, theirs = (None if each.get(name) == [] else each.get(name) for each in (one, other))
        if mine is None and theirs is None:
            continue
        features += 1
        if isinstance(mine, float) and isinstance(theirs, float):
            if mine == theirs == 0:
                total += 1.0
            elif mine * theirs > 0:
                total += min(abs(mine), abs(theirs)) / max(abs(mine), abs(theirs))
        elif isinstance(mine, str | list) and isinstance(theirs, str | list):
            ours, others = (set(each) if isinstance(each, list) else {each} for each in (mine, theirs))
            total += len(ours & others) / len(ours | others)
    return total / features if features else 0.0


@pytest.mark.parametrize(
    ("one", "other", "likeness"),
    [
        ({"price": 2.0}, {"price": 8.0}, 0.25),
        ({"price": -2.0}, {"price": 8.0}, 0.0),
        ({"price": 0.0}, {"price": 0.0}, 1.0),
        ({"price": 0.0}, {"price": 1.0}, 0.0),
        ({"new": True}, {"new": True}, 1.0),
        ({"new": False}, {"new": True}, 0.0),
        ({"brand": "x"}, {"brand": "x"}, 1.0),
        ({"brand": "x"}, {"brand": "y"}, 0.0),
        ({"tags": ["a", "b", "c"]}, {"tags": ["c", "b", "d"]}, 0.5),
        ({"tags": ["a", "a"]}, {"tags": ["a"]}, 1.0),
        ({"brand": "x", "price": 1.0}, {"brand": "x"}, 0.5),
        ({"brand": "x"}, {"brand": 1.0}, 0.0),
        ({"brand": "x", "no": None, "tags": []}, {"brand": "x"}, 1.0),
        ({}, {}, 0.0),
        ({}, {"brand": "x"}, 0.0),
    ],
)
def test_likeness_is_gowers(one: Context, other: Context, likeness: float) -> None:
    """Feature by feature, and the same from either side."""
    both = Likeness([Action("one", one), Action("other", other)])
    assert both.to(0)[1] == both.to(1)[0] == likeness


def test_likeness_of_many_is_that_of_pairs() -> None:
    """Random actions with numbers, categories and lists, some missing: the arrays agree with the definition."""
    random = np.random.default_rng(1)
    made: list[Context] = []
    for _ in range(40):
        features: Context = {
            "price": float(random.integers(-3, 9)),
            "brand": str(random.choice(["x", "y", "z"])),
            "tags": [str(tag) for tag in random.choice(["a", "b", "c", "d"], random.integers(4))],
            "mixed": "x" if random.integers(2) else 3.0,
        }
        made.append({name: value for name, value in features.items() if random.random() < 0.7})
    actions = [Action(str(at), features) for at, features in enumerate(made)]
    for names in (None, ("price", "tags"), ("brand",), ("no such",)):
        likeness = Likeness(actions, names)
        some = [{key: value for key, value in each.items() if names is None or key in names} for each in made]
        for at, mine in enumerate(some):
            np.testing.assert_allclose(likeness.to(at), [gower(mine, theirs) for theirs in some], atol=1e-12)


@every_kind
def test_the_law_of_each_item_is_the_policys_over_moved_evidence(given: Snapshot) -> None:
    """Whatever stands above, propensities are those of evidence less the weight times the likeness to the nearest above."""
    bare = Chooser(msgspec.structs.replace(given, diversity=None))
    algorithm = bare._contextual or bare._sequential or bare._algorithm
    assert algorithm is not None
    width = 1.0 if given.reward_range is None else given.reward_range[1] - given.reward_range[0]
    columns = bare.law(CONTEXT, None)._evidence.shape[1]
    moves = np.full(columns, WEIGHT * width)
    if given.kind in {"thompson", "top_two_thompson"} and given.reward_range is not None:
        moves /= width  # draws of rewards in a range are scaled
    if given.kind in SEQUENTIAL_KINDS:
        moves[:] = [WEIGHT * width, 0.0][:columns] if columns <= 2 else [0.0, *[WEIGHT] * (columns - 1)]
    for above in permutations(range(len(ACTIONS)), 3):
        law = Chooser(given).law(CONTEXT, None)
        plain = bare.law(CONTEXT, None)
        taken: list[str] = []
        for place in above:
            at = law.actions.index(IDS[place])
            law, plain = law.without(at), plain.without(at)
            taken.append(IDS[place])
            nearest = [max(gower(feature(one), feature(other)) for other in taken) for one in law.actions]
            evidence = plain._evidence - np.outer(nearest, moves)
            shares = 0.9 * algorithm.probabilities(evidence) + 0.1 / len(nearest)
            np.testing.assert_allclose(law.propensities, shares, atol=1e-12)
            assert law.scores == plain.scores


def feature(action: str) -> Context:
    """Return the features of an action of the histories."""
    return ACTIONS[IDS.index(action)].features


@every_kind
def test_a_slate_of_one_is_as_it_was(given: Snapshot) -> None:
    """Before anything stands above, nothing is lost."""
    plain = msgspec.structs.replace(given, diversity=None)
    assert Chooser(given).propensities(None, CONTEXT) == Chooser(plain).propensities(None, CONTEXT)


@every_kind
def test_draws_of_second_items_match_their_conditional_propensities(given: Snapshot) -> None:
    """A million slates of two: every pair is as frequent as its first propensity times the second, given the first."""
    draws = np.array(uniforms(22, 2 * N_DRAWS)).reshape(2, -1)
    pairs, stated = pairs_of(Chooser(given).law(CONTEXT, None), draws)
    agrees(pairs, stated, N_DRAWS)


@every_kind
def test_the_product_of_the_propensities_is_the_slates_law(given: Snapshot) -> None:
    """Over all ordered slates of three the products sum to 1; 20,000 drawn ones are as frequent as they say."""
    chooser = Chooser(given)
    stated: dict[str, float] = {}
    for slate in permutations(IDS, 3):
        law = chooser.law(CONTEXT, None)
        share = 1.0
        for action in slate:
            at = law.actions.index(action)
            share *= law.propensities[at]
            law = law.without(at)
        stated[" ".join(slate)] = share
    assert sum(stated.values()) == pytest.approx(1.0, abs=1e-9)
    counts: Counter[str] = Counter()
    first = chooser.law(CONTEXT, None)
    draws = iter(uniforms(32, 60_000))
    for triple in zip(draws, draws, draws, strict=True):
        law, drawn = first, []
        for draw in triple:
            at = law.draw(draw)
            drawn.append(law.actions[at])
            law = law.without(at)
        counts[" ".join(drawn)] += 1
    frequent = {slate: share for slate, share in stated.items() if share >= 5e-4}  # chi-square wants counts
    rare = 1.0 - sum(frequent.values())
    pooled = Counter({slate: counts[slate] for slate in frequent}) + Counter({"rare": counts.total()})
    pooled["rare"] -= sum(counts[slate] for slate in frequent)
    agrees(pooled, frequent | {"rare": max(rare, 1e-12)}, 20_000)


@every_kind
def test_choosing_reads_the_laws(given: Snapshot) -> None:
    """A slate that is chosen carries the propensities of the laws, for the policy's actions and for the caller's features."""
    chooser = Chooser(given)
    others = [Action("a", {"price": 8.5}), Action("b"), Action("new", {"tags": ["red"]}), ACTIONS[2]]
    for actions in (None, ["b", "d", "e", "new"], list(ACTIONS[::-1]), others):
        for draws in np.random.default_rng(3).random((50, 4)).tolist():
            items = chooser.choose(CONTEXT, actions, draws)
            assert items == choose(given, CONTEXT, actions, draws)
            law = chooser.law(CONTEXT, actions)
            for item in items:
                at = law.actions.index(item.action)
                assert (item.propensity, item.score) == (law.propensities[at], law.scores[at])
                if len(law.actions) > 1:
                    law = law.without(at)


@pytest.mark.parametrize("kind", KINDS)
def test_features_of_the_request_are_the_ones_compared(kind: str) -> None:
    """The same ids with other features make other slates; afterwards the policy's own make their own again."""
    given = snapshot(kind, "equal data", actions=ACTIONS, diversity=Diversity(50.0), exploration_floor=0.0)
    chooser = Chooser(given)
    alike = [Action(name, {"topic": "x" if name in "abc" else "y"}) for name in IDS]
    before = chooser.law({}, None).without(0).propensities
    for first, same in [("a", "bc"), ("d", "e")]:
        law = chooser.law({}, alike).without(IDS.index(first))
        shares = dict(zip(law.actions, law.propensities, strict=True))
        if kind != "epsilon_greedy":  # it chooses anything now and then
            assert all(shares[action] == 0.0 for action in same)
        assert max(shares.values()) > max(shares[action] for action in same)
    assert chooser.law({}, None).without(0).propensities == before


def test_a_larger_weight_makes_slates_more_diverse() -> None:
    """Over 2,000 slates of three among 12 actions of 4 topics the mean number of topics rises, up to three."""
    actions = tuple(Action(f"a{at}", {"topic": f"t{at % 4}"}) for at in range(12))
    estimates = tuple(
        msgspec.structs.replace(snapshot("thompson").estimates[0], action=action.id, weight=50.0, total=20.0 - at % 4)
        for at, action in enumerate(actions)
    )
    means = []
    for weight in (None, 0.05, 0.2, 1.0):
        diversity = None if weight is None else Diversity(weight)
        chooser = Chooser(snapshot("thompson", actions=actions, estimates=estimates, diversity=diversity))
        slates = [chooser.choose({}, None, draws) for draws in np.random.default_rng(5).random((2_000, 3)).tolist()]
        topics = {action.id: action.features["topic"] for action in actions}
        means.append(float(np.mean([len({topics[item.action] for item in slate}) for slate in slates])))
    assert means == sorted(means)
    assert means[-1] > 2.95
    assert means[-1] - means[0] > 0.4
