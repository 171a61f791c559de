"""Transitions between cells against the same ones with indicator features written out, and forecasts that no reward makes for itself."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from shared.errors import InvalidInput
from shared.evaluation.cell_forecasts import cell_forecasts
from shared.evaluation.cell_transitions import MOST_PAIRS, CellTransitions
from shared.evaluation.fitted_q_evaluation import Transitions, fitted_q_evaluation, fitted_q_weights

Floats = npt.NDArray[np.float64]
STATES, ACTIONS = 3, 2


def played(seed: int, episodes: int, unlogged: float = 0.0) -> CellTransitions:
    """Return episodes of one to five steps among random states, among two or three actions of which the third was never logged."""
    random = np.random.default_rng(seed)
    lengths = random.integers(1, 6, size=episodes)
    count = int(lengths.sum())
    states = random.integers(STATES, size=count)
    law, pairs, sizes = [], [], []
    for state in states:
        with_third = random.random() < unlogged
        shares = random.dirichlet(np.ones(ACTIONS + with_third))
        law += shares.tolist()
        pairs += [int(state) * ACTIONS + action for action in range(ACTIONS)] + [-1] * with_third
        sizes.append(len(shares))
    return CellTransitions(
        pairs=states * ACTIONS + random.integers(ACTIONS, size=count),
        rewards=random.normal(size=count),
        episodes=np.repeat(np.arange(episodes), lengths),
        offsets=np.concatenate([[0], np.cumsum(sizes)]),
        law=np.array(law),
        law_pairs=np.array(pairs),
        n_pairs=STATES * ACTIONS,
    )


def written_out(cells: CellTransitions) -> Transitions:
    """Return the same with a column for each pair."""
    columns = np.vstack([np.eye(cells.n_pairs), np.zeros(cells.n_pairs)])  # the last is worth nothing
    expected = np.array(
        [
            cells.law[low:high] @ columns[cells.law_pairs[low:high]]
            for low, high in zip(cells.offsets[:-1], cells.offsets[1:], strict=True)
        ]
    )
    begins = np.concatenate([[True], np.diff(cells.episodes) > 0])
    following = np.vstack([expected[1:], np.zeros(cells.n_pairs)])
    following[:-1][begins[1:]] = 0.0
    return Transitions(
        features=columns[cells.pairs],
        rewards=cells.rewards,
        next_features=following,
        episodes=cells.episodes,
        initial_features=expected[begins],
    )


@pytest.mark.parametrize("unlogged", [0.0, 0.5])
@pytest.mark.parametrize("discount", [1.0, 0.8])
def test_cells_are_indicators(discount: float, unlogged: float) -> None:
    """Value, error, leverage: everything is what the written-out features give."""
    cells = played(1, 200, unlogged)
    dense = written_out(cells)
    weights = fitted_q_weights(cells, discount)
    assert weights == pytest.approx(fitted_q_weights(dense, discount), abs=1e-9)
    assert cells.initial() == pytest.approx(dense.initial())
    one, other = fitted_q_evaluation(cells, discount), fitted_q_evaluation(dense, discount)
    assert (one.value, one.standard_error, one.effective_sample_size) == pytest.approx(
        (other.value, other.standard_error, other.effective_sample_size), abs=1e-9
    )
    doubts = " ".join(one.warnings)
    assert ("of its choices the target takes what was never logged in that state" in doubts) == (unlogged > 0)


def test_some_episodes_are_episodes_too() -> None:
    """What is left of transitions is what would have been written of those episodes alone."""
    cells = played(2, 30)
    kept = np.arange(30) % 3 > 0
    some = cells.only(kept)
    some.check()
    steps = kept[cells.episodes]
    assert some.rewards.tolist() == cells.rewards[steps].tolist()
    assert (some.episodes[0], some.episodes[-1]) == (0, kept.sum() - 1)
    numbers = np.arange(cells.n_pairs, dtype=float)
    assert some.expected(numbers) == pytest.approx(cells.expected(numbers)[steps])


def test_no_reward_forecasts_itself() -> None:
    """Another reward of one episode moves the forecasts of others, and its own residual by just that much."""
    cells = played(3, 60)
    rewards = cells.rewards.copy()
    rewards[cells.episodes == 7] += 1.0
    one, two = cell_forecasts(cells), cell_forecasts(msgspec.structs.replace(cells, rewards=rewards))
    assert one.initial[7] == two.initial[7]
    length = int((cells.episodes == 7).sum())
    assert two.residuals[7] - one.residuals[7] == pytest.approx([1.0] * length + [0.0] * (5 - length))
    assert (one.initial != two.initial).any()


def test_a_forecast_and_its_residuals_telescope() -> None:
    """Forecast and residuals of an episode sum to its rewards where the target does what was done."""
    cells = played(4, 60)
    sizes = np.diff(cells.offsets)
    done = (cells.law_pairs == np.repeat(cells.pairs, sizes)).astype(float)
    forecasts = cell_forecasts(msgspec.structs.replace(cells, law=done))
    totals = np.bincount(cells.episodes, cells.rewards)
    assert forecasts.initial + forecasts.residuals.sum(axis=1) == pytest.approx(totals)


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("pairs", {"n_pairs": MOST_PAIRS + 1}),
        ("rewards", {"rewards": np.ones(1)}),
        ("episodes", {"episodes": np.array([0, 2])}),
        ("law", {"law": np.ones(3)}),
    ],
)
def test_malformed_cells_are_refused(field: str, change: dict[str, Any]) -> None:
    """Each names the field at fault."""
    good: dict[str, Any] = {
        "pairs": np.array([0, 1]), "rewards": np.ones(2), "episodes": np.array([0, 1]), "offsets": np.array([0, 1, 2]),
        "law": np.ones(2), "law_pairs": np.array([0, 1]), "n_pairs": 2,
    }  # fmt: skip
    assert fitted_q_evaluation(CellTransitions(**good), 1.0).value == pytest.approx(1.0, abs=0.01)
    with pytest.raises(InvalidInput) as refused:
        fitted_q_evaluation(CellTransitions(**good | change), 1.0)
    assert refused.value.field == field
