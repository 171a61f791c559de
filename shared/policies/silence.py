"""What a decision without feedback is worth while its feedback may still come."""

from __future__ import annotations

import numpy as np

from shared.policies.algorithm import FloatArray

_HALVINGS = 50


def answer_rates(answered: FloatArray, silent: FloatArray, shares: FloatArray) -> FloatArray:
    """Return the share of each action's decisions that are answered in the end, in [0, 1), shape (n_actions,).

    `answered`: weight of each action's decisions with feedback, shape (n_actions,); `silent`: of those without, by
    bucket, shape (n_actions, n_buckets); `shares`: F of each bucket's age, in [0, 1], shape (n_buckets,).

    An action whose decisions are answered with probability q leaves one of age a silent with probability 1 - q F(a).
    The likelihood is greatest where

        sum answered / q = sum silent * F / (1 - q F),   or at 1 where that would be above.
    """
    low, high = np.zeros(len(answered)), np.ones(len(answered))
    for _ in range(_HALVINGS):
        rate = (low + high) / 2.0
        expected = rate * (silent * shares / (1.0 - rate[:, None] * shares)).sum(axis=1)
        below = expected < answered
        low, high = np.where(below, rate, low), np.where(below, high, rate)
    return low


def silence_weights(rates: FloatArray, shares: FloatArray) -> FloatArray:
    """Return what a silent decision weighs, shape (n_actions, n_buckets), in [0, 1].

    `rates`: the share q of an action's decisions that is answered in the end, in [0, 1), shape (n_actions,); `shares`: F.

        w = F (1 - q) / (1 - q F)

    With these weights the share of answered among answered + sum silent * w is q. Silence neither speaks before its
    time nor, as weights of F alone would have it, too loudly: answers count in full at once, and where most decisions
    are answered in the end the silence of a young one says little. w is F where nothing was answered, and 1 once F is. The
    maximum is that of EM for censored data; Chapelle, Modeling delayed feedback in display advertising (2014), gives the
    model.

    >>> shares = np.array([0.5])
    >>> silence_weights(answer_rates(np.array([0.0, 30.0]), np.array([[40.0], [70.0]]), shares), shares).round(6)
    array([[0.5     ],
           [0.285714]])
    """
    return np.where(shares >= 1.0, 1.0, shares * (1.0 - rates[:, None]) / (1.0 - rates[:, None] * shares))
