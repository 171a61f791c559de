"""Estimated mean rewards, drawn towards a prior: what greedy and softmax choose by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from shared.policies.algorithm import FloatArray, Parameter, parameter, scale
from shared.vocabulary import Snapshot

MEAN_PARAMETERS: Mapping[str, Parameter] = {
    "prior_mean": Parameter(None, -1e9, 1e9, "mean before any reward; the middle of the range, 0 if unbounded"),
    "prior_weight": Parameter(1.0, 1e-6, 1e6, "how many rewards the prior mean is worth"),
}


class Means:
    """One mean per action of a snapshot, and the prior's for all others.

    mean(a) = (total(a) + prior_weight * prior_mean) / (weight(a) + prior_weight)
    """

    def __init__(self, snapshot: Snapshot) -> None:
        """Estimate them all."""
        low, width = scale(snapshot)
        middle = low + width / 2 if snapshot.reward_range is not None else 0.0
        self._prior_mean = snapshot.parameters.get("prior_mean", middle)
        prior_weight = parameter(snapshot, MEAN_PARAMETERS, "prior_weight")
        self._means = {
            known.action: (known.total + prior_weight * self._prior_mean) / (known.weight + prior_weight)
            for known in snapshot.estimates
        }

    def of(self, actions: Sequence[str]) -> list[float]:
        """Return the means of these actions."""
        return [self._means.get(action, self._prior_mean) for action in actions]

    def column(self, actions: Sequence[str]) -> FloatArray:
        """Return them as evidence, shape (n_actions, 1)."""
        return np.array([[mean] for mean in self.of(actions)])
