"""Random rectified features: what they are, that learning again repeats them, and that the data decide whether they are used."""

from __future__ import annotations

from math import inf

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from shared.policies.expansion import ENOUGH, Expansion, Input, expanded, units_of
from shared.policies.linear_fit import decode_model
from shared.policies.linear_learning import CLOCKS_APART_S
from shared.policies.linear_model import LinearPredictor
from shared.policies.posterior import (
    Outcome,
    Posterior,
    decode_posterior,
    encode_posterior,
    learn,
    merge,
    nothing_learned,
    snapshot_of,
)
from shared.vocabulary import Action, Context, FeatureSpec, PolicySpec

SPEC = PolicySpec("bent", 1, "rand_ucb", actions=(Action("a"), Action("b")), features=FeatureSpec(expansion=24))
STEP_S = 10.0


def decisions(count: int, bend: float, seed: int = 0, first: int = 0) -> list[Outcome]:
    """Return decisions on two numbers and a category, at random; `bend`: how much the product of the numbers adds."""
    random = np.random.default_rng(seed)
    made = []
    for at in range(first, first + count):
        x, y = random.normal(size=2).tolist()
        action = "ab"[int(random.integers(2))]
        context: Context = {"x": 3.0 + 2.0 * x, "y": 100.0 * y, "place": "home" if random.random() < 0.5 else "away"}
        if at % 9 == 8:
            del context["y"]
        sign = 1.0 if action == "a" else -1.0
        reward = 0.5 + 0.1 * x + bend * sign * float(np.tanh(x * y)) + 0.1 * float(random.normal())
        made.append(Outcome(at * STEP_S, action, True, None, reward, context))
    return made


def learned(posterior: Posterior, batches: list[list[Outcome]]) -> Posterior:
    """Return what is known after the batches, each learned when its last decision had been made."""
    for batch in batches:
        posterior = learn(posterior, SPEC, batch, batch[-1].decided_at)
    return posterior


def gram(posterior: Posterior) -> NDArray[np.float64]:
    """Return the grams by action, in the order of their names."""
    assert posterior.linear is not None
    sums = posterior.linear.settled
    return sums.gram[[sums.actions.index(action) for action in sorted(sums.actions)]]


def test_units_are_centred_for_normal_inputs() -> None:
    """Over independent standard Normal inputs each column has mean 0, and none is constant."""
    inputs = tuple(Input(place, 5.0, 2.0) for place in range(6))
    values = 5.0 + 2.0 * np.random.default_rng(1).normal(size=(200_000, 6))
    columns = expanded(Expansion(-inf, 40, inputs), values, None)
    assert np.abs(columns.mean(axis=0)).max() < 0.01
    assert columns.std(axis=0).min() > 0.3


def test_units_look_at_two_different_inputs_and_repeat() -> None:
    """Pairs are of different inputs; with one input there is nothing else to look at; a second call gives the same."""
    units = units_of(5, 200)
    assert (units.one != units.other).all()
    assert {*units.one.tolist()} == {*range(5)}
    units_of.cache_clear()
    assert units_of(5, 200).bias.tolist() == units.bias.tolist()
    assert (units_of(1, 10).signs[1] == 0.0).all()


def test_a_missing_input_stands_at_its_mean() -> None:
    """Whatever value stands in the column of a number that is not given, the unit sees 0."""
    expansion = Expansion(-inf, 16, (Input(0, 4.0, 2.0), Input(1, 0.0, 1.0)))
    given = np.array([[0.0, 1.0]])
    missing = expanded(expansion, np.array([[77.0, 0.5]]), given)
    assert missing.tolist() == expanded(expansion, np.array([[4.0, 0.5]]), None).tolist()


def test_learning_again_repeats_the_sums_of_one_decision_at_a_time() -> None:
    """Expansions begin once enough is known; a refit, in one batch and in another order, gives the same sums to 1e-9."""
    history = decisions(120, 0.3)
    running = learned(Posterior(), [[each] for each in history])
    assert running.linear is not None
    expansion = running.linear.encoding.expansion
    assert expansion is not None
    assert expansion.since == (ENOUGH - 1) * STEP_S + CLOCKS_APART_S
    again = learn(nothing_learned(SPEC, running), SPEC, history[::-1], history[-1].decided_at)
    np.testing.assert_allclose(gram(again), gram(running), rtol=1e-9, atol=1e-9)
    one, other = [learn(nothing_learned(SPEC, running), SPEC, part, 0.0) for part in (history[:50], history[50:])]
    np.testing.assert_allclose(gram(merge(one, other, SPEC)), gram(running), rtol=1e-9, atol=1e-9)
    stored = decode_posterior(encode_posterior(running))
    assert stored.linear is not None
    assert stored.linear.encoding == running.linear.encoding


def test_a_reward_that_comes_late_moves_the_columns_its_decision_had() -> None:
    """Decisions from before the expansion have zeros there, when they are shown and when they are rewarded."""
    history = decisions(80, 0.3)
    at_once = learned(Posterior(), [history[:40], history[40:]])
    silent = [msgspec.structs.replace(each, after=None) for each in history]
    late = learned(Posterior(), [silent[:40], silent[40:]])
    rewards = [msgspec.structs.replace(each, shown=False) for each in history]
    late = learn(late, SPEC, rewards, history[-1].decided_at)
    np.testing.assert_allclose(gram(late), gram(at_once), rtol=1e-9, atol=1e-9)
    assert at_once.linear is not None
    assert late.linear is not None
    np.testing.assert_allclose(late.linear.settled.response, at_once.linear.settled.response, rtol=1e-9, atol=1e-9)


def test_features_that_come_later_leave_the_columns_alone() -> None:
    """A number that appears afterwards gets columns of its own; the units keep their inputs, and a refit repeats it."""
    first, later = decisions(60, 0.3), decisions(60, 0.3, seed=4, first=60)
    later = [msgspec.structs.replace(each, context={**each.context, "z": 1.0 + at}) for at, each in enumerate(later)]
    running = learned(Posterior(), [first[:40], first[40:], later[:30], later[30:]])
    again = learn(nothing_learned(SPEC, running), SPEC, [*later, *first], later[-1].decided_at)
    np.testing.assert_allclose(gram(again), gram(running), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("bend", "used"), [(0.0, False), (0.3, True)])
def test_the_data_decide_whether_it_is_used(bend: float, used: bool) -> None:
    """Where rewards are linear the columns are left out of the snapshot; where they bend, they stay, and predict better."""
    history = decisions(600, bend)
    posterior = learned(Posterior(), [history[:100], history[100:]])
    snapshot = snapshot_of(posterior, SPEC, 1)
    assert snapshot.model is not None
    model = decode_model(snapshot.model)
    assert (model.encoding.expansion is not None) is used
    assert model.coefficients.shape[1] == model.encoding.own_width
    if used:
        straight_spec = msgspec.structs.replace(SPEC, features=FeatureSpec())
        straight = snapshot_of(learn(Posterior(), straight_spec, history, history[-1].decided_at), straight_spec, 1)
        assert straight.model is not None
        assert model.noise < 0.6 * decode_model(straight.model).noise


def test_contributions_name_the_columns_and_sum_to_the_mean() -> None:
    """What each feature adds, and what the expansion adds, together are the mean."""
    posterior = learned(Posterior(), [decisions(600, 0.3)])
    predictor = LinearPredictor(snapshot_of(posterior, SPEC, 1))
    context: Context = {"x": 4.0, "y": -80.0, "place": "home"}
    named = predictor.contributions(context, "a")
    assert sum(named.values()) == pytest.approx(predictor.predict(context, ["a"]).mean[0], abs=1e-9)
    assert named["(expansion)"] != 0.0
