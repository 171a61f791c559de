"""What the linear model believes before any reward where columns move together: kinship."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from shared.policies.encoder import Encoder
from shared.policies.linear_fit import RIDGE, fit
from shared.policies.linear_learning import total
from shared.policies.linear_model import LinearPredictor
from shared.policies.linear_prior import own_prior
from shared.policies.posterior import Outcome, Posterior, learn, merge, nothing_learned, snapshot_of
from shared.vocabulary import Action, Context, FeatureSpec, PolicySpec

Array = NDArray[np.float64]
ACTIONS = (Action("a"), Action("b"), Action("never shown"))
SPEC = PolicySpec("kin", 1, "rand_ucb", actions=ACTIONS, features=FeatureSpec(expansion=0))
CONTEXT: Context = {"x": 1.5, "y": 0.5, "z": -1.0}
NOW = 1_000.0


def outcomes(count: int, seed: int = 0) -> list[Outcome]:
    """Return decisions on x and y, which move together, z, which does not, and a number that is always the same."""
    random = np.random.default_rng(seed)
    made = []
    for at in range(count):
        x, e, z = random.normal(size=3).tolist()
        context: Context = {"x": 10.0 * x, "y": 0.9 * x + 0.4 * e, "z": z, "same": 7.0}
        reward = float(np.clip(0.5 + 0.1 * x - 0.05 * z + 0.1 * random.normal(), 0.0, 1.0))
        made.append(Outcome(float(at), "ab"[at % 2], True, None, reward, context))
    return made


def rows_of(count: int, correlation: float, seed: int = 0) -> Array:
    """Return ones, two Normal columns of that correlation and one that stands alone, shape (count, 4)."""
    x, e, z = np.random.default_rng(seed).normal(size=(3, count))
    return np.column_stack([np.ones(count), x, correlation * x + np.sqrt(1 - correlation**2) * e, z])


def covariance_of(rows: Array, kinship: float) -> Array:
    """Return L^-1 in units of what a weight by itself has."""
    covariance: Array = np.linalg.inv(own_prior(rows.T @ rows, 1.0, kinship))[1:, 1:] * (rows.shape[1] - 1)
    return covariance


@pytest.mark.parametrize("kinship", [0.0, 0.5, 1.0])
def test_every_weight_keeps_its_variance(kinship: float) -> None:
    """Kinship says which weights are alike, not how large they are; the weight of the ones stands apart."""
    rows = rows_of(1000, 0.8)
    assert np.diagonal(covariance_of(rows, kinship)) == pytest.approx(np.ones(3))
    prior = own_prior(rows.T @ rows, 0.3, kinship)
    assert prior[0].tolist() == [1.0, 0.0, 0.0, 0.0]
    assert prior == pytest.approx(prior.T)


def test_weights_of_columns_that_move_together_are_alike() -> None:
    """With kinship 1 as much as the columns, with the root as much as the root of their matrix, with 0 not at all."""
    rows = rows_of(20_000, 0.8)
    assert covariance_of(rows, 1.0)[0, 1] == pytest.approx(0.8, abs=0.01)
    assert covariance_of(rows, 0.5)[0, 1] == pytest.approx(0.5, abs=0.01)  # (√1.8 - √0.2) / (√1.8 + √0.2)
    assert covariance_of(rows, 0.0)[0, 1] == pytest.approx(0.0, abs=1e-12)
    assert covariance_of(rows, 0.5)[0, 2] == pytest.approx(0.0, abs=0.01)


def test_few_decisions_say_little_of_what_moves_together() -> None:
    """Two contexts always lie on a line; that is not taken for a law. Before any, nothing is."""
    few = covariance_of(rows_of(2, 0.0), 0.5)
    assert np.abs(few - np.eye(3)).max() < 0.25
    assert covariance_of(np.zeros((0, 4)), 0.5) == pytest.approx(np.eye(3))


@pytest.mark.parametrize("count", [3, 1_000_000_000])
def test_columns_that_are_the_same_or_never_change_do_no_harm(count: int) -> None:
    """The prior stays positive definite, however many decisions there were."""
    rows = rows_of(50, 0.5)
    rows = np.column_stack([rows, rows[:, 1], np.zeros(50)])
    prior = own_prior(rows.T @ rows * (count / 50), RIDGE, 0.5)
    assert np.isfinite(prior).all()
    assert np.linalg.eigvalsh(prior)[0] > 0.0
    assert np.linalg.inv(prior)[5, 5] == pytest.approx(1.0 / (RIDGE * 5))


def test_the_posterior_is_that_of_the_whole_regression() -> None:
    """Means and variances equal those of one regression under this prior; an unseen action's weights vary by themselves."""
    seen = outcomes(40)
    posterior = learn(Posterior(), SPEC, seen, NOW)
    assert posterior.linear is not None
    model = fit(total(posterior.linear, lambda _: 1.0, 0.0), posterior.linear.encoding, RIDGE, (0.0, 1.0), 0.5)
    assert SPEC.features is not None
    encoder = Encoder(SPEC.features, posterior.linear.encoding, (model.own_centre, model.shared_centre))

    def own(context: Context) -> Array:
        return (encoder.own(context) - model.own_centre) / model.own_scale

    rows = np.array([own(each.context) for each in seen])
    prior = own_prior(rows.T @ rows, RIDGE, 0.5)
    assert np.abs(prior - np.diag(np.diagonal(prior))).max() > 0.1
    prediction = LinearPredictor(snapshot_of(posterior, SPEC, 1)).predict(CONTEXT, None)
    x = own(CONTEXT)
    for place, action in enumerate(ACTIONS):
        mine = [at for at, each in enumerate(seen) if each.action == action.id]
        rewards = np.array([seen[at].after for at in mine], dtype=float)
        precision = rows[mine].T @ rows[mine] + prior
        mean = np.linalg.solve(precision, rows[mine].T @ rewards + prior @ model.start)
        assert prediction.mean[place] == pytest.approx(x @ mean, rel=1e-9)
        if not mine:
            precision = np.diag(np.diagonal(prior))
        variance = model.noise * x @ np.linalg.solve(precision, x)
        assert prediction.spread()[place] ** 2 == pytest.approx(variance, rel=1e-9)


def test_the_order_and_the_batches_do_not_matter() -> None:
    """Learned at once, one by one and merged from two halves, kinship is the same."""
    seen = outcomes(60)
    known = learn(Posterior(), SPEC, seen, NOW)
    nothing = nothing_learned(SPEC, known)
    one_by_one = nothing
    for each in seen[::-1]:
        one_by_one = learn(one_by_one, SPEC, [each], NOW)
    halves = merge(learn(nothing, SPEC, seen[30:], NOW), learn(nothing, SPEC, seen[:30], NOW), SPEC)
    expected = LinearPredictor(snapshot_of(known, SPEC, 1)).predict(CONTEXT, None)
    for other in (one_by_one, halves):
        prediction = LinearPredictor(snapshot_of(other, SPEC, 1)).predict(CONTEXT, None)
        np.testing.assert_allclose(prediction.mean, expected.mean, rtol=1e-9)
        np.testing.assert_allclose(prediction.deviation, expected.deviation, rtol=1e-9)


def test_kinship_learns_sooner_where_columns_repeat_one_another() -> None:
    """Twenty noisy readings of two quantities, one of which is rewarded: after 60 rewards the error is smaller, over ten worlds."""
    errors = {0.0: 0.0, 0.5: 0.0}
    for seed in range(10):
        random = np.random.default_rng(seed)
        truth = random.normal(size=(300, 2))
        readings = truth @ random.normal(size=(2, 20)) + random.normal(size=(300, 20))
        contexts: list[Context] = [{f"x{at}": value for at, value in enumerate(row)} for row in readings.tolist()]
        means, noise = 0.2 * truth[:, 0], 0.05 * random.normal(size=300)
        seen = [Outcome(float(at), "a", True, None, float(means[at] + noise[at]), contexts[at]) for at in range(60)]
        for kinship in errors:
            spec = msgspec.structs.replace(SPEC, reward_range=None, parameters={"kinship": kinship})
            predictor = LinearPredictor(snapshot_of(learn(Posterior(), spec, seen, NOW), spec, 1))
            predicted = np.array([predictor.predict(context, ["a"]).mean[0] for context in contexts[60:]])
            errors[kinship] += float(((predicted - means[60:]) ** 2).mean())
    assert errors[0.5] < 0.97 * errors[0.0], errors
