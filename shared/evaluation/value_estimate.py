"""What an estimator answers: a number, how sure it is, what it rests on, and what speaks against believing it.

`ValueEstimate` is the value of one policy, `Difference` that of one policy minus another's. Both leave the
choice of estimator to their makers (`self_normalised`, `doubly_robust`, `paired_difference`, ...) and
only know how a standard error becomes an interval.
"""

from __future__ import annotations

from statistics import NormalDist

import msgspec

CONFIDENCE = 0.95

Interval = tuple[float, float]


class ValueEstimate(msgspec.Struct, frozen=True):
    """The estimated mean reward of a policy.

    `value`: in the reward's unit. `standard_error`: >= 0, None where the rows cannot give one (all rewards
    equal, or fewer than two rows). `effective_sample_size`: in [0, rows], in equally weighted rows; 0 where no row counts. `rows`:
    how many were used. `effective_rewards`: the same measure over the rows with a reward, so 12 clicks of
    which one outweighs the others may count as three; 0 where no row has a reward.
    `estimator`: its name. `confidence`: in (0, 1), that of `bernstein` and `anytime`, the intervals that `intervals` makes, None
    where their assumptions do not hold. `largest_share`: in [0, 1], the share of all weight that one row has. `mean_weight`:
    1 up to chance, None where nothing is weighed. `left_out`: rows without a propensity. `warnings`: what speaks against believing
    the estimate, in words.
    """

    value: float
    standard_error: float | None
    effective_sample_size: float
    effective_rewards: float
    rows: int
    estimator: str = ""
    confidence: float = CONFIDENCE
    bernstein: Interval | None = None
    anytime: Interval | None = None
    largest_share: float = 0.0
    mean_weight: float | None = None
    left_out: int = 0
    warnings: tuple[str, ...] = ()

    def interval(self, confidence: float = CONFIDENCE) -> Interval | None:
        """Return the normal interval around `value`, or None where there is no standard error.

        >>> ValueEstimate(0.5, 0.1, 25.0, 12.0, 25).interval()
        (0.304..., 0.695...)
        """
        return normal_interval(self.value, self.standard_error, confidence)


class Difference(msgspec.Struct, frozen=True):
    """The value of one policy minus that of another. `standard_error` as in `ValueEstimate`."""

    value: float
    standard_error: float | None

    def interval(self, confidence: float = CONFIDENCE) -> Interval | None:
        """Return the normal interval around `value`, or None where there is no standard error."""
        return normal_interval(self.value, self.standard_error, confidence)

    def is_told_apart(self, confidence: float = CONFIDENCE) -> bool:
        """Return whether the interval leaves out zero; False where there is no interval.

        >>> Difference(0.02, 0.005).is_told_apart(), Difference(0.02, 0.02).is_told_apart()
        (True, False)
        """
        interval = self.interval(confidence)
        return interval is not None and not interval[0] <= 0.0 <= interval[1]


def normal_interval(value: float, standard_error: float | None, confidence: float) -> Interval | None:
    """Return `value` ± z · `standard_error`, with `confidence` (in (0, 1)) in between."""
    if standard_error is None:
        return None
    half_width = NormalDist().inv_cdf(0.5 + confidence / 2.0) * standard_error
    return value - half_width, value + half_width
