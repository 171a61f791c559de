"""The sums of arms are those of the items, in any order, however rewards are revised, and merge."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from shared.policies.arm_sums import (
    AGREED,
    BUCKETS,
    GAIN,
    REWARD,
    SAID,
    SHOWN,
    SQUARES,
    WEIGHTED,
    WEIGHTED_SQUARES,
    WEIGHTS,
    ArmSums,
    Part,
    counted,
    merged,
)
from shared.policies.posterior import Outcome, Posterior, decode_posterior, encode_posterior, learn, merge
from shared.vocabulary import Baseline, PolicySpec

SPEC = PolicySpec("news", 1, "thompson", default_reward=0.25, baseline=Baseline(0.1), half_life_s=10.0)
AT = 1_700_000_000.0


def items(count: int, seed: int = 3) -> list[tuple[Part, list[float]]]:
    """Return items with the rewards that each had in turn, none or more."""
    random = np.random.default_rng(seed)
    made = []
    for at in range(count):
        arm = "baseline" if random.random() < 0.3 else "policy"
        gain = None if at % 5 == 0 else float(random.normal())
        part = Part(arm, int(random.integers(BUCKETS)), float(random.exponential()), float(random.random()), gain)
        made.append((part, random.random(random.integers(3)).tolist()))
    return made


def outcomes(given: list[tuple[Part, list[float]]]) -> list[Outcome]:
    """Return what happened, one after another: each is shown, and its reward revised."""
    made = []
    for at, (part, rewards) in enumerate(given):
        made.append(Outcome(AT + at, "a", shown=True, part=part))
        before = None
        for reward in rewards:
            made.append(Outcome(AT + at, "a", before=before, after=reward, part=part))
            before = reward
    return made


def expected(given: list[tuple[Part, list[float]]], arm: str) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Return the sums over items, by hand."""
    sums = np.zeros((BUCKETS, 9))
    for part, rewards in given:
        if part.arm == arm:
            reward = rewards[-1] if rewards else 0.25
            row = sums[part.bucket]
            row[SHOWN] += 1
            row[REWARD] += reward
            row[SQUARES] += reward**2
            row[WEIGHTS] += part.weight
            row[WEIGHTED] += part.weight * reward
            row[WEIGHTED_SQUARES] += (part.weight * reward) ** 2
            row[AGREED] += part.agreement
            row[SAID] += part.gain is not None
            row[GAIN] += part.gain or 0.0
    return sums


def test_sums_are_those_of_the_last_rewards_in_any_order() -> None:
    """Forwards, shuffled and in two parts: the same, to rounding; forgetting does not touch them."""
    given = items(400)
    made = outcomes(given)
    shuffled = [made[at] for at in np.random.default_rng(4).permutation(len(made))]
    half = learn(Posterior(), SPEC, made[:300], AT)
    for posterior in (
        learn(Posterior(), SPEC, made, AT),
        learn(Posterior(), SPEC, shuffled, AT + 500),
        learn(half, SPEC, made[300:], AT + 1_000),
        merge(half, learn(Posterior(), SPEC, made[300:], AT + 70), SPEC),
    ):
        assert posterior.arms is not None
        for arm in ("policy", "baseline"):
            np.testing.assert_allclose(posterior.arms.sums[arm], expected(given, arm), atol=1e-9)


def test_items_of_no_arm_do_not_count() -> None:
    """Logged ones, and those of other versions, have no part; the tallies know them."""
    posterior = learn(Posterior(), SPEC, [Outcome(AT, "a", shown=True)], AT)
    assert posterior.arms == ArmSums("serve", Baseline(0.1), {})
    assert posterior.buckets


@pytest.mark.parametrize(
    "other",
    [
        msgspec.structs.replace(SPEC, baseline=None),
        msgspec.structs.replace(SPEC, baseline=Baseline(0.2)),
        msgspec.structs.replace(SPEC, mode="apprentice"),
    ],
)
def test_sums_of_another_way_of_serving_are_left_behind(other: PolicySpec) -> None:
    """By learning on and by merging from either side."""
    known = counted(None, SPEC, outcomes(items(20)))
    theirs = counted(None, other, outcomes(items(10)))
    for result in (
        counted(known, other, outcomes(items(10))),
        merged(known, theirs, other),
        merged(theirs, known, other),
    ):
        if other.baseline is None and other.mode == "serve":
            assert result is None
        else:
            assert result is not None
            assert (result.mode, result.baseline) == (other.mode, other.baseline)
            assert sum(sums[:, SHOWN].sum() for sums in result.sums.values()) == 10


def test_a_posterior_with_arms_survives_its_encoding() -> None:
    """As PostgreSQL keeps it, to the bit; inputs stay as they are."""
    posterior = learn(Posterior(), SPEC, outcomes(items(50)), AT)
    assert posterior.arms is not None
    before = {arm: sums.copy() for arm, sums in posterior.arms.sums.items()}
    learn(posterior, SPEC, outcomes(items(50, seed=8)), AT)
    decoded = decode_posterior(encode_posterior(posterior))
    assert decoded.arms is not None
    for arm, sums in before.items():
        np.testing.assert_array_equal(posterior.arms.sums[arm], sums)
        np.testing.assert_array_equal(decoded.arms.sums[arm], sums)
    assert encode_posterior(decoded) == encode_posterior(posterior)


def test_policies_without_arms_keep_nothing_of_them() -> None:
    """Neither sums nor bytes."""
    spec = msgspec.structs.replace(SPEC, baseline=None)
    assert learn(Posterior(), spec, outcomes(items(10)), AT).arms is None
