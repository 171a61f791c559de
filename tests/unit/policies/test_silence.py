"""What silence weighs before its time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from shared.policies.silence import answer_rates, silence_weights

N_BUCKETS = 4
shares = st.lists(st.floats(0.0, 1.0), min_size=N_BUCKETS, max_size=N_BUCKETS).map(np.array)
silent = st.lists(st.floats(0.0, 1e4), min_size=N_BUCKETS, max_size=N_BUCKETS).map(lambda row: np.array([row]))
answered = st.floats(0.0, 1e4)


@given(answered, silent, shares)
def test_silence_weighs_no_more_than_the_share_that_has_arrived(
    came: float,
    quiet: np.ndarray[tuple[int, int], np.dtype[np.float64]],
    f: np.ndarray[tuple[int], np.dtype[np.float64]],
) -> None:
    """0 <= w <= F; w is F where nothing was answered, and 1 where F is."""
    (weights,) = silence_weights(answer_rates(np.array([came]), quiet, f), f)
    assert np.all(weights >= 0.0)
    assert np.all(weights <= f + 1e-12)
    assert np.all(weights[f >= 1.0] == 1.0)
    assert silence_weights(answer_rates(np.zeros(1), quiet, f), f)[0] == pytest.approx(f, abs=1e-12)


@given(st.floats(1.0, 1e3), silent, shares)
def test_weights_make_the_likelihood_greatest(
    came: float,
    quiet: np.ndarray[tuple[int, int], np.dtype[np.float64]],
    f: np.ndarray[tuple[int], np.dtype[np.float64]],
) -> None:
    """The share answered / (answered + sum w silent) lies where SciPy finds the greatest sum of log-likelihoods."""
    weights = silence_weights(answer_rates(np.array([came]), quiet, f), f)
    rate = came / (came + float((weights * quiet).sum()))

    def loss(q: float) -> float:
        return float(-(came * np.log(q) + (quiet * np.log1p(-q * f)).sum()))

    found = minimize_scalar(loss, bounds=(1e-12, 1 - 1e-12), method="bounded", options={"xatol": 1e-10})
    assert loss(min(rate, 1 - 1e-12)) <= float(found.fun) + 1e-6 * (1 + abs(float(found.fun)))


@pytest.mark.parametrize("rate", [0.02, 0.3, 0.8])
def test_rates_of_young_decisions_come_out_right(rate: float) -> None:
    """While few of the answers have come, the estimated rate is right (four standard errors); with weights of F far too low."""
    random = np.random.default_rng(6)
    f = np.array([0.1, 0.3, 0.5])
    came = random.binomial(2_000, rate * f, (200, 3))
    quiet = np.array(2_000.0 - came, np.float64)
    totals = came.sum(axis=1)
    estimates = totals / (
        totals + (silence_weights(answer_rates(totals.astype(float), quiet, f), f) * quiet).sum(axis=1)
    )
    assert float(estimates.mean()) == pytest.approx(rate, abs=4 * float(estimates.std()) / 200**0.5)
    plain = totals / (totals + (f * quiet).sum(axis=1))
    assert float(plain.mean()) < float(estimates.mean()) / (1 + 0.4 * rate)
