"""The 256 draws that a snapshot fixes are fair: over many snapshots their shares are the posterior's probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import beta, norm

from shared.policies.choosing import Chooser
from shared.policies.kinds import KINDS
from shared.policies.thompson import Thompson
from shared.vocabulary import Action, Estimate, Snapshot

Floats = npt.NDArray[np.float64]

N_SNAPSHOTS = 1_000
N_ACTIONS = 6
N_REFERENCE = 500
FEW = 40
ACTIONS = tuple(str(at) for at in range(N_ACTIONS))

rewards = pytest.mark.parametrize(
    "rewards", ["bounded", *(pytest.param(each, marks=pytest.mark.slow) for each in ("known noise", "unknown noise"))]
)
kinds = pytest.mark.parametrize("kind", ["thompson", "top_two_thompson"])
sets = pytest.mark.parametrize(
    "actions",
    [pytest.param([0, 1, 2, 3, 4, 5], id="whole", marks=pytest.mark.slow), pytest.param([5, 1, 2], id="subset")],
)


def snapshots(kind: str, rewards: str, count: int) -> list[Snapshot]:
    """Return random snapshots without a floor, from hardly anything known to one action nearly sure."""
    random = np.random.default_rng(31)
    made = []
    for _ in range(count):
        weights = np.exp(random.uniform(-1.0, 6.0, N_ACTIONS))
        centre, spread = random.uniform(0.1, 0.8), random.uniform(0.0, 0.2)
        means = np.clip(centre + random.normal(0.0, spread, N_ACTIONS), 0.01, 0.99)
        noise = 0.0 if rewards == "bounded" else random.uniform(0.1, 1.0)
        known = tuple(
            Estimate(action, float(weight), float(weight * mean), float(weight * (mean**2 + noise**2)))
            for action, weight, mean in zip(ACTIONS, weights, means, strict=True)
        )
        made.append(
            Snapshot(
                policy="p",
                policy_version=1,
                snapshot_version=1,
                kind=kind,
                parameters={"bounded": {}, "known noise": {"noise_scale": 0.5}, "unknown noise": {"noise_weight": 3.0}}[
                    rewards
                ],
                actions=tuple(map(Action, ACTIONS)),
                estimates=known,
                exploration_floor=0.0,
                reward_range=(0.0, 1.0) if rewards == "bounded" else None,
                seed=int(random.integers(1 << 56)),
                as_of=0.0,
            )
        )
    return made


def winners(snapshot: Snapshot, actions: list[int], count: int, random: np.random.Generator) -> Floats:
    """Return the draws of the posterior afresh, shape (n_actions, count)."""
    first, second, *freedom = (part[actions, None] for part in Thompson(snapshot)._posterior(snapshot.estimates))
    size = (len(actions), count)
    if snapshot.reward_range is not None:
        return random.beta(first, second, size)
    return first + second * (random.standard_t(freedom[0], size) if freedom else random.standard_normal(size))


def sampled(snapshot: Snapshot, actions: list[int], random: np.random.Generator) -> Floats:
    """Return the law by `N_REFERENCE` runs of the algorithm as published, shape (n_actions,).

    Challengers come from a pool of draws, enlarged where another than the leader hardly ever wins.
    """
    leaders = winners(snapshot, actions, N_REFERENCE, random).argmax(axis=0)
    if snapshot.kind == "top_two_thompson":
        pool = winners(snapshot, actions, 4 * N_REFERENCE, random)
        is_challenged = random.random(N_REFERENCE) < 0.5
        for leader in set(leaders.tolist()):
            best = pool.argmax(axis=0)
            if np.count_nonzero(best != leader) < FEW:
                best = winners(snapshot, actions, 100 * N_REFERENCE, random).argmax(axis=0)
            others = best[best != leader]
            if not len(others):  # never in 50,000 draws: whoever comes next
                rest = pool.copy()
                rest[leader] = -np.inf
                others = rest.argmax(axis=0)
            at = np.flatnonzero(is_challenged & (leaders == leader))
            leaders = leaders.copy()
            leaders[at] = -1 - others[random.integers(len(others), size=at.size)]
        leaders = np.where(leaders < 0, -1 - leaders, leaders)
    shares: Floats = np.bincount(leaders, minlength=len(actions)) / N_REFERENCE
    return shares


def ranked(snapshot: Snapshot, actions: list[int], law: Floats) -> Floats:
    """Return a law in the order of the actions' mean rewards, so that it can be averaged over snapshots."""
    known = snapshot.estimates
    order = np.argsort([known[at].total / known[at].weight for at in actions], kind="stable")
    in_order: Floats = law[order]
    return in_order


@kinds
@rewards
@sets
def test_mean_propensities_are_those_of_reference_sampling(kind: str, rewards: str, actions: list[int]) -> None:
    """Over 1,000 random snapshots mean propensities lie within 0.005 of sampling afresh, at every rank, in subsets too."""
    random = np.random.default_rng(32)
    names = [ACTIONS[at] for at in actions]
    ours, theirs = np.zeros(len(actions)), np.zeros(len(actions))
    for snapshot in snapshots(kind, rewards, N_SNAPSHOTS):
        algorithm = KINDS[kind](snapshot)
        ours += ranked(snapshot, actions, algorithm.probabilities(algorithm.evidence(names))) / N_SNAPSHOTS
        theirs += ranked(snapshot, actions, sampled(snapshot, actions, random)) / N_SNAPSHOTS
    print(f"{kind}, {rewards}, {len(actions)} actions: {np.abs(ours - theirs).max():.5f}")
    assert np.abs(ours - theirs).max() < 0.005
    assert theirs.max() > 1.5 * theirs.min()


@pytest.mark.parametrize("rewards", ["bounded", "known noise"])
def test_mean_propensities_are_those_of_quadrature(rewards: str) -> None:
    """Over 300 of them they lie within 0.005 of the integral of density times the others' distribution functions."""
    nodes, weights = np.polynomial.legendre.leggauss(64)
    levels, weights = (nodes + 1) / 2, weights / 2
    ours, theirs = np.zeros(N_ACTIONS), np.zeros(N_ACTIONS)
    everything = list(range(N_ACTIONS))
    for snapshot in snapshots("thompson", rewards, 300):
        law: Any = beta if rewards == "bounded" else norm
        first, second = Thompson(snapshot)._posterior(snapshot.estimates)
        points = law.ppf(levels[None, :], first[:, None], second[:, None])  # shape (n_actions, n_nodes)
        below = law.cdf(points[:, :, None], first, second)  # of each action at each of them
        below[everything, :, everything] = 1.0
        integrals = (below.prod(axis=2) * weights).sum(axis=1)
        assert integrals.sum() == pytest.approx(1.0, abs=1e-3)
        shares = np.array(list(Chooser(snapshot).propensities().values()))
        ours += ranked(snapshot, everything, shares) / 300
        theirs += ranked(snapshot, everything, integrals) / 300
    assert np.abs(ours - theirs).max() < 0.005


def test_the_reference_tells_a_wrong_law_apart() -> None:
    """Marginals, renormalised after other actions left, are further than 0.005 away."""
    random = np.random.default_rng(33)
    ours, theirs = np.zeros(3), np.zeros(3)
    for snapshot in snapshots("thompson", "bounded", 300):
        whole = np.array([Chooser(snapshot).propensities()[ACTIONS[at]] for at in (5, 1, 2)])
        ours += ranked(snapshot, [5, 1, 2], whole / whole.sum() if whole.sum() > 0 else np.full(3, 1 / 3)) / 300
        theirs += ranked(snapshot, [5, 1, 2], sampled(snapshot, [5, 1, 2], random)) / 300
    assert np.abs(ours - theirs).max() > 0.005
