"""Estimators over *every* log that could have been, each counted with its probability: their mean is the target's value, exactly.

No draw, no tolerance but rounding: a weight that is wrong anywhere shows.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import pytest

from shared.evaluation.doubly_robust import doubly_robust_terms
from shared.evaluation.inverse_propensity import inverse_propensity_terms
from shared.evaluation.logged_decisions import LoggedDecisions, ragged
from shared.evaluation.logged_sequences import LoggedSequences, sequences
from shared.evaluation.per_decision import per_decision_terms
from shared.evaluation.per_decision_doubly_robust import per_decision_doubly_robust_terms
from shared.evaluation.pseudo_inverse import product_weights, uniform_weights
from shared.evaluation.slate_independent import slate_independent_terms
from shared.evaluation.slate_reward_interaction import slate_reward_interaction_terms
from shared.evaluation.slate_standard import slate_standard_terms

Floats = npt.NDArray[np.float64]
ITEMS, POSITIONS = 4, 3


def law(seed: int, size: int) -> Floats:
    """Return a distribution without zeros, shape (size,)."""
    powers = np.exp(np.random.RandomState(seed).normal(size=size))
    return np.asarray(powers / powers.sum())


@pytest.mark.parametrize("terms_of", [inverse_propensity_terms, doubly_robust_terms])
def test_single_decisions(terms_of: Callable[[LoggedDecisions], Floats]) -> None:
    """One context with three, one with five eligible actions: every logged action once, weighted by its propensity."""
    sizes = np.array([3, 5])
    behaviour = [law(size, int(size)) for size in sizes]
    target = [law(10 + int(size), int(size)) for size in sizes]
    means = [np.random.RandomState(int(size)).normal(size=size) for size in sizes]
    chosen = np.concatenate([np.arange(size) for size in sizes])
    context = np.repeat([0, 1], sizes)
    log = ragged(
        np.concatenate(means),
        np.concatenate(behaviour),
        np.concatenate([[0], np.cumsum(sizes[context])]),
        np.concatenate([target[c] for c in context]),
        chosen,
        predictions=np.random.RandomState(4).normal(size=int(sizes[context].sum())),
    )
    # the model's predictions must be a function of context and action, not of the row
    by_context = [np.random.RandomState(20 + c).normal(size=sizes[c]) for c in (0, 1)]
    log = log.with_predictions(np.concatenate([by_context[c] for c in context]))
    expected = sum(float(target[c] @ means[c]) for c in (0, 1))
    assert float(log.propensities @ terms_of(log)) == pytest.approx(expected, abs=1e-12)


class Slates:
    """All ordered slates of three of four items, two policies that draw one item after another, and rewards."""

    def __init__(self) -> None:
        self.items = np.array(list(itertools.permutations(range(ITEMS), POSITIONS)))
        self.behaviour = self._conditionals(law(1, ITEMS))
        self.target = self._conditionals(law(2, ITEMS))
        self.of_behaviour, self.of_target = self.behaviour.prod(axis=1), self.target.prod(axis=1)

    def _conditionals(self, scores: Floats) -> Floats:
        left = 1.0 - np.cumsum(scores[self.items], axis=1) + scores[self.items]
        return np.asarray(scores[self.items] / left)

    def log(self, rewards: Floats) -> LoggedSequences:
        """Return every slate once with its `rewards`, shape (n_slates, POSITIONS)."""
        return sequences(rewards, self.behaviour, self.target)

    def marginals(self, probabilities: Floats) -> Floats:
        """Return the probability that an item stands at a position, shape (POSITIONS, ITEMS)."""
        return np.array(
            [[probabilities[self.items[:, k] == item].sum() for item in range(ITEMS)] for k in range(POSITIONS)]
        )


def test_slates_with_any_rewards() -> None:
    """Whole-slate weights suppose nothing: rewards may depend on the whole slate."""
    slates = Slates()
    rewards = np.random.RandomState(3).normal(size=(len(slates.items), POSITIONS))
    expected = float(slates.of_target @ rewards.sum(axis=1))
    assert float(slates.of_behaviour @ slate_standard_terms(slates.log(rewards))) == pytest.approx(expected, abs=1e-12)


def test_slates_with_rewards_of_what_stands_above() -> None:
    """Reward-interaction weights are unbiased where a position's reward depends on the items down to it."""
    slates = Slates()
    random = np.random.RandomState(5)
    table = random.normal(size=(POSITIONS, ITEMS, ITEMS, ITEMS))
    first, second, third = slates.items.T
    rewards = np.column_stack([table[0, first, 0, 0], table[1, first, second, 0], table[2, first, second, third]])
    expected = float(slates.of_target @ rewards.sum(axis=1))
    log = slates.log(rewards)
    assert float(slates.of_behaviour @ slate_reward_interaction_terms(log)) == pytest.approx(expected, abs=1e-12)
    discounted = float(slates.of_target @ (rewards @ [1.0, 0.5, 0.25]))
    assert float(slates.of_behaviour @ per_decision_terms(log, 0.5)) == pytest.approx(discounted, abs=1e-12)


def test_slates_with_rewards_of_single_positions() -> None:
    """Independent weights, of marginal probabilities, are unbiased where a position's reward depends on its item alone."""
    slates = Slates()
    table = np.random.RandomState(6).normal(size=(POSITIONS, ITEMS))
    places = np.arange(POSITIONS), slates.items
    log = sequences(
        table[places], slates.marginals(slates.of_behaviour)[places], slates.marginals(slates.of_target)[places]
    )
    expected = float(slates.of_target @ log.totals)
    assert float(slates.of_behaviour @ slate_independent_terms(log)) == pytest.approx(expected, abs=1e-12)


def pseudo_inverse_weights(indicators: Floats, behaviour: Floats, target: Floats) -> Floats:
    """Return q' Γ⁺ 1 of each slate by the definition, from all slates and their probabilities."""
    gamma = indicators.T @ (behaviour[:, None] * indicators)
    return np.asarray(indicators @ np.linalg.pinv(gamma, rcond=1e-12) @ (indicators.T @ target))


@pytest.mark.parametrize("size", [3, 4, 5])
def test_pseudo_inverse_of_uniform_slates(size: int) -> None:
    """The closed form equals NumPy's pseudo-inverse of Γ, also where every item is shown, and is unbiased for additive rewards."""
    items = np.array(list(itertools.permutations(range(size), POSITIONS)))
    indicators = np.eye(size)[items].reshape(len(items), -1)
    target = law(7, len(items))
    behaviour = np.full(len(items), 1.0 / len(items))
    marginals = (target @ indicators).reshape(POSITIONS, size)
    weights = uniform_weights(items, np.tile(marginals, (len(items), 1, 1)))
    assert weights == pytest.approx(pseudo_inverse_weights(indicators, behaviour, target), abs=1e-9)
    rewards = indicators @ np.random.RandomState(8).normal(size=POSITIONS * size)
    assert float(behaviour @ (weights * rewards)) == pytest.approx(float(target @ rewards), abs=1e-12)


def test_pseudo_inverse_of_products() -> None:
    """The same for positions that are drawn independently, each from items of its own."""
    laws = [(law(30 + k, ITEMS), law(40 + k, ITEMS)) for k in range(POSITIONS)]
    items = np.array(list(itertools.product(range(ITEMS), repeat=POSITIONS)))
    behaviour, target = (np.column_stack([pair[one][items[:, k]] for k, pair in enumerate(laws)]) for one in (0, 1))
    indicators = np.eye(ITEMS)[items].reshape(len(items), -1)
    weights = product_weights(sequences(np.zeros(items.shape), behaviour, target))
    expected = pseudo_inverse_weights(indicators, behaviour.prod(axis=1), target.prod(axis=1))
    assert weights == pytest.approx(expected, abs=1e-9)


def paths(steps: int) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Yield every sequence of actions and states of a world of two states and two actions that begins in state 0."""
    for actions in itertools.product((0, 1), repeat=steps):
        for states in itertools.product((0, 1), repeat=steps - 1):
            yield actions, (0, *states)


def test_sessions_of_a_world_with_states() -> None:
    """Per-decision weights over every path of a small decision process, whose moves are random too; corrected forecasts of any kind as well."""
    random = np.random.RandomState(9)
    moves = np.array([[law(50 + 2 * s + a, 2) for a in (0, 1)] for s in (0, 1)])  # (state, action, next state)
    behaviour, target = (np.array([law(60 + 2 * p + s, 2) for s in (0, 1)]) for p in (0, 1))
    means = random.normal(size=(2, 2))
    forecast = random.normal(size=(3, 2, 2))  # of (step, state, action): nothing like the truth
    worth = np.concatenate([(forecast * target).sum(axis=2), np.zeros((1, 2))])
    value, total, steps, discount = 0.0, 0.0, 3, 0.9
    undiscounted, corrected = 0.0, 0.0
    for actions, states in paths(steps):
        chance = float(np.prod([moves[states[t], actions[t], states[t + 1]] for t in range(steps - 1)]))
        of_behaviour, of_target = (
            np.array([[p[s, a] for s, a in zip(states, actions, strict=True)]]) for p in (behaviour, target)
        )
        rewards = np.array([[means[s, a] for s, a in zip(states, actions, strict=True)]])
        log = sequences(rewards, of_behaviour, of_target)
        term = float(per_decision_terms(log, discount)[0])
        after = [worth[t + 1, s] for t, s in enumerate((*states[1:], 0))]
        done = [forecast[t, s, a] for t, (s, a) in enumerate(zip(states, actions, strict=True))]
        given = np.array([worth[0, 0]]), rewards + np.array([after]) - np.array([done])
        corrected += chance * float(
            of_behaviour.prod() * per_decision_doubly_robust_terms(log, *given, normalised=False)[0]
        )
        undiscounted += chance * float(of_target.prod() * rewards.sum())
        total += chance * float(of_behaviour.prod()) * term
        value += chance * float(of_target.prod()) * float(rewards[0] @ discount ** np.arange(steps))
    assert total == pytest.approx(value, abs=1e-12)
    assert corrected == pytest.approx(undiscounted, abs=1e-12)
