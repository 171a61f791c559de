"""UCB1: optimism in the face of uncertainty, without chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log, sqrt
from typing import ClassVar

import numpy as np

from shared.policies.algorithm import FloatArray, Parameter, equal_shares, parameter, scale
from shared.vocabulary import Snapshot


class Ucb1:
    """Choose the action of the highest upper confidence bound on its mean.

        index(a) = mean(a) + width * exploration * sqrt(2 * ln(max(N, 1)) / weight(a)),   N = sum of all weights

    An action without rewards has an infinite index; ties share equally. The best action gets all that the exploration
    floor leaves, so between two snapshots traffic does not spread: with a floor of 0 its decisions cannot be
    weighted by importance. Rewards need a range, whose width scales the bound. With forgetting the weights are the
    discounted counts of D-UCB (Garivier and Moulines, 2011). Auer, Cesa-Bianchi and Fischer, Finite-time Analysis of
    the Multiarmed Bandit Problem (2002).
    """

    NEEDS_RANGE: ClassVar[bool] = True
    PARAMETERS: ClassVar[Mapping[str, Parameter]] = {
        "exploration": Parameter(1.0, 0.0, 100.0, "factor of the confidence bound; 1 is the paper's"),
    }

    def __init__(self, snapshot: Snapshot) -> None:
        """Compile a snapshot: one index per action it knows."""
        _, width = scale(snapshot)
        factor = width * parameter(snapshot, self.PARAMETERS, "exploration")
        log_n = log(max(sum(known.weight for known in snapshot.estimates), 1.0))
        self._indices = {
            known.action: known.total / known.weight + factor * sqrt(2.0 * log_n / known.weight)
            for known in snapshot.estimates
            if known.weight > 0
        }

    def evidence(self, actions: Sequence[str]) -> FloatArray:
        """Return the indices, shape (n_actions, 1)."""
        return np.array([[self._indices.get(action, np.inf)] for action in actions])

    def probabilities(self, evidence: FloatArray) -> FloatArray:
        """Return 1 for the best action, shared where several are best, shape (n_actions,)."""
        indices = evidence[:, 0]
        return equal_shares(indices == indices.max())

    def scores(self, actions: Sequence[str]) -> list[float | None]:
        """Return the indices; None for an action without rewards."""
        return [self._indices.get(action) for action in actions]
