"""The uplift of one arm over another: its value, and an interval that holds however often it is looked at."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from shared.evaluation.uplift import Earned, uplift

GROUPS = 256


def earned(rewards: np.ndarray, groups: np.ndarray) -> Earned:
    """Return the sums of single rewards by group."""
    counts = np.bincount(groups, minlength=GROUPS).astype(np.float64)
    totals = np.bincount(groups, weights=rewards, minlength=GROUPS).astype(np.float64)
    return Earned(counts, totals, float(rewards @ rewards))


def test_the_value_is_the_difference_of_means() -> None:
    """Over all items, whatever their groups."""
    random = np.random.default_rng(1)
    one, other = random.random(4_000), 0.8 * random.random(900)
    found = uplift(earned(one, random.integers(0, GROUPS, 4_000)), earned(other, random.integers(0, GROUPS, 900)))
    assert found is not None
    assert found.value == pytest.approx(one.mean() - other.mean(), abs=1e-12)
    assert found.relative == pytest.approx(one.mean() / other.mean() - 1, abs=1e-12)
    assert found.high - found.value == pytest.approx(found.value - found.low, abs=1e-12)


def test_the_interval_is_the_papers_for_a_mean() -> None:
    """Beside an arm whose mean is known as good as exactly, the radius is that of theorem 2.2, tuned by appendix B.2."""
    rewards = np.random.default_rng(2).random(2_560)
    one = earned(rewards, np.arange(2_560) % GROUPS)
    found = uplift(one, Earned(np.full(GROUPS, 1e9), np.full(GROUPS, 0.5e9), 0.25e9 * GROUPS))
    assert found is not None
    n, alpha = 2_560, 0.05
    rho2 = (-2 * math.log(alpha) + math.log(1 - 2 * math.log(alpha))) / 1_000
    deviation = math.sqrt(max(one.variance_of_mean * n, rewards.var()))  # by groups here
    papers = deviation * math.sqrt(2 * (n * rho2 + 1) / (n * n * rho2) * math.log(math.sqrt(n * rho2 + 1) / alpha))
    assert found.high - found.value == pytest.approx(papers, rel=1e-3)


def test_what_users_have_in_common_widens_the_interval() -> None:
    """A hundred items each of users who always or never click say as little as one each."""
    random = np.random.default_rng(3)
    users = random.integers(0, 2, GROUPS).astype(np.float64)
    groups = np.arange(GROUPS).repeat(100)
    alike = uplift(earned(users[groups], groups), earned(users[groups[::-1]], groups))
    mixed = random.permutation(users[groups])
    apart = uplift(earned(mixed, groups), earned(random.permutation(mixed), groups))
    assert alike is not None
    assert apart is not None
    assert alike.high - alike.low > 8 * (apart.high - apart.low)


def test_nothing_is_said_too_soon() -> None:
    """Without an arm, without rewards, with rewards that do not vary, with few users, with few rewards."""
    groups = np.arange(2_000) % GROUPS
    rewards = (np.arange(2_000) % 20 == 0).astype(np.float64)
    full, empty = earned(rewards, groups), earned(np.zeros(0), np.zeros(0, dtype=np.intp))
    assert uplift(full, full) is not None
    for one, other in [
        (full, empty),
        (empty, full),
        (earned(np.zeros(2_000), groups), earned(np.zeros(2_000), groups)),
        (earned(np.ones(2_000), groups), earned(np.ones(2_000), groups)),
        (full, earned(rewards, groups % 5)),
        (full, earned(rewards[:300], groups[:300])),
    ]:
        assert uplift(one, other) is None


@pytest.mark.parametrize(
    ("rate", "share", "items_per_user", "gain"), [(0.05, 0.02, 3, 0.0), (0.3, 0.05, 10, 0.05), (0.02, 0.05, 1, 0.0)]
)
def test_the_interval_holds_at_all_looks_at_once(rate: float, share: float, items_per_user: int, gain: float) -> None:
    """In 100 histories of 40,000 items, looked at 40 times each, users with rates of their own: 95 % and more never exclude the truth."""
    looks = np.unique(np.geomspace(500, 40_000, 40).astype(int))
    missed = said = 0
    for seed in range(100):
        random = np.random.default_rng(seed)
        users = random.integers(0, 40_000 // items_per_user, 40_000)
        rates = random.beta(10 * rate, 10 * (1 - rate), users.max() + 1)
        in_baseline = random.random(users.max() + 1) < share
        groups = random.integers(0, GROUPS, users.max() + 1)[users]
        arms = in_baseline[users]
        rewards = (random.random(40_000) < rates[users]) + np.where(arms, 0.0, gain)
        keys = groups + GROUPS * arms
        sums = np.zeros((3, 2 * GROUPS))
        found = []
        for first, last in pairwise([0, *looks.tolist()]):
            part, some = keys[first:last], rewards[first:last]
            sums += [np.bincount(part, weights, 2 * GROUPS) for weights in (np.ones(last - first), some, some**2)]
            one, other = sums[:, :GROUPS], sums[:, GROUPS:]
            policy, baseline = (Earned(arm[0], arm[1], float(arm[2].sum())) for arm in (one, other))
            found.append(uplift(policy, baseline))
        said += found[-1] is not None
        missed += any(not each.low <= gain <= each.high for each in found if each is not None)
    assert said >= 95
    assert missed <= 10  # of 100, where 5 are to be expected at most: by chance once in a hundred runs
