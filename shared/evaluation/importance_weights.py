"""Importance weights: how much more often the target policy takes a logged action than the behaviour policy.

    w_i = π(a_i) / b(a_i)

`b` must be the *true* probability with which the logged action was chosen. Where it is zero or unknown the
weight does not exist, and any estimate made from the other rows alone would be biased, so this refuses. The
caller leaves out rows without a propensity on purpose, and says so, before it comes here.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from shared.errors import InvalidInput

Floats = npt.NDArray[np.float64]


def importance_weights(target: Floats, behaviour: Floats) -> Floats:
    """Return the weight of each row, shape (n_rows,), >= 0.

    `target`: shape (n_rows,), in [0, 1], the target policy's probability of the logged action;
    `behaviour`: shape (n_rows,), in (0, 1], the logged propensity.
    Raises `InvalidInput` where a propensity lies outside its range or the shapes differ.

    >>> importance_weights(np.array([0.5, 0.1]), np.array([0.25, 0.2]))
    array([2. , 0.5])
    """
    if target.shape != behaviour.shape or target.ndim != 1:
        message = f"target and behaviour must be equally long rows, got {target.shape} and {behaviour.shape}"
        raise InvalidInput(message, field="target")
    if not bool(np.all((target >= 0.0) & (target <= 1.0))):
        message = "a target probability lies outside [0, 1]"
        raise InvalidInput(message, field="target")
    if not bool(np.all((behaviour > 0.0) & (behaviour <= 1.0))):
        message = "a logged propensity is zero, unknown or above 1: importance weights do not exist"
        raise InvalidInput(message, field="behaviour")
    return target / behaviour
