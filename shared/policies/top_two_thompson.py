"""Top-two Thompson sampling: the best action, or the one most likely to prove it wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from shared.policies.algorithm import FloatArray, Parameter
from shared.policies.thompson import Thompson
from shared.vocabulary import Snapshot


class TopTwoThompson(Thompson):
    """Choose the winner of a posterior draw with probability beta, else that of the next draw that another one wins.

    With w(a) the share of the snapshot's fixed draws that a wins among the eligible actions, drawing again until another
    than j wins has exactly the conditional law w(a) / (1 - w(j)), so

        p(a) = beta * w(a) + (1 - beta) * sum over j != a of w(j) * w(a) / (1 - w(j)),

    a closed form for every subset. Where one action wins every draw there is no other draw to wait for: its
    challengers share 1 - beta as they win among themselves. Posteriors, draws and parameters are those of `thompson`. Take it
    to find out which action is best, with the least traffic, and then stop: half of the traffic goes on to the
    challengers for ever, so it earns less than `thompson`. Russo, Simple Bayesian Algorithms for Best-Arm
    Identification (2016).
    """

    PARAMETERS: ClassVar[Mapping[str, Parameter]] = {
        "beta": Parameter(0.5, 0.0, 1.0, "probability of choosing the leader rather than the challenger"),
        **Thompson.PARAMETERS,
    }

    def __init__(self, snapshot: Snapshot) -> None:
        """Compile a snapshot, as `thompson` does."""
        super().__init__(snapshot)
        self._beta = self._given("beta")

    def probabilities(self, evidence: FloatArray) -> FloatArray:
        """Return the closed form above, shape (n_actions,)."""
        wins = super().probabilities(evidence)
        if len(wins) == 1:
            return wins
        if np.count_nonzero(wins) == 1:
            rest = wins == 0.0
            shares = self._beta * wins
            shares[rest] = (1.0 - self._beta) * super().probabilities(evidence[rest])
            return shares
        challenged: FloatArray = wins / (wins.sum() - wins)
        others: FloatArray = challenged.sum() - challenged
        return self._beta * wins + (1.0 - self._beta) * wins * others
