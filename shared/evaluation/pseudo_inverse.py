"""Slates by the pseudo-inverse estimator (PI), for one reward of a whole slate.

Supposes that the slate's reward is a *sum* of unknown contributions of (position, item); which, and that nobody sees them, does not matter. With
1_s the indicator of the slate's (position, item) pairs, q_π(x) = E_π 1_s and Γ_b = E_b 1_s 1_s',

    V = 1/n Σ_i r_i · q_π(x_i)' Γ_b(x_i)⁺ 1_{s_i}

Its variance grows linearly, not exponentially, with the number of positions. Γ⁺ has a closed form for two logging policies:

* every position drawn by itself (a *product* law): the weight is 1 - K + Σ_k π_k(s_k | x) / b_k(s_k | x);
* K of m items drawn uniformly without repetition. Γ = 1/m [I⊗I + (J - I)⊗(J - I)/(m - 1)] has three eigenspaces, so that with P = J/size, Q = I - P

      Γ⁺ = m/K P⊗P + m (m - 1)/(m - K) P⊗Q + (m - 1) Q⊗Q        (the middle one is missing where K = m)

Any other law would need Γ itself, of size (K m)², for every context. Paper: Swaminathan, Krishnamurthy, Agarwal, Dudík, Langford, Jose & Zitouni,
"Off-policy evaluation for slate recommendation", NeurIPS 2017.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from shared.errors import InvalidInput
from shared.evaluation.estimate_of_terms import estimate_of_terms
from shared.evaluation.logged_sequences import LoggedSequences
from shared.evaluation.value_estimate import CONFIDENCE, ValueEstimate

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_SUM_TOLERANCE = 1e-6


def pseudo_inverse_of_products(slates: LoggedSequences, confidence: float = CONFIDENCE) -> ValueEstimate:
    """Estimate the target's value from slates whose positions were drawn independently of one another.

    A slate's reward is the sum over its positions; ratios are of the positions' own laws. Weights may be negative, the effective
    sample size is of their sizes.
    """
    return _estimate(slates.totals, product_weights(slates), confidence)


def pseudo_inverse_of_uniform(
    rewards: Floats, items: Integers, marginals: Floats, confidence: float = CONFIDENCE
) -> ValueEstimate:
    """Estimate the target's value from slates drawn uniformly without repetition. Raises `InvalidInput`.

    `rewards`: shape (n_slates,). `items`: shape (n_slates, K), numbers of the logged items, in [0, m). `marginals`: shape (n_slates, K, m), the
    target's probability that an item stands at a position; sums to 1 over items.
    """
    weights = uniform_weights(items, marginals)
    if rewards.shape != (len(items),) or not bool(np.isfinite(rewards).all()):
        raise InvalidInput(f"rewards must be {len(items)} finite numbers, one for each slate", field="rewards")
    return _estimate(rewards, weights, confidence)


def product_weights(slates: LoggedSequences) -> Floats:
    """Return q' Γ⁺ 1 of each slate, shape (n_slates,), for a product law; may be negative."""
    weights: Floats = 1.0 + (slates.ratios - 1.0).sum(axis=1)
    return weights


def uniform_weights(items: Integers, marginals: Floats) -> Floats:
    """Return q' Γ⁺ 1 of each slate, shape (n_slates,), for uniform slates without repetition; may be negative."""
    _check(items, marginals)
    count, positions, size = marginals.shape
    logged = np.zeros(marginals.shape)
    logged[np.arange(count)[:, None], np.arange(positions), items] = 1.0
    in_slate, expected = logged.sum(axis=1), marginals.sum(axis=1)  # (count, size): over positions
    shown = (in_slate * expected).sum(axis=1) / positions
    together = shown - positions / size  # q' (P⊗Q) 1; q' (P⊗P) 1 is K/m for every slate, which makes the 1 below
    apart = (logged * marginals).sum(axis=(1, 2)) - shown  # q' (Q⊗Q) 1
    weights: Floats = 1.0 + (size - 1.0) * apart
    if size > positions:
        weights = weights + size * (size - 1.0) / (size - positions) * together
    return weights


def _estimate(rewards: Floats, weights: Floats, confidence: float) -> ValueEstimate:
    return estimate_of_terms("pseudo_inverse", rewards * weights, rewards, np.abs(weights), confidence)


def _check(items: Integers, marginals: Floats) -> None:
    if marginals.ndim != 3 or items.shape != marginals.shape[:2]:  # noqa: PLR2004 - slates, positions, items
        raise InvalidInput("marginals must have shape (n_slates, K, m), items (n_slates, K)", field="marginals")
    _, positions, size = marginals.shape
    if positions > size or size < 2:  # noqa: PLR2004 - one item leaves no choice
        raise InvalidInput(f"{positions} positions cannot hold different ones of {size} items", field="items")
    ordered = np.sort(items, axis=1)
    if not bool(((items >= 0) & (items < size)).all()) or bool((np.diff(ordered, axis=1) == 0).any()):
        raise InvalidInput(f"items of a slate must differ and lie in [0, {size})", field="items")
    if not bool((marginals >= 0.0).all()) or float(np.abs(marginals.sum(axis=2) - 1.0).max()) > _SUM_TOLERANCE:
        raise InvalidInput("marginals must be >= 0 and sum to 1 over the items of each position", field="marginals")
