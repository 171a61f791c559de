"""LinUCB and LinTS of MABWiser on one small problem: what each arm's model is after two batches, and what it expects.

MABWiser is given the contexts standardised over all rows after a column of ones. Written: inputs, and per arm A = λI + XᵀX, its inverse, Xᵀy, the coefficients β = A⁻¹Xᵀy, for new contexts x the expectation x·β,
LinUCB's x·β + alpha √(xᵀA⁻¹x), and the mean and covariance alpha² A⁻¹ of LinTS's posterior. One arm was never shown.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from mabwiser.mab import MAB, LearningPolicy

ARMS = ["a", "b", "c", "never_shown"]
ALPHA_UCB, ALPHA_TS, RIDGE = 0.7, 0.3, 1.0
ROWS, FEATURES, BATCH = 60, 4, 40


def _scale(raw: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the fourth-moment scale of each column, by which our model standardises."""
    fourth = np.mean((raw - raw.mean(axis=0)) ** 4, axis=0)
    return np.asarray((fourth / 3.0) ** 0.25)


def fixture() -> dict[str, Any]:
    """Return inputs and what MABWiser makes of them."""
    random = np.random.RandomState(20)
    raw = (random.normal(size=(ROWS, FEATURES - 1)) * [1.0, 20.0, 0.1] + [0.0, 50.0, -3.0]).round(3)
    new_raw = (random.normal(size=(5, FEATURES - 1)) * [1.0, 20.0, 0.1] + [0.0, 50.0, -3.0]).round(3)
    contexts, new = (
        np.hstack([np.ones((len(each), 1)), (each - raw.mean(axis=0)) / _scale(raw)]) for each in (raw, new_raw)
    )
    decisions = np.array(ARMS[:3])[random.randint(0, 3, ROWS)]
    rewards = random.normal(size=ROWS).round(3) + contexts[:, 1] * (decisions == "b")
    ucb = MAB(ARMS, LearningPolicy.LinUCB(alpha=ALPHA_UCB, l2_lambda=RIDGE))
    thompson = MAB(ARMS, LearningPolicy.LinTS(alpha=ALPHA_TS, l2_lambda=RIDGE))
    for bandit in (ucb, thompson):
        bandit.fit(decisions[:BATCH], rewards[:BATCH], contexts[:BATCH])
        bandit.partial_fit(decisions[BATCH:], rewards[BATCH:], contexts[BATCH:])
    expectations = ucb.predict_expectations(new)
    models = ucb._imp.arm_to_model
    sampled = thompson._imp.arm_to_model
    return {
        "parameters": {"ridge": RIDGE, "alpha_ucb": ALPHA_UCB, "alpha_thompson": ALPHA_TS, "batch": BATCH},
        "arms": ARMS,
        "decisions": decisions.tolist(),
        "rewards": rewards.tolist(),
        "raw_contexts": raw.tolist(),
        "new_raw_contexts": new_raw.tolist(),
        "contexts": contexts.tolist(),
        "new_contexts": new.tolist(),
        "models": {
            arm: {
                "A": models[arm].A.tolist(),
                # MABWiser leaves λI, not its inverse, in an arm that was never shown: nothing to compare with
                "A_inverse": models[arm].A_inv.tolist() if arm in decisions else None,
                "Xty": models[arm].Xty.tolist(),
                "beta": models[arm].beta.tolist(),
                "expectation": (new @ models[arm].beta).tolist(),
                "ucb": [row[arm] for row in expectations] if arm in decisions else None,
                "thompson_mean": sampled[arm].beta.tolist(),
                "thompson_covariance": (ALPHA_TS**2 * sampled[arm].A_inv).tolist() if arm in decisions else None,
            }
            for arm in ARMS
        },
    }
