"""The estimators against analytic answers, and the invariants that each must keep."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import InvalidInput
from shared.evaluation.effective_sample_size import effective_sample_size
from shared.evaluation.importance_weights import importance_weights
from shared.evaluation.independent_difference import independent_difference
from shared.evaluation.paired_difference import paired_difference
from shared.evaluation.self_normalised import self_normalised, self_normalised_terms
from shared.evaluation.value_estimate import Difference, ValueEstimate
from tests.unit.evaluation.weighted_logs import log_with_weights

Floats = npt.NDArray[np.float64]


def snipw(rewards: Floats, weights: Floats) -> ValueEstimate:
    """Return the self-normalised estimate from rows of these weights."""
    return self_normalised(log_with_weights(rewards, weights))


def terms_of(rewards: Floats, weights: Floats) -> Floats:
    """Return the terms of the self-normalised estimate from rows of these weights."""
    return self_normalised_terms(log_with_weights(rewards, weights))


@st.composite
def logs(draw: st.DrawFn) -> tuple[Floats, Floats]:
    """Rewards and weights of one log."""
    rows = draw(st.integers(2, 40))
    rewards = draw(st.lists(st.floats(-5, 5), min_size=rows, max_size=rows))
    weights = draw(st.lists(st.floats(0.01, 50), min_size=rows, max_size=rows))
    return np.array(rewards), np.array(weights)


@given(logs())
def test_value_is_a_weighted_mean(log: tuple[Floats, Floats]) -> None:
    """The estimate lies within the range of the rewards."""
    rewards, weights = log
    estimate = snipw(rewards, weights)
    assert rewards.min() - 1e-9 <= estimate.value <= rewards.max() + 1e-9
    assert 1.0 - 1e-9 <= estimate.effective_sample_size <= len(rewards) + 1e-9


@given(logs(), st.floats(0.001, 1000))
def test_scale_of_weights_does_not_matter(log: tuple[Floats, Floats], factor: float) -> None:
    """Self-normalising means that a common factor of all weights cancels."""
    rewards, weights = log
    one, other = snipw(rewards, weights), snipw(rewards, factor * weights)
    assert one.value == pytest.approx(other.value, abs=1e-9)
    assert (one.standard_error or 0.0) == pytest.approx(other.standard_error or 0.0, abs=1e-9)
    assert one.effective_sample_size == pytest.approx(other.effective_sample_size)


@given(logs())
def test_order_of_rows_does_not_matter(log: tuple[Floats, Floats]) -> None:
    """Rows are a set."""
    rewards, weights = log
    order = np.random.default_rng(len(rewards)).permutation(len(rewards))
    one, other = snipw(rewards, weights), snipw(rewards[order], weights[order])
    assert one.value == pytest.approx(other.value, abs=1e-9)
    assert (one.standard_error or 0.0) == pytest.approx(other.standard_error or 0.0, abs=1e-9)


@given(logs())
def test_inputs_stay_as_they_are(log: tuple[Floats, Floats]) -> None:
    """No estimator writes into what it was given."""
    rewards, weights = log
    kept = rewards.copy(), weights.copy()
    snipw(rewards, weights)
    paired_difference(terms_of(rewards, weights), terms_of(rewards, weights[::-1]))
    assert np.array_equal(rewards, kept[0])
    assert np.array_equal(weights, kept[1])


@given(logs())
def test_paired_difference_is_the_difference_and_changes_sign(log: tuple[Floats, Floats]) -> None:
    """D equals the difference of two estimates; swapping the policies negates it and keeps its error."""
    rewards, weights = log
    others = weights[::-1] + 1.0
    difference, swapped = (
        paired_difference(terms_of(rewards, weights), terms_of(rewards, others)),
        paired_difference(terms_of(rewards, others), terms_of(rewards, weights)),
    )
    expected = snipw(rewards, weights).value - snipw(rewards, others).value
    assert difference.value == pytest.approx(expected, abs=1e-9)
    assert difference.value == pytest.approx(-swapped.value, abs=1e-9)
    assert difference.standard_error == pytest.approx(swapped.standard_error)


def test_equal_weights_give_the_mean_and_its_error() -> None:
    """With equal weights everything is the textbook's sample mean."""
    rewards = np.array([1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0])
    estimate = snipw(rewards, np.full(8, 3.0))
    assert estimate.value == pytest.approx(0.25)
    assert estimate.standard_error == pytest.approx(rewards.std(ddof=1) / math.sqrt(8))
    assert estimate.effective_sample_size == pytest.approx(8.0)
    assert estimate.effective_rewards == pytest.approx(2.0)


def test_effective_rewards_sees_a_click_that_outweighs_the_others() -> None:
    """Four clicks of which one has nearly all the weight count as about one."""
    estimate = snipw(np.ones(4), np.array([1000.0, 1.0, 1.0, 1.0]))
    assert estimate.effective_rewards == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("rewards", [[0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [1.0]])
def test_equal_rewards_give_no_interval(rewards: list[float]) -> None:
    """No click at all is no proof of a rate of exactly zero: there is no standard error, not one of zero."""
    estimate = snipw(np.array(rewards), np.arange(1.0, len(rewards) + 1.0))
    assert estimate.standard_error is None
    assert estimate.interval() is None


def test_weights_correct_for_the_behaviour_policy() -> None:
    """From a log of a skewed policy, the value of the uniform policy is found within four errors."""
    random = np.random.default_rng(11)
    rates, behaviour = np.array([0.1, 0.5, 0.3]), np.array([0.7, 0.1, 0.2])
    chosen = random.choice(3, size=20_000, p=behaviour)
    rewards = (random.random(20_000) < rates[chosen]).astype(np.float64)
    weights = importance_weights(np.full(20_000, 1 / 3), behaviour[chosen])
    estimate = snipw(rewards, weights)
    assert estimate.standard_error is not None
    assert abs(estimate.value - rates.mean()) < 4 * estimate.standard_error
    assert abs(float(rewards.mean()) - rates.mean()) > 10 * estimate.standard_error


def test_interval_covers_at_its_nominal_rate() -> None:
    """Over 600 logs of 800 rows the 95 % interval holds the truth in 95 % of them (three errors)."""
    random = np.random.default_rng(5)
    rates, behaviour, target = np.array([0.2, 0.4]), np.array([0.8, 0.2]), np.array([0.3, 0.7])
    truth = float(rates @ target)
    covered = 0
    for _ in range(600):
        chosen = random.choice(2, size=800, p=behaviour)
        rewards = (random.random(800) < rates[chosen]).astype(np.float64)
        interval = snipw(rewards, importance_weights(target[chosen], behaviour[chosen])).interval()
        assert interval is not None
        covered += interval[0] <= truth <= interval[1]
    assert covered / 600 == pytest.approx(0.95, abs=3 * math.sqrt(0.95 * 0.05 / 600))


def test_paired_error_is_smaller_than_that_of_independent_logs() -> None:
    """Two similar policies on the same rows share their luck, which the paired difference knows."""
    random = np.random.default_rng(3)
    rewards = (random.random(2_000) < 0.05).astype(np.float64)
    weights = np.ones(2_000)
    similar = weights + 0.1 * random.random(2_000)
    paired = paired_difference(terms_of(rewards, weights), terms_of(rewards, similar))
    independent = independent_difference(snipw(rewards, weights), snipw(rewards, similar))
    assert paired.standard_error is not None
    assert independent.standard_error is not None
    assert paired.standard_error < 0.1 * independent.standard_error


def test_the_same_policy_twice_differs_by_nothing() -> None:
    """Weights that are proportional belong to one policy: no rounding error passes for a difference."""
    rewards = np.array([0.1, 0.7, 0.3])
    weights = np.array([0.1, 0.2, 0.3])
    difference = paired_difference(terms_of(rewards, weights), terms_of(rewards, 7.0 * weights))
    assert difference == Difference(value=0.0, standard_error=None)
    assert not difference.is_told_apart()


def test_difference_to_an_estimate_without_error_has_none() -> None:
    """What is unknown of one side is unknown of the difference."""
    known, unknown = ValueEstimate(0.2, 0.1, 5.0, 2.0, 5), ValueEstimate(0.0, None, 5.0, 0.0, 5)
    assert independent_difference(known, unknown).interval() is None


def test_effective_sample_size_survives_extreme_weights() -> None:
    """Weights whose squares leave the float range still count."""
    assert effective_sample_size(np.array([1e200, 1e200])) == pytest.approx(2.0)
    assert effective_sample_size(np.array([1e-200, 1e-200])) == pytest.approx(2.0)
    assert effective_sample_size(np.zeros(3)) == 0.0


@pytest.mark.parametrize(
    ("target", "behaviour"),
    [
        ([0.5], [0.0]),
        ([0.5], [float("nan")]),
        ([0.5], [1.5]),
        ([1.5], [0.5]),
        ([float("nan")], [0.5]),
        ([0.5], [0.5, 0.5]),
    ],
)
def test_weights_that_do_not_exist_are_refused(target: list[float], behaviour: list[float]) -> None:
    """A propensity of zero, an unknown one and one beyond 1 have no weight."""
    with pytest.raises(InvalidInput):
        importance_weights(np.array(target), np.array(behaviour))


@pytest.mark.parametrize(("rewards", "weights"), [([1.0], [0.0]), ([float("nan")], [1.0]), ([1.0, 2.0], [1.0])])
def test_rows_without_a_value_are_refused(rewards: list[float], weights: list[float]) -> None:
    """Weights must not all be zero; rewards finite; both equally many."""
    with pytest.raises(InvalidInput):
        snipw(np.array(rewards), np.array(weights))
