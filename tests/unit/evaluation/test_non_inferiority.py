"""The sequential comparison of two revisions: against direct computation, and its error rates."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.evaluation.non_inferiority import contrast, decisions_needed, lift, log_ratio, variance_of_decision
from shared.evaluation.revision_moments import PairMoments, RevisionMoments
from tests.unit.evaluation.units import Unit, moments_of

MARGIN = 0.1
UNITS = st.lists(
    st.tuples(st.lists(st.integers(0, 1), max_size=4), st.lists(st.integers(0, 1), max_size=4)), min_size=2
)


def random_units(number: int, rate: float, ratio: float, seed: int) -> list[Unit]:
    """Return users with one to five decisions, and a rate of their own."""
    random = np.random.default_rng(seed)
    units: list[Unit] = []
    for theta in random.beta(2, 2 * (1 - rate) / rate, number):
        routed = random.random(random.integers(1, 6)) < 0.3
        new = (random.random(int(routed.sum())) < ratio * theta).astype(float)
        old = (random.random(int((~routed).sum())) < theta).astype(float)
        units.append((new.tolist(), old.tolist()))
    return units


def test_the_variance_is_that_of_the_units_residuals() -> None:
    """V computed from sums equals the sum of squared residuals over users, computed one by one."""
    units = random_units(4_000, 0.2, 0.9, seed=3)
    found = contrast(moments_of(units), MARGIN)
    assert found is not None
    n_c, n_s = (sum(len(unit[side]) for unit in units) for side in (0, 1))
    m_c, m_s = (sum(sum(unit[side]) for unit in units) / n for side, n in ((0, n_c), (1, n_s)))
    weight = 1 - MARGIN / 2
    residuals = [(sum(new) - m_c * len(new)) / n_c - weight * (sum(old) - m_s * len(old)) / n_s for new, old in units]
    by_units = sum(residual**2 for residual in residuals)
    both = [reward for unit in units for side in unit for reward in side]
    independent = float(np.var(both)) * (1 / n_c + weight**2 / n_s)
    assert found.variance == pytest.approx(max(by_units, independent), rel=1e-9)
    assert found.value == pytest.approx(m_c - weight * m_s, rel=1e-9)
    assert found.log_ratio == pytest.approx(found.value * MARGIN * m_s / found.variance, rel=1e-9)


@given(UNITS)
def test_any_sums_are_borne(units: list[Unit]) -> None:
    """Whatever users did, the comparison is None or finite, and its variance positive."""
    found = contrast(moments_of(units), MARGIN)
    if found is not None:
        assert found.variance > 0
        assert math.isfinite(found.log_ratio)


def test_nothing_is_said_of_nothing() -> None:
    """Without decisions, without rewards, or with too few of them there is no comparison."""
    some = RevisionMoments(1e5, 5e3, 5e3, 1e5, 5e3, 5e3)
    few = RevisionMoments(300, 0, 0, 300, 0, 0)
    assert contrast(PairMoments(), MARGIN) is None
    assert contrast(PairMoments(some, RevisionMoments(10.0, 0, 0, 10, 0, 0)), MARGIN) is None
    assert contrast(PairMoments(few, some), MARGIN) is None  # 15 rewards were to be expected, 20 are asked for
    assert contrast(PairMoments(RevisionMoments(500, 0, 0, 500, 0, 0), some), MARGIN) is not None
    assert decisions_needed(RevisionMoments(), MARGIN) is None
    assert variance_of_decision(RevisionMoments()) == 0


@pytest.mark.parametrize(("ratio", "sign"), [(1.0, 1), (0.9, -1)])
def test_wrong_verdicts_are_as_rare_as_promised(ratio: float, sign: int) -> None:
    """Looked at 200 times, the ratio crosses the wrong bound in at most alpha of 2,000 runs; here with independent users."""
    rate, alpha, runs, looks, share = 0.05, 0.05, 2_000, 200, 0.2
    random = np.random.default_rng(11)
    candidate = np.cumsum(random.binomial(600, rate * ratio, size=(runs, looks)), axis=1)
    serving = np.cumsum(random.binomial(int(600 * (1 - share) / share), rate, size=(runs, looks)), axis=1)
    wrong = 0
    for run in range(runs):
        for look in range(looks):
            n_c, n_s = 600.0 * (look + 1), 600.0 * (look + 1) * (1 - share) / share
            c, s = float(candidate[run, look]), float(serving[run, look])
            found = contrast(PairMoments(_independent(n_c, c), _independent(n_s, s)), MARGIN)
            ratio_now = sign * log_ratio([found] if found else [])
            if abs(ratio_now) >= math.log(1 / alpha):
                wrong += ratio_now < 0
                break
    assert wrong / runs <= alpha + 2 * math.sqrt(alpha * (1 - alpha) / runs)


def test_the_interval_holds_at_all_times_at_once() -> None:
    """In at least 95 % of 1,000 runs the interval of the lift covers the truth at each of 100 looks."""
    rate, runs, looks, truth = 0.2, 1_000, 100, -0.05
    random = np.random.default_rng(5)
    candidate = np.cumsum(random.binomial(150, rate * (1 + truth), size=(runs, looks)), axis=1)
    serving = np.cumsum(random.binomial(600, rate, size=(runs, looks)), axis=1)
    missed = 0
    for run in range(runs):
        for look in range(looks):
            n_c, n_s = 150.0 * (look + 1), 600.0 * (look + 1)
            pair = PairMoments(_independent(n_c, candidate[run, look]), _independent(n_s, serving[run, look]))
            found = contrast(pair, MARGIN)
            interval = lift([found] if found else [], MARGIN)
            if interval is not None and not interval.low <= truth <= interval.high:
                missed += 1
                break
    assert missed / runs <= 0.05


def _independent(decisions: float, total: float) -> RevisionMoments:
    total = float(total)
    return RevisionMoments(decisions, total, total, decisions, total, total)
