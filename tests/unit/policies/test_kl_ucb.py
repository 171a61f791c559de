"""KL-UCB against a brute-force solution of its equation."""

from __future__ import annotations

from math import log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.special import rel_entr

from shared.policies.choosing import Chooser
from shared.policies.kl_ucb import KlUcb, upper_means
from shared.policies.ucb1 import Ucb1
from shared.vocabulary import Action, Estimate, Snapshot
from tests.unit.policies.simulated import bernoulli_regret


def snapshot(*pairs: tuple[float, float], reward_range: tuple[float, float] = (0.0, 1.0), **given: float) -> Snapshot:
    """Return a snapshot of actions "0", "1", ... that know (weight, total) each."""
    known = tuple(Estimate(str(at), weight, total, total) for at, (weight, total) in enumerate(pairs))
    return Snapshot(
        "p", 1, 1, "kl_ucb", given, tuple(Action(e.action) for e in known), known, 0.0, reward_range, 1, 0.0
    )


def solved(mean: float, weight: float, budget: float) -> float:
    """Return the largest q with weight * kl(mean, q) <= budget by SciPy's root finder."""

    def excess(q: float) -> float:
        return float(weight * (rel_entr(mean, q) + rel_entr(1 - mean, 1 - q)) - budget)

    if mean == 1.0 or excess(np.nextafter(1.0, 0.0)) <= 0:
        return 1.0
    return float(brentq(excess, mean, np.nextafter(1.0, 0.0), xtol=1e-15, rtol=1e-15, maxiter=1_000))


@given(
    st.lists(st.tuples(st.floats(0.01, 1e6), st.floats(0.0, 1.0)), min_size=1, max_size=8),
    st.sampled_from([0.0, 1.0, 3.0]),
)
def test_indices_solve_their_equation(known: list[tuple[float, float]], c: float) -> None:
    """Every index is where a root finder puts it (1e-9), weights below 1 included, and never below the mean."""
    pairs = [(weight, weight * share) for weight, share in known]
    log_n = log(max(sum(weight for weight, _ in pairs), 1.0))
    budget = log_n + c * log(max(log_n, 1.0))
    scores = KlUcb(snapshot(*pairs, c=c)).scores([str(at) for at in range(len(pairs))])
    for score, (weight, total) in zip(scores, pairs, strict=True):
        assert score is not None
        mean = min(total / weight, 1.0)
        if budget / weight > 1e-12:
            assert score == pytest.approx(solved(mean, weight, budget), abs=1e-9)
        assert mean <= score <= 1.0


def test_indices_of_a_grid_are_as_searched() -> None:
    """Over a grid of q in steps of 1e-6 the index is the last q within the budget."""
    grid = np.arange(1, 1_000_000) / 1e6
    for mean, weight, budget in [(0.02, 100.0, 7.0), (0.5, 3.0, 1.0), (0.0, 40.0, 5.0), (0.97, 400.0, 6.0)]:
        divergence = rel_entr(mean, grid) + rel_entr(1 - mean, 1 - grid)
        last = grid[np.flatnonzero((grid >= mean) & (weight * divergence <= budget))[-1]]
        (index,) = upper_means(np.array([mean]), np.array([weight]), budget)
        assert last <= index < last + 1e-6


def test_without_budget_the_index_is_the_mean() -> None:
    """A total weight of 1 or less leaves no room above the mean (1e-12)."""
    assert KlUcb(snapshot((0.25, 0.1), (0.5, 0.5))).scores(["0", "1"]) == pytest.approx([0.4, 1.0], abs=1e-12)


def test_indices_scale_with_the_range() -> None:
    """Rewards in [-2, 6] have the index of (r + 2) / 8, put back."""
    (plain,) = KlUcb(snapshot((50.0, 20.0))).scores(["0"])
    (scaled,) = KlUcb(snapshot((50.0, 20.0 * 8 - 2 * 50), reward_range=(-2.0, 6.0))).scores(["0"])
    assert plain is not None
    assert scaled == pytest.approx(8 * plain - 2, abs=1e-9)


def test_what_is_not_known_comes_first_and_the_best_takes_all() -> None:
    """Actions without rewards share everything; then the highest index has what the floor leaves."""
    chooser = Chooser(snapshot((50.0, 20.0), (0.0, 0.0), (400.0, 100.0)))
    assert chooser.propensities(["0", "1", "new"]) == {"0": 0.0, "1": 0.5, "new": 0.5}
    assert chooser.propensities(["0", "2"]) == {"0": 1.0, "2": 0.0}
    assert KlUcb(snapshot((50.0, 20.0))).scores(["new"]) == [None]


def test_the_bound_is_tighter_than_ucb1s() -> None:
    """By Pinsker's inequality an index lies below UCB1's of a quarter of the exploration, and far below for rare rewards."""
    rare = snapshot((1_000.0, 10.0), (1_000.0, 500.0))
    ours, theirs = KlUcb(rare).scores(["0", "1"]), Ucb1(rare).scores(["0", "1"])
    pinsker = [mean + (log(2_000.0) / 2_000.0) ** 0.5 for mean in (0.01, 0.5)]
    for index, bound, other in zip(ours, pinsker, theirs, strict=True):
        assert index is not None
        assert other is not None
        assert index < bound < other
    assert (ours[0] or 1.0) - 0.01 < 0.25 * ((theirs[0] or 0.0) - 0.01)


def test_it_loses_less_than_ucb1_where_rewards_are_rare() -> None:
    """Ten actions at 1 to 10 %, 5,000 decisions, two seeds: less than 0.6 of UCB1's regret."""
    ours = sum(bernoulli_regret("kl_ucb", seed, decisions=5_000) for seed in range(2))
    assert ours < 0.6 * sum(bernoulli_regret("ucb1", seed, decisions=5_000) for seed in range(2))
