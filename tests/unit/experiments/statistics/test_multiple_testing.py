"""Corrections: what they keep, and what adjusted intervals mean."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from shared.errors import InvalidInput
from shared.experiments.statistics.multiple_testing import adjusted, selected_confidence, simultaneous_confidence

PERMUTED = st.lists(st.floats(0.0, 1.0), min_size=1, max_size=12).flatmap(
    lambda values: st.tuples(st.just(values), st.permutations(range(len(values))))
)


@given(PERMUTED)
def test_order_does_not_matter(permuted: tuple[list[float], list[int]]) -> None:
    """A permutation of the p-values permutes the adjusted ones; they lie between p and m p, Holm's above Benjamini-Hochberg's."""
    p_values, order = permuted
    for correction in ("holm", "benjamini_hochberg"):
        whole = adjusted(p_values, correction)
        assert adjusted([p_values[place] for place in order], correction).tolist() == whole[order].tolist()
        assert bool((whole >= np.array(p_values) * (1 - 1e-12)).all())
        assert bool((whole <= np.minimum(1.0, len(p_values) * np.array(p_values)) * (1 + 1e-12)).all())
    assert bool((adjusted(p_values, "holm") >= adjusted(p_values, "benjamini_hochberg") * (1 - 1e-12)).all())


def test_holm_keeps_the_chance_of_any_false_claim() -> None:
    """Of ten comparisons, seven without an effect: uncorrected something is claimed wrongly in 30 %, by Holm in 5 % at most."""
    random = np.random.default_rng(8)
    z = random.normal(size=(4_000, 10))
    z[:, 7:] += 3.0
    p_values = 2 * stats.norm.sf(abs(z))
    holm = np.array([adjusted(row, "holm") for row in p_values])
    benjamini_hochberg = np.array([adjusted(row, "benjamini_hochberg") for row in p_values])
    assert np.mean((p_values[:, :7] <= 0.05).any(axis=1)) > 0.25
    assert np.mean((holm[:, :7] <= 0.05).any(axis=1)) <= 0.055
    claims = (benjamini_hochberg <= 0.05).sum(axis=1)
    false = (benjamini_hochberg[:, :7] <= 0.05).sum(axis=1)
    assert np.mean(false / np.maximum(claims, 1)) <= 0.055
    assert (benjamini_hochberg[:, 7:] <= 0.05).mean() > (holm[:, 7:] <= 0.05).mean()


def test_confidence_of_adjusted_intervals() -> None:
    """Bonferroni over all, and the false coverage rate over those selected."""
    assert simultaneous_confidence(0.95, 1) == pytest.approx(0.95)
    assert simultaneous_confidence(0.9, 4) == pytest.approx(0.975)
    assert selected_confidence(0.9, 4, 4) == pytest.approx(0.9)
    assert selected_confidence(0.9, 1, 4) == pytest.approx(simultaneous_confidence(0.9, 4))


def test_what_is_no_p_value_is_refused() -> None:
    """Outside [0, 1], or not a number."""
    for wrong in ([1.2], [-0.1], [float("nan")]):
        with pytest.raises(InvalidInput):
            adjusted(wrong, "holm")
