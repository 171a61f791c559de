"""A million draws of every kind are as frequent as their propensities say (chi-square, fixed seeds, p > 0.001)."""

from __future__ import annotations

from collections import Counter

import msgspec
import numpy as np
import pytest
from scipy.stats import chisquare, kstest

from shared.identity import decision_id, policy_key, uniform
from shared.policies.choosing import Chooser
from shared.policies.kinds import CONTEXTUAL_KINDS, KINDS
from shared.vocabulary import Context, Snapshot
from tests.unit.policies.episodes import taught
from tests.unit.policies.histories import CONTEXT, learned
from tests.unit.policies.snapshots import ACTIONS, snapshot

N_DRAWS = 1_000_000
KEY = b"a key that is kept secret"

every_kind = pytest.mark.parametrize("kind", KINDS)


def contested(kind: str) -> Snapshot:
    """Return a snapshot whose law is far from uniform, with every action frequent enough to be tested."""
    return snapshot(kind, "with data", exploration_floor=0.1)


SETS: tuple[tuple[str, ...] | None, ...] = (None, ("b", "d", "e"), ("new", "b", "a", "newer"))
IN_CONTEXT: list[tuple[Snapshot, Context, tuple[str, ...] | None]] = [
    (learned(kind, "interactions"), CONTEXT, actions) for kind in CONTEXTUAL_KINDS for actions in SETS
] + [
    (taught(kind, name), {"age": 40.0, "device": "desk"}, SETS[-1])
    for kind, name in (
        ("fitted_q", "many sessions"),
        ("q_learning", "many sessions"),
        ("q_learning", "by temperature"),
    )
]


@pytest.mark.parametrize(("given", "context", "actions"), IN_CONTEXT, ids=lambda each: getattr(each, "kind", ""))
def test_draws_in_a_context_match_the_stated_propensities(
    given: Snapshot, context: Context, actions: tuple[str, ...] | None
) -> None:
    """With features or states: first positions of whole sets, subsets and unknown actions, and second ones, given the first."""
    law = Chooser(msgspec.structs.replace(given, exploration_floor=0.1)).law(context, actions)
    counts: Counter[str] = Counter()
    seconds: dict[str, Counter[str]] = {action: Counter() for action in law.actions}
    draws = uniforms(22, 2 * N_DRAWS)
    for first, second in zip(draws[:N_DRAWS], draws[N_DRAWS:], strict=True):
        at = law.draw(first)
        counts[law.actions[at]] += 1
        rest = law.without(at)
        seconds[law.actions[at]][rest.actions[rest.draw(second)]] += 1
    agrees(counts, dict(zip(law.actions, law.propensities, strict=True)), N_DRAWS)
    for at, action in enumerate(law.actions):
        rest = law.without(at)
        agrees(seconds[action], dict(zip(rest.actions, rest.propensities, strict=True)), counts[action])


def agrees(counts: Counter[str], law: dict[str, float], total: int) -> None:
    """Assert that counts of actions fit a law over them."""
    assert set(counts) <= {action for action, share in law.items() if share > 0}
    assert sum(counts.values()) == total
    expected = np.array(list(law.values())) / sum(law.values()) * total
    assert chisquare([counts[action] for action in law], expected).pvalue > 0.001


def uniforms(seed: int, count: int) -> list[float]:
    """Return independent uniform numbers in [0, 1)."""
    numbers: list[float] = np.random.default_rng(seed).random(count).tolist()
    return numbers


@every_kind
@pytest.mark.parametrize(
    "actions",
    [None, ("b", "d", "e"), ("new", "b", "a", "newer")],
    ids=["whole", "subset", "with unknown actions"],
)
def test_draws_match_the_stated_propensities(kind: str, actions: tuple[str, ...] | None) -> None:
    """Of the whole set, a subset, and actions that the snapshot does not know, each is drawn as often as stated."""
    chooser = Chooser(contested(kind))
    stated: dict[str, float] = {}
    counts: Counter[str] = Counter()
    for draw in uniforms(22, N_DRAWS):
        (item,) = chooser.choose({}, actions, (draw,))
        counts[item.action] += 1
        stated[item.action] = item.propensity
    assert set(stated) == set(actions or ACTIONS)
    agrees(counts, stated, N_DRAWS)


@every_kind
def test_second_positions_match_the_stated_conditional_propensities(kind: str) -> None:
    """Whatever stands first, what stands second is drawn as often as stated, given the first."""
    chooser = Chooser(contested(kind))
    counts: dict[str, Counter[str]] = {action: Counter() for action in ACTIONS}
    stated: dict[str, dict[str, float]] = {action: {} for action in ACTIONS}
    first_stated: dict[str, float] = {}
    draws = uniforms(21, 2 * N_DRAWS)
    for pair in zip(draws[:N_DRAWS], draws[N_DRAWS:], strict=True):
        first, second = chooser.choose({}, None, pair)
        counts[first.action][second.action] += 1
        stated[first.action][second.action] = second.propensity
        first_stated[first.action] = first.propensity
    agrees(Counter({first: row.total() for first, row in counts.items()}), first_stated, N_DRAWS)
    for above, row in counts.items():
        assert set(stated[above]) == set(ACTIONS) - {above}
        agrees(row, stated[above], row.total())


@pytest.fixture(scope="module")
def keyed() -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """The numbers of positions 0 to 2 of decisions a microsecond apart, shape (100_000, 3)."""
    ids = [decision_id(7, 1_700_000_000_000_000 + at, 99, several=False) for at in range(100_000)]
    return np.array([[uniform(KEY, "news", decision, position) for position in range(3)] for decision in ids])


def test_keyed_numbers_are_uniform(keyed: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> None:
    """At every position the HMACs of near-identical ids pass for uniform numbers (Kolmogorov-Smirnov)."""
    assert keyed.min() >= 0.0
    assert keyed.max() < 1.0
    for position in range(3):
        assert kstest(keyed[:, position], "uniform").pvalue > 0.001


def test_keyed_numbers_of_positions_are_independent(keyed: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> None:
    """Pairs of positions, and of decisions that follow one another, fill a grid of 10 by 10 evenly."""
    pairs = [(keyed[:, 0], keyed[:, 1]), (keyed[:, 0], keyed[:, 2]), (keyed[:, 1], keyed[:, 2])]
    for one, other in [*pairs, (keyed[:-1, 0], keyed[1:, 0])]:
        cells = np.histogram2d(one, other, bins=10, range=[[0, 1], [0, 1]])[0]
        assert chisquare(cells.ravel()).pvalue > 0.001


@every_kind
def test_the_chain_from_id_to_choice_matches_the_propensities(kind: str) -> None:
    """Decision id, HMAC and choice together draw slates of two at the stated rates (100,000 decisions)."""
    chooser = Chooser(contested(kind))
    key = policy_key("news")
    slates: Counter[str] = Counter()
    law: dict[str, float] = {}
    for at in range(100_000):
        decision = decision_id(key, 1_700_000_000_000_000 + 10_007 * at, at, several=True)
        first, second = chooser.choose({}, None, [uniform(KEY, "news", decision, position) for position in (0, 1)])
        slate = f"{first.action}, {second.action}"
        slates[slate] += 1
        law[slate] = first.propensity * second.propensity
    assert len(law) == 20
    assert sum(law.values()) == pytest.approx(1.0, abs=1e-9)
    agrees(slates, law, 100_000)
