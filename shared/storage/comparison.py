"""How a policy does beside what is served in its place, as `learn` stores it and `control` shows it."""

from __future__ import annotations

import numpy as np

from shared.evaluation.comparison import ArmEarned, Comparison
from shared.evaluation.uplift import Earned, uplift
from shared.policies.algorithm import FloatArray
from shared.policies.arm_sums import (
    AGREED,
    GAIN,
    REWARD,
    SAID,
    SHOWN,
    SQUARES,
    WEIGHTED,
    WEIGHTED_SQUARES,
    WEIGHTS,
    ArmSums,
)


def compared(arms: ArmSums | None) -> Comparison | None:
    """Return what the sums say; None for a policy without arms."""
    if arms is None:
        return None
    totals = {arm: sums.sum(axis=0) for arm, sums in sorted(arms.sums.items())}
    earned = {
        arm: ArmEarned(float(total[SHOWN]), float(total[REWARD] / total[SHOWN]))
        for arm, total in totals.items()
        if total[SHOWN] > 0
    }
    nothing: FloatArray = np.zeros((1, GAIN + 1))
    baseline = arms.sums.get("baseline", nothing)
    if arms.mode == "serve":
        return Comparison(earned, uplift(_earned(arms.sums.get("policy", nothing)), _earned(baseline)))
    default = arms.sums.get("default_action", nothing)
    shown, said = float(default[:, SHOWN].sum()), float(default[:, SAID].sum())
    randomised = float(baseline[:, SHOWN].sum())
    return Comparison(
        earned,
        uplift(_weighted(baseline), _earned(default)),
        float(baseline[:, WEIGHTS].sum()) / randomised if randomised else None,
        float(default[:, AGREED].sum()) / shown if shown else None,
        float(default[:, GAIN].sum()) / said if said else None,
        said,
    )


def _earned(sums: FloatArray) -> Earned:
    return Earned(sums[:, SHOWN], sums[:, REWARD], float(sums[:, SQUARES].sum()))


def _weighted(sums: FloatArray) -> Earned:
    return Earned(sums[:, SHOWN], sums[:, WEIGHTED], float(sums[:, WEIGHTED_SQUARES].sum()))
