"""The linear model: its sums, its posterior beside the whole regression worked out at once, and what it says of features."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from shared.policies.choosing import Chooser
from shared.policies.encoder import Encoder
from shared.policies.encoding import Encoding, discover
from shared.policies.features import Seen
from shared.policies.kinds import CONTEXTUAL_KINDS
from shared.policies.linear_fit import PRIOR_REWARDS, RIDGE, fit
from shared.policies.linear_learning import total
from shared.policies.linear_model import LinearPredictor
from shared.policies.ordered_kinds import LEARNERS
from shared.policies.posterior import (
    Outcome,
    Posterior,
    advance,
    decode_posterior,
    encode_posterior,
    learn,
    merge,
    nothing_learned,
    snapshot_of,
)
from shared.vocabulary import Action, Context, FeatureSpec, PolicySpec, Snapshot
from tests.unit.policies.histories import ACTIONS, AT, CONTEXT, HISTORIES, learned, outcomes, spec_of

Array = NDArray[np.float64]
RANGE = (0.0, 1.0)
NOW = AT + 1_000.0
STRANGER = Action("new", {"price": 2.0, "tags": ["blue"]})
everywhere: list[Action | str] = [*ACTIONS, STRANGER, "unnamed"]
histories = pytest.mark.parametrize("history", [name for name in HISTORIES if name != "nothing learned"])


def predicted(snapshot: Snapshot, context: Context = CONTEXT) -> tuple[Array, Array]:
    """Return means (n,) and covariance (n, n) of what a snapshot believes of every action here."""
    prediction = LinearPredictor(snapshot).predict(context, everywhere)
    return prediction.mean, np.diag(prediction.deviation**2) + prediction.loadings @ prediction.loadings.T


def alike(one: Snapshot, other: Snapshot, tolerance: float = 1e-9) -> None:
    """Assert that two snapshots believe the same."""
    for mine, theirs in zip(predicted(one), predicted(other), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=tolerance, atol=tolerance)


def made(spec: PolicySpec, *batches: Sequence[Outcome]) -> Snapshot:
    """Return the snapshot after learning batches one after another."""
    posterior = Posterior()
    for batch in batches:
        posterior = learn(posterior, spec, batch, NOW)
    return snapshot_of(posterior, spec, 3)


@histories
def test_the_posterior_is_that_of_the_whole_regression(history: str) -> None:
    """Means and covariances equal those of one joint Bayesian regression with every weight in it, given the noise and start."""
    count, features, reward_range = HISTORIES[history]
    spec = spec_of("lin_thompson", features, reward_range)
    seen = outcomes(count, seed=5)
    posterior = learn(Posterior(), spec, seen, NOW)
    assert posterior.linear is not None
    encoding = posterior.linear.encoding
    model = fit(total(posterior.linear, lambda _: 1.0, 0.0), encoding, RIDGE, reward_range)
    encoder = Encoder(features, encoding, (model.own_centre, model.shared_centre))

    def design(context: Context, action: Action) -> Array:
        own = (encoder.own(context) - model.own_centre) / model.own_scale
        shared = (encoder.shared(context, [action])[0] - model.shared_centre) / model.shared_scale
        blocks = [
            own if other.id == action.id else np.zeros(len(own)) for other in [*ACTIONS, STRANGER, Action("unnamed")]
        ]
        return np.concatenate([*blocks, shared])

    rows = np.array([design(o.context, Action(o.action, o.features)) for o in seen])
    rewards = np.array([o.after for o in seen], dtype=float)
    prior_mean = np.concatenate([*[model.start] * 7, np.zeros(len(model.shared))])
    d, s = len(model.start), len(model.shared)
    own_ridge = np.array([1.0] + [RIDGE * max(d - 1, 1)] * (d - 1))
    ridge = np.concatenate([*[own_ridge] * 7, np.full(s, RIDGE * s)])
    precision = rows.T @ rows + np.diag(ridge)
    covariance = model.noise * np.linalg.inv(precision)
    mean = np.linalg.solve(precision, rows.T @ rewards + ridge * prior_mean)
    asked = np.array([design(CONTEXT, a if isinstance(a, Action) else Action(a)) for a in everywhere])
    means, covariances = predicted(snapshot_of(posterior, spec, 3))
    np.testing.assert_allclose(means, asked @ mean, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(covariances, asked @ covariance @ asked.T, rtol=1e-9, atol=1e-9)
    if reward_range is not None:
        width = reward_range[1] - reward_range[0]
        apart = (rewards**2).sum() + prior_mean @ (ridge * prior_mean) - mean @ (rows.T @ rewards + ridge * prior_mean)
        noise = (PRIOR_REWARDS * width**2 / 4 + apart) / (PRIOR_REWARDS + count)
        assert model.noise == pytest.approx(noise, rel=1e-9)


def test_an_action_starts_at_the_mean_of_all_actions() -> None:
    """With plenty of actions, what an unseen one is believed to earn is what actions earn on average, in any context."""
    random = np.random.default_rng(3)
    spec = PolicySpec("p", 1, "lin_thompson", features=FeatureSpec(), reward_range=None)
    weights = random.normal(1.5, 0.5, size=(40, 2))
    seen = []
    for place in range(40):
        for x in random.normal(size=50):
            reward = float(weights[place] @ (1.0, x) + random.normal(0, 0.1))
            seen.append(Outcome(AT, f"a{place}", True, None, reward, {"x": float(x)}))
    predictor = LinearPredictor(made(spec, seen))
    for x in (-1.0, 1.0):
        assert predictor.predict({"x": x}, ["never seen"]).mean[0] == pytest.approx(weights[:, 0].mean(), abs=0.1)


@histories
def test_batches_in_any_order_give_the_same_beliefs(history: str) -> None:
    """Learned at once, one by one, backwards or merged from two halves: the beliefs agree to 1e-9."""
    count, features, reward_range = HISTORIES[history]
    spec = spec_of("lin_thompson", features, reward_range)
    seen = outcomes(count, seed=5)
    at_once = made(spec, seen)
    alike(at_once, made(spec, *[[outcome] for outcome in seen]))
    known = learn(Posterior(), spec, seen, NOW)
    nothing = nothing_learned(spec, known)
    backwards, first, second = nothing, nothing, nothing
    for outcome in reversed(seen):
        backwards = learn(backwards, spec, [outcome], NOW)
    first, second = learn(first, spec, seen[: count // 3], NOW), learn(second, spec, seen[count // 3 :], NOW)
    alike(at_once, snapshot_of(backwards, spec, 3))
    alike(at_once, snapshot_of(merge(first, second, spec), spec, 3))
    alike(at_once, snapshot_of(merge(second, first, spec), spec, 3))
    alike(at_once, snapshot_of(decode_posterior(encode_posterior(known)), spec, 3), 1e-15)


def test_a_reward_that_changes_its_mind_leaves_no_trace() -> None:
    """Shown, answered, revised and withdrawn: what is left is what the last word says."""
    spec = spec_of("lin_thompson", FeatureSpec())
    seen = outcomes(60, seed=8)
    shown = [msgspec.structs.replace(outcome, after=None) for outcome in seen]
    answered = [msgspec.structs.replace(o, shown=False, after=0.9) for o in seen]
    revised = [msgspec.structs.replace(o, shown=False, before=0.9) for o in seen]
    withdrawn = [msgspec.structs.replace(o, shown=False, before=o.after, after=None) for o in seen]
    alike(made(spec, seen), made(spec, shown, answered, revised))
    alike(made(spec, shown), made(spec, shown, answered, revised, withdrawn))


def test_silence_counts_as_the_default_reward() -> None:
    """A decision without feedback is one that earned the default reward."""
    spec = msgspec.structs.replace(spec_of("lin_thompson", FeatureSpec()), default_reward=0.4)
    seen = outcomes(60, seed=8)
    silent = [msgspec.structs.replace(outcome, after=None) for outcome in seen]
    alike(made(spec, silent), made(spec, [msgspec.structs.replace(outcome, after=0.4) for outcome in seen]))


def test_slow_rewards_weigh_silence_by_its_age() -> None:
    """Inside the window silence weighs F(age); when the window is over it weighs as if rewards had never been slow."""
    spec = msgspec.structs.replace(
        spec_of("lin_thompson", FeatureSpec()), expected_delay_s=300.0, reward_window_s=1_600.0
    )
    quick = msgspec.structs.replace(spec, expected_delay_s=None)
    seen = [msgspec.structs.replace(o, after=o.after if at % 3 else None) for at, o in enumerate(outcomes(90, seed=2))]
    early, late = AT + 91.0, AT + 10_000.0
    young = learn(Posterior(), spec, seen, early)
    answered = [outcome for outcome in seen if outcome.after is not None]
    only = learn(nothing_learned(quick, young), quick, answered, early)
    everything = learn(nothing_learned(quick, young), quick, seen, early)
    belief, without, counted = (
        predicted(snapshot_of(posterior, policy, 3))[0]
        for posterior, policy in ((young, spec), (only, quick), (everything, quick))
    )
    assert np.abs(belief - without).max() < np.abs(belief - counted).max()
    old = snapshot_of(advance(young, spec, late), spec, 3)
    alike(old, snapshot_of(advance(everything, quick, late), quick, 3))
    step_by_step = young
    for as_of in np.linspace(early, late, 40):
        step_by_step = advance(step_by_step, spec, float(as_of))
    alike(old, snapshot_of(step_by_step, spec, 3))


@pytest.mark.parametrize("kind", sorted(CONTEXTUAL_KINDS.keys() - LEARNERS.keys()))
def test_what_is_forgotten_leaves_the_prior(kind: str) -> None:
    """After very many half-lives a policy believes and chooses as a fresh one does, and nothing fails on the way."""
    spec = msgspec.structs.replace(spec_of(kind, FeatureSpec()), half_life_s=100.0)
    posterior = learn(Posterior(), spec, outcomes(300, seed=5), NOW)
    fresh = snapshot_of(nothing_learned(spec, posterior, NOW), spec, 3)
    for half_lives in (1, 10, 50, 400, 1_000, 20_000):
        snapshot = snapshot_of(advance(posterior, spec, NOW + 100.0 * half_lives), spec, 3)
        assert np.isfinite(predicted(snapshot)[1]).all()
        law = Chooser(snapshot).propensities(None, CONTEXT)
        assert sum(law.values()) == pytest.approx(1.0)
    alike(snapshot, fresh)
    assert law == pytest.approx(Chooser(fresh).propensities(None, CONTEXT))


@pytest.mark.parametrize("half_life_s", [None, 1e6])
def test_ten_million_updates_do_no_harm(half_life_s: float | None) -> None:
    """With 10^7 decisions, numbers far from 0 and columns that repeat one another, the model still finds the weights."""
    random = np.random.default_rng(4)
    spec = PolicySpec("p", 1, "lin_thompson", features=FeatureSpec(), half_life_s=half_life_s)
    batch = []
    for at in range(2_000):
        x = float(random.normal())
        reward = float(np.clip(0.5 + 0.2 * x * (1 if at % 2 else -1) + random.normal(0, 0.1), 0, 1))
        context: Context = {"x": x, "x again": x, "moment": 1.7e9 + at, "always": 3.0, "kind": "one"}
        batch.append(Outcome(AT, "odd" if at % 2 else "even", True, None, reward, context))
    posterior = learn(Posterior(), spec, batch, AT)
    while sum(tally.shown for row in posterior.buckets.values() for tally in row.values()) < 1e7:
        posterior = merge(posterior, posterior, spec)
    posterior = learn(posterior, spec, batch, AT)
    predictor = LinearPredictor(snapshot_of(posterior, spec, 3))
    ahead, behind = (
        predictor.predict(
            {"x": x, "x again": x, "moment": 1.7e9 + 1_000, "always": 3.0, "kind": "one"}, ["odd", "even"]
        )
        for x in (1.0, -1.0)
    )
    np.testing.assert_allclose(ahead.mean, [0.7, 0.3], atol=0.02)
    np.testing.assert_allclose(behind.mean, [0.3, 0.7], atol=0.02)
    assert (ahead.deviation < 1e-3).all()
    assert (ahead.deviation > 0).all()


def test_numbers_are_standardised_whatever_their_units() -> None:
    """Years or seconds, from 0 or from 1970: the beliefs are the same."""
    spec = PolicySpec("p", 1, "lin_thompson", features=FeatureSpec())
    seen = outcomes(200, seed=1)

    def in_units(factor: float, start: float) -> Snapshot:
        changed = []
        for outcome in seen:
            context = {"age": start + factor * float(outcome.context.get("age", 40.0))}  # type: ignore[arg-type]
            changed.append(msgspec.structs.replace(outcome, context=context, features={}))
        return made(spec, changed)

    years = LinearPredictor(in_units(1.0, 0.0)).predict({"age": 31.0}, ["a", "b", "new"])
    for factor, start in ((365.25 * 86_400, 0.0), (1e-6, 0.0), (12.0, 1.7e6), (-3.0, 5.0)):
        other = LinearPredictor(in_units(factor, start)).predict({"age": start + factor * 31.0}, ["a", "b", "new"])
        np.testing.assert_allclose(other.mean, years.mean, rtol=1e-6)
        np.testing.assert_allclose(other.deviation, years.deviation, rtol=1e-6)


@histories
def test_contributions_add_up_to_the_mean(history: str) -> None:
    """What features add to an action's mean sums to the mean, and every feature of the context is named."""
    snapshot = learned("lin_ucb", history)
    predictor = LinearPredictor(snapshot)
    means = predictor.predict(CONTEXT, everywhere).mean
    for action, mean in zip(everywhere, means, strict=True):
        moved = predictor.contributions(CONTEXT, action)
        assert sum(moved.values()) == pytest.approx(mean, abs=1e-9)
        if history == "per action only" and action in ACTIONS:
            assert {"age", "member"} <= set(moved)
            assert any("device=phone" in name for name in moved)


def test_rows_are_encoded_as_contexts_are() -> None:
    """Many contexts at once, of several shapes, become the columns that each becomes alone."""
    spec = FeatureSpec(interactions=(("device", "action.price"), ("age", "action.tags")), hash_dimension=16)
    seen = outcomes(50, seed=6)
    contexts: list[Context] = [
        *[outcome.context for outcome in seen],
        CONTEXT,
        {},
        {"age": "young"},
        {"age": float("nan"), "member": 2},
    ]
    features: list[Context] = [ACTIONS[at % len(ACTIONS)].features for at in range(len(contexts))]
    together = Seen(contexts, features)
    encoder = Encoder(spec, discover(spec, Encoding(), together, is_first=True))
    own, shared = encoder.rows(together)
    for at, context in enumerate(contexts):
        np.testing.assert_allclose(own[at], encoder.own(context))
        np.testing.assert_allclose(shared[at], encoder.shared(context, [Action("x", features[at])])[0])
        np.testing.assert_allclose(own[at], encoder.own(dict(reversed(context.items()))))


def test_only_named_features_are_looked_at() -> None:
    """A feature that a policy does not name changes nothing; one of its own action features is shared by default."""
    spec = spec_of("lin_ucb", FeatureSpec(per_action=("age",), shared=("action.price",)))
    predictor = LinearPredictor(made(spec, outcomes(200, seed=5)))
    mean = predictor.predict({"age": 30.0}, ["a"]).mean
    assert predictor.predict({"age": 30.0, "device": "phone", "other": 1.0}, ["a"]).mean == mean
    assert predictor.predict({"age": 31.0}, ["a"]).mean != mean
    assert predictor.predict({"age": 30.0}, [Action("a", {"price": 4.0})]).mean != mean
    assert predictor.predict({"age": 30.0}, [Action("a", {"price": 3.0, "colour": "red"})]).mean == mean


def test_a_feature_beyond_measure_moves_its_own_weight_only() -> None:
    """The largest double, and one that is no number, are taken without an overflow."""
    spec = PolicySpec("p", 1, "lin_thompson", features=FeatureSpec())
    seen = [Outcome(AT, "a", True, None, 0.5, {"x": float(at % 5), "huge": 1.0}) for at in range(50)]
    seen += [
        Outcome(AT, "a", True, None, 0.5, {"x": 1.0, "huge": 1.7e308}),
        Outcome(AT, "a", True, None, 0.5, {"x": -1.7e308}),
    ]
    prediction = LinearPredictor(made(spec, seen)).predict({"x": 2.0, "huge": -1.7e308}, ["a", "b"])
    assert np.isfinite(prediction.mean).all()
    assert np.isfinite(prediction.deviation).all()


def test_mean_propensities_are_those_of_the_posterior() -> None:
    """Over 1,000 snapshots, joint ones with shared features among them, the fixed draws' propensities have no bias.

    Beside each stands a reference of 20,000 independent joint draws; the mean difference of each place lies within 0.005.
    """
    random = np.random.default_rng(11)
    apart = []
    for at in range(1_000):
        features = (
            FeatureSpec() if at % 2 else FeatureSpec(per_action=("age",), interactions=(("age", "action.price"),))
        )
        spec = spec_of("lin_thompson", features)
        posterior = learn(Posterior(), spec, outcomes(int(random.integers(0, 60)), seed=at), NOW)
        snapshot = snapshot_of(posterior, msgspec.structs.replace(spec, name=f"p{at}"), 1)
        context: Context = {"age": float(random.normal(40, 12)), "device": "phone"}
        law = Chooser(msgspec.structs.replace(snapshot, exploration_floor=0.0)).propensities(None, context)
        prediction = LinearPredictor(snapshot).predict(context, None)
        joint = random.standard_normal((20_000, prediction.loadings.shape[1])) @ prediction.loadings.T
        drawn = prediction.mean + prediction.deviation * random.standard_normal((20_000, 5)) + joint
        apart.append(np.array(list(law.values())) - np.bincount(drawn.argmax(axis=1), minlength=5) / 20_000)
    assert np.abs(np.mean(apart, axis=0)).max() < 0.005
