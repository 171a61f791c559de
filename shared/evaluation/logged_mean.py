"""The value of the policy that logged: the mean of its rewards, which needs no weights. What a target is compared with.

V = 1/n Σ r_i
"""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from shared.evaluation.estimate_of_terms import estimate_of_decisions
from shared.evaluation.logged_decisions import LoggedDecisions
from shared.evaluation.value_estimate import CONFIDENCE, ValueEstimate


def logged_mean(decisions: LoggedDecisions, confidence: float = CONFIDENCE) -> ValueEstimate:
    """Estimate the logging policy's value; the target of `decisions` is not looked at."""
    behaviour = msgspec.structs.replace(decisions, actions=None, left_out=0)
    ones = np.ones(decisions.rows)
    estimate = estimate_of_decisions(
        "logged_mean", decisions.rewards, behaviour, ones, confidence, bounds=decisions.reward_range
    )
    return msgspec.structs.replace(estimate, mean_weight=None)


def logged_mean_terms(decisions: LoggedDecisions) -> npt.NDArray[np.float64]:
    """Return the rewards, shape (n_rows,), whose mean is the estimate."""
    return decisions.rewards
