"""What forgetting and patience save: regret of whole simulated runs. The full size is behind `make bandits`."""

from __future__ import annotations

import numpy as np
import pytest

from tests.unit.policies.simulated import slow_policy, slow_rewards, swapped_policy, swapped_regret

MEAN_DELAY_S = 5_000.0
RIGHT = slow_policy(expected_delay_s=MEAN_DELAY_S)
full_size = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.mark.parametrize(
    ("rotates", "seeds"),
    [
        pytest.param(True, 1, id="in turn, 1"),
        pytest.param(True, 20, id="in turn", marks=full_size),
        pytest.param(False, 20, id="there and back", marks=full_size),
    ],
)
def test_forgetting_follows_a_world_that_changes(seeds: int, *, rotates: bool) -> None:
    """With a half-life of 400 decisions the regret of 20 swaps is at most 0.45 times that without forgetting.

    Two actions that swap there and back are the hardest reading: what does not forget comes to believe in both.
    """
    forgetful, faithful = (
        np.array([swapped_regret(swapped_policy(half_life_s), seed, rotates=rotates) for seed in range(seeds)])
        for half_life_s in (400.0, None)
    )
    print(f"regret {forgetful.mean():.0f} of {faithful.mean():.0f}, worst ratio {(forgetful / faithful).max():.3f}")
    assert forgetful.sum() <= 0.45 * faithful.sum()


def test_slow_rewards_do_not_starve_a_new_action() -> None:
    """Of a new action at 15 % beside mature ones at 10 %, patience loses at most 60; believing silence at once 900 or more."""
    patient = [slow_rewards(RIGHT, seed, renewed_s=100) for seed in range(2)]
    hasty = slow_rewards(slow_policy(), 0, renewed_s=100)
    assert np.mean(patient) <= 60.0
    assert hasty > 900.0


def test_a_wrong_declaration_is_put_right_by_history() -> None:
    """Declared ten times too short, delays cost at most 60 where they are estimated, and many times that where not."""
    wrong = slow_policy(expected_delay_s=MEAN_DELAY_S / 10)
    assert slow_rewards(wrong, 0, renewed_s=100) <= 60.0
    assert slow_rewards(wrong, 0, renewed_s=100, are_delays_known=False) > 500.0


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("label", "delay_s", "are_delays_known", "bound"),
    [
        ("declared", MEAN_DELAY_S, False, 60.0),
        ("estimated", MEAN_DELAY_S, True, 60.0),
        ("estimated, declared ten times too short", MEAN_DELAY_S / 10, True, 60.0),
        ("estimated, declared ten times too long", MEAN_DELAY_S * 10, True, 60.0),
        ("at once", None, False, None),
    ],
)
def test_regret_of_slow_rewards(
    label: str, delay_s: float | None, bound: float | None, *, are_delays_known: bool
) -> None:
    """Over 20 seeds the mean regret is at most 60 with F declared or estimated, and beyond 900 without."""
    spec = slow_policy(expected_delay_s=delay_s)
    regrets = [slow_rewards(spec, seed, are_delays_known=are_delays_known) for seed in range(20)]
    print(f"{label}: mean {np.mean(regrets):.1f}, worst {max(regrets):.1f}")
    if bound is None:
        assert np.mean(regrets) > 900.0
    else:
        assert np.mean(regrets) <= bound


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_regret_of_slow_rewards_that_are_frequent() -> None:
    """At 60 % beside 50 %, where weights of F alone would lose over 900, the mean regret of 10 seeds is at most 120."""
    regrets = [slow_rewards(RIGHT, seed, rates=(0.5, 0.6)) for seed in range(10)]
    print(f"frequent: mean {np.mean(regrets):.1f}, worst {max(regrets):.1f}")
    assert np.mean(regrets) <= 120.0
