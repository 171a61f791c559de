"""What holds for every kind of policy, whatever its snapshot says."""

from __future__ import annotations

from itertools import accumulate, permutations
from math import inf, nextafter
from types import MappingProxyType
from typing import cast

import msgspec
import numpy as np
import pytest

from shared.errors import InvalidInput
from shared.policies.choosing import Chooser, choose
from shared.policies.kinds import KINDS
from shared.storage.redis_snapshots import decode_snapshot, encode_snapshot
from shared.vocabulary import Context, Snapshot
from tests.unit.policies.histories import CONTEXT
from tests.unit.policies.snapshots import ACTIONS, STRANGERS, every_snapshot, snapshot

everything = pytest.mark.parametrize("given", every_snapshot())

DRAWS = tuple(np.random.default_rng(17).random(40).tolist())


def eligible_sets(given: Snapshot) -> list[tuple[str, ...]]:
    """Sets of actions to choose among: the snapshot's own, a part, one, some it does not know, none but those."""
    own = tuple(action.id for action in given.actions)
    known = tuple(estimate.action for estimate in given.estimates)
    sets = [own, own[1:4], own[-1:], known, (*known, *STRANGERS), (STRANGERS[0], *known[:2]), STRANGERS]
    return [actions for actions in sets if actions]


@everything
def test_propensities_are_a_law_above_the_floor(given: Snapshot) -> None:
    """Among any eligible actions propensities sum to 1 and none falls below the floor's share."""
    chooser = Chooser(given)
    for actions in eligible_sets(given):
        law = chooser.propensities(actions, CONTEXT)
        assert list(law) == list(actions)
        assert sum(law.values()) == pytest.approx(1.0, abs=1e-12)
        least = given.exploration_floor / len(actions)
        assert all(least <= share <= 1.0 + 1e-12 for share in law.values()), law


@everything
def test_the_floor_is_mixed_in_uniformly(given: Snapshot) -> None:
    """A propensity is (1 - f) times that of the same snapshot without a floor, plus f / n."""
    bare = Chooser(snapshot_without_floor(given))
    floor = given.exploration_floor
    for actions in eligible_sets(given):
        expected = {
            a: (1 - floor) * share + floor / len(actions) for a, share in bare.propensities(actions, CONTEXT).items()
        }
        assert Chooser(given).propensities(actions, CONTEXT) == pytest.approx(expected, abs=1e-12)


def snapshot_without_floor(given: Snapshot) -> Snapshot:
    """Return the same snapshot with a floor of 0."""
    return msgspec.structs.replace(given, exploration_floor=0.0)


@everything
def test_a_choice_has_the_propensity_that_the_law_states(given: Snapshot) -> None:
    """An item carries the propensity of its action, which is above 0, and the algorithm's score."""
    chooser = Chooser(given)
    for actions in eligible_sets(given):
        law = chooser.propensities(actions, CONTEXT)
        scores = dict(zip(actions, chooser.law(CONTEXT, actions).scores, strict=True))
        for draw in DRAWS:
            (item,) = chooser.choose(CONTEXT, actions, (draw,))
            assert item.propensity == law[item.action]
            assert 0.0 < item.propensity <= 1.0 + 1e-12
            assert item.score == scores[item.action]


@everything
def test_no_draw_reaches_an_action_of_probability_0(given: Snapshot) -> None:
    """At 0, just below 1 and on either side of every step of the distribution function, the choice is possible."""
    chooser = Chooser(given)
    for actions in eligible_sets(given):
        law = chooser.propensities(actions, CONTEXT)
        steps = list(accumulate(law.values()))
        edges = {nextafter(step, to) for step in steps for to in (-inf, inf)} | set(steps)
        for draw in {0.0, nextafter(1.0, 0.0), *(edge for edge in edges if 0.0 <= edge < 1.0)}:
            (item,) = chooser.choose(CONTEXT, actions, (draw,))
            assert law[item.action] > 0.0


@everything
def test_the_choice_inverts_the_distribution_function(given: Snapshot) -> None:
    """From one end of each action's share of [0, 1) to the other stands that action, and last of all the last one."""
    chooser = Chooser(given)
    for actions in eligible_sets(given):
        below = 0.0
        for action, share in chooser.propensities(actions, CONTEXT).items():
            if share > 1e-9:
                for draw in (below + 1e-12, below + share / 2, below + share - 1e-12):
                    assert chooser.choose(CONTEXT, actions, (draw,))[0].action == action
                last = action
            below += share
        assert chooser.choose(CONTEXT, actions, (nextafter(1.0, 0.0),))[0].action == last


@everything
def test_the_same_number_repeats_the_choice(given: Snapshot) -> None:
    """A chooser that has decided much and a fresh one agree on every slate, to the bit."""
    used = Chooser(given)
    for actions in eligible_sets(given):
        for at in range(0, len(DRAWS), 4):
            slate = used.choose(CONTEXT, actions, DRAWS[at : at + 4])
            assert slate == used.choose(CONTEXT, actions, DRAWS[at : at + 4])
            assert slate == choose(given, CONTEXT, actions, DRAWS[at : at + 4])


@everything
def test_inputs_stay_as_they_are(given: Snapshot) -> None:
    """Choosing writes into neither snapshot, nor context, nor actions, nor draws."""
    before = encode_snapshot(given)
    context: Context = {"age": 3.0, "tags": ["x"]}
    actions, draws = [*ACTIONS, *STRANGERS], list(DRAWS[:5])
    frozen = cast("Context", MappingProxyType(context))
    choose(given, frozen, actions, draws)
    assert context == {"age": 3.0, "tags": ["x"]}
    assert actions == [*ACTIONS, *STRANGERS]
    assert draws == list(DRAWS[:5])
    assert encode_snapshot(given) == before


@everything
def test_an_encoded_snapshot_decides_alike(given: Snapshot) -> None:
    """What Redis and PostgreSQL hold decodes to an equal snapshot with the same propensities, to the bit."""
    decoded = decode_snapshot(encode_snapshot(given))
    assert decoded == given
    assert encode_snapshot(decoded) == encode_snapshot(given)
    for actions in eligible_sets(given):
        assert Chooser(decoded).propensities(actions, CONTEXT) == Chooser(given).propensities(actions, CONTEXT)


@everything
def test_the_order_of_actions_does_not_matter(given: Snapshot) -> None:
    """However the eligible actions are listed, each has the same propensity."""
    chooser = Chooser(given)
    for actions in eligible_sets(given):
        law = chooser.propensities(actions, CONTEXT)
        for order in [actions[::-1], *list(permutations(actions))[1:24:5]]:
            assert chooser.propensities(order, CONTEXT) == pytest.approx(law, abs=1e-12)


@everything
def test_a_slate_repeats_nothing_and_its_propensities_are_conditional(given: Snapshot) -> None:
    """Each item's propensity is its law's among the actions that the items above it left; its score is its own."""
    for actions in eligible_sets(given):
        left = list(actions)
        for item in choose(given, CONTEXT, actions, DRAWS[: len(actions)]):
            law = Chooser(given).propensities(left, CONTEXT)
            assert item.propensity == pytest.approx(law[item.action], abs=1e-12)
            assert item.score == pytest.approx(Chooser(given).law(CONTEXT, [item.action]).scores[0], abs=1e-12)
            left.remove(item.action)
        assert left == []


@everything
def test_more_draws_than_actions_give_every_action_once(given: Snapshot) -> None:
    """A slate is as long as there are actions, no longer."""
    for actions in eligible_sets(given):
        items = choose(given, CONTEXT, actions, DRAWS)
        assert sorted(item.action for item in items) == sorted(actions)
        assert items[-1].propensity == pytest.approx(1.0, abs=1e-12)


@everything
def test_a_slate_begins_as_the_shorter_one_does(given: Snapshot) -> None:
    """Asking for more items does not change those above."""
    for actions in eligible_sets(given):
        assert choose(given, CONTEXT, actions, DRAWS[:3])[:1] == choose(given, CONTEXT, actions, DRAWS[:1])


@everything
def test_no_action_at_all_is_refused(given: Snapshot) -> None:
    """An empty set names the field; so do the snapshot's own actions where it has none."""
    with pytest.raises(InvalidInput) as refused:
        choose(given, CONTEXT, (), DRAWS[:1])
    assert refused.value.field == "actions"
    if not given.actions:
        with pytest.raises(InvalidInput):
            choose(given, CONTEXT, None, DRAWS[:1])


@everything
def test_no_actions_in_the_request_means_the_snapshots_own(given: Snapshot) -> None:
    """Without a list the snapshot's actions are eligible, and not those that others brought."""
    if given.actions:
        own = tuple(action.id for action in given.actions)
        assert choose(given, CONTEXT, None, DRAWS[:3]) == choose(given, CONTEXT, own, DRAWS[:3])
        assert tuple(Chooser(given).propensities(None, CONTEXT)) == own


@pytest.mark.parametrize("kind", KINDS)
def test_no_draw_chooses_nothing(kind: str) -> None:
    """A slate of no items is empty."""
    assert choose(snapshot(kind), {}, None, ()) == ()


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_has_a_default_inside_its_range(kind: str) -> None:
    """A kind states for each parameter a meaning, a closed range, and a default within it or a derived one."""
    for name, known in KINDS[kind].PARAMETERS.items():
        assert known.meaning, name
        assert known.low < known.high
        assert known.default is None or known.low <= known.default <= known.high


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", ["low", "high"])
def test_every_parameter_works_at_the_ends_of_its_range(kind: str, end: str) -> None:
    """What `control` admits, a policy can decide with."""
    for name, known in KINDS[kind].PARAMETERS.items():
        for reward_range in ((0.0, 1.0), None):
            if reward_range is None and KINDS[kind].NEEDS_RANGE:
                continue
            given = snapshot(kind, parameters={name: getattr(known, end)}, reward_range=reward_range)
            law = Chooser(given).propensities([*ACTIONS, *STRANGERS], CONTEXT)
            assert sum(law.values()) == pytest.approx(1.0, abs=1e-12), name
