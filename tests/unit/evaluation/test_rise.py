"""The watch on errors and latency: quick where there is a rise, and silent where there is none."""

from __future__ import annotations

import numpy as np
import pytest

from shared.evaluation.rise import Rise, observe


def watched(rate: float, ratio: float, share: float, looks: int, seed: int) -> list[Rise]:
    """Return the evidence after each of `looks` looks at 1,000 requests, `share` of them the candidate's."""
    random = np.random.default_rng(seed)
    rise, seen = Rise(), []
    for _ in range(looks):
        n = int(random.binomial(1_000, share))
        bad = (int(random.binomial(n, rate * ratio)), int(random.binomial(1_000 - n, rate)))
        rise = observe(rise, (n, bad[0]), (1_000 - n, bad[1]))
        seen.append(rise)
    return seen


@pytest.mark.parametrize("rate", [0.001, 0.02, 0.3])
def test_no_rise_is_seldom_called_one(rate: float) -> None:
    """Of 400 candidates without a rise at most 5 % ever reach 1/0.05 within 200 looks."""
    wrong = sum(any(r.evidence >= 20 for r in watched(rate, 1.0, 0.1, 200, seed)) for seed in range(400))
    assert wrong / 400 <= 0.05


def test_a_fall_is_no_rise() -> None:
    """A candidate with fewer errors gives evidence below one."""
    assert watched(0.05, 0.5, 0.2, 100, seed=1)[-1].evidence < 1


@pytest.mark.parametrize(("rate", "ratio", "looks"), [(0.001, 20.0, 60), (0.02, 3.0, 60), (0.2, 1.5, 60)])
def test_a_rise_is_found_soon(rate: float, ratio: float, looks: int) -> None:
    """Within some tens of thousands of requests, 5 % of them the candidate's, 19 of 20 rises are told at level 0.001."""
    found = sum(watched(rate, ratio, 0.05, looks, seed)[-1].is_told(0.001, 0.001) for seed in range(100))
    assert found >= 95


def test_a_new_kind_of_error_is_found_at_once() -> None:
    """Where the serving revision has no errors, five of a hundred requests suffice."""
    rise = observe(Rise(), (100, 5), (1_900, 0))
    assert rise.is_told(0.001, 0.001)
    assert (rise.candidate_rate, rise.serving_rate) == (0.05, 0.0)


def test_a_rise_too_small_to_matter_is_none() -> None:
    """Significant is not enough: the share must have risen by the least that counts."""
    rise = Rise()
    for _ in range(200):
        rise = observe(rise, (100_000, 20), (100_000, 5))
    assert rise.evidence >= 1_000
    assert not rise.is_told(0.001, 0.001)


def test_one_revision_alone_says_nothing() -> None:
    """While only one of them answers, nothing is compared, but everything is counted."""
    rise = observe(observe(Rise(), (0, 0), (500, 50)), (500, 500), (0, 0))
    assert rise.evidence == pytest.approx(1.0)
    assert (rise.candidate_requests, rise.candidate_bad, rise.serving_bad) == (500, 500, 50)


def test_an_outage_of_both_is_no_rise() -> None:
    """When everything fails for a while, in both revisions alike, the candidate is not to blame."""
    rise = observe(Rise(), (1_000, 1), (9_000, 9))
    rise = observe(rise, (1_000, 1_000), (9_000, 9_000))
    assert rise.evidence < 20
