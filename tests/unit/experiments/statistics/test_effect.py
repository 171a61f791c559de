"""The record of an effect: its intervals by hand, that absolute and relative verdict agree, and where there are no bounds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared.experiments.statistics.effect import compared
from shared.experiments.statistics.moments import Sample

MEANS = st.floats(-1e4, 1e4).map(lambda value: 0.0 if abs(value) < 1e-6 else value)
VARIANCES = st.floats(0.0, 1e6).map(lambda value: 0.0 if value < 1e-9 else value)
SAMPLES = st.builds(
    Sample, n=st.integers(0, 10_000), mean=MEANS, variance=VARIANCES, common=st.sampled_from([0.0, 1e-3])
)


@given(SAMPLES, SAMPLES, st.floats(0.5, 8.0))
@example(
    Sample(100, 2.0, 1.0), Sample(100, 1.0, 0.0), 10.0
)  # the bounds are exactly 0, and the treatment has no spread
def test_the_absolute_and_the_relative_verdict_cannot_disagree(
    control: Sample, treatment: Sample, critical: float
) -> None:
    """Wherever there is a relative interval it holds 0 exactly where the absolute one does, on the same side, and holds its own estimate."""
    effect = compared(control, treatment, critical, p_value=None, confidence=0.95, method="by hand")
    if effect.low is None or effect.high is None:
        assert effect.direction == 0
        assert effect.relative_low is None
        return
    assert effect.low <= effect.difference <= effect.high
    if effect.relative_low is None or effect.relative_high is None or effect.relative is None:
        return
    assert (effect.relative_low > 0.0) == (effect.low > 0.0)
    assert (effect.relative_high < 0.0) == (effect.high < 0.0)
    tiny = 1e-9 * max(1.0, abs(effect.relative))
    assert effect.relative_low - tiny <= effect.relative <= effect.relative_high + tiny


@given(SAMPLES, SAMPLES, st.floats(0.5, 8.0))
def test_the_bounds_of_a_lift_are_where_its_statistic_is_critical(
    control: Sample, treatment: Sample, critical: float
) -> None:
    """Each bound r solves |d - r |a|| = c · se(r)."""
    effect = compared(control, treatment, critical, p_value=None, confidence=0.95, method="by hand")
    if effect.relative_low is None or effect.relative_high is None:
        return
    one, other = control.variance / control.n, treatment.variance / treatment.n
    for r in (effect.relative_low, effect.relative_high):
        lift = math.copysign(r, r * control.mean)
        variance = other + (1.0 + lift) ** 2 * one + r * r * control.common
        assert abs(effect.difference - r * abs(control.mean)) == pytest.approx(
            critical * math.sqrt(variance), rel=1e-6, abs=1e-6 * max(1.0, abs(effect.difference))
        )


def test_a_control_near_zero_has_no_bounds_for_the_lift() -> None:
    """Its mean is 1.5 standard errors from 0: the absolute interval stands, the lift is an estimate without bounds."""
    effect = compared(
        Sample(100, 0.15, 1.0), Sample(100, 1.15, 1.0), 2.0, p_value=0.001, confidence=0.95, method="by hand"
    )
    assert effect.direction == 1
    assert effect.relative == pytest.approx(1.0 / 0.15)
    assert (effect.relative_low, effect.relative_high) == (None, None)
    assert (
        compared(
            Sample(100, 0.0, 1.0), Sample(100, 1.0, 1.0), 2.0, p_value=0.001, confidence=0.95, method="by hand"
        ).relative
        is None
    )


def test_a_negative_mean_is_lifted_by_what_is_greater() -> None:
    """From -2 to -1 is +50 %, with the mirror image of the interval from 2 to 1."""
    up = compared(Sample(400, -2.0, 1.0), Sample(400, -1.0, 2.0), 2.0, p_value=None, confidence=0.95, method="by hand")
    down = compared(Sample(400, 2.0, 1.0), Sample(400, 1.0, 2.0), 2.0, p_value=None, confidence=0.95, method="by hand")
    assert up.relative == 0.5
    assert up.relative_low == pytest.approx(-(down.relative_high or 0.0))
    assert up.relative_high == pytest.approx(-(down.relative_low or 0.0))


def test_where_nothing_can_be_said_nothing_is() -> None:
    """One unit, no spread, or a method that is silent: no bounds and no p-value, whatever the method thought of one."""
    spread, flat = Sample(10, 1.0, 1.0), Sample(10, 1.0, 0.0)
    for control, treatment, critical in (
        (Sample(1, 1.0, 0.0), spread, 2.0),
        (spread, Sample(0, 0.0, 0.0), 2.0),
        (flat, flat, 2.0),
        (spread, spread, None),
    ):
        effect = compared(control, treatment, critical, p_value=0.01, confidence=0.95, method="by hand")
        assert (effect.low, effect.high, effect.relative_low, effect.p_value, effect.direction) == (
            None,
            None,
            None,
            None,
            0,
        )


def test_the_lifts_interval_covers() -> None:
    """Of 4,000 pairs of samples whose control is 5 standard errors from 0, where the delta method is skewed, 95 % hold the true lift."""
    random = np.random.default_rng(4)
    held = 0
    for control, treatment in random.normal([1.0, 1.5], 0.2, size=(4_000, 2)):
        effect = compared(
            Sample(25, control, 1.0),
            Sample(25, treatment, 1.0),
            1.959964,
            p_value=None,
            confidence=0.95,
            method="by hand",
        )
        held += effect.relative_low is None or effect.relative_low <= 0.5 <= (effect.relative_high or 0.0)
    assert held / 4_000 == pytest.approx(0.95, abs=0.011)
