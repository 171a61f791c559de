"""Top-two Thompson sampling: its closed form against resampling, quadrature, and what it is for."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from scipy.stats import beta, chisquare

from shared.policies.choosing import Chooser
from shared.policies.posterior import Outcome, Posterior, learn, snapshot_of
from shared.policies.thompson import Thompson
from shared.policies.top_two_thompson import TopTwoThompson
from shared.vocabulary import Action, Estimate, PolicySpec, Snapshot
from tests.unit.policies.simulated import START


def snapshot(*pairs: tuple[float, float], seed: int = 77, **given: float) -> Snapshot:
    """Return a snapshot of actions "0", "1", ... that know (weight, total) each, without a floor."""
    known = tuple(Estimate(str(at), weight, total, total) for at, (weight, total) in enumerate(pairs))
    own = tuple(Action(e.action) for e in known)
    return Snapshot("p", 1, 1, "top_two_thompson", given, own, known, 0.0, (0.0, 1.0), seed, 0.0)


CONTESTED = snapshot((40.0, 12.0), (55.0, 20.0), (8.0, 3.0), (20.0, 8.5), beta=0.6)


@pytest.mark.parametrize("subset", [[0, 1, 2, 3], [0, 2, 3], [2, 1]], ids=str)
def test_propensities_are_those_of_resampling(subset: list[int]) -> None:
    """200,000 runs of the algorithm as published, on the snapshot's own draws, choose as often (chi-square)."""
    actions = [str(at) for at in subset]
    draws = TopTwoThompson(CONTESTED).evidence(actions)
    best = draws.argmax(axis=0)
    random = np.random.default_rng(11)
    runs = 200_000
    leaders = best[random.integers(0, 256, runs)]
    challengers = leaders.copy()
    while (same := np.flatnonzero(challengers == leaders)).size:
        challengers[same] = best[random.integers(0, 256, same.size)]
    chosen = np.where(random.random(runs) < 0.6, leaders, challengers)
    law = np.array(list(Chooser(CONTESTED).propensities(actions).values()))
    assert chisquare(np.bincount(chosen, minlength=len(subset)), law * runs).pvalue > 0.001


def test_propensities_have_their_closed_form() -> None:
    """P(a) = beta w(a) + (1 - beta) sum over j != a of w(j) w(a) / (1 - w(j)), w being Thompson's (1e-12)."""
    for subset in (["0", "1", "2", "3"], ["3", "0"], ["new", "1", "2"]):
        wins = Chooser(CONTESTED).propensities(subset)
        shares = Thompson(CONTESTED).probabilities(Thompson(CONTESTED).evidence(subset))
        for a, action in enumerate(subset):
            challenged = sum(shares[j] * shares[a] / (1 - shares[j]) for j in range(len(subset)) if j != a)
            assert wins[action] == pytest.approx(0.6 * shares[a] + 0.4 * challenged, abs=1e-12)


def test_with_beta_1_it_is_thompson() -> None:
    """The leader alone is Thompson sampling's choice, to the bit."""
    given = msgspec.structs.replace(CONTESTED, parameters={"beta": 1.0})
    plain = msgspec.structs.replace(given, kind="thompson", parameters={})
    assert Chooser(given).propensities() == Chooser(plain).propensities()


def test_of_two_actions_each_gets_its_part() -> None:
    """Where both win draws, the winner of a draw is chosen with beta and the other with 1 - beta."""
    given = snapshot((10.0, 4.0), (10.0, 6.0), beta=0.7)
    wins = Thompson(given).probabilities(Thompson(given).evidence(["0", "1"]))
    law = Chooser(given).propensities()
    assert 0 < wins[0] < 1
    assert law["0"] == pytest.approx(0.7 * wins[0] + 0.3 * wins[1], abs=1e-12)


def test_challengers_share_where_one_action_wins_every_draw() -> None:
    """The sure winner keeps beta; the others share the rest as they win among themselves; one alone gets everything."""
    given = snapshot((1e6, 9e5), (40.0, 12.0), (55.0, 20.0), (8.0, 3.0), beta=0.6)
    law = Chooser(given).propensities()
    among = Thompson(given).probabilities(Thompson(given).evidence(["1", "2", "3"]))
    assert law["0"] == pytest.approx(0.6, abs=1e-12)
    assert [law[action] for action in "123"] == pytest.approx((0.4 * among).tolist(), abs=1e-12)
    assert Chooser(given).propensities(["0"]) == {"0": 1.0}


def test_it_tells_the_best_action_apart_sooner() -> None:
    """After 6,000 decisions among five actions the best is a tenth further from its rival, in deviations (20 seeds)."""
    ours, theirs = (np.mean([_distance(kind, seed) for seed in range(20)]) for kind in ("top_two_thompson", "thompson"))
    assert ours > 1.1 * theirs


def _distance(kind: str, seed: int) -> float:
    """Return by how many posterior deviations the best action is ahead of the nearest other one, after a run."""
    random = np.random.default_rng(seed)
    rates = [0.5, 0.44, 0.42, 0.4, 0.38]
    spec = PolicySpec("best", 1, kind, {}, tuple(Action(str(at)) for at in range(5)), exploration_floor=0.0)
    posterior = Posterior()
    for at in range(60):
        chooser = Chooser(snapshot_of(posterior, spec, 1_000 * seed + at + 1))
        chosen = [chooser.choose({}, None, [draw])[0].action for draw in random.random(100).tolist()]
        outcomes = [Outcome(START, a, shown=True, after=float(random.random() < rates[int(a)])) for a in chosen]
        posterior = learn(posterior, spec, outcomes, START)
    law = [beta(1 + known.total, 1 + known.weight - known.total) for known in snapshot_of(posterior, spec, 1).estimates]
    return min(float((law[0].mean() - other.mean()) / np.hypot(law[0].std(), other.std())) for other in law[1:])
