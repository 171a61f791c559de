"""Error rates and power by simulation, small: `make bench-experiments` has 2,000 experiments a world, these bounds and harder worlds."""

from __future__ import annotations

import numpy as np
import pytest

from tests.performance.experiment_looks import LONGEST, PLANNED, USERS_FOR_80, WORLDS, World, holds, runs, summary

RUNS = 300
RARE_AND_SKEWED = WORLDS[2:]


@pytest.mark.parametrize("world", RARE_AND_SKEWED, ids=lambda world: world.name)
def test_looking_always_keeps_the_error_rate_and_most_of_the_power(world: World) -> None:
    """Looked at after every 100 users: at most 5 % false positives where Welch's test has five times as many, and the power that was promised."""
    alike = runs(world, RUNS, seed=31, lift=0.0, users=PLANNED)
    different = runs(world, RUNS, seed=32, lift=world.detectable(), users=LONGEST)
    figures = summary(alike, different)
    assert holds(figures), figures
    assert (figures["false_welch"] or 0.0) > 0.2
    assert figures["power_welch"] == pytest.approx(0.91, abs=0.06)
    assert (figures["missed_lift"] or 0.0) <= 0.05


def test_a_world_has_the_moments_it_says() -> None:
    """The lift that is detectable is 3.3 standard errors at 10,000 users; 80 % power takes 7,204."""
    random = np.random.default_rng(9)
    for world in WORLDS:
        values = world.draw(random, 400_000, 0.2)
        mean, variance = world.moments(0.2)
        assert values.mean() == pytest.approx(mean, abs=4 * np.sqrt(variance / 400_000))
        assert values.var() == pytest.approx(variance, rel=0.1)
    assert WORLDS[1].detectable() == pytest.approx(0.3077, abs=1e-4)
    assert pytest.approx(7_204, abs=1) == USERS_FOR_80
