"""What estimators are given: checked at the door, refused where weights do not exist, doubted where they say little."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from shared.errors import InvalidInput
from shared.evaluation.evaluation import evaluate
from shared.evaluation.inverse_propensity import inverse_propensity
from shared.evaluation.logged_decisions import LoggedDecisions, dense, ragged
from shared.evaluation.logged_sequences import sequences
from shared.evaluation.replay_method import replay_method
from shared.evaluation.reward_model import cross_fitted, folds_of
from shared.evaluation.self_normalised import self_normalised
from shared.evaluation.value_estimate import ValueEstimate
from tests.unit.evaluation.weighted_logs import log_with_weights

Floats = npt.NDArray[np.float64]


def uneven(rows: int = 2_000, seed: int = 1, **changes: Any) -> LoggedDecisions:
    """Return a healthy log of three actions of which a row offers two or three."""
    random = np.random.RandomState(seed)
    mask = np.ones((rows, 3), dtype=np.bool_)
    mask[np.arange(rows), random.randint(3, size=rows)] = random.uniform(size=rows) < 0.5
    behaviour = np.array([0.5, 0.3, 0.2]) * mask
    behaviour /= behaviour.sum(axis=1, keepdims=True)
    target = np.array([0.2, 0.3, 0.5]) * mask
    target /= target.sum(axis=1, keepdims=True)
    chosen = (behaviour.cumsum(axis=1) > random.uniform(size=(rows, 1))).argmax(axis=1)
    rewards = (random.uniform(size=rows) < 0.2 + 0.2 * chosen).astype(np.float64)
    given: dict[str, Any] = {
        "eligible": mask,
        "predictions": np.tile([0.2, 0.4, 0.6], (rows, 1)),
        "reward_range": (0.0, 1.0),
    }
    return dense(rewards, behaviour[np.arange(rows), chosen], target, chosen, **(given | changes))


def names(estimates: tuple[ValueEstimate, ...]) -> list[str]:
    """Return which estimators spoke."""
    return [estimate.estimator for estimate in estimates]


def test_a_healthy_log_raises_no_doubt() -> None:
    """Enough rows, true propensities and a fair model: all estimators agree, and nothing speaks against them."""
    estimates = evaluate(uneven(20_000))
    assert names(estimates) == [
        "logged_mean",
        "direct_method",
        "inverse_propensity",
        "self_normalised",
        "doubly_robust",
        "doubly_robust_shrunk",
        "switch_doubly_robust",
    ]
    for estimate in estimates:
        assert estimate.warnings == ()
        assert estimate.bernstein is not None
        assert estimate.anytime is not None
        interval = estimate.interval()
        assert interval is not None
        assert estimate.bernstein[0] < interval[0] < estimate.value < interval[1] < estimate.bernstein[1]
    assert {round(estimate.value, 1) for estimate in estimates[1:]} == {0.5}


def test_ragged_and_dense_are_the_same() -> None:
    """A row's entries are its eligible actions in order."""
    log = uneven(50)
    again = ragged(
        log.rewards, log.propensities, log.offsets, log.target, log.chosen, actions=log.actions, reward_range=(0.0, 1.0)
    )
    assert inverse_propensity(again) == inverse_propensity(log)


def test_a_floor_of_zero_is_refused() -> None:
    """Every estimator that weighs refuses; what is left says why."""
    rows = 500
    floors = np.full(rows, 0.01)
    floors[7] = 0.0
    log = uneven(rows, floors=floors)
    with pytest.raises(InvalidInput, match="1 of 500 decisions were made with an exploration floor of 0") as refused:
        self_normalised(log)
    assert refused.value.field == "floors"
    logged, direct = evaluate(log)
    assert (logged.estimator, direct.estimator) == ("logged_mean", "direct_method")
    assert any("exploration floor of 0" in warning for warning in direct.warnings)


def test_unknown_propensities_are_left_out_on_purpose_and_counted() -> None:
    """An unknown propensity is an error where weights are needed, unless those rows are left out, which every estimate then says."""
    log = uneven(1_000)
    propensities = log.propensities.copy()
    propensities[:100] = np.nan
    partly = ragged(log.rewards, propensities, log.offsets, log.target, log.chosen, actions=log.actions)
    with pytest.raises(InvalidInput, match="100 of 1000 propensities are unknown") as refused:
        inverse_propensity(partly)
    assert refused.value.field == "propensities"
    known = partly.known()
    assert (known.rows, known.left_out) == (900, 100)
    assert inverse_propensity(known).value == pytest.approx(float(np.mean(log.weights()[100:] * log.rewards[100:])))
    logged, weighed, *_ = evaluate(partly)
    assert (logged.rows, weighed.rows, weighed.left_out) == (1_000, 900, 100)
    assert any("100 of 1,000 decisions have no propensity" in warning for warning in weighed.warnings)
    unknown = ragged(log.rewards, np.full(1_000, np.nan), log.offsets, log.target, log.chosen)
    assert names(evaluate(unknown)) == ["logged_mean"]


def warnings_of(estimate: ValueEstimate) -> str:
    """Return all warnings as one text."""
    return "; ".join(estimate.warnings)


def test_doubts_are_said_in_words() -> None:
    """Few effective rows, one that outweighs the others, few rewards, propensities that are not true, actions never logged."""
    random = np.random.RandomState(2)
    rewards = (random.uniform(size=2_000) < 0.5).astype(np.float64)
    weights = np.ones(2_000)
    weights[0] = 500.0
    heavy = self_normalised(log_with_weights(rewards, weights))
    assert "2,000 rows count as 25: under 100 no normal interval is to be believed" in warnings_of(heavy)
    assert "one row has 20% of all weight" in warnings_of(heavy)
    assert heavy.largest_share == pytest.approx(500 / 2_499)
    few = self_normalised(log_with_weights((np.arange(2_000) < 12).astype(np.float64), np.ones(2_000)))
    assert "it rests on 12.0 effective rewards: under 30" in warnings_of(few)
    untrue = self_normalised(log_with_weights(rewards, random.uniform(0.5, 0.9, size=2_000)))
    assert "the mean weight is 0.7" in warnings_of(untrue)
    target = np.tile([0.4, 0.4, 0.2], (2_000, 1))
    never = self_normalised(dense(rewards, np.full(2_000, 0.5), target, np.arange(2_000) % 2))
    assert "in 20% of its choices the target takes what was never logged (so many actions: 1)" in warnings_of(never)
    assert "the mean weight is 0.8" in warnings_of(never)


def test_a_target_that_never_does_what_was_logged_has_no_estimate_by_weights() -> None:
    """All weights are zero: only what weighs nothing is left, and says so."""
    rows = 200
    log = dense(np.ones(rows), np.full(rows, 0.5), np.tile([0.0, 1.0], (rows, 1)), np.zeros(rows, dtype=np.int64))
    assert names(evaluate(log)) == ["logged_mean"]
    assert warnings_of(inverse_propensity(log)).startswith("the target never takes what was logged")


def test_a_model_that_the_rewards_contradict_is_told() -> None:
    """The direct method is held against the logged rewards."""
    log = uneven(5_000)
    assert log.predictions is not None
    direct = evaluate(log.with_predictions(log.predictions + 0.1))[1]
    assert "the logged rewards contradict the reward model: on the target's choices it is off by +0.1" in warnings_of(
        direct
    )


def test_replay_refuses_what_it_cannot_judge() -> None:
    """A stochastic target or an uneven log has no replay."""
    log = uneven(100)
    with pytest.raises(InvalidInput, match="deterministic") as refused:
        replay_method(log)
    assert refused.value.field == "target"
    one_hot = np.zeros_like(log.target)
    one_hot[log.offsets[:-1]] = 1.0
    with pytest.raises(InvalidInput, match="uniform") as uneven_log:
        replay_method(log.with_target(one_hot))
    assert uneven_log.value.field == "propensities"


GOOD: dict[str, Any] = {
    "rewards": np.array([1.0, 0.0]),
    "propensities": np.array([0.5, 0.5]),
    "offsets": np.array([0, 2, 4]),
    "target": np.array([0.5, 0.5, 0.2, 0.8]),
    "chosen": np.array([0, 1]),
}


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("rewards", {"rewards": np.array([1.0, np.nan])}),
        ("rewards", {"rewards": np.zeros((2, 1))}),
        ("rewards", {"reward_range": (0.0, 0.5)}),
        ("propensities", {"propensities": np.array([0.5, 0.0])}),
        ("propensities", {"propensities": np.array([0.5, 1.5])}),
        ("propensities", {"propensities": np.array([0.5])}),
        ("offsets", {"offsets": np.array([0, 2])}),
        ("offsets", {"offsets": np.array([0, 0, 4])}),
        ("chosen", {"chosen": np.array([0, 2])}),
        ("chosen", {"chosen": np.array([-1, 0])}),
        ("target", {"target": np.array([0.5, 0.4, 0.2, 0.8])}),
        ("target", {"target": np.array([1.5, -0.5, 0.2, 0.8])}),
        ("target", {"target": np.array([0.5, 0.5])}),
        ("actions", {"actions": np.array([1, 2])}),
        ("predictions", {"predictions": np.array([1.0, 2.0, 3.0, np.inf])}),
        ("floors", {"floors": np.array([0.1, -0.1])}),
        ("reward_range", {"reward_range": (1.0, 0.0)}),
    ],
)
def test_malformed_rows_are_refused(field: str, change: dict[str, Any]) -> None:
    """Every array is checked, and the one at fault named."""
    assert ragged(**GOOD).rows == 2
    with pytest.raises(InvalidInput) as refused:
        ragged(**(GOOD | change))
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("rewards", {"rewards": np.ones(2)}),
        ("rewards", {"rewards": np.full((2, 2), np.nan)}),
        ("propensities", {"propensities": np.zeros((2, 2))}),
        ("target", {"target": np.full((2, 2), 2.0)}),
        ("target", {"target": np.ones((2, 3))}),
        ("lengths", {"lengths": np.array([0, 1])}),
    ],
)
def test_malformed_sequences_are_refused(field: str, change: dict[str, Floats]) -> None:
    """The same for slates and sessions."""
    good = {"rewards": np.ones((2, 2)), "propensities": np.full((2, 2), 0.5), "target": np.full((2, 2), 0.5)}
    with pytest.raises(InvalidInput) as refused:
        sequences(**(good | change))  # type: ignore[arg-type] # a parametrised change
    assert refused.value.field == field


def test_the_reward_model_predicts_actions_that_were_never_logged_as_others_are() -> None:
    """An action without a row has the shared prediction, and no reward predicts itself."""
    random = np.random.RandomState(3)
    contexts = random.normal(size=(300, 2))
    rewards = 1.0 + contexts[:, 0]
    log = dense(rewards, np.full(300, 0.5), np.tile([0.2, 0.3, 0.5], (300, 1)), np.arange(300) % 2)
    folds = folds_of(300, seed=4)
    assert sorted(np.bincount(folds)) == [100, 100, 100]
    predictions = cross_fitted(log, contexts, None, folds).reshape(300, 3)
    assert predictions[:, 2] == pytest.approx(rewards, abs=0.15)  # a twentieth of the slope is left to deviations
    changed = rewards.copy()
    changed[0] += 1_000.0
    again = dense(changed, np.full(300, 0.5), np.tile([0.2, 0.3, 0.5], (300, 1)), np.arange(300) % 2)
    same_fold = folds == folds[0]
    moved = cross_fitted(again, contexts, None, folds).reshape(300, 3)
    assert moved[same_fold] == pytest.approx(predictions[same_fold])
    assert not np.allclose(moved[~same_fold], predictions[~same_fold])


@pytest.mark.parametrize(
    ("field", "arguments"),
    [
        ("contexts", {"contexts": np.ones((3, 1))}),
        ("features", {"features": np.ones((2, 1))}),
        ("folds", {"folds": np.zeros(2, dtype=np.int64)}),
        ("ridge", {"ridge": 0.0}),
        ("actions", {}),
    ],
)
def test_a_malformed_reward_model_is_refused(field: str, arguments: dict[str, Any]) -> None:
    """The same for what the reward model is given; a model per action needs the actions' numbers."""
    good: dict[str, Any] = {"contexts": np.ones((2, 1)), "features": None, "folds": np.array([0, 1])}
    with pytest.raises(InvalidInput) as refused:
        cross_fitted(ragged(**GOOD), **(good | arguments))
    assert refused.value.field == field
