"""Sample-ratio mismatch: do the variations have the shares of the units that they should have?

Where they do not, units went missing or were counted twice in one variation more than in another, and no result can be believed. With counts n_i of n
units and planned shares θ_i, once:

    X² = Σ (n_i - n θ_i)² / (n θ_i),        p = P(χ²_{K-1} >= X²)

and at any number of looks: against all other shares, drawn from a Dirichlet distribution around the planned ones with parameters a_i = c θ_i, the Bayes factor

    O_n = Γ(c)/Γ(c + n) · Π_i Γ(a_i + n_i)/Γ(a_i) · Π_i θ_i^(-n_i)

is a martingale of mean 1 while the shares are right, so that P(O_n >= 1/p at any n) <= p (Ville): 1/O_n, up to 1, may be looked at after every unit. The concentration c says what is looked for: shares that
are off by some √(θ (1 - θ) / c). With the default, and two variations of equal
shares, p < 0.001 takes an imbalance of 5.4 standard errors at a thousand units and 4.2 to 4.8 at ten thousand to ten million; at one look 3.3 would do.

Paper: Lindon & Malek, "Anytime-valid inference for multinomial count data", NeurIPS 2022 (arXiv:2011.03567, 2020).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.special import chdtrc, gammaln

from shared.errors import InvalidInput

Floats = npt.NDArray[np.float64]
Counts = Sequence[int] | npt.NDArray[np.int64]

CONCENTRATION = 1_000.0


def chi_square_p_value(counts: Counts, weights: Sequence[float]) -> float:
    """Return the p-value of `counts` (units of each variation, shape (n_variations,)) against shares in proportion to `weights` (> 0), for one look.

    Raises `InvalidInput` where they do not fit each other.

    >>> round(chi_square_p_value([5_000, 5_200], [0.5, 0.5]), 4)
    0.0477
    """
    observed, shares = _checked(np.asarray(counts, dtype=np.float64)[None, :], weights)
    expected = observed.sum() * shares
    if not expected.any():
        return 1.0
    statistic = float(((observed[0] - expected) ** 2 / expected).sum())
    return float(chdtrc(len(shares) - 1, statistic)) if len(shares) > 1 else 1.0


def log_bayes_factor(counts: Counts, weights: Sequence[float], concentration: float = CONCENTRATION) -> Floats:
    """Return log O_n of every row of `counts`, shape (n_looks, n_variations), of units up to that look: shape (n_looks,)."""
    observed, shares = _checked(np.atleast_2d(np.asarray(counts, dtype=np.float64)), weights)
    if not concentration > 0.0:
        raise InvalidInput("the concentration must be above 0", field="concentration")
    parameters = concentration * shares
    grown = (gammaln(parameters + observed) - gammaln(parameters)).sum(axis=1)
    whole = gammaln(concentration) - gammaln(concentration + observed.sum(axis=1))
    return np.asarray(grown + whole - observed @ np.log(shares), dtype=np.float64)


def sequential_p_value(counts: Counts, weights: Sequence[float], concentration: float = CONCENTRATION) -> float:
    """Return min(1, 1/O_n) of `counts`, shape (n_variations,), which holds at every look, or of the least over (n_looks, n_variations) of them.

    >>> round(sequential_p_value([5_000, 5_200], [0.5, 0.5]), 4), sequential_p_value([50_000, 52_000], [0.5, 0.5]) < 1e-6
    (0.5611, True)
    """
    return float(np.exp(-np.maximum(log_bayes_factor(counts, weights, concentration), 0.0)).min(initial=1.0))


def _checked(observed: Floats, weights: Sequence[float]) -> tuple[Floats, Floats]:
    """Return the counts, shape (n_looks, n_variations), and the shares that `weights` plan."""
    shares = np.asarray(weights, dtype=np.float64)
    if shares.ndim != 1 or not len(shares) or not bool((shares > 0.0).all() and np.isfinite(shares).all()):
        raise InvalidInput("weights must be finite and above 0, one a variation", field="weights")
    if observed.ndim != 2 or observed.shape[1] != len(shares) or not bool((observed >= 0.0).all()):  # noqa: PLR2004 - looks and variations
        raise InvalidInput(f"counts must hold {len(shares)} numbers that are not negative", field="counts")
    return observed, shares / shares.sum()
