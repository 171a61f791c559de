"""What a bandit assigned: the scores by hand, every log that could have been, and coverage beside the naive means."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from shared.errors import InvalidInput
from shared.experiments.statistics.adaptive import _scores, adaptive_effect
from tests.performance.judgement import Bandit, adaptive_coverage


def test_scores_by_hand() -> None:
    """Γ with running means: what was seen before the row, of that variation, else of all."""
    rewards, assigned = np.array([1.0, 0.0, 1.0]), np.array([0, 1, 1])
    propensities = np.array([[0.5, 0.5], [0.8, 0.2], [0.25, 0.75]])
    wanted = [
        [0.0 + (1.0 - 0.0) / 0.5, 0.0],
        [1.0, 1.0 + (0.0 - 1.0) / 0.2],
        [1.0, 0.0 + (1.0 - 0.0) / 0.75],
    ]
    assert _scores(rewards, assigned, propensities, None) == pytest.approx(np.array(wanted))


def test_scores_are_unbiased_over_every_log() -> None:
    """Four rows, a greedy bandit with a floor, two rewards: over all 256 logs that could have been, each by its probability, the mean score is the truth."""
    rates, floor = (0.3, 0.6), 0.2
    total = np.zeros((4, 2))
    whole = 0.0
    for assigned, rewards in itertools.product(
        itertools.product((0, 1), repeat=4), itertools.product((0.0, 1.0), repeat=4)
    ):
        probability, laws, won = 1.0, [], [0.0, 0.0]
        for variation, reward in zip(assigned, rewards, strict=True):
            best = int(won[1] > won[0])
            law = [floor / 2, floor / 2]
            law[best] += 1 - floor
            laws.append(law)
            rate = rates[variation]
            probability *= law[variation] * (rate if reward else 1.0 - rate)
            won[variation] += reward - 0.5
        total += probability * _scores(np.array(rewards), np.array(assigned), np.array(laws), None)
        whole += probability
    assert whole == pytest.approx(1.0)
    assert total == pytest.approx(np.tile(rates, (4, 1)))


def test_a_fixed_split_gives_welchs_answer() -> None:
    """With constant propensities and many rows the weights are equal, and nothing is lost to the difference of means."""
    random = np.random.default_rng(3)
    n = 20_000
    assigned = (random.random(n) < 0.3).astype(np.int64)
    rewards = random.normal(size=n) + 0.1 * assigned
    effect = adaptive_effect(rewards, assigned, np.tile([0.7, 0.3], (n, 1)), 0, 1, inference="fixed_horizon")
    parts = [rewards[assigned == each] for each in (0, 1)]
    error = math.sqrt(sum(part.var() / len(part) for part in parts))
    assert effect.difference == pytest.approx(parts[1].mean() - parts[0].mean(), abs=0.1 * error)
    assert effect.low is not None
    assert effect.high is not None
    assert (effect.high - effect.low) / (2 * 1.96 * error) == pytest.approx(1.0, abs=0.02)


def test_other_variations_and_their_order_do_not_matter() -> None:
    """A third variation between the two is left alone, exchanged variations change the sign, and p-values fit the intervals."""
    random = np.random.default_rng(4)
    n = 4_000
    propensities = random.dirichlet([3.0, 3.0, 3.0], size=n)
    propensities = 0.05 + 0.85 * propensities
    assigned = (random.random((n, 1)) > np.cumsum(propensities, axis=1)).sum(axis=1)
    rewards = (random.random(n) < np.array([0.1, 0.5, 0.2])[assigned]).astype(float)
    for inference in ("sequential", "fixed_horizon"):
        effect = adaptive_effect(rewards, assigned, propensities, 0, 2, inference=inference)
        swapped = adaptive_effect(rewards, assigned, propensities, 2, 0, inference=inference)
        assert effect.low == pytest.approx(-swapped.high if swapped.high is not None else None)
        assert effect.p_value is not None
        assert (effect.p_value <= 0.05) is (effect.direction != 0)
        renamed = adaptive_effect(
            rewards, np.array([2, 0, 1])[assigned], propensities[:, [1, 2, 0]], 2, 1, inference=inference
        )
        assert renamed.low == pytest.approx(effect.low)


def test_guesses_make_it_narrower_and_do_not_bias_it() -> None:
    """The true mean of each row as a guess takes its variance away."""
    random = np.random.default_rng(5)
    n = 5_000
    known = random.normal(size=n)
    assigned = (random.random(n) < 0.2).astype(np.int64)
    rewards = known + 0.1 * random.normal(size=n) + 0.05 * assigned
    law = np.tile([0.8, 0.2], (n, 1))
    apart = np.diff(_scores(rewards, assigned, law, np.stack([known, known], axis=1)))
    assert apart.mean() == pytest.approx(0.05, abs=0.02)
    assert apart.std() < 0.2 * np.diff(_scores(rewards, assigned, law, None)).std()


def test_silent_with_few_rewarded_rows() -> None:
    """Nine conversions of a variation are too few."""
    rewards = np.zeros(2_000)
    rewards[:9], rewards[1_000:1_200] = 1.0, 1.0
    assigned = np.repeat([0, 1], 1_000)
    law = np.full((2_000, 2), 0.5)
    assert adaptive_effect(rewards, assigned, law, 0, 1).low is None
    rewards[9] = 1.0
    assert adaptive_effect(rewards, assigned, law, 0, 1).low is not None


def test_wrong_propensities_are_refused() -> None:
    """A variation that could not be had, propensities that do not add up, and pairs that are none."""
    rewards, assigned = np.ones(2), np.array([0, 1])
    for law in ([[1.0, 0.0], [0.5, 0.5]], [[0.5, 0.4], [0.5, 0.5]], [[0.5, 0.5]]):
        with pytest.raises(InvalidInput) as caught:
            adaptive_effect(rewards, assigned, np.array(law), 0, 1)
        assert caught.value.field == "propensities"
    for pair in ((0, 0), (0, 2), (-1, 1)):
        with pytest.raises(InvalidInput):
            adaptive_effect(rewards, assigned, np.full((2, 2), 0.5), *pair)


@pytest.mark.parametrize("bandit", ["epsilon_greedy", "thompson"])
def test_coverage_beside_the_naive_means(bandit: Bandit) -> None:
    """Few small experiments; `make bench-judgement` has 1,000 of 10,000 rows: the plain means are biased downwards, the adaptive ones less so."""
    found = adaptive_coverage(80, 3_000, 6, bandit, rates=(0.5, 0.5))
    assert found["adaptive"] >= 0.95 - 3 * math.sqrt(0.05 * 0.95 / 80)
    assert found["sequential"] >= 0.95
    assert found["bias"] < -0.005
    assert found["bias"] < found["adaptive_bias"] < -found["bias"]
