"""RandUCB: an optimism that is drawn anew for every decision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import erfc, inf, sqrt
from typing import ClassVar

import numpy as np

from shared.policies.algorithm import FloatArray, Parameter, parameter
from shared.policies.linear_fit import LINEAR_PARAMETERS
from shared.policies.linear_model import LinearPredictor
from shared.vocabulary import Action, Context, Snapshot

ALIKE = 1e-12
"""How far, as a share of the largest number there is, two actions may be apart and still count as the same."""


class RandUcb:
    """Choose the action of the highest upper confidence bound, with a random number of standard deviations for all actions.

        index(a) = m_a(x) + exploration * z * spread_a(x),   z ~ N(1, variation^2) above 0, the same for all actions
        p(a)     = P(a has the highest index)

    with mean and standard deviation from the linear model (`linear_fit`). An index is a line over z, so the winners stand along
    the upper envelope of n lines, and p(a) is what the law of z gives to a's part of it: a closed form. Actions that
    are alike share equally. Thompson sampling draws for each action by itself, so that among many some draw is high in every
    decision and too much is explored; here an action is only tried where its bound can be the highest. It earns what `lin_ucb`
    earns, and its traffic spreads between two snapshots. A snapshot that names no variation was made before there was one,
    and stands for z = |N(0, 1)|. Vaswani, Mehrabian, Durand and Kveton, Old Dog Learns New Tricks: Randomized UCB for Bandit
    Problems (2020).
    """

    NEEDS_RANGE: ClassVar[bool] = False
    PARAMETERS: ClassVar[Mapping[str, Parameter]] = {
        **LINEAR_PARAMETERS,
        "exploration": Parameter(1.0, 0.0, 100.0, "factor of the standard deviations added to the mean"),
        "variation": Parameter(0.25, 0.01, 1.0, "how far z varies around 1"),
        "kinship": Parameter(0.5, 0.0, 1.0, "how alike the weights of columns that move together are taken to be"),
    }

    def __init__(self, snapshot: Snapshot) -> None:
        """Compile a snapshot."""
        self._predictor = LinearPredictor(snapshot)
        self._exploration = parameter(snapshot, self.PARAMETERS, "exploration")
        variation = snapshot.parameters.get("variation")
        self._middle, self._width = (0.0, 1.0) if variation is None else (1.0, variation)

    def evidence(self, context: Context, actions: Sequence[Action | str] | None) -> FloatArray:
        """Return mean and standard deviation of each action, shape (n_actions, 2)."""
        prediction = self._predictor.predict(context, actions)
        return np.column_stack([prediction.mean, self._exploration * prediction.spread()])

    def moved(self, evidence: FloatArray, shift: FloatArray) -> FloatArray:
        """Return the evidence of actions that are worth more by `shift`: their means."""
        return np.column_stack([evidence[:, 0] + shift, evidence[:, 1]])

    def probabilities(self, evidence: FloatArray) -> FloatArray:
        """Return each action's part of the upper envelope, shape (n_actions,)."""
        means, spreads = evidence[:, 0], evidence[:, 1]
        alike = ALIKE * float(np.abs(evidence).max())
        # an action below the one of the highest mean (or of the largest spread) at both ends is below it everywhere
        high, wide = means[spreads.argmax()] - alike, spreads[means.argmax()] - alike
        kept = np.flatnonzero((means >= high) & (spreads >= wide))
        envelope = _envelope(means[kept].tolist(), spreads[kept].tolist(), alike)
        shares = np.zeros(len(evidence))
        above_0 = erfc(-self._middle / self._width * _ROOT_HALF)
        beyond = 1.0  # the probability that z lies where a part of the envelope begins, or farther out
        for (members, _, _, _), end in zip(envelope, [*(line[3] for line in envelope[1:]), inf], strict=True):
            left = erfc((end - self._middle) / self._width * _ROOT_HALF) / above_0
            for place in members:
                shares[kept[place]] += (beyond - left) / len(members)
            beyond = left
        return shares

    def contributions(self, context: Context, action: Action | str) -> dict[str, float]:
        """Return what each feature adds to the mean, in units of reward."""
        return self._predictor.contributions(context, action)


def _envelope(means: list[float], spreads: list[float], alike: float) -> list[tuple[list[int], float, float, float]]:
    """Return what is on top from z = 0 on: (the actions, their mean, their spread, from which z on), by rising z."""
    top: list[tuple[list[int], float, float, float]] = []
    for place in sorted(range(len(means)), key=spreads.__getitem__):
        mean, spread = means[place], spreads[place]
        begin = 0.0
        while top:
            members, other_mean, other_spread, other_begin = top[-1]
            if spread - other_spread <= alike:
                if mean <= other_mean + alike:
                    if mean >= other_mean - alike:
                        members.append(place)
                    break
            else:
                begin = (other_mean - mean) / (spread - other_spread)
                if begin > other_begin:
                    top.append(([place], mean, spread, begin))
                    break
            top.pop()
        else:
            top.append(([place], mean, spread, 0.0))
    return top


_ROOT_HALF = sqrt(0.5)
