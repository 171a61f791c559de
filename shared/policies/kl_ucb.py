"""KL-UCB: optimism by the likelihood, without chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log
from typing import ClassVar

import numpy as np

from shared.policies.algorithm import FloatArray, Parameter, equal_shares, parameter, scale
from shared.vocabulary import Snapshot

_HALVINGS = 60


class KlUcb:
    """Choose the action of the highest mean that its rewards do not rule out.

        index(a) = max {q in [mean(a), 1] : weight(a) * kl(mean(a), q) <= ln N + c * ln ln N},
        kl(p, q) = p ln(p / q) + (1 - p) ln((1 - p) / (1 - q)),   N = max(sum of all weights, 1)

    of rewards rescaled from their range to [0, 1], for which Bernoulli's divergence bounds any distribution's. The bound
    is never above 1 and far tighter than UCB1's for rare rewards, where it also loses least of all rules in the
    long run. An action without rewards has an infinite index; ties share equally. The best action gets all that
    the exploration floor leaves, as with `ucb1`. With forgetting, weights are discounted counts and may be below 1: the
    index then tends to the top of the range. Garivier and Cappé, The KL-UCB Algorithm for Bounded Stochastic Bandits
    and Beyond (2011).

    >>> from shared.vocabulary import Estimate
    >>> known = (Estimate("a", 100.0, 2.0, 2.0), Estimate("b", 900.0, 30.0, 30.0))
    >>> [round(index or 0.0, 4) for index in KlUcb(Snapshot("p", 1, 1, "kl_ucb", {}, (), known, 0.0, (0.0, 1.0), 1, 0.0)).scores("ab")]
    [0.1194, 0.0605]
    """

    NEEDS_RANGE: ClassVar[bool] = True
    PARAMETERS: ClassVar[Mapping[str, Parameter]] = {
        "c": Parameter(0.0, 0.0, 100.0, "factor of ln ln N; 0 does best in practice, 3 is the proof's"),
    }

    def __init__(self, snapshot: Snapshot) -> None:
        """Compile a snapshot: one index per action it knows."""
        low, width = scale(snapshot)
        log_n = log(max(sum(known.weight for known in snapshot.estimates), 1.0))
        budget = log_n + parameter(snapshot, self.PARAMETERS, "c") * log(max(log_n, 1.0))
        tried = [known for known in snapshot.estimates if known.weight > 0]
        weights = np.array([known.weight for known in tried])
        means = np.array([(known.total / known.weight - low) / width for known in tried])
        indices = low + width * upper_means(np.clip(means, 0.0, 1.0), weights, budget)
        self._indices: dict[str, float] = {
            known.action: float(index) for known, index in zip(tried, indices, strict=True)
        }

    def evidence(self, actions: Sequence[str]) -> FloatArray:
        """Return the indices, shape (n_actions, 1)."""
        return np.array([[self._indices.get(action, np.inf)] for action in actions])

    def probabilities(self, evidence: FloatArray) -> FloatArray:
        """Return 1 for the best action, shared where several are best, shape (n_actions,)."""
        indices = evidence[:, 0]
        return equal_shares(indices == indices.max())

    def scores(self, actions: Sequence[str]) -> list[float | None]:
        """Return the indices, in units of reward; None for an action without rewards."""
        return [self._indices.get(action) for action in actions]


def upper_means(means: FloatArray, weights: FloatArray, budget: float) -> FloatArray:
    """Return the largest q with weight * kl(mean, q) <= budget, shape (n_actions,), by halving.

    `means`: in [0, 1], shape (n_actions,); `weights`: above 0, shape (n_actions,); `budget`: 0 or more.
    """
    low, high = means.copy(), np.ones(len(means))
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        allowed = budget / weights
        for _ in range(_HALVINGS):
            middle = (low + high) / 2.0
            near = np.where(means > middle / 2.0, np.log1p((means - middle) / middle), np.log(means / middle))
            won = np.where(means > 0.0, means * near, 0.0)
            lost = np.where(means < 1.0, (1.0 - means) * np.log1p((middle - means) / (1.0 - middle)), 0.0)
            inside = won + lost <= allowed
            low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    return low
