"""Is a new revision as good as the serving one, or worse by the margin? Asked as often as one likes.

With means m_c and m_s of candidate and serving revision and a relative margin δ, two hypotheses stand against each other:

    worse:  m_c <= (1 - δ) m_s          not worse:  m_c >= m_s

The contrast C = m_c - (1 - δ/2) m_s is negative under the first, positive under the second, by δ m_s / 2. For Gaussian means with
Var C = V the log likelihood ratio of "not worse" to "worse" is

    L = C δ m_s / V

exp(L) is a test martingale against every m_c <= (1 - δ) m_s, exp(-L) one against every m_c >= m_s: whoever stops at the first
L >= log(1/alpha) or L <= -log(1/alpha) errs with probability at most alpha, however often L was looked at (Wald 1945; Ville's inequality; by the
central limit theorem for other rewards, Waudby-Smith et al. 2021, arXiv:2103.06476, which is why little is said before
`LEAST_REWARDS` rewards were to be expected). Comparisons of different times add: L = Σ L_k. At equal means the ratio grows by
δ² m_s² / (2 σ²) a decision (less where the serving revision has few), so a verdict takes some 12 σ²/(δ m_s)² decisions; at
`MOST` times σ²/(δ m_s)² the sign of L decides, which then is wrong once in a hundred.

V is that of the units' residuals (users, see `revision_moments`), and at least that of independent decisions with one variance,
because the variance of a revision with few rewards, taken from itself, makes too much of chance.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec

from shared.evaluation.revision_moments import PairMoments, RevisionMoments

LEAST_REWARDS = 20.0
"""How many rewarded decisions' worth the candidate must have had time for, at the serving revision's rate."""
TYPICAL, MOST = 12.0, 23.0
"""Decisions that a verdict takes, in σ²/(δ m_s)²: on average for an equal revision, and at the most."""


class Contrast(msgspec.Struct, frozen=True):
    """One comparison. `value`: C; `variance`: V > 0; `difference`: δ m_s > 0; `log_ratio`: L; the means as they were seen.

    `inflation`: >= 1, how much larger V is than that of independent decisions.
    """

    value: float
    variance: float
    inflation: float
    difference: float
    log_ratio: float
    candidate_mean: float
    serving_mean: float


def contrast(moments: PairMoments, margin: float) -> Contrast | None:
    """Compare two revisions over one stretch of time; None while nothing can be said.

    `margin`: δ in (0, 1), relative to the serving revision's mean, which must be above 0.
    """
    c, s = moments.candidate, moments.serving
    if not c.decisions or not s.decisions or s.total <= 0 or not _enough(moments):
        return None
    weight = 1 - margin / 2
    both = (
        moments.rewards
        - s.mean * moments.reward_count
        - c.mean * moments.count_reward
        + c.mean * s.mean * moments.counts
    ) / (c.decisions * s.decisions)
    by_units = _variance_of_mean(c) - 2 * weight * both + weight**2 * _variance_of_mean(s)
    together = _pooled([c, s])
    independent = variance_of_decision(together) * (1 / c.decisions + weight**2 / s.decisions)
    variance = max(by_units, independent)
    if variance <= 0:  # every decision earned the same: they are equal, and no number says how surely
        return None
    value = c.mean - weight * s.mean
    difference = margin * s.mean
    inflation = variance / independent if independent else 1.0
    return Contrast(value, variance, inflation, difference, value * difference / variance, c.mean, s.mean)


def log_ratio(contrasts: Iterable[Contrast]) -> float:
    """Return L of comparisons over different stretches of time."""
    return sum(each.log_ratio for each in contrasts)


class Lift(msgspec.Struct, frozen=True):
    """The relative difference m_c / m_s - 1: its estimate and an interval that holds at all times at once."""

    value: float
    low: float
    high: float


def lift(contrasts: Iterable[Contrast], margin: float, alpha: float = 0.05) -> Lift | None:
    """Return the relative difference over all comparisons, with an anytime-valid interval of level 1 - `alpha`.

    Robbins' normal mixture with prior variance δ², in units of m_s: radius² = V (1 + V/δ²) (log(1 + δ²/V) + 2 log(1/alpha)).
    """
    weights = [(each.serving_mean**2 / each.variance, each) for each in contrasts]
    precision = sum(weight for weight, _ in weights)
    if precision <= 0:
        return None
    value = sum(w * (each.value / each.serving_mean - margin / 2) for w, each in weights) / precision
    prior = margin**2 * precision
    radius = math.sqrt((1 + 1 / prior) * (math.log1p(prior) + 2 * math.log(1 / alpha)) / precision)
    return Lift(value, value - radius, value + radius)


def decisions_needed(serving: RevisionMoments, margin: float, contrasts: Iterable[Contrast] = ()) -> float | None:
    """Return σ²/(δ m_s)², which times `TYPICAL` and `MOST` is what a verdict takes; None while the mean is not above 0.

    σ² is the variance of a decision's reward, and more where `contrasts` have shown that users make comparisons less sure than
    their decisions alone would.

    >>> round(decisions_needed(RevisionMoments(1000, 50, 50, 1000, 50, 50), 0.1))
    1900
    """
    if serving.total <= 0:
        return None
    weights = [(1 / each.variance, each.inflation) for each in contrasts]
    precision = sum(weight for weight, _ in weights)
    inflation = sum(weight * inflation for weight, inflation in weights) / precision if precision else 1.0
    return inflation * variance_of_decision(serving) / (margin * serving.mean) ** 2


def variance_of_decision(moments: RevisionMoments) -> float:
    """Return σ² of one decision's reward."""
    return max(moments.squares / moments.decisions - moments.mean**2, 0.0) if moments.decisions else 0.0


def _variance_of_mean(moments: RevisionMoments) -> float:
    """Return Σ (R - m N)² / n² over units."""
    mean = moments.mean
    residuals = moments.unit_squares - 2 * mean * moments.unit_products + mean**2 * moments.unit_counts
    return max(residuals, 0.0) / moments.decisions**2


def _pooled(several: list[RevisionMoments]) -> RevisionMoments:
    return RevisionMoments(*(sum(values) for values in zip(*map(msgspec.structs.astuple, several), strict=True)))


def _enough(moments: PairMoments) -> bool:
    """Tell whether `LEAST_REWARDS` rewards were to be expected of the candidate, a reward being its root mean square."""
    s = moments.serving
    rewarded = s.total**2 / s.squares if s.squares else 0.0  # 38 clicks of 1.0 are 38
    return moments.candidate.decisions * rewarded / s.decisions >= LEAST_REWARDS
