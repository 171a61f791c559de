"""Most estimators are the mean of one term a row; this makes their answer of the terms.

    V = X̄,        se² = Σ (X_i - X̄)² / (n (n - 1))

with both other intervals, of what the weights say, and of the doubts. Rows are taken as independent: where one user made
many of them, the errors are too small.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np
import numpy.typing as npt

from shared.evaluation.confidence_sequence import asymptotic_sequence
from shared.evaluation.doubts import doubts_about_rows, doubts_about_weights
from shared.evaluation.effective_sample_size import effective_sample_size
from shared.evaluation.empirical_bernstein import empirical_bernstein
from shared.evaluation.logged_decisions import LoggedDecisions
from shared.evaluation.value_estimate import Interval, ValueEstimate

Floats = npt.NDArray[np.float64]


def estimate_of_terms(
    estimator: str,
    terms: Floats,
    rewards: Floats,
    weights: Floats,
    confidence: float,
    *,
    bounds: Interval | None = None,
    anytime: Interval | None = None,
    left_out: int = 0,
    warnings: tuple[str, ...] = (),
) -> ValueEstimate:
    """Return the mean of `terms` (shape (n_rows,)) as an estimate.

    `rewards`, `weights`: shape (n_rows,), what came of each row, and what it counts. `bounds`: least and largest possible term. `anytime`: an interval
    that is better than the asymptotic one. `left_out`: rows without a propensity. `warnings`: what else speaks against it.
    """
    total = float(weights.sum())
    return ValueEstimate(
        value=float(terms.mean()),
        standard_error=standard_error(terms),
        effective_sample_size=effective_sample_size(weights),
        effective_rewards=effective_sample_size(weights * np.abs(rewards)),
        rows=len(terms),
        estimator=estimator,
        confidence=confidence,
        bernstein=empirical_bernstein(terms, bounds, confidence),
        anytime=anytime or asymptotic_sequence(terms, confidence),
        largest_share=float(weights.max()) / total if total > 0.0 else 0.0,
        mean_weight=total / len(terms),
        left_out=left_out,
        warnings=(*doubts_about_weights(rewards, weights), *warnings),
    )


def estimate_of_decisions(
    estimator: str,
    terms: Floats,
    decisions: LoggedDecisions,
    weights: Floats,
    confidence: float,
    *,
    bounds: Interval | None = None,
    anytime: Interval | None = None,
    warnings: tuple[str, ...] = (),
) -> ValueEstimate:
    """Return what `estimate_of_terms` does, with the doubts about `decisions` themselves.

    A policy's value lies within the range of the rewards, so the intervals that hold at every number of rows are cut to it.
    """
    estimate = estimate_of_terms(
        estimator,
        terms,
        decisions.rewards,
        weights,
        confidence,
        bounds=bounds,
        anytime=anytime,
        left_out=decisions.left_out,
        warnings=(*doubts_about_rows(decisions), *warnings),
    )
    return msgspec.structs.replace(
        estimate,
        bernstein=_cut(estimate.bernstein, decisions.reward_range),
        anytime=_cut(estimate.anytime, decisions.reward_range),
    )


def standard_error(terms: Floats) -> float | None:
    """Return the standard error of the mean of `terms` (shape (n_rows,)); None where they do not vary."""
    rows = len(terms)
    if rows < 2:  # noqa: PLR2004 - one row has no spread
        return None
    centred = terms - terms.mean()
    if float(np.abs(centred).max()) <= 1e-15 * float(np.abs(terms).max()):
        return None  # what is left is rounding
    return math.sqrt(float(centred @ centred) / (rows * (rows - 1)))


def _cut(interval: Interval | None, reward_range: Interval | None) -> Interval | None:
    if interval is None or reward_range is None:
        return interval
    low, high = reward_range
    return min(max(interval[0], low), high), max(min(interval[1], high), low)


def largest_weight(decisions: LoggedDecisions) -> float:
    """Return the largest weight possible: by the floors, and where they are unknown by the smallest logged propensity."""
    bound = decisions.weight_bound()
    return float(decisions.target.max() / decisions.propensities.min()) if bound is None else bound
