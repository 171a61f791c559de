"""RandUCB's closed form beside draws of it, and what it does where actions are alike."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from shared.policies.posterior import Posterior, learn, snapshot_of
from shared.policies.rand_ucb import RandUcb
from shared.vocabulary import FeatureSpec, Snapshot
from tests.unit.policies.histories import AT, outcomes, spec_of


@pytest.fixture(scope="module")
def snapshot() -> Snapshot:
    """Return a snapshot; what it has learned does not matter to its law over given evidence."""
    spec = spec_of("rand_ucb", FeatureSpec(expansion=16))
    return snapshot_of(learn(Posterior(), spec, outcomes(50, seed=1), AT + 100.0), spec, 1)


@pytest.fixture(scope="module")
def algorithm(snapshot: Snapshot) -> RandUcb:
    """Return the policy compiled."""
    return RandUcb(snapshot)


def evidence_of(n: int, seed: int) -> NDArray[np.float64]:
    """Return means and spreads of n actions."""
    random = np.random.default_rng(seed)
    return np.column_stack([0.3 * random.normal(size=n), 0.3 * np.abs(random.normal(size=n))])


@pytest.mark.parametrize("variation", [None, 0.01, 0.25, 1.0])
@pytest.mark.parametrize("n", [1, 2, 3, 10, 50])
def test_the_law_is_that_of_its_draws(snapshot: Snapshot, variation: float | None, n: int) -> None:
    """Shares of 200,000 draws of z lie within 0.005 of the closed form, which sums to 1.

    None: a snapshot from before there was a variation. Its decisions were drawn with z = |N(0, 1)|, and are recomputed so.
    """
    parameters = {name: value for name, value in snapshot.parameters.items() if name != "variation"}
    given = parameters if variation is None else parameters | {"variation": variation}
    algorithm = RandUcb(msgspec.structs.replace(snapshot, parameters=given))
    drawn = np.random.default_rng(3).normal(size=400_000)
    z = np.abs(drawn) if variation is None else 1.0 + variation * drawn
    z = z[z >= 0.0][:200_000, None]
    for seed in range(5):
        evidence = evidence_of(n, seed)
        law = algorithm.probabilities(evidence)
        assert law.sum() == pytest.approx(1.0, abs=1e-12)
        wins = np.bincount((evidence[:, 0] + z * evidence[:, 1]).argmax(axis=1), minlength=n)
        assert np.abs(wins / len(z) - law).max() < 0.005


def test_a_snapshot_names_its_variation(snapshot: Snapshot) -> None:
    """So that it means the same when the default changes."""
    assert snapshot.parameters["variation"] == RandUcb.PARAMETERS["variation"].default


def test_actions_that_are_alike_share_equally(algorithm: RandUcb) -> None:
    """Copies of the actions, off by a rounding error, get the same probability, and the order does not matter."""
    evidence = evidence_of(6, 11)
    law = algorithm.probabilities(evidence)
    twice = algorithm.probabilities(np.vstack([evidence * (1.0 + 2e-16), evidence]))
    assert twice == pytest.approx(np.tile(law / 2, 2), abs=1e-12)
    order = np.random.default_rng(0).permutation(6)
    assert algorithm.probabilities(evidence[order]) == pytest.approx(law[order], abs=1e-12)
    assert algorithm.probabilities(np.tile([[0.5, 0.2]], (4, 1))) == pytest.approx([0.25] * 4)


def test_an_action_below_at_both_ends_gets_nothing(algorithm: RandUcb) -> None:
    """A lower mean and a smaller spread can never win; without any spread the best mean takes all."""
    assert algorithm.probabilities(np.array([[0.5, 0.2], [0.4, 0.1]])).tolist() == [1.0, 0.0]
    assert algorithm.probabilities(np.array([[0.5, 0.0], [0.6, 0.0], [0.1, 0.0]])).tolist() == [0.0, 1.0, 0.0]
