"""Sessions whose every probability is known: simulators for sequential policies, and what the best policy earns in them.

`frozen_lake`: Gymnasium's slippery 4x4 map (`FrozenLake-v1`), at most 100 steps. `satisfaction`: the dynamics of RecSim's long-term
satisfaction (Ie et al., RecSim, 2019) on a grid; its clickbait (*choc*) earns more at once and lowers how much anything
earns later, its opposite (*kale*) raises that. RecSim's default sensitivity of 0.01 leaves satisfaction at one half whatever
is shown, so that the greedy choice is also the best one; the higher one here makes it a trap. `bait`: the same in a few short steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from math import erf, exp, log, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from shared.policies.choosing import Chooser
from shared.policies.ordered import Step
from shared.vocabulary import Action, Cells, Context

Floats = NDArray[np.float64]


class World(NamedTuple):
    """A session: `moves` shape (n_states, n_actions, n_states), `earns` shape (n_states, n_actions) mean rewards.

    `reward(state, action, next state, normal draw)`: one reward; `over`: states in which a session is over, shape
    (n_states,); `begins`: where it begins, shape (n_states,); `contexts`, `cells`: how a policy sees states.
    """

    actions: tuple[Action, ...]
    moves: Floats
    earns: Floats
    reward: Callable[[int, int, int, float], float]
    over: NDArray[np.bool_]
    begins: Floats
    horizon: int
    contexts: tuple[Context, ...]
    cells: Mapping[str, Cells]

    def best(self) -> float:
        """Return what the best policy, which may look at the clock too, earns in a session: value iteration."""
        values = np.zeros(len(self.begins))
        for _ in range(self.horizon):
            values = (self.earns + self.moves @ values).max(axis=1)
        return float(self.begins @ values)

    def worth(self, laws: Floats) -> float:
        """Return what a policy earns in a session, exactly; `laws`: its probabilities, shape (n_states, n_actions)."""
        values = np.zeros(len(self.begins))
        for _ in range(self.horizon):
            values = (laws * (self.earns + self.moves @ values)).sum(axis=1)
        return float(self.begins @ values)

    def laws(self, chooser: Chooser) -> Floats:
        """Return what a chooser serves in every state, shape (n_states, n_actions), floor included."""
        return np.array([list(chooser.propensities(context=context).values()) for context in self.contexts])

    def play(self, chooser: Chooser, sessions: int, random: np.random.RandomState) -> Iterator[Step]:
        """Play sessions, each decision chosen by `chooser`; yield their steps as they are learned."""
        reach = np.cumsum(self.moves, axis=2)
        edges = [[row.tolist() for row in state] for state in reach]
        over = self.over.tolist()
        place = {action.id: at for at, action in enumerate(self.actions)}
        starts = np.searchsorted(np.cumsum(self.begins), random.random_sample(sessions)).tolist()
        for state in starts:
            draws = random.random_sample((self.horizon, 2)).tolist()
            noise = random.standard_normal(self.horizon).tolist()
            for step in range(self.horizon):
                (item,) = chooser.choose(self.contexts[state], None, draws[step][:1])
                action = place[item.action]
                row = edges[state][action]
                after = next((at for at, edge in enumerate(row) if draws[step][1] < edge), len(row) - 1)
                reward = self.reward(state, action, after, noise[step])
                ends = over[after] or step + 1 == self.horizon
                context = self.contexts[state]
                yield Step(0.0, context, (item.action,), (reward,), self.actions, (item.propensity,), ends)
                if ends:
                    break
                state = after  # noqa: PLW2901 - that is what a step does


def frozen_lake() -> World:
    """Return the lake: the way chosen is gone one time in three, else one of the two beside it; the goal earns 1."""
    lake = "SFFFFHFHFFFHHFFG"
    ways = ((0, -1), (1, 0), (0, 1), (-1, 0))
    moves = np.zeros((16, 4, 16))
    over = np.array([field in "HG" for field in lake])
    for state in np.flatnonzero(~over).tolist():
        for action in range(4):
            for slip in (-1, 0, 1):
                down, right = ways[(action + slip) % 4]
                row, column = min(max(state // 4 + down, 0), 3), min(max(state % 4 + right, 0), 3)
                moves[state, action, 4 * row + column] += 1 / 3
    goal = len(lake) - 1
    return World(
        tuple(Action(way) for way in ("left", "down", "right", "up")),
        moves,
        moves[:, :, goal],
        lambda _state, _action, after, _noise: float(after == goal),
        over,
        np.eye(16)[0],
        100,
        tuple({"field": str(state)} for state in range(16)),
        {"field": Cells(categories=tuple(map(str, range(16))))},
    )


def satisfaction(
    sensitivity: float,
    *,
    choc_mean: float = 5.0,
    kale_mean: float = 4.0,
    spread: float = 1.0,
    memory: float = 0.7,
    horizon: int = 60,
    points: int = 13,
) -> World:
    """Return RecSim's user: defaults as there, but for the grid and the bound on engagement, which is a reward of 1.

    exposure' = memory * exposure + 1 for kale, - 1 for choc; satisfaction = 1 / (1 + exp(-sensitivity * exposure));
    log engagement ~ Normal(mean * satisfaction, spread). Exposure falls on one of `points` of its range, the two beside
    the exact value sharing it in such a way that its mean is kept.
    """
    furthest = 1.0 / (1.0 - memory)
    grid = np.linspace(-furthest, furthest, points)
    satisfied = 1.0 / (1.0 + np.exp(-sensitivity * grid))
    means = np.array([choc_mean, kale_mean])
    moves = np.zeros((points, 2, points))
    for state, exposure in enumerate(grid):
        for action, step in enumerate((-1.0, 1.0)):
            at = (memory * exposure + step + furthest) / (grid[1] - grid[0])
            low = min(int(at), points - 2)
            moves[state, action, low] += 1.0 - (at - low)
            moves[state, action, low + 1] += at - low
    return World(
        (Action("choc"), Action("kale")),
        moves,
        np.array([[_mean_of_bounded(mean * share, spread) for mean in means] for share in satisfied]),
        lambda state, action, _after, noise: min(exp(means[action] * satisfied[state] + spread * noise) / _MOST, 1.0),
        np.zeros(points, dtype=bool),
        np.where(np.abs(grid) <= furthest / 2, 1.0, 0.0) / np.count_nonzero(np.abs(grid) <= furthest / 2),
        horizon,
        tuple({"exposure": float(exposure)} for exposure in grid),
        {"exposure": Cells(bins=tuple(((grid[:-1] + grid[1:]) / 2).tolist()))},
    )


def bait(*, steps: int = 4, leaves: float = 0.1) -> World:
    """Return a user whom bait tires: 0.6 at once against 0.4, but tired ones click hardly at all, and seldom recover.

    At most `steps` decisions, the user leaving after each with probability `leaves`. The state says all that matters, the number of the
    step too, so that what a policy earns in the rest of a session is a function of the state.
    """
    rates = np.array([[0.6, 0.4], [0.08, 0.02]])
    tires = np.array([[0.9, 0.1], [0.95, 0.95]])
    gone = 2 * steps
    moves, earns = np.zeros((gone + 1, 2, gone + 1)), np.zeros((gone + 1, 2))
    for step in range(steps):
        stays = 1.0 - leaves if step + 1 < steps else 0.0
        for mood in range(2):
            earns[2 * step + mood] = rates[mood]
            for action in range(2):
                moves[2 * step + mood, action, gone] = 1.0 - stays
                if stays:
                    moves[2 * step + mood, action, 2 * step + 3] = stays * tires[mood, action]
                    moves[2 * step + mood, action, 2 * step + 2] = stays * (1.0 - tires[mood, action])
    over = np.arange(gone + 1) == gone
    moods = ("fresh", "tired")
    contexts: list[Context] = [{"step": float(step), "mood": mood} for step in range(steps) for mood in moods]
    return World(
        (Action("bait"), Action("plain")),
        moves,
        earns,
        lambda state, action, _after, noise: float(_normal(noise) < rates[state % 2, action]),
        over,
        np.eye(gone + 1)[0],
        steps,
        (*contexts, {}),
        {"step": Cells(bins=tuple(step + 0.5 for step in range(steps - 1))), "mood": Cells(categories=moods)},
    )


_MOST = 100.0  # RecSim's bound on the engagement that it shows


def _mean_of_bounded(mean: float, spread: float) -> float:
    """Return the mean of min(exp(Normal(mean, spread)) / _MOST, 1)."""
    bound = (log(_MOST) - mean) / spread
    below = exp(mean + spread**2 / 2) / _MOST * _normal(bound - spread)
    return below + 1.0 - _normal(bound)


def _normal(value: float) -> float:
    return (1.0 + erf(value / sqrt(2.0))) / 2.0
