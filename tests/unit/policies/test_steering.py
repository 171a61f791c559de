"""Bandits steered by Q-learning: the law is the bandit's own over evidence moved by weighted values, and draws match it."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from shared.policies.choosing import Chooser
from shared.policies.kinds import CONTEXTUAL_KINDS, KINDS
from shared.policies.ordered_kinds import LEARNERS, learner_of, orders_alike
from shared.policies.q_tables import unpack, values_of, visits_of
from shared.policies.state_space import StateSpace
from shared.storage.redis_snapshots import decode_snapshot, encode_snapshot
from shared.vocabulary import Context, Diversity, Snapshot, Steering
from tests.unit.policies.episodes import STATE, sessions, spec_of
from tests.unit.policies.histories import ACTIONS, CONTEXT, learned
from tests.unit.policies.slate_draws import pairs_of
from tests.unit.policies.snapshots import snapshot
from tests.unit.policies.test_draws import N_DRAWS, agrees, uniforms

TABLES = LEARNERS["q_learning"].learn(None, spec_of("q_learning"), sessions(200, 5))
ROWS = unpack(TABLES).rows
STATES: list[Context] = [CONTEXT, {"age": 20.0, "device": "desk"}, {"device": ["a", "list"]}]


def steered(given: Snapshot, weight: float = 0.4, minimum_visits: float = 10.0) -> Snapshot:
    """Return a snapshot that the tables steer."""
    return msgspec.structs.replace(
        given,
        actions=ACTIONS,
        exploration_floor=0.1,
        steering=Steering(weight, minimum_visits),
        tables=TABLES,
    )


every_bandit = pytest.mark.parametrize(
    "given",
    [
        *[pytest.param(steered(snapshot(kind)), id=kind) for kind in KINDS],
        *[pytest.param(steered(learned(kind, "interactions")), id=f"contextual {kind}") for kind in CONTEXTUAL_KINDS],
    ],
)


def plain(given: Snapshot) -> Snapshot:
    """Return the same snapshot, not steered."""
    return msgspec.structs.replace(given, steering=None, tables=None)


@every_bandit
def test_the_law_is_the_bandits_over_moved_evidence(given: Snapshot) -> None:
    """In each state, for all actions, some, and one without samples, whose value is the initial one."""
    chooser, bare = Chooser(given), Chooser(plain(given))
    algorithm = bare._contextual or bare._algorithm
    assert algorithm is not None
    width = 1.0 if given.reward_range is None else given.reward_range[1] - given.reward_range[0]
    beta = given.kind in {"thompson", "top_two_thompson"} and given.reward_range is not None
    for context in STATES:
        values = values_of(ROWS[StateSpace(STATE).state(context)])
        for actions in (None, ["b", "new", "d"]):
            law, unmoved = chooser.law(context, actions), bare.law(context, actions)
            shift = 0.4 * np.array([values.get(action, _initial(given)) for action in law.actions])
            evidence = unmoved._evidence + (shift / width if beta else shift)[:, None]
            shares = 0.9 * algorithm.probabilities(evidence) + 0.1 / len(shift)
            np.testing.assert_allclose(law.propensities, shares, atol=1e-12)
            assert law.scores == unmoved.scores


def _initial(given: Snapshot) -> float:
    return 0.0 if given.reward_range is None else sum(given.reward_range) / 2


@every_bandit
def test_a_state_that_is_hardly_known_leaves_the_bandit_alone(given: Snapshot) -> None:
    """With fewer samples than it needs, in a state never visited, and before there are tables."""
    most = max(visits_of(row) for row in ROWS.values())
    for other in (steered(given, minimum_visits=most + 1), msgspec.structs.replace(given, tables=None)):
        for context in STATES:
            assert Chooser(other).propensities(None, context) == Chooser(plain(given)).propensities(None, context)
    never: Context = {"age": "old"}
    assert StateSpace(STATE).state(never) not in ROWS
    assert Chooser(given).propensities(None, never) == Chooser(plain(given)).propensities(None, never)


@every_bandit
def test_a_snapshot_with_tables_survives_its_encoding(given: Snapshot) -> None:
    """And decides alike, to the bit."""
    decoded = decode_snapshot(encode_snapshot(given))
    assert decoded == given
    assert Chooser(decoded).propensities(None, CONTEXT) == Chooser(given).propensities(None, CONTEXT)


@every_bandit
def test_draws_of_steered_diverse_slates_match_their_propensities(given: Snapshot) -> None:
    """A million slates of two, diversity on as well: pairs are as frequent as first times second propensity."""
    law = Chooser(msgspec.structs.replace(given, diversity=Diversity(0.3))).law(CONTEXT, None)
    pairs, stated = pairs_of(law, np.array(uniforms(23, 2 * N_DRAWS)).reshape(2, -1))
    agrees(pairs, stated, N_DRAWS)


def test_a_heavy_weight_follows_the_tables() -> None:
    """Greedy on means that differ little, a bandit takes what the tables prefer in each state."""
    given = steered(snapshot("epsilon_greedy", parameters={"epsilon": 0.0}), weight=100.0)
    for context in STATES:
        values = values_of(ROWS[StateSpace(STATE).state(context)])
        shares = Chooser(given).propensities(None, context)
        assert max(shares, key=lambda action: shares[action]) == max(values, key=lambda action: values[action])


def test_a_steered_bandit_learns_the_tables_of_q_learning() -> None:
    """It is inherited over kinds that learn the same tables; what they depend on asks for a refit."""
    spec = spec_of("thompson", steering=Steering(0.5))
    assert learner_of(spec) is LEARNERS["q_learning"]
    assert learner_of(msgspec.structs.replace(spec, steering=None)) is None
    alike: list[dict[str, Any]] = [
        {"kind": "ucb1"},
        {"kind": "q_learning", "steering": None},
        {"steering": Steering(0.1)},
    ]
    for change in alike:
        assert orders_alike(spec, msgspec.structs.replace(spec, **change)), change
        assert orders_alike(msgspec.structs.replace(spec, **change), spec), change
    others: list[dict[str, Any]] = [
        {"state": {}},
        {"parameters": {"discount": 0.5}},
        {"kind": "fitted_q", "steering": None},
    ]
    for change in others:
        assert not orders_alike(spec, msgspec.structs.replace(spec, **change)), change
    assert not orders_alike(msgspec.structs.replace(spec, steering=None), spec)
