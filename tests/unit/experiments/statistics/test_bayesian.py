"""Posteriors: symmetries, limits, and what makes an effect of them."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import InvalidInput
from shared.experiments.statistics.bayesian import bayesian, beta_binomial, gaussian
from shared.experiments.statistics.moments import Sample


def rates() -> st.SearchStrategy[tuple[int, int]]:
    """Return converted and all units of a variation."""
    return st.integers(0, 5_000).flatmap(lambda units: st.tuples(st.integers(0, units), st.just(units)))


@settings(max_examples=12, deadline=None)
@given(rates(), rates())
def test_beta_binomial_identities(control: tuple[int, int], treatment: tuple[int, int]) -> None:
    """Exchanged variations exchange everything, the two losses differ by the difference, and goals mirror each other."""
    posterior, exchanged = beta_binomial(control, treatment), beta_binomial(treatment, control)
    assert posterior.chance_to_win + exchanged.chance_to_win == pytest.approx(1.0, abs=1e-10)
    assert posterior.expected_loss == pytest.approx(exchanged.expected_loss_of_control, rel=1e-8, abs=1e-15)
    assert posterior.expected_loss_of_control - posterior.expected_loss == pytest.approx(
        posterior.difference, abs=1e-12
    )
    assert (posterior.low, posterior.high) == pytest.approx((-exchanged.high, -exchanged.low), abs=1e-9)
    down = beta_binomial(control, treatment, goal="decrease")
    assert down.chance_to_win == pytest.approx(exchanged.chance_to_win, abs=1e-12)
    assert down.expected_loss == posterior.expected_loss_of_control


def test_beta_binomial_of_many_units_is_gaussian() -> None:
    """With half a million units the two agree to a thousandth of a standard error."""
    n, one, other = 500_000, 50_000, 50_600
    error = math.sqrt(sum(each / n * (1 - each / n) / n for each in (one, other)))
    exact, normal = beta_binomial((one, n), (other, n)), gaussian((other - one) / n, error)
    assert exact.chance_to_win == pytest.approx(normal.chance_to_win, abs=1e-4)
    assert exact.low == pytest.approx(normal.low, abs=2e-3 * error)


def test_a_strong_prior_draws_to_itself() -> None:
    """Precisions add: with a prior as wide as the error the mean lies half way."""
    posterior = gaussian(0.04, 0.02, prior_mean=0.0, prior_variance=0.0004)
    assert posterior.difference == pytest.approx(0.02)
    assert gaussian(0.04, 0.02, prior_variance=1e-12).difference == pytest.approx(0.0, abs=1e-9)


def test_effects_say_what_posteriors_say() -> None:
    """Means by the Gaussian, unadjusted shares by the beta-binomial, and nothing where there is too little."""
    control, treatment = Sample(1_000, 0.05, 0.0475, conversions=50), Sample(1_000, 0.07, 0.0651, conversions=70)
    effect, posterior = bayesian(control, treatment, is_proportion=True)
    assert posterior is not None
    assert posterior.chance_to_win == beta_binomial((50, 1_000), (70, 1_000)).chance_to_win
    assert (effect.low, effect.relative_high, effect.p_value) == (posterior.low, posterior.relative_high, None)
    effect, posterior = bayesian(control, treatment, goal="decrease")
    assert posterior is not None
    assert posterior.chance_to_win == pytest.approx(0.03, abs=0.01)
    assert (effect.low, effect.high) == pytest.approx((posterior.low, posterior.high))
    for few in (Sample(1_000, 0.009, 0.0089, conversions=9), Sample(1, 0.0, 0.0)):
        silent, none = bayesian(control, few)
        assert (silent.low, none) == (None, None)


def test_what_cannot_be_is_refused() -> None:
    """Counts, priors and errors outside their range name the field."""
    refused: list[tuple[str, Callable[[], object]]] = [
        ("control", lambda: beta_binomial((3, 2), (1, 2))),
        ("treatment", lambda: beta_binomial((1, 2), (-1, 2))),
        ("prior", lambda: beta_binomial((1, 2), (1, 2), prior=(0.0, 1.0))),
        ("standard_error", lambda: gaussian(1.0, 0.0)),
        ("prior_variance", lambda: gaussian(1.0, 1.0, prior_variance=-1.0)),
    ]
    for field, make in refused:
        with pytest.raises(InvalidInput) as caught:
            make()
        assert caught.value.field == field
