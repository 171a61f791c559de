"""What a treatment does compared with the control, and how sure that is: the one record that every method answers with.

`compared` makes it of the method's critical value c, by which all methods differ and nothing else:

    absolute    d = b̄ - ā ± c · se,                    se² = Var(b̄) + Var(ā)
    relative    all r with  |d - r |ā||  <=  c · se(r),       se(r)² = Var(b̄ - (1 ± r) ā),  + where ā > 0

The relative interval is Fieller's: r = 0 lies in it exactly where 0 lies in the absolute one, so the two never disagree. The lift is relative to the
size of the control's mean: where that is negative, a treatment that is greater still has a positive lift. Where the control's mean is not told apart from 0
(|ā| <= c · se(ā)), every lift is possible, however large: there are no bounds then, and the absolute interval alone speaks.

Paper: Fieller, "Some problems in interval estimation", JRSS B 1954. Holds at every look where c does: each r is tested by the same statistic.
"""

from __future__ import annotations

import math

import msgspec

from shared.experiments.statistics.moments import Sample

Bounds = tuple[float | None, float | None]


class Effect(msgspec.Struct, frozen=True):
    """The effect of a treatment on one metric.

    `difference`: treatment's mean minus the control's. `low`, `high`: its interval, None where nothing can be said yet (fewer than two units, no spread, or
    a method that is silent). `relative`: difference over the size of the control's mean, None where that is 0. `relative_low`, `relative_high`:
    None also where the control's mean is not told apart from 0. `p_value`: in [0, 1], of no difference, None where the method has none or is silent.
    `confidence`: in (0, 1), of both intervals. `method`: `welch`, `confidence_sequence`, `group_sequential`, `bayesian`, ...
    """

    control: Sample
    treatment: Sample
    difference: float
    low: float | None
    high: float | None
    relative: float | None
    relative_low: float | None
    relative_high: float | None
    p_value: float | None
    confidence: float
    method: str

    @property
    def direction(self) -> int:
        """Return 1 or -1 where the difference is told apart from 0, and 0 where it is not."""
        if self.low is None or self.high is None:
            return 0
        return int(self.low > 0.0) - int(self.high < 0.0)


def standard_error(control: Sample, treatment: Sample) -> float:
    """Return the standard error of the difference; 0 where there is none (fewer than two units in either, or no spread at all)."""
    if min(control.n, treatment.n) < 2:  # noqa: PLR2004 - one unit has no spread
        return 0.0
    return math.sqrt(control.variance / control.n + treatment.variance / treatment.n)


def compared(
    control: Sample, treatment: Sample, critical: float | None, *, p_value: float | None, confidence: float, method: str
) -> Effect:
    """Return the effect with intervals of `critical` standard errors (> 0) to either side; None for a method that has nothing to say yet.

    >>> effect = compared(Sample(100, 0.5, 0.25), Sample(100, 0.8, 0.16), 2.0, p_value=None, confidence=0.95, method="")
    >>> round(effect.low, 3), round(effect.high, 3), effect.direction
    (0.172, 0.428, 1)
    >>> round(effect.relative, 3), round(effect.relative_low, 3), round(effect.relative_high, 3)
    (0.6, 0.295, 1.038)
    """
    difference = treatment.mean - control.mean
    error = standard_error(control, treatment)
    relative = difference / abs(control.mean) if control.mean and min(control.n, treatment.n) else None
    low: float | None = None
    high: float | None = None
    bounds: Bounds = (None, None)
    if critical is not None and error > 0.0:
        low, high = difference - critical * error, difference + critical * error
        bounds = _fieller(control, difference, low, high, critical)
    else:
        p_value = None
    return Effect(
        control, treatment, difference, low, high, relative, bounds[0], bounds[1], p_value, confidence, method
    )


def _fieller(control: Sample, difference: float, low: float, high: float, critical: float) -> Bounds:
    """Return the roots of A r² - 2 B r + C, in order, where C = d² - c² se² is the product of the absolute bounds.

    Its sign and that of d decide on which side of 0 the roots lie; both are used as they are, so that no rounding can put a root elsewhere.
    """
    size, variance = abs(control.mean), control.variance / control.n
    square = critical * critical
    leading = size * size - square * (variance + control.common)
    if leading <= 0.0:
        return None, None
    half = difference * size + math.copysign(square * variance, control.mean)
    root = math.sqrt(max(half * half - leading * low * high, 0.0))
    outside = low > 0.0 or high < 0.0
    outer = math.copysign(abs(half) + root, difference if outside else half)
    if outer == 0.0:  # both roots are 0
        return 0.0, 0.0
    one, other = outer / leading, low / outer * high
    return min(one, other), max(one, other)
