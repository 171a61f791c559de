"""Anytime-valid intervals: they may be looked at after every row, and still hold at all looks at once.

Two of them. `asymptotic_sequence` asks for nothing but a finite variance, and holds as a central limit theorem does, but
uniformly in time (Robbins' normal mixture with the variance estimated):

    X̄_n ± S_n / √n · c_n,        c_n = √( 2 (m + 1) / m · log( √(m + 1) / alpha ) ),        m = n rho²,
                                 rho² = (-2 log alpha + log(1 - 2 log alpha)) / design_rows

rho is fixed beforehand, and makes the interval narrowest at `design_rows` rows. `critical_value` is c_n, which holds for whatever is asymptotically
a mean (the experiments' differences and lifts, too), and `anytime_p_value` the alpha at which c_n is |z|. Paper: Waudby-Smith, Arbour, Sinha,
Kennedy & Ramdas, "Time-uniform central limit theory and asymptotic confidence sequences", 2021 (arXiv:2103.06476), theorem 2.2 and appendix B.2.

`weighted_sequence` holds at every number of rows, for importance-weighted rewards: true propensities and rewards in a known range are
all that it supposes; the weights may be as large as they like. Any ξ_i >= 0 with mean V, guesses ξ̂_i in [0, 1] and bets λ_i in
[0, 1) that look at earlier rows only, make a supermartingale (Fan's inequality) of which follows, with probability 1 - alpha at all n,

    V  >=  ( Σ λ_i ξ_i  -  log(1/alpha)  -  Σ (ξ_i - ξ̂_i)² ψ(λ_i) ) / Σ λ_i,        ψ(λ) = -log(1 - λ) - λ

With rewards scaled to [0, 1], ξ = w r gives the lower bound and ξ = w (1 - r), whose mean is 1 - V, the upper one, at alpha/2 each.
Paper: Waudby-Smith, Wu, Ramdas, Karampatziakis & Mineiro, "Anytime-valid off-policy inference for contextual bandits", 2022
(arXiv:2210.10768), with the predictable plug-in bets λ_i = min(½, √(2 log(2/alpha) / (s²_{i-1} i log(1 + i)))).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

DESIGN_ROWS = 1_000
_LARGEST_BET = 0.5


def asymptotic_sequence(terms: Floats, confidence: float) -> tuple[float, float] | None:
    """Return the interval around the mean of `terms` (shape (n_rows,), in time order); None where they do not vary."""
    rows = len(terms)
    deviation = float(terms.std(ddof=1)) if rows > 1 else 0.0
    if deviation <= 0.0:
        return None
    radius = deviation / math.sqrt(rows) * critical_value(rows, confidence, DESIGN_ROWS)
    mean = float(terms.mean())
    return mean - radius, mean + radius


def critical_value(rows: float, confidence: float, design_rows: float) -> float:
    """Return by how many standard errors of `rows` (> 0) rows the interval reaches to either side, narrowest at `design_rows` (> 0).

    `confidence`: in (0, 1).

    >>> [round(critical_value(rows, 0.95, 1_000), 2) for rows in (10, 100, 1_000, 10_000, 1_000_000)]
    [9.08, 3.86, 3.04, 3.24, 3.87]
    """
    alpha, mixed = 1.0 - confidence, _mixed(rows, confidence, design_rows)
    return math.sqrt(2.0 * (mixed + 1.0) / mixed * (0.5 * math.log1p(mixed) - math.log(alpha)))


def anytime_p_value(z: float, rows: float, confidence: float, design_rows: float) -> float:
    """Return the p-value in (0, 1] of a mean `z` standard errors from 0: at most 1 - `confidence` just where the interval leaves out 0.

    That it ever falls to p has a probability of p at most, for every p; `confidence` only says for which one rho is chosen.
    """
    mixed = _mixed(rows, confidence, design_rows)
    return min(1.0, math.exp(0.5 * math.log1p(mixed) - 0.5 * mixed / (mixed + 1.0) * z * z))


def _mixed(rows: float, confidence: float, design_rows: float) -> float:
    """Return m = n rho²."""
    level = -2.0 * math.log(1.0 - confidence)
    return rows * (level + math.log1p(level)) / design_rows


def weighted_sequence(
    rewards: Floats, weights: Floats, reward_range: tuple[float, float], confidence: float
) -> tuple[float, float]:
    """Return the interval of the target's value from `rewards` within `reward_range` and their `weights`, both (n_rows,), in time order.

    >>> low, high = weighted_sequence(np.tile([0.0, 1.0], 5_000), np.ones(10_000), (0.0, 1.0), 0.95)
    >>> round(low, 2), round(high, 2)
    (0.48, 0.52)
    """
    low, high = reward_range
    scaled = (rewards - low) / (high - low)
    level = math.log(2.0 / (1.0 - confidence))
    least = _lower_bound(weights * scaled, level)
    most = 1.0 - _lower_bound(weights * (1.0 - scaled), level)
    return low + max(0.0, least) * (high - low), low + min(1.0, most) * (high - low)


def _lower_bound(values: Floats, level: float) -> float:
    """Return the bound after the last of `values` (>= 0); `level`: log(1/alpha)."""
    rows = np.arange(1, len(values) + 1)
    guesses = np.minimum((0.5 + np.concatenate([[0.0], np.cumsum(values)[:-1]])) / rows, 1.0)
    squares = (values - guesses) ** 2
    variances = (0.25 + np.concatenate([[0.0], np.cumsum(squares)[:-1]])) / rows
    bets = np.minimum(np.sqrt(2.0 * level / (variances * rows * np.log1p(rows))), _LARGEST_BET)
    return float((bets @ values - level - squares @ (-np.log1p(-bets) - bets)) / bets.sum())
