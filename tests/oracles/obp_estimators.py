"""What obp 0.4.1 estimates from small logs: one item at a time, a uniform log for replay, and slates of different lengths.

The reward model is obp's own cross-fitting around scikit-learn's ridge regression, once with one weight vector for all actions and once with
interactions of action and context; its folds stand in the fixture, so that ours can be fitted to the same ones.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from obp.ope import (
    DirectMethod,
    DoublyRobust,
    DoublyRobustWithShrinkage,
    InverseProbabilityWeighting,
    RegressionModel,
    ReplayMethod,
    SelfNormalizedInverseProbabilityWeighting,
    SlateIndependentIPS,
    SlateRewardInteractionIPS,
    SlateStandardIPS,
    SwitchDoublyRobust,
)
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold

ROWS, ACTIONS, FEATURES, FOLDS, SEED = 150, 4, 3, 3, 12345
SHRINKAGES, THRESHOLDS = (0.5, 5.0, 50.0), (1.0, 2.0, 4.0)
SLATES, POSITIONS = 40, 3


class Interactions(RegressionModel):  # type: ignore[misc] # obp has no types
    """obp's model with a weight vector for each action beside the shared one."""

    def _pre_process_for_reg_model(
        self, context: npt.NDArray[Any], action: npt.NDArray[Any], action_context: npt.NDArray[Any]
    ) -> npt.NDArray[Any]:
        own = np.hstack([np.ones((len(context), 1)), context])
        products = action_context[action][:, :, None] * own[:, None, :]
        features: npt.NDArray[Any] = np.hstack([context, products.reshape(len(context), -1)])
        return features


def fixture() -> dict[str, Any]:
    """Return inputs and what obp makes of them."""
    random = np.random.RandomState(7)
    return {"single": _single(random), "replay": _replay(random), "slates": _slates(random)}


def _single(random: np.random.RandomState) -> dict[str, Any]:
    contexts = random.normal(size=(ROWS, FEATURES)).round(3)
    behaviour = _rows_of(random, 0.7)
    target = _rows_of(random, 1.0)
    action = np.array([random.choice(ACTIONS, p=row) for row in behaviour])
    rewards = (random.uniform(size=ROWS) < 1 / (1 + np.exp(-contexts[:, 0] - action / 3))).astype(float)
    propensities = behaviour[np.arange(ROWS), action]
    folds = np.empty(ROWS, dtype=int)
    splits = KFold(n_splits=FOLDS, shuffle=True, random_state=SEED).split(contexts)
    for fold, (_, held_out) in enumerate(splits):
        folds[held_out] = fold
    models = {}
    for name, kind in (("shared", RegressionModel), ("per_action", Interactions)):
        fitted = kind(n_actions=ACTIONS, base_model=Ridge(alpha=0.8))
        predictions = fitted.fit_predict(
            context=contexts, action=action, reward=rewards, n_folds=FOLDS, random_state=SEED
        )
        models[name] = {
            "predictions": predictions[:, :, 0].tolist(),
            "estimates": _estimates(rewards, action, propensities, target, predictions),
        }
    return {
        "contexts": contexts.tolist(),
        "actions": action.tolist(),
        "rewards": rewards.tolist(),
        "propensities": propensities.tolist(),
        "target": target.tolist(),
        "folds": folds.tolist(),
        "ridge": 0.8,
        "models": models,
    }


def _estimates(
    rewards: npt.NDArray[Any],
    action: npt.NDArray[Any],
    propensities: npt.NDArray[Any],
    target: npt.NDArray[Any],
    predictions: npt.NDArray[Any],
) -> dict[str, float]:
    estimators = {
        "direct_method": DirectMethod(),
        "inverse_propensity": InverseProbabilityWeighting(),
        "self_normalised": SelfNormalizedInverseProbabilityWeighting(),
        "doubly_robust": DoublyRobust(),
        **{f"doubly_robust_shrunk {each}": DoublyRobustWithShrinkage(lambda_=each) for each in SHRINKAGES},
        **{f"switch_doubly_robust {each}": SwitchDoublyRobust(tau=each) for each in THRESHOLDS},
    }
    return {
        name: float(
            estimator.estimate_policy_value(
                reward=rewards,
                action=action,
                pscore=propensities,
                action_dist=target[:, :, None],
                estimated_rewards_by_reg_model=predictions,
            )
        )
        for name, estimator in estimators.items()
    }


def _replay(random: np.random.RandomState) -> dict[str, Any]:
    action = random.randint(ACTIONS, size=ROWS)
    wanted = random.randint(ACTIONS, size=ROWS)
    rewards = random.normal(size=ROWS).round(3)
    target = np.eye(ACTIONS)[wanted]
    value = ReplayMethod().estimate_policy_value(reward=rewards, action=action, action_dist=target[:, :, None])
    return {"actions": action.tolist(), "rewards": rewards.tolist(), "wanted": wanted.tolist(), "value": float(value)}


def _slates(random: np.random.RandomState) -> dict[str, Any]:
    lengths = random.randint(1, POSITIONS + 1, size=SLATES)
    propensities = random.uniform(0.2, 0.9, size=(SLATES, POSITIONS)).round(3)
    target = random.uniform(0.05, 0.95, size=(SLATES, POSITIONS)).round(3)
    rewards = random.uniform(size=(SLATES, POSITIONS)).round(3)
    mask = np.arange(POSITIONS) < lengths[:, None]
    here: dict[str, npt.NDArray[Any]] = {
        "slate_id": np.repeat(np.arange(SLATES), lengths),
        "position": np.tile(np.arange(POSITIONS), (SLATES, 1))[mask],
    }
    here["reward"] = rewards[mask]

    def prefix(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.cumprod(np.where(mask, values, 1.0), axis=1)

    def whole(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.repeat(prefix(values)[:, -1:], POSITIONS, axis=1)

    values = {
        "slate_standard": SlateStandardIPS(len_list=POSITIONS).estimate_policy_value(
            **here, pscore=whole(propensities)[mask], evaluation_policy_pscore=whole(target)[mask]
        ),
        "slate_independent": SlateIndependentIPS(len_list=POSITIONS).estimate_policy_value(
            **here,
            pscore_item_position=propensities[mask],
            evaluation_policy_pscore_item_position=target[mask],
        ),
        "slate_reward_interaction": SlateRewardInteractionIPS(len_list=POSITIONS).estimate_policy_value(
            **here,
            pscore_cascade=prefix(propensities)[mask],
            evaluation_policy_pscore_cascade=prefix(target)[mask],
        ),
    }
    return {
        "lengths": lengths.tolist(),
        "propensities": propensities.tolist(),
        "target": target.tolist(),
        "rewards": rewards.tolist(),
        "estimates": {name: float(value) for name, value in values.items()},
    }


def _rows_of(random: np.random.RandomState, sharpness: float) -> npt.NDArray[Any]:
    logits = np.exp(sharpness * random.normal(size=(ROWS, ACTIONS)))
    rows: npt.NDArray[Any] = (logits / logits.sum(axis=1, keepdims=True)).round(4)
    rows[:, -1] = 1.0 - rows[:, :-1].sum(axis=1)
    return rows
