"""What speaks against believing an estimate that weighs rows, in words.

None of the bounds is a theorem. Below some hundred effective rows the central limit theorem that the normal interval rests on has
not begun to hold; a row with a twentieth of all weight makes the estimate its own; the mean of the weights is 1 in expectation if, and
only if, the propensities are those with which actions were chosen and the target takes nothing that was never logged.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from shared.evaluation.effective_sample_size import effective_sample_size
from shared.evaluation.logged_decisions import LoggedDecisions

Floats = npt.NDArray[np.float64]

LEAST_EFFECTIVE_ROWS = 100.0
LEAST_EFFECTIVE_REWARDS = 30.0
LARGEST_SHARE = 0.05
MEAN_WEIGHT_ERRORS = 4.0
LARGEST_UNLOGGED = 0.01


def doubts_about_weights(rewards: Floats, weights: Floats) -> Iterator[str]:
    """Say what is wrong with `weights` (shape (n_rows,), >= 0) of rows with `rewards`."""
    rows = len(weights)
    total = float(weights.sum())
    if total <= 0.0:
        yield "the target never takes what was logged: all weights are zero"
        return
    effective = effective_sample_size(weights)
    if effective < LEAST_EFFECTIVE_ROWS:
        yield f"{rows:,} rows count as {effective:.0f}: under {LEAST_EFFECTIVE_ROWS:.0f} no normal interval is to be believed"
    rewarded = effective_sample_size(weights * np.abs(rewards))
    if rewarded < LEAST_EFFECTIVE_REWARDS:
        yield f"it rests on {rewarded:.1f} effective rewards: under {LEAST_EFFECTIVE_REWARDS:.0f} intervals cover less than they say"
    share = float(weights.max()) / total
    if share > LARGEST_SHARE:
        yield f"one row has {share:.0%} of all weight"
    yield from doubts_about_mean(weights)


def doubts_about_mean(weights: Floats) -> Iterator[str]:
    """Say that the mean of `weights`, shape (n_rows,), is not 1, where that is no chance."""
    mean, error = float(weights.mean()), float(weights.std()) / math.sqrt(len(weights))
    if abs(mean - 1.0) > MEAN_WEIGHT_ERRORS * error + 1e-9:
        yield (
            f"the mean weight is {mean:.3f} and should be 1: the propensities are not those with which actions were chosen, "
            "or the target takes what was hardly ever logged"
        )


def last_supported(weights: Floats) -> int:
    """Return the last step of sequences whose weights, shape (n_rows, n_steps), count as enough rows, 0 where none does."""
    return max(
        (at for at, column in enumerate(weights.T) if effective_sample_size(column) >= LEAST_EFFECTIVE_ROWS), default=0
    )


def doubts_about_products(weights: Floats) -> Iterator[str]:
    """Say from where on the weights of sequences, shape (n_rows, n_steps), products of ever more ratios, rest on too few rows."""
    steps, last = weights.shape[1], last_supported(weights)
    before, after = (effective_sample_size(weights[:, at]) for at in (last, steps - 1))
    if before >= LEAST_EFFECTIVE_ROWS > after:  # few rows from the beginning are not the length's fault
        yield (
            f"weights multiply from choice to choice: after {last + 1} they count as {before:,.0f} rows, after all {steps} as "
            f"{after:,.0f}: what comes late in a sequence is hardly known"
        )


def doubts_about_rows(decisions: LoggedDecisions) -> Iterator[str]:
    """Say what is missing in the rows themselves: propensities, and actions that the target takes."""
    if decisions.left_out:
        everything = decisions.left_out + decisions.rows
        yield f"{decisions.left_out:,} of {everything:,} decisions have no propensity and are left out: this is the value on the others"
    if decisions.actions is None:
        return
    logged = np.unique(decisions.actions[decisions.places])
    never = ~np.isin(decisions.actions, logged)
    mass = float(decisions.target[never].sum()) / decisions.rows
    if mass > LARGEST_UNLOGGED:
        count = len(np.unique(decisions.actions[never & (decisions.target > 0.0)]))
        yield f"in {mass:.0%} of its choices the target takes what was never logged (so many actions: {count})"
