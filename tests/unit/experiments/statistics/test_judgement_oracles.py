"""Bounds, posteriors, sample ratios and corrections against what others compute from the same numbers, to 1e-9 (`make oracles-experiments`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.experiments.statistics.bayesian import beta_binomial, gaussian
from shared.experiments.statistics.group_sequential import bounds
from shared.experiments.statistics.multiple_testing import adjusted
from shared.experiments.statistics.sample_ratio import chi_square_p_value, log_bayes_factor, sequential_p_value

FIXTURES = Path(__file__).parent / "fixtures"


def kept(name: str) -> dict[str, Any]:
    """Return a fixture."""
    body: dict[str, Any] = json.loads((FIXTURES / f"{name}.json").read_text())
    return body


def exactly(value: Any) -> Any:
    """Return what equals `value` to 1e-9."""
    return pytest.approx(value, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("case", kept("bounds")["power_one_sided"])
def test_bounds_are_spotify_confidences(case: dict[str, Any]) -> None:
    """Spotify's own solver with its step and tolerance refined gives ours to 1e-9; as shipped it is right to 1e-4."""
    found = bounds(case["times"], case["alpha"], case["exponent"], sides=1)
    assert found == exactly(case["refined"])
    assert found == pytest.approx(case["shipped"], abs=1.1e-4)
    assert found[0] == exactly(case["shipped"][0])  # the first look needs no integral


@pytest.mark.parametrize("case", kept("bounds")["symmetric"])
def test_bounds_are_gsdesigns(case: dict[str, Any]) -> None:
    """Symmetric bounds of both spending functions by another recursion, on another grid."""
    assert bounds(case["times"], case["alpha"], case["spending"]) == exactly(case["bounds"])


@pytest.mark.parametrize("case", kept("gbstats_bayesian")["gaussian"])
def test_gaussian_posteriors_are_gbstats(case: dict[str, Any]) -> None:
    """Flat and proper priors, both goals."""
    mean, variance = case["prior"] or (0.0, None)
    posterior = gaussian(
        case["difference"], case["standard_error"], prior_mean=mean, prior_variance=variance, goal=case["goal"]
    )
    assert posterior.difference == exactly(case["mean"])
    assert [posterior.low, posterior.high] == exactly(case["interval"])
    assert posterior.chance_to_win == exactly(case["chance_to_win"])
    assert [posterior.expected_loss_of_control, posterior.expected_loss] == exactly(case["risk"])


@pytest.mark.parametrize("case", kept("gbstats_bayesian")["beta_binomial"])
def test_beta_binomial_posteriors_are_scipys(case: dict[str, Any]) -> None:
    """Few and many units, and both at once, against adaptive quadrature."""
    posterior = beta_binomial(tuple(case["control"]), tuple(case["treatment"]))
    assert posterior.chance_to_win == pytest.approx(case["chance_to_win"], rel=1e-9)
    assert posterior.expected_loss == pytest.approx(case["expected_loss"], rel=1e-9)
    assert [posterior.low, posterior.high] == exactly(case["interval"])
    assert posterior.relative_low is not None
    assert posterior.relative_high is not None
    assert [1.0 + posterior.relative_low, 1.0 + posterior.relative_high] == exactly(case["ratio_interval"])


@pytest.mark.parametrize("case", kept("ssrm_sample_ratio")["cases"])
def test_sample_ratios_are_ssrm_tests(case: dict[str, Any]) -> None:
    """The package of the method's authors, and SciPy's chi-square."""
    counts = np.cumsum(case["units"], axis=0)
    given = case["weights"], case["concentration"]
    assert log_bayes_factor(counts, *given) == exactly(case["log_bayes_factors"])
    assert sequential_p_value(counts, *given) == pytest.approx(case["p_values"][-1], rel=1e-9)
    assert chi_square_p_value(counts[-1], case["weights"]) == exactly(case["chi_square"])


@pytest.mark.parametrize("case", kept("statsmodels_corrections")["cases"])
def test_corrections_are_statsmodels(case: dict[str, Any]) -> None:
    """Holm and Benjamini-Hochberg, with ties and extremes."""
    assert adjusted(case["p_values"], "holm") == exactly(case["holm"])
    assert adjusted(case["p_values"], "benjamini_hochberg") == exactly(case["benjamini_hochberg"])
    assert adjusted(case["p_values"], "none").tolist() == case["p_values"]
