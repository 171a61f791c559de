"""LinUCB and LinTS of MABWiser on one small problem: what each arm's model is after two batches, and what it expects.

Written: inputs, and per arm A = λI + XᵀX, its inverse, Xᵀy, the coefficients β = A⁻¹Xᵀy, for new contexts x the expectation x·β,
LinUCB's x·β + alpha √(xᵀA⁻¹x), and the mean and covariance alpha² A⁻¹ of LinTS's posterior. One arm was never shown.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from mabwiser.mab import MAB, LearningPolicy

ARMS = ["a", "b", "c", "never_shown"]
ALPHA_UCB, ALPHA_TS, RIDGE = 0.7, 0.3, 0.5
ROWS, FEATURES, BATCH = 60, 4, 40


def fixture() -> dict[str, Any]:
    """Return inputs and what MABWiser makes of them."""
    random = np.random.RandomState(20)
    contexts = np.hstack([np.ones((ROWS, 1)), random.normal(size=(ROWS, FEATURES - 1)).round(3)])
    decisions = np.array(ARMS[:3])[random.randint(0, 3, ROWS)]
    rewards = random.normal(size=ROWS).round(3) + contexts[:, 1] * (decisions == "b")
    new = np.hstack([np.ones((5, 1)), random.normal(size=(5, FEATURES - 1)).round(3)])
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
