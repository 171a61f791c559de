"""Fitted-Q evaluation against the exact value of a small decision process, and its error against the spread of many logs."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from shared.errors import InvalidInput
from shared.evaluation.fitted_q_evaluation import Transitions, fitted_q_evaluation, fitted_q_weights

Floats = npt.NDArray[np.float64]
STATES, ACTIONS, DISCOUNT = 3, 2, 0.8
ENDS = 0.2  # the chance that a step is the last one


class World:
    """A decision process of three states and two actions; a pair (state, action) is a one-hot feature vector."""

    def __init__(self) -> None:
        random = np.random.RandomState(1)
        self.moves = random.dirichlet(np.ones(STATES), size=(STATES, ACTIONS))
        self.means = random.uniform(size=(STATES, ACTIONS))
        self.target = random.dirichlet(np.ones(ACTIONS), size=STATES)
        self.start = np.array([0.5, 0.3, 0.2])

    def value(self) -> float:
        """Return the target's value by solving Bellman's equation."""
        pairs = (self.moves[:, :, :, None] * self.target[None, None]).reshape(STATES * ACTIONS, -1)
        q = np.linalg.solve(np.eye(STATES * ACTIONS) - DISCOUNT * (1 - ENDS) * pairs, self.means.ravel())
        return float(self.start @ (self.target * q.reshape(STATES, ACTIONS)).sum(axis=1))

    def features(self, state: int, action: int) -> Floats:
        """Return the one-hot vector of a pair."""
        return np.asarray(np.eye(STATES * ACTIONS)[state * ACTIONS + action])

    def expected(self, state: int) -> Floats:
        """Return the target's mean features in `state`."""
        return np.kron(np.eye(STATES)[state], self.target[state])

    def log(self, seed: int, episodes: int) -> Transitions:
        """Return episodes of a uniform logging policy."""
        random = np.random.RandomState(seed)
        features, rewards, following, numbers, initial = [], [], [], [], []
        for episode in range(episodes):
            state = _drawn(random, self.start)
            initial.append(self.expected(state))
            ended = False
            while not ended:
                action = random.randint(ACTIONS)
                ended = random.uniform() < ENDS
                features.append(self.features(state, action))
                rewards.append(float(random.uniform() < self.means[state, action]))
                state = _drawn(random, self.moves[state, action])
                following.append(np.zeros(STATES * ACTIONS) if ended else self.expected(state))
                numbers.append(episode)
        return Transitions(
            features=np.array(features),
            rewards=np.array(rewards),
            next_features=np.array(following),
            episodes=np.array(numbers),
            initial_features=np.array(initial),
        )


def _drawn(random: np.random.RandomState, law: Floats) -> int:
    return int(np.searchsorted(np.cumsum(law)[:-1], random.uniform(), side="right"))


def test_the_value_is_exact_where_the_transitions_are() -> None:
    """With every pair's expected transition in the log the fixed point is Bellman's solution, up to the ridge."""
    world = World()
    pairs = [(state, action) for state in range(STATES) for action in range(ACTIONS)]
    transitions = Transitions(
        features=np.array([world.features(*pair) for pair in pairs]),
        rewards=np.array([world.means[pair] for pair in pairs]),
        next_features=np.array(
            [(1 - ENDS) * sum(world.moves[pair][s] * world.expected(s) for s in range(STATES)) for pair in pairs]
        ),
        episodes=np.zeros(len(pairs), dtype=np.int64),
        initial_features=np.array([sum(world.start[s] * world.expected(s) for s in range(STATES))]),
    )
    weights = fitted_q_weights(transitions, DISCOUNT, ridge=1e-9)
    assert float(transitions.initial_features[0] @ weights) == pytest.approx(world.value(), abs=1e-7)


def test_its_intervals_hold() -> None:
    """Over 200 logs of 100 episodes the normal interval holds the exact value in 95 % of them (three errors)."""
    world, held, logs = World(), 0, 200
    truth = world.value()
    for seed in range(logs):
        interval = fitted_q_evaluation(world.log(seed, 100), DISCOUNT).interval()
        assert interval is not None
        held += interval[0] <= truth <= interval[1]
    assert held / logs == pytest.approx(0.95, abs=3 * math.sqrt(0.95 * 0.05 / logs))


def test_features_that_cannot_carry_the_values_are_refused() -> None:
    """A regression that feeds on its own forecast and grows without end is an error, not a number."""
    transitions = Transitions(
        features=np.array([[1.0]]),
        rewards=np.array([1.0]),
        next_features=np.array([[2.0]]),
        episodes=np.array([0]),
        initial_features=np.array([[1.0]]),
    )
    with pytest.raises(InvalidInput, match="do not settle") as refused:
        fitted_q_evaluation(transitions, 0.9)
    assert refused.value.field == "features"


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("rewards", {"rewards": np.array([np.nan])}),
        ("next_features", {"next_features": np.ones((1, 2))}),
        ("initial_features", {"initial_features": np.ones((1, 3))}),
        ("episodes", {"episodes": np.array([1])}),
        ("features", {"features": np.ones(1)}),
    ],
)
def test_malformed_transitions_are_refused(field: str, change: dict[str, Floats]) -> None:
    """Every array is checked, and the one at fault named."""
    good = {
        "features": np.array([[1.0]]),
        "rewards": np.array([1.0]),
        "next_features": np.array([[0.0]]),
        "episodes": np.array([0]),
        "initial_features": np.array([[1.0]]),
    }
    with pytest.raises(InvalidInput) as refused:
        fitted_q_evaluation(Transitions(**(good | change)), 0.9)
    assert refused.value.field == field
