"""What a linear model believes of an action's weights before any reward: how far each lies from its start, and which are alike.

    theta_a ~ N(mu, v L^-1),   L^-1 = diag(1, T / ridge d),   T = C^kinship, scaled to a diagonal of ones

for d columns beside the ones. C holds the columns' correlations over all decisions, whatever was shown, shrunk towards the unit
matrix as if for each column one more decision had been seen in which nothing moved with anything. So every weight has the variance
that it would have by itself, and the weights of columns that move together are alike: what is learned in one context says more of
contexts that resemble it. With kinship 0, or columns that do not move together, T is the unit matrix. With 1 a direction in which
contexts hardly differ is taken to say hardly anything of rewards; the root (0.5) is between the two.

Of an action that was never seen, no more is taken to be uncertain than what a weight says by itself, 1 / L_jj: alike weights add up
in the contexts where columns move together, and an action would have to be tried in all of these contexts before anything was known of
it. So actions are taken up one after another, not all at once. With kinship 0 that is no difference.
"""

from __future__ import annotations

import numpy as np

from shared.policies.algorithm import FloatArray

LEAST_VARIANCE = 1e-9
"""A standardised column that varies less moves with no other."""


def own_prior(gram: FloatArray, ridge: float, kinship: float) -> FloatArray:
    """Return L, shape (1 + d, 1 + d), for the pooled `gram` of the ones and d standardised columns, of the same shape."""
    d = len(gram) - 1
    prior = np.eye(1 + d)
    if kinship and d > 1:
        prior[1:, 1:] = np.linalg.inv(_likeness(gram, kinship))
        prior = (prior + prior.T) / 2
    prior[1:, 1:] *= ridge * max(d, 1)
    return prior


def _likeness(gram: FloatArray, kinship: float) -> FloatArray:
    """Return T, shape (d, d)."""
    n, d = float(gram[0, 0]), len(gram) - 1
    if n <= 0:
        return np.eye(d)
    mean = gram[0, 1:] / n
    covariance = gram[1:, 1:] / n - np.outer(mean, mean)
    variances = np.diagonal(covariance)
    varies = variances > LEAST_VARIANCE
    deviations = np.sqrt(np.where(varies, variances, 1.0))
    correlations = np.where(np.outer(varies, varies), covariance / np.outer(deviations, deviations), 0.0)
    np.fill_diagonal(correlations, 1.0)
    values, vectors = np.linalg.eigh((n * correlations + d * np.eye(d)) / (n + d))
    # at least d / (n + d), but for rounding
    power = (vectors * np.maximum(values, 0.5 * d / (n + d)) ** kinship) @ vectors.T
    scale = np.sqrt(np.diagonal(power))
    likeness: FloatArray = power / np.outer(scale, scale)
    return likeness
