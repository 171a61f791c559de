"""Replay: keep the rows where the target would have done what was logged, and average their rewards.

    V = Σ r_i 1{π(x_i) = a_i} / Σ 1{π(x_i) = a_i}

Unbiased for a *deterministic* target and a log of *uniform* choices among the same number of actions, and then the same as
`self_normalised`. With any other log the kept rows are no fair sample, and this refuses. Paper: Li, Chu, Langford & Wang, "Unbiased Offline
Evaluation of Contextual-bandit-based News Article Recommendation Algorithms", WSDM 2011.
"""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from shared.errors import InvalidInput
from shared.evaluation.logged_decisions import LoggedDecisions
from shared.evaluation.self_normalised import self_normalised, self_normalised_terms
from shared.evaluation.value_estimate import CONFIDENCE, ValueEstimate

_TOLERANCE = 1e-6


def replay_method(decisions: LoggedDecisions, confidence: float = CONFIDENCE) -> ValueEstimate:
    """Estimate the target's value. Raises `InvalidInput` for a stochastic target, an uneven log, or where no row matches."""
    _refuse_other_logs(decisions)
    return msgspec.structs.replace(self_normalised(decisions, confidence), estimator="replay_method")


def replay_method_terms(decisions: LoggedDecisions) -> npt.NDArray[np.float64]:
    """Return the linearised terms, shape (n_rows,), whose mean is the estimate."""
    _refuse_other_logs(decisions)
    return self_normalised_terms(decisions)


def is_replayable(decisions: LoggedDecisions) -> bool:
    """Return whether the target is deterministic and the log uniform over one number of actions."""
    even = np.abs(decisions.propensities * decisions.sizes - 1.0) <= _TOLERANCE
    one_size = int(decisions.sizes.min()) == int(decisions.sizes.max())
    return one_size and bool(even.all()) and bool(np.isin(decisions.target, (0.0, 1.0)).all())


def _refuse_other_logs(decisions: LoggedDecisions) -> None:
    decisions.refuse_unsupported()
    if not bool(np.isin(decisions.target, (0.0, 1.0)).all()):
        raise InvalidInput("replay needs a deterministic target: probabilities of 0 and 1", field="target")
    if not is_replayable(decisions):
        message = "replay needs a log of uniform choices among one number of actions"
        raise InvalidInput(message, field="propensities")
