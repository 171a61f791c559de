"""Sample-ratio mismatch: a martingale by exact enumeration, false alarms and detection by simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from shared.errors import InvalidInput
from shared.experiments.statistics.sample_ratio import chi_square_p_value, log_bayes_factor, sequential_p_value
from tests.performance.judgement import sample_ratio_alarms


def test_bayes_factor_is_a_martingale() -> None:
    """Over all sequences of six units of three variations its mean is 1, each weighed by its probability."""
    weights = (0.5, 0.3, 0.2)
    mean = 0.0
    for units in itertools.product(range(3), repeat=6):
        counts = np.bincount(units, minlength=3)
        mean += math.prod(weights[unit] for unit in units) * math.exp(log_bayes_factor(counts, weights, 5.0)[0])
    assert mean == pytest.approx(1.0, abs=1e-12)


def test_shares_do_not_depend_on_order_or_scale() -> None:
    """Variations may be named in any order, weights need not add up to 1."""
    one = sequential_p_value([300, 200, 480], [0.3, 0.2, 0.5])
    assert sequential_p_value([480, 300, 200], [50, 30, 20]) == pytest.approx(one, rel=1e-12)
    assert chi_square_p_value([480, 300, 200], [50, 30, 20]) == pytest.approx(
        chi_square_p_value([300, 200, 480], [0.3, 0.2, 0.5])
    )


def test_nothing_counted_is_no_mismatch() -> None:
    """No units, or one variation only."""
    assert (chi_square_p_value([0, 0], [1, 1]), sequential_p_value([0, 0], [1, 1])) == (1.0, 1.0)
    assert (chi_square_p_value([7], [1]), sequential_p_value([7], [1])) == (1.0, 1.0)


def test_a_real_mismatch_is_found() -> None:
    """A loss of 5 % in one variation, at fifty thousand units; and never forgotten by the running least."""
    assert sequential_p_value([25_000, 23_750], [1, 1]) < 0.001
    seen = [[25_000, 23_750], [125_000, 124_900]]
    assert sequential_p_value(seen[1], [1, 1]) > 0.001
    assert sequential_p_value(np.array(seen), [1, 1]) < 0.001


def test_false_alarms_by_simulation() -> None:
    """Looked at after every 100 of 10,000 units; `make bench-judgement` has 2,000 runs. The chi-square test shows why it is for one look."""
    found = sample_ratio_alarms(runs=400, seed=5, level=0.05)
    assert found["sequential"] <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 400)
    assert found["chi_square_every_look"] > 0.2
    assert found["chi_square_once"] == pytest.approx(0.05, abs=3 * math.sqrt(0.05 * 0.95 / 400))


def test_wrong_input_names_its_field() -> None:
    """Weights that plan nothing, and counts that are none."""
    for counts, weights, field in (
        ([1, 2], [1, 0], "weights"),
        ([1, 2], [1, 1, 1], "counts"),
        ([1, -2], [1, 1], "counts"),
    ):
        with pytest.raises(InvalidInput) as caught:
            sequential_p_value(counts, weights)
        assert caught.value.field == field
    with pytest.raises(InvalidInput):
        log_bayes_factor([1, 2], [1, 1], 0.0)
