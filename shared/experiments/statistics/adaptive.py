"""Inference where a bandit assigned the variations: adaptively weighted doubly robust scores from the logged propensities.

A bandit gives fewer units to what looked bad by chance, and so leaves it looking bad: means per variation are biased downwards, and not normal. With
propensities e_t(w) and a guess m_t(w) at the reward, both of which look at earlier rows only,

    Γ_t(w) = m_t(w) + 1{W_t = w} / e_t(w) · (Y_t - m_t(w)),          E[Γ_t(w) | past] = μ(w)

whatever the bandit did. Their plain mean is unbiased, but its variance follows the propensities' wandering. So each score is weighted by the square root of the precision
that was known before it was drawn:

    h_t(w) = √e_t(w),      μ̂(w) = Σ h_t(w) Γ_t(w) / Σ h_t(w),      ψ_t(w) = h_t(w) (Γ_t(w) - μ̂(w)) / Σ h_t(w)
    difference  μ̂(w) - μ̂(c),      se² = Σ (ψ_t(w) - ψ_t(c))²,  and at least  n s²(w) / (Σ h_t(w))² + n s²(c) / (Σ h_t(c))²

Then h_t (Γ_t - μ) are martingale differences of one variance, up to what m_t errs, and each mean's studentised error is normal even where the propensities never settle;
that of a difference is where the ratio of both Σ h_t settles, and nearly so else (`docs/experiment-decisions.md` has what simulations say). These are the constant allocation rates of Hadad et al.; their
two-point rates are the same where the exploration floor is constant, as it is here. The lower bound of the error, with the rewards' variances s², is what
it is on average: the squares of few scores that are large and rare are often too small.

`sequential` may be looked at after every row: both martingales together are a Brownian motion in the plane, for whose every direction, wherever the
bandit turns it, the normal mixture over both coordinates holds at all rows n at once,

    |θ̂ - θ|  <=  c_n se,      c_n² = 2 (n rho² + 1) / (n rho²) · log((n rho² + 1) / alpha),      rho² = x / design_rows with x = log(1 + x) + log(1/alpha)

asymptotically; rho is fixed beforehand, and makes c_n least at `design_rows` rows.

Papers: Hadad, Hirshberg, Zhan, Wager & Athey, "Confidence intervals for policy evaluation in adaptive experiments", PNAS 2021 (arXiv:1911.02768); Zhan, Hadad, Hirshberg & Athey, "Off-policy
evaluation via adaptive weighting with data from contextual bandits", KDD 2021 (arXiv:2106.02029); Waudby-Smith et al., "Time-uniform central limit theory and asymptotic confidence
sequences", 2021 (arXiv:2103.06476), section 2.5.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri

from shared.errors import InvalidInput
from shared.evaluation.doubly_robust import doubly_robust_terms
from shared.evaluation.logged_decisions import dense
from shared.experiments.statistics.confidence_sequences import DESIGN_UNITS, is_silent
from shared.experiments.statistics.effect import Effect, compared
from shared.experiments.statistics.effect import standard_error as independent_error
from shared.experiments.statistics.moments import Sample

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_SUM_TOLERANCE = 1e-6


def adaptive_effect(
    rewards: Floats,
    assigned: Integers,
    propensities: Floats,
    control: int,
    treatment: int,
    *,
    guesses: Floats | None = None,
    inference: Literal["sequential", "fixed_horizon"] = "sequential",
    confidence: float = 0.95,
    design_rows: float = DESIGN_UNITS,
) -> Effect:
    """Return the effect of variation `treatment` over `control`, from rows in the order in which they were assigned.

    `rewards`: shape (n_rows,). `assigned`: shape (n_rows,), the number of the variation. `propensities`: shape (n_rows, n_variations), above 0, each row's sum 1: of *every* variation,
    as they were when the row was assigned. `guesses`: shape (n_rows, n_variations), m_t, which must not look at rows t and after (so a cross-fitted model will not do); None for running
    means. Rows are taken as independent given the past: give one for each unit. Raises `InvalidInput`.
    """
    _check(rewards, assigned, propensities, (control, treatment))
    scores = _scores(rewards, assigned, propensities, guesses)
    samples, influences, pooled = {}, {}, 0.0
    for variation in (control, treatment):
        weights, earned = np.sqrt(propensities[:, variation]), rewards[assigned == variation]
        mean = float(weights @ scores[:, variation] / weights.sum())
        influence = weights * (scores[:, variation] - mean) / weights.sum()
        expected = (
            len(rewards) * float(((earned - mean) ** 2).mean()) / float(weights.sum()) ** 2 if len(earned) else 0.0
        )
        samples[variation] = Sample(
            n=len(earned),
            mean=mean,
            variance=len(earned) * max(float(influence @ influence), expected),
            conversions=int(np.count_nonzero(earned)),
        )
        influences[variation] = influence
        pooled += expected
    one, other = samples[control], samples[treatment]
    if is_silent(one, other):
        return compared(one, other, None, p_value=None, confidence=confidence, method="adaptive")
    apart = influences[treatment] - influences[control]
    error = math.sqrt(max(float(apart @ apart), pooled))
    z = abs(other.mean - one.mean) / error if error else 0.0
    if inference == "sequential":
        critical = _critical(len(rewards), confidence, design_rows)
        p_value = _anytime_p_value(z, len(rewards), confidence, design_rows)
    else:
        critical, p_value = -float(ndtri((1.0 - confidence) / 2.0)), 2.0 * float(ndtr(-z))
    wider = error / (independent_error(one, other) or 1.0)  # the scores of two variations share m_t
    return compared(one, other, critical * wider, p_value=p_value, confidence=confidence, method="adaptive")


def _scores(rewards: Floats, assigned: Integers, propensities: Floats, guesses: Floats | None) -> Floats:
    """Return Γ, shape (n_rows, n_variations): doubly robust terms of the policy that always takes one variation."""
    rows, variations = propensities.shape
    guessed = _running_means(rewards, assigned, variations) if guesses is None else guesses
    of_assigned = propensities[np.arange(rows), assigned]
    scores = np.empty((rows, variations))
    for variation in range(variations):
        always = np.zeros((rows, variations))
        always[:, variation] = 1.0
        log = dense(rewards, of_assigned, always, assigned, predictions=guessed)
        scores[:, variation] = doubly_robust_terms(log)
    return scores


def _running_means(rewards: Floats, assigned: Integers, variations: int) -> Floats:
    """Return the mean reward of each variation in the rows before each one, and that of all before its first row; 0 at the start."""
    taken = np.zeros((len(rewards), variations + 1))
    taken[np.arange(len(rewards)), assigned] = 1.0
    taken[:, -1] = 1.0
    counts, sums = (np.cumsum(each, axis=0) - each for each in (taken, taken * rewards[:, None]))
    means = sums / np.maximum(counts, 1.0)
    return np.where(counts[:, :-1] > 0.0, means[:, :-1], means[:, -1:])


def _critical(rows: int, confidence: float, design_rows: float) -> float:
    """Return c_n. Mixing in the plane takes log(n rho² + 1), where a line takes half of it."""
    mixed = _mixed(rows, confidence, design_rows)
    return math.sqrt(2.0 * (mixed + 1.0) / mixed * (math.log1p(mixed) - math.log(1.0 - confidence)))


def _anytime_p_value(z: float, rows: int, confidence: float, design_rows: float) -> float:
    """Return the p-value in (0, 1], at most 1 - `confidence` just where the interval leaves out 0."""
    mixed = _mixed(rows, confidence, design_rows)
    return min(1.0, math.exp(math.log1p(mixed) - 0.5 * mixed / (mixed + 1.0) * z * z))


def _mixed(rows: int, confidence: float, design_rows: float) -> float:
    """Return n rho²."""
    level = -math.log(1.0 - confidence)
    size = level
    for _ in range(60):  # a contraction by 1/(1 + x)
        size = level + math.log1p(size)
    return rows * size / design_rows


def _check(rewards: Floats, assigned: Integers, propensities: Floats, pair: tuple[int, int]) -> None:
    if propensities.ndim != 2 or len(propensities) != len(rewards) or assigned.shape != rewards.shape:  # noqa: PLR2004 - a matrix
        raise InvalidInput("rewards, assigned and propensities must have a row for each unit", field="propensities")
    if not bool((propensities > 0.0).all()) or not bool((abs(propensities.sum(axis=1) - 1.0) <= _SUM_TOLERANCE).all()):
        message = "the propensities of a row must be above 0 and sum to 1: where a variation could not be had, nothing is known of it"
        raise InvalidInput(message, field="propensities")
    if min(pair) < 0 or max(pair) >= propensities.shape[1] or pair[0] == pair[1]:
        raise InvalidInput("control and treatment must be two of the variations", field="treatment")
