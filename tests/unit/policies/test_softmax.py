"""Softmax against its closed form."""

from __future__ import annotations

from math import e, exp

import numpy as np
import pytest
from scipy.special import softmax

from shared.policies.choosing import Chooser
from shared.policies.epsilon_greedy import EpsilonGreedy
from shared.policies.softmax import Softmax
from shared.vocabulary import Action, Estimate, Snapshot


def snapshot(
    *pairs: tuple[float, float], reward_range: tuple[float, float] | None = (0.0, 1.0), **given: float
) -> Snapshot:
    """Return a snapshot of actions "0", "1", ... that know (weight, total) each, without a floor."""
    known = tuple(Estimate(str(at), weight, total, total) for at, (weight, total) in enumerate(pairs))
    return Snapshot(
        "p", 1, 1, "softmax", given, tuple(Action(e.action) for e in known), known, 0.0, reward_range, 1, 0.0
    )


@pytest.mark.parametrize("temperature", [0.01, 0.1, 3.0])
def test_propensities_are_the_closed_form(temperature: float) -> None:
    """They are SciPy's softmax of means / temperature (1e-12), of subsets too; means are those of epsilon-greedy."""
    given = snapshot((10.0, 2.0), (30.0, 20.0), (5.0, 1.0), (0.0, 0.0), temperature=temperature)
    means = np.array([2.5 / 11, 20.5 / 31, 1.5 / 6, 0.5])
    assert Softmax(given).scores("0123") == pytest.approx(means.tolist(), abs=1e-15)
    assert Softmax(given).scores("0123") == EpsilonGreedy(given).scores("0123")
    chooser = Chooser(given)
    for subset in ([0, 1, 2, 3], [0, 2], [3, 1, 0]):
        law = chooser.propensities([str(at) for at in subset])
        assert list(law.values()) == pytest.approx(softmax(means[subset] / temperature).tolist(), abs=1e-12)


def test_temperature_is_in_widths_of_the_range() -> None:
    """One temperature of difference makes a factor of e, whatever the range; without one it is in units of reward."""
    wide = snapshot((1e6, 1e6), (1e6, 2e6), reward_range=(0.0, 10.0), temperature=0.1, prior_weight=1e-6)
    unbounded = snapshot((1e6, 1e6), (1e6, 3e6), reward_range=None, temperature=2.0, prior_weight=1e-6)
    for given in (wide, unbounded):
        law = Chooser(given).propensities()
        assert law["1"] / law["0"] == pytest.approx(e, rel=1e-9)


def test_large_differences_do_not_overflow() -> None:
    """The best takes everything, ties share it."""
    given = snapshot((1e9, 1e18), (1e9, 0.0), (1e9, 1e18), reward_range=None, temperature=1e-6)
    assert Chooser(given).propensities() == {"0": 0.5, "1": 0.0, "2": 0.5}
    law = Chooser(snapshot((9.0, 0.0), (9.0, 9.0), temperature=0.5)).propensities()
    assert law["0"] / law["1"] == pytest.approx(exp(-0.9 / 0.5), rel=1e-12)
