"""Each kind against an implementation written from its textbook, on the same rewards."""

from __future__ import annotations

from math import log, sqrt

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, kstest, norm

from shared.policies.choosing import Chooser
from shared.policies.epsilon_greedy import EpsilonGreedy
from shared.policies.posterior import Outcome, Posterior, learn, snapshot_of
from shared.policies.thompson import Thompson
from shared.policies.ucb1 import Ucb1
from shared.vocabulary import Action, Estimate, PolicySpec, Snapshot

MEANS = [0.6] + [0.5] * 9
ACTIONS = tuple(f"arm {arm}" for arm in range(10))
N_ROUNDS = 3_000
START = 1_700_000_000.0

History = list[tuple[int, int]]
"""(arm, reward) of each round."""


@pytest.fixture(scope="module", params=[1, 2, 3])
def history(request: pytest.FixtureRequest) -> History:
    """Play a Bernoulli bandit of ten actions, each arm once and then by chance."""
    random = np.random.default_rng(request.param)
    arms = [*range(10), *random.integers(0, 10, N_ROUNDS - 10).tolist()]
    return [(arm, int(random.random() < MEANS[arm])) for arm in arms]


def learned(kind: str, history: History, *, batch: int = 37, **parameters: float) -> Snapshot:
    """Return the snapshot of a policy that saw each round's showing, and later its reward, in batches.

    Every other failure is never reported: silence is worth the default reward, 0.
    """
    spec = PolicySpec("news", 1, kind, parameters, tuple(Action(action) for action in ACTIONS))
    posterior = Posterior()
    for first in range(0, len(history), batch):
        rounds = list(enumerate(history))[first : first + batch]
        shown = [Outcome(START + at, ACTIONS[arm], shown=True) for at, (arm, _) in rounds]
        posterior = learn(posterior, spec, shown, START + first)
        answers = [
            Outcome(START + at, ACTIONS[arm], after=float(reward)) for at, (arm, reward) in rounds if reward or at % 2
        ]
        posterior = learn(posterior, spec, answers, START + first + batch)
    return snapshot_of(posterior, spec, 1)


def test_beta_posterior_equals_the_textbooks_exactly(history: History) -> None:
    """After any rewards alpha = 1 + successes and beta = 1 + failures, to the bit."""
    alpha, failures = [1] * 10, [1] * 10
    for arm, reward in history:
        alpha[arm] += reward
        failures[arm] += 1 - reward
    snapshot = learned("thompson", history)
    first, second = Thompson(snapshot)._posterior(snapshot.estimates)
    assert first.tolist() == alpha
    assert second.tolist() == failures
    assert Thompson(snapshot).scores(ACTIONS) == [a / (a + b) for a, b in zip(alpha, failures, strict=True)]


def test_beta_posterior_of_another_range_is_that_of_rescaled_rewards() -> None:
    """Rewards in [-2, 6] update as (r + 2) / 8 do, and scores come back in units of reward."""
    estimates = (Estimate("a", 4.0, 2.0 + 6.0 - 2.0 + 0.0, 44.0),)
    snapshot = Snapshot(
        "p", 1, 1, "thompson", {"prior_alpha": 2.0, "prior_beta": 3.0}, (), estimates, 0.0, (-2.0, 6.0), 1, 0.0
    )
    first, second = Thompson(snapshot)._posterior(estimates)
    won = 4 / 8 + 8 / 8 + 0 / 8 + 2 / 8
    assert first[0] == pytest.approx(2 + won, abs=1e-12)
    assert second[0] == pytest.approx(3 + 4 - won, abs=1e-12)
    assert Thompson(snapshot).scores(["a", "new"]) == pytest.approx([8 * (2 + won) / 9 - 2, 8 * 2 / 5 - 2], abs=1e-12)


@given(
    rewards=st.lists(st.floats(-100, 100), max_size=30),
    prior_mean=st.floats(-50, 50),
    prior_scale=st.floats(0.01, 100),
    noise_scale=st.floats(0.01, 100),
)
def test_normal_posterior_equals_updating_reward_by_reward(
    rewards: list[float], prior_mean: float, prior_scale: float, noise_scale: float
) -> None:
    """The Normal posterior of known noise equals conjugate updates made one at a time (1e-9)."""
    mean, variance = prior_mean, prior_scale**2
    for reward in rewards:
        both = variance + noise_scale**2
        mean = (mean * noise_scale**2 + reward * variance) / both
        variance = variance * noise_scale**2 / both
    estimates = (Estimate("a", float(len(rewards)), sum(rewards), sum(reward**2 for reward in rewards)),)
    parameters = {"prior_mean": prior_mean, "prior_scale": prior_scale, "noise_scale": noise_scale}
    snapshot = Snapshot("p", 1, 1, "thompson", parameters, (), estimates, 0.0, None, 1, 0.0)
    centre, spread = Thompson(snapshot)._posterior(estimates)
    assert centre[0] == pytest.approx(mean, rel=1e-9, abs=1e-9)
    assert spread[0] == pytest.approx(sqrt(variance), rel=1e-9)
    assert Thompson(snapshot).scores(["a", "new"]) == pytest.approx([mean, prior_mean], rel=1e-9, abs=1e-9)


def test_epsilon_greedy_means_equal_incremental_averages(history: History) -> None:
    """Q += (r - Q) / n, begun with one reward of 0.5 as the prior, gives the same means (1e-12) and the closed law."""
    values, counts = [0.5] * 10, [1] * 10
    for arm, reward in history:
        counts[arm] += 1
        values[arm] += (reward - values[arm]) / counts[arm]
    snapshot = learned("epsilon_greedy", history, epsilon=0.2)
    assert EpsilonGreedy(snapshot).scores(ACTIONS) == pytest.approx(values, rel=0, abs=1e-12)
    best = max(range(10), key=values.__getitem__)
    expected = {action: 0.99 * (0.8 * (at == best) + 0.02) + 0.001 for at, action in enumerate(ACTIONS)}
    assert Chooser(snapshot).propensities() == pytest.approx(expected, rel=0, abs=1e-12)


def test_epsilon_greedy_shares_the_greedy_part_among_the_best() -> None:
    """Two actions of the same best mean get (1 - epsilon) / 2 each, also within a subset."""
    estimates = tuple(Estimate(action, 9.0, total, total) for action, total in [("a", 6.0), ("b", 2.0), ("c", 6.0)])
    own = tuple(Action(action) for action in "abc")
    snapshot = Snapshot("p", 1, 1, "epsilon_greedy", {"epsilon": 0.3}, own, estimates, 0.0, (0.0, 1.0), 1, 0.0)
    chooser = Chooser(snapshot)
    assert chooser.propensities() == pytest.approx({"a": 0.45, "b": 0.1, "c": 0.45}, abs=1e-12)
    assert chooser.propensities(["b", "c"]) == pytest.approx({"b": 0.15, "c": 0.85}, abs=1e-12)


def test_epsilon_greedy_prior_is_the_middle_of_the_range() -> None:
    """An action without rewards is believed to earn the middle of the range, 0 where there is none, or what is given."""
    for reward_range, parameters, expected in [
        ((-1.0, 5.0), {}, 2.0),
        (None, {}, 0.0),
        ((-1.0, 5.0), {"prior_mean": -1.0}, -1.0),
    ]:
        snapshot = Snapshot("p", 1, 1, "epsilon_greedy", parameters, (), (), 0.0, reward_range, 1, 0.0)
        assert EpsilonGreedy(snapshot).scores(["new"]) == [expected]


def test_ucb1_indices_equal_the_papers(history: History) -> None:
    """The index is mean + sqrt(2 ln n / n_j) after every round, and the highest takes all that the floor leaves (1e-12)."""
    for rounds in [10, 50, 777, len(history)]:
        sums, counts = [0.0] * 10, [0] * 10
        for arm, reward in history[:rounds]:
            counts[arm] += 1
            sums[arm] += reward
        indices = [sums[arm] / counts[arm] + sqrt(2 * log(rounds) / counts[arm]) for arm in range(10)]
        snapshot = learned("ucb1", history[:rounds])
        assert Ucb1(snapshot).scores(ACTIONS) == pytest.approx(indices, rel=0, abs=1e-12)
        best = [index == max(indices) for index in Ucb1(snapshot).scores(ACTIONS)]
        expected = {action: 0.99 * is_best / sum(best) + 0.001 for action, is_best in zip(ACTIONS, best, strict=True)}
        assert Chooser(snapshot).propensities() == pytest.approx(expected, rel=0, abs=1e-12)


def test_ucb1_tries_what_it_does_not_know_first() -> None:
    """Actions without rewards share everything equally before any other gets a turn, and have no score."""
    estimates = (Estimate("a", 50.0, 50.0, 50.0), Estimate("b", 0.0, 0.0, 0.0))
    snapshot = Snapshot("p", 1, 1, "ucb1", {}, (), estimates, 0.0, (0.0, 1.0), 1, 0.0)
    chooser = Chooser(snapshot)
    assert chooser.propensities(["a", "b", "new"]) == {"a": 0.0, "b": 0.5, "new": 0.5}
    assert Ucb1(snapshot).scores(["a", "b", "new"])[1:] == [None, None]


def test_ucb1_reckons_with_what_is_not_forgotten() -> None:
    """Discounted weights stand for counts, however small; a total below 1 counts as 1 and leaves the means."""
    estimates = (Estimate("a", 0.0004, 0.0001, 0.0001), Estimate("b", 5.0, 2.0, 2.0))
    snapshot = Snapshot("p", 1, 1, "ucb1", {"exploration": 0.5}, (), estimates, 0.0, (0.0, 1.0), 1, 0.0)
    expected = [0.25 + 0.5 * sqrt(2 * log(5.0004) / 0.0004), 0.4 + 0.5 * sqrt(2 * log(5.0004) / 5)]
    assert Ucb1(snapshot).scores(["a", "b"]) == pytest.approx(expected, rel=1e-12)
    faded = msgspec.structs.replace(snapshot, estimates=estimates[:1])
    assert Ucb1(faded).scores(["a"]) == pytest.approx([0.25], rel=1e-12)


def test_ucb1_bound_scales_with_the_range() -> None:
    """Rewards in [0, 10] have ten times the bound of rewards in [0, 1]."""
    small = Snapshot("p", 1, 1, "ucb1", {}, (), (Estimate("a", 7.0, 2.0, 2.0),), 0.0, (0.0, 1.0), 1, 0.0)
    large = msgspec.structs.replace(small, estimates=(Estimate("a", 7.0, 20.0, 200.0),), reward_range=(0.0, 10.0))
    (index,) = Ucb1(small).scores(["a"])
    assert index is not None
    assert Ucb1(large).scores(["a"]) == pytest.approx([10 * index], abs=1e-12)


def _many_draws(
    snapshot: Snapshot, actions: tuple[str, ...], snapshots: int
) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Return the draws of many snapshots that differ in their seed only, shape (n_actions, snapshots * N_DRAWS)."""
    compiled = [Thompson(msgspec.structs.replace(snapshot, seed=seed << 20)) for seed in range(snapshots)]
    return np.concatenate([thompson.evidence(actions) for thompson in compiled], axis=1)


def test_thompson_draws_come_from_the_posterior() -> None:
    """Over 200 seeds, draws of known and unknown actions pass for Beta numbers (Kolmogorov-Smirnov, 51,200 each)."""
    estimates = (Estimate("a", 40.0, 12.0, 12.0), Estimate("b", 3.0, 0.0, 0.0))
    snapshot = Snapshot("p", 1, 1, "thompson", {}, (), estimates, 0.0, (0.0, 1.0), 1, 0.0)
    draws = _many_draws(snapshot, ("b", "new", "a"), 200)
    for row, (alpha, failures) in zip(draws, [(1, 4), (1, 1), (13, 29)], strict=True):
        assert kstest(row, beta(alpha, failures).cdf).pvalue > 0.001


def test_thompson_draws_of_unbounded_rewards_come_from_the_normal_posterior() -> None:
    """Over 200 seeds, draws pass for Normal numbers of the closed-form mean and deviation."""
    estimates = (Estimate("a", 8.0, 24.0, 80.0),)
    parameters = {"prior_mean": 1.0, "prior_scale": 2.0, "noise_scale": 4.0}
    snapshot = Snapshot("p", 1, 1, "thompson", parameters, (), estimates, 0.0, None, 1, 0.0)
    draws = _many_draws(snapshot, ("a", "new"), 200)
    assert kstest(draws[0], norm((1 / 4 + 24 / 16) / (1 / 4 + 8 / 16), sqrt(1 / (1 / 4 + 8 / 16))).cdf).pvalue > 0.001
    assert kstest(draws[1], norm(1.0, 2.0).cdf).pvalue > 0.001


def test_thompson_chooses_as_often_as_an_action_is_best() -> None:
    """Over 400 seeds the mean propensity is the probability to be the best, by integration (four standard errors)."""
    posteriors = {"a": (13, 29), "b": (21, 36), "c": (2, 3)}
    estimates = tuple(Estimate(a, s + f - 2.0, s - 1.0, s - 1.0) for a, (s, f) in posteriors.items())
    snapshot = Snapshot("p", 1, 1, "thompson", {}, (), estimates, 0.0, (0.0, 1.0), 1, 0.0)
    grid = (np.arange(20_000) + 0.5) / 20_000
    for eligible in [("a", "b", "c"), ("a", "b")]:
        laws = [
            Chooser(msgspec.structs.replace(snapshot, seed=seed << 20)).propensities(eligible) for seed in range(400)
        ]
        for action in eligible:
            others = [beta(*posteriors[other]).cdf(grid) for other in eligible if other != action]
            best = float(np.mean(beta(*posteriors[action]).pdf(grid) * np.prod(others, axis=0)))
            tolerance = 4 * sqrt(best * (1 - best) / (400 * Thompson.N_DRAWS))
            assert np.mean([law[action] for law in laws]) == pytest.approx(best, abs=tolerance)


def test_thompson_draws_are_joint() -> None:
    """Among a subset an action wins the draws in which it beats that subset: no product of marginals."""
    estimates = tuple(Estimate(action, 5.0, won, won) for action, won in [("a", 2.0), ("b", 3.0), ("c", 3.0)])
    snapshot = Snapshot("p", 1, 1, "thompson", {}, (), estimates, 0.0, (0.0, 1.0), 77, 0.0)
    draws = Thompson(snapshot).evidence(["a", "b", "c"])
    assert draws.shape == (3, 256)
    shares = {"a": float(np.mean(draws[0] > draws[1])), "b": float(np.mean(draws[1] > draws[0]))}
    assert Chooser(snapshot).propensities(["a", "b"]) == shares


def test_thompson_shares_draws_that_tie() -> None:
    """With a prior so weak that draws are exactly 0 or 1, equal actions are equally likely wherever they stand."""
    snapshot = Snapshot(
        "p", 1, 1, "thompson", {"prior_alpha": 1e-3, "prior_beta": 1e-3}, (), (), 0.0, (0.0, 1.0), 1, 0.0
    )
    laws = [
        Chooser(msgspec.structs.replace(snapshot, seed=seed << 20)).propensities(["a", "b", "c", "d"])
        for seed in range(100)
    ]
    for action in "abcd":
        assert np.mean([law[action] for law in laws]) == pytest.approx(0.25, abs=4 * sqrt(0.25 * 0.75 / 25_600))


def test_thompson_draws_are_those_of_the_seed_for_ever() -> None:
    """The draws of a seed are pinned: an old decision must recompute under later releases."""
    snapshot = Snapshot(
        "p", 1, 1, "thompson", {}, (), (Estimate("a", 3.0, 1.0, 1.0),), 0.0, (0.0, 1.0), 0x12_3456_789A_BCDE, 0.0
    )
    first = Thompson(snapshot).evidence(["a", "new"])[:, :2].tolist()
    assert first == [[0.2942077009526983, 0.5713938738486867], [0.6432463501495551, 0.47612563882238174]]
