"""Every estimator, and the reward model, against what obp 0.4.1 computed from the same numbers (`make oracles`), to 1e-9."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.evaluation.direct_method import direct_method
from shared.evaluation.doubly_robust import doubly_robust
from shared.evaluation.doubly_robust_shrunk import doubly_robust_shrunk
from shared.evaluation.inverse_propensity import inverse_propensity
from shared.evaluation.logged_decisions import LoggedDecisions, dense
from shared.evaluation.logged_sequences import LoggedSequences, sequences
from shared.evaluation.per_decision import per_decision
from shared.evaluation.replay_method import replay_method
from shared.evaluation.reward_model import cross_fitted
from shared.evaluation.self_normalised import self_normalised
from shared.evaluation.slate_independent import slate_independent
from shared.evaluation.slate_reward_interaction import slate_reward_interaction
from shared.evaluation.slate_standard import slate_standard
from shared.evaluation.switch_doubly_robust import switch_doubly_robust
from shared.evaluation.value_estimate import ValueEstimate

OBP: dict[str, Any] = json.loads((Path(__file__).parent / "fixtures/obp.json").read_text())
EXACT = 1e-9
ESTIMATORS: dict[str, Callable[..., ValueEstimate]] = {
    "direct_method": direct_method,
    "inverse_propensity": inverse_propensity,
    "self_normalised": self_normalised,
    "doubly_robust": doubly_robust,
    "doubly_robust_shrunk": doubly_robust_shrunk,
    "switch_doubly_robust": switch_doubly_robust,
}


def single() -> LoggedDecisions:
    """Return the decisions of one item, without a reward model."""
    log = OBP["single"]
    return dense(
        np.array(log["rewards"]), np.array(log["propensities"]), np.array(log["target"]), np.array(log["actions"])
    )


def fitted(model: str) -> LoggedDecisions:
    """Return the decisions with our reward model, fitted to obp's folds."""
    log, decisions = OBP["single"], single()
    shared = {"features": np.tile(np.eye(4), (decisions.rows, 1)), "per_action": False}
    predictions = cross_fitted(
        decisions,
        np.array(log["contexts"]),
        folds=np.array(log["folds"]),
        ridge=log["ridge"],
        shared_ridge=log["ridge"],
        **(shared if model == "shared" else {"features": None}),
    )
    return decisions.with_predictions(predictions)


@pytest.mark.parametrize("model", ["shared", "per_action"])
def test_the_reward_model_predicts_as_ridge_regression_does(model: str) -> None:
    """Both forms equal scikit-learn's ridge regression inside obp's cross-fitting, on the same folds."""
    expected = np.array(OBP["single"]["models"][model]["predictions"])
    predictions = fitted(model).predictions
    assert predictions is not None
    assert predictions.reshape(expected.shape) == pytest.approx(expected, rel=EXACT, abs=EXACT)


@pytest.mark.parametrize("model", ["shared", "per_action"])
@pytest.mark.parametrize("name", sorted(OBP["single"]["models"]["shared"]["estimates"]))
def test_estimators_equal_obp(model: str, name: str) -> None:
    """Each estimate equals obp's, with our own reward model."""
    kind, _, parameter = name.partition(" ")
    arguments = (0.95, float(parameter)) if parameter else (0.95,)
    estimate = ESTIMATORS[kind](fitted(model), *arguments)
    assert estimate.value == pytest.approx(OBP["single"]["models"][model]["estimates"][name], rel=EXACT, abs=EXACT)


def test_replay_equals_obp() -> None:
    """The mean reward of the rows that the target would have chosen."""
    log = OBP["replay"]
    rewards, target = np.array(log["rewards"]), np.eye(4)[log["wanted"]]
    estimate = replay_method(dense(rewards, np.full(len(rewards), 0.25), target, np.array(log["actions"])))
    assert estimate.value == pytest.approx(log["value"], rel=EXACT, abs=EXACT)


def slates() -> LoggedSequences:
    """Return the slates, of one to three items."""
    log = OBP["slates"]
    arrays = (np.array(log[name]) for name in ("rewards", "propensities", "target", "lengths"))
    return sequences(*arrays)


@pytest.mark.parametrize("estimator", [slate_standard, slate_independent, slate_reward_interaction])
def test_slates_equal_obp(estimator: Callable[[LoggedSequences], ValueEstimate]) -> None:
    """Slates of different lengths, by whole slates, by positions, and by what stands above."""
    estimate = estimator(slates())
    assert estimate.value == pytest.approx(OBP["slates"]["estimates"][estimate.estimator], rel=EXACT, abs=EXACT)


def test_positions_are_steps() -> None:
    """Per-decision weighting of sessions is reward-interaction weighting of slates, also against obp."""
    expected = OBP["slates"]["estimates"]["slate_reward_interaction"]
    assert per_decision(slates()).value == pytest.approx(expected, rel=EXACT, abs=EXACT)
