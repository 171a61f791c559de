"""What a decision without feedback is worth while its feedback may still come."""

from __future__ import annotations

import numpy as np

from shared.policies.algorithm import FloatArray

_HALVINGS = 50


def silence_weights(answered: FloatArray, silent: FloatArray, shares: FloatArray) -> FloatArray:
    """Return what a silent decision weighs, shape (n_actions, n_buckets), in [0, 1].

    `answered`: weight of each action's decisions with feedback, shape (n_actions,); `silent`: of those without, by
    bucket, shape (n_actions, n_buckets); `shares`: F of each bucket's age, in [0, 1], shape (n_buckets,).

    An action whose decisions are answered with probability q, in the end, leaves one of age a silent with probability
    1 - q F(a). Its likelihood is greatest where

        sum answered / q = sum silent * F / (1 - q F),

    in [0, 1], which is the share of answered among answered + sum silent * w for

        w = F (1 - q) / (1 - q F).

    So weighed, silence neither speaks before its time nor, as weights of F alone would have it, too loudly: answers
    count in full at once, and where most decisions are answered in the end the silence of a young one says little.
    w is F where nothing was answered, and 1 once F is. The maximum is that of EM for censored exponential families;
    Chapelle, Modeling delayed feedback in display advertising (2014), gives the model.

    >>> silence_weights(np.array([0.0, 30.0]), np.array([[40.0], [70.0]]), np.array([0.5])).round(6)
    array([[0.5     ],
           [0.285714]])
    """
    low, high = np.zeros(len(answered)), np.ones(len(answered))
    for _ in range(_HALVINGS):
        rate = (low + high) / 2.0
        expected = rate * (silent * shares / (1.0 - rate[:, None] * shares)).sum(axis=1)
        below = expected < answered
        low, high = np.where(below, rate, low), np.where(below, high, rate)
    return np.where(shares >= 1.0, 1.0, shares * (1.0 - low[:, None]) / (1.0 - low[:, None] * shares))
