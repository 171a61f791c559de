"""Thompson sampling of unbounded rewards whose variance is estimated: the normal-inverse-gamma posterior."""

from __future__ import annotations

from math import sqrt

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest, t

from shared.policies.choosing import Chooser
from shared.policies.posterior import Outcome, Posterior, learn, snapshot_of
from shared.policies.thompson import Thompson
from shared.vocabulary import Action, Estimate, PolicySpec, Snapshot


def snapshot(rewards: list[float], **given: float) -> Snapshot:
    """Return the snapshot of one action with these rewards, its noise unknown."""
    known = (Estimate("a", float(len(rewards)), sum(rewards), sum(reward**2 for reward in rewards)),)
    return Snapshot("p", 1, 1, "thompson", {"noise_weight": 1.0} | given, (), known, 0.0, None, 1, 0.0)


@given(
    rewards=st.lists(st.floats(-100, 100), max_size=30),
    prior_mean=st.floats(-50, 50),
    prior_weight=st.floats(0.1, 100),
    noise_guess=st.floats(0.1, 100),
    noise_weight=st.floats(0.1, 100),
)
def test_posterior_equals_updating_reward_by_reward(
    rewards: list[float], prior_mean: float, prior_weight: float, noise_guess: float, noise_weight: float
) -> None:
    """Mean, scale and degrees of freedom equal conjugate updates made one at a time (1e-9)."""
    mean, own = prior_mean, prior_weight
    shape, rate = noise_weight / 2, noise_weight * noise_guess**2 / 2
    for reward in rewards:
        rate += own / (own + 1) * (reward - mean) ** 2 / 2
        shape += 0.5
        mean = (own * mean + reward) / (own + 1)
        own += 1
    priors = {"prior_mean": prior_mean, "prior_weight": prior_weight}
    made = snapshot(rewards, noise_guess=noise_guess, noise_weight=noise_weight, **priors)
    centre, scale, freedom = Thompson(made)._posterior(made.estimates)
    assert centre[0] == pytest.approx(mean, rel=1e-9, abs=1e-9)
    assert scale[0] == pytest.approx(sqrt(rate / (shape * own)), rel=1e-9)
    assert freedom[0] == pytest.approx(2 * shape, rel=1e-12)
    assert Thompson(made).scores(["a", "new"]) == pytest.approx([mean, prior_mean], rel=1e-9, abs=1e-9)


def test_draws_come_from_students_t() -> None:
    """Over 200 seeds, draws of known and unknown actions pass for SciPy's t (Kolmogorov-Smirnov, 51,200 each)."""
    rewards = [3.0, 7.0, 4.5, 6.0, 2.0]
    made = snapshot(rewards, prior_mean=1.0, prior_weight=4.0, noise_guess=4.0, noise_weight=3.0)
    compiled = [Thompson(msgspec.structs.replace(made, seed=seed << 20)) for seed in range(200)]
    draws = np.concatenate([thompson.evidence(["a", "new"]) for thompson in compiled], axis=1)
    own, n, mean = 4.0, 5, float(np.mean(rewards))
    spread = float(np.var(rewards)) * n + own * n / (own + n) * (mean - 1.0) ** 2
    scale = sqrt((3.0 * 16.0 + spread) / ((3.0 + n) * (own + n)))
    assert kstest(draws[0], t(3.0 + n, (own * 1.0 + sum(rewards)) / (own + n), scale).cdf).pvalue > 0.001
    assert kstest(draws[1], t(3.0, 1.0, 2.0).cdf).pvalue > 0.001


def test_draws_are_those_of_the_seed_for_ever() -> None:
    """The draws of a seed are pinned: an old decision must recompute under later releases."""
    made = msgspec.structs.replace(snapshot([1.0, 2.0, 4.0]), seed=0x12_3456_789A_BCDE)
    assert Thompson(made).evidence(["a", "new"])[:, :2].tolist() == [
        [2.0316232797018343, 2.1789224676400085],
        [3.351559310658436, 3.037336353717328],
    ]


def test_a_snapshot_says_whether_the_noise_is_known() -> None:
    """New ones estimate it unless it is given; one that names neither is old, and its noise is 1 as it was then."""
    spec = PolicySpec("p", 1, "thompson", {}, (Action("a"),), reward_range=None)
    posterior = learn(Posterior(), spec, [Outcome(0.0, "a", True, None, reward) for reward in (1.0, 5.0, 9.0)], 0.0)
    fresh = snapshot_of(posterior, spec, 1)
    assert fresh.parameters["noise_weight"] == 10.0
    assert "noise_scale" not in fresh.parameters
    assert len(Thompson(fresh)._posterior(fresh.estimates)) == 3
    given = snapshot_of(posterior, msgspec.structs.replace(spec, parameters={"noise_scale": 1.0}), 1)
    old = msgspec.structs.replace(fresh, parameters={})
    for each in (given, old):
        mean, deviation = Thompson(each)._posterior(each.estimates)
        assert (mean[0], deviation[0]) == (pytest.approx(15 / 4), pytest.approx(sqrt(1 / 4)))
    assert Thompson(old).evidence(["a", "new"]).tolist() == Thompson(given).evidence(["a", "new"]).tolist()


def test_priors_are_those_of_all_rewards() -> None:
    """Unless given, prior mean and guess are mean and deviation of what all actions earned; 0 and 1 before any reward."""
    rewards = {"a": [1.0, 3.0], "b": [7.0, 9.0, 10.0]}
    known = tuple(Estimate(a, float(len(row)), sum(row), sum(r * r for r in row)) for a, row in rewards.items())
    made = msgspec.structs.replace(snapshot([], noise_weight=4.0), estimates=known)
    centre, scale, freedom = Thompson(made)._posterior((Estimate("new", 0.0, 0.0, 0.0),))
    assert (centre[0], scale[0], freedom[0]) == (pytest.approx(6.0), pytest.approx(sqrt(12.0)), 4.0)
    for estimates, expected in [((), (0.0, 1.0)), ((Estimate("a", 3.0, 15.0, 75.0),), (5.0, 5.0))]:
        few = Thompson(msgspec.structs.replace(made, estimates=estimates))
        centre, scale, _ = few._posterior((Estimate("new", 0.0, 0.0, 0.0),))
        assert (centre[0], scale[0]) == expected


@pytest.mark.parametrize(("scale", "shift"), [(1e-3, 0.0), (1.0, 0.0), (1e4, 0.0), (1.0, 1e4), (1e-3, -10.0)])
def test_it_learns_in_any_unit_of_reward(scale: float, shift: float) -> None:
    """Three actions half a deviation apart: the best has over 90 % after 2,000 decisions, wherever zero lies."""
    spec = PolicySpec("p", 1, "thompson", {}, tuple(map(Action, "abc")), reward_range=None)
    means = {"a": 1.0, "b": 1.5, "c": 2.0}
    random = np.random.default_rng(5)
    posterior = Posterior()
    for at in range(40):
        chooser = Chooser(snapshot_of(posterior, spec, at + 1))
        chosen = [chooser.choose({}, None, [draw])[0].action for draw in random.random(50).tolist()]
        rewards = [shift + scale * float(random.normal(means[action], 1.0)) for action in chosen]
        outcomes = [Outcome(0.0, action, True, None, reward) for action, reward in zip(chosen, rewards, strict=True)]
        posterior = learn(posterior, spec, outcomes, 0.0)
    assert Chooser(snapshot_of(posterior, spec, 99)).propensities()["c"] > 0.9
