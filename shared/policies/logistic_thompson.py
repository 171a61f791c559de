"""Logistic Thompson sampling: each action as often as its chance of a reward is believed to be the best in this context."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import pi
from typing import ClassVar

import numpy as np

from shared.policies.algorithm import FloatArray, Parameter, parameter, scale
from shared.policies.linear_model import N_DRAWS, LinearPredictor, Prediction
from shared.policies.logistic_weights import LOGISTIC_PARAMETERS
from shared.vocabulary import Action, Context, Snapshot


class LogisticThompson:
    """Choose an action with the share of posterior draws in which its log-odds in this context are the highest.

        draw_j(a) = m_a(x) + exploration * (s_a(x) z_ja + l_a(x)' z_j),   j = 1 .. 256
        score(a)  = low + width * sigma(m_a / sqrt(1 + pi v_a / 8)),      v_a = s_a^2 + l_a' l_a

    with mean m, own standard deviation s and loadings l of the log-odds from the Laplace posterior (`logistic_fit`), whose
    covariance is full for each action and for what all share, and the fixed normal numbers z of `lin_thompson`. The reward
    grows with the log-odds, so the best draw of the one is the best of the other. The score is the expected reward, by
    MacKay's approximation, off by at most 0.02 of the range. Draws lie half as far from the mean as is believed, unless the
    policy says otherwise: all of it explores more than pays. Chapelle and Li, An Empirical Evaluation of Thompson Sampling
    (2011), who found the same, with a full covariance in place of their diagonal one; MacKay, The Evidence Framework Applied
    to Classification Networks (1992).
    """

    NEEDS_RANGE: ClassVar[bool] = True
    PARAMETERS: ClassVar[Mapping[str, Parameter]] = {
        **LOGISTIC_PARAMETERS,
        "exploration": Parameter(0.5, 0.0, 100.0, "factor of the posterior's standard deviation"),
    }

    def __init__(self, snapshot: Snapshot) -> None:
        """Compile a snapshot."""
        self._predictor = LinearPredictor(snapshot)
        self._exploration = parameter(snapshot, self.PARAMETERS, "exploration")
        self._low, self._width = scale(snapshot)

    def evidence(self, context: Context, actions: Sequence[Action | str] | None) -> FloatArray:
        """Return the expected reward of each action and its draws, in log-odds, shape (n_actions, 1 + N_DRAWS)."""
        prediction = self._predictor.predict(context, actions)
        block = self._predictor.draws(prediction, actions, self._exploration)
        block[0] = self._reward(prediction.mean * shrinkage(prediction))
        return block.T

    def probabilities(self, evidence: FloatArray) -> FloatArray:
        """Return each action's share of won draws, shape (n_actions,)."""
        wins = np.bincount(evidence.T[1:].argmax(axis=1), minlength=len(evidence))
        return wins / N_DRAWS

    def contributions(self, context: Context, action: Action | str) -> dict[str, float]:
        """Return what each feature adds to the score of an action, in units of reward; their sum is the score.

        `(baseline)`: what an average context earns. Each of the others has its share of the log-odds beyond the baseline's
        of what the score is beyond it: integrated gradients from the baseline (Sundararajan, Taly and Yan, Axiomatic
        Attribution for Deep Networks, 2017).
        """
        factor = float(shrinkage(self._predictor.predict(context, [action]))[0])
        log_odds = self._predictor.contributions(context, action)
        before, after = factor * log_odds.pop("(baseline)"), factor * sum(log_odds.values())
        baseline, score = self._reward(np.array([before, before + after])).tolist()
        slope = (score - baseline) / after if after else 0.0
        return {"(baseline)": baseline} | {name: slope * factor * value for name, value in log_odds.items()}

    def _reward(self, log_odds: FloatArray) -> FloatArray:
        return self._low + self._width / 2 * (1.0 + np.tanh(log_odds / 2))


def shrinkage(prediction: Prediction) -> FloatArray:
    """Return the factor, in (0, 1], by which uncertainty pulls each action's log-odds to 0, shape (n_actions,)."""
    variance = prediction.deviation**2
    if prediction.loadings.shape[1]:
        variance = variance + (prediction.loadings**2).sum(axis=1)
    factor: FloatArray = 1.0 / np.sqrt(1.0 + pi / 8.0 * variance)
    return factor
