"""The logistic model: its posterior beside a direct optimisation, batches beside the whole, and what it says of features."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize, root
from scipy.special import expit
from scipy.stats import norm

from shared.policies.choosing import Chooser
from shared.policies.encoder import Encoder
from shared.policies.features import Seen
from shared.policies.linear_fit import LinearModel, decode_model, encode_model
from shared.policies.linear_model import LinearPredictor, Prediction
from shared.policies.logistic_fit import Batch, compiled, learned, standards_of
from shared.policies.logistic_thompson import LogisticThompson, shrinkage
from shared.policies.logistic_weights import LogisticWeights, unpack
from shared.policies.ordered import OpenStep, Step
from shared.policies.ordered_kinds import orders_alike
from shared.policies.posterior import Posterior, snapshot_of
from shared.vocabulary import Action, Context, FeatureSpec, PolicySpec, Snapshot
from tests.unit.policies.histories import ACTIONS, AT, CONTEXT, outcomes, steps_of

Array = NDArray[np.float64]
LEARNER = LogisticWeights()
RIDGE = 0.3
STRANGER = Action("new", {"price": 2.0, "tags": ["blue"]})
CONTEXTS: list[Context] = [CONTEXT, {"age": 28.0}]
everywhere: list[Action | str] = [*ACTIONS, STRANGER, "unnamed"]
blocks = pytest.mark.parametrize(
    "features",
    [
        FeatureSpec(hash_dimension=8),
        FeatureSpec(shared=(), hash_dimension=4),
        FeatureSpec(per_action=(), interactions=(("age", "action.price"),)),
    ],
    ids=["per action and shared", "per action only", "shared only"],
)


def spec_of(features: FeatureSpec | None = None, **fields: object) -> PolicySpec:
    """Return a policy over the histories' actions."""
    spec = PolicySpec("news", 1, "logistic_thompson", actions=ACTIONS, features=features or FeatureSpec())
    return msgspec.structs.replace(spec, **fields)


def clicks(count: int, seed: int, batch: int) -> list[Step]:
    """Return closed decisions whose rewards are 0 or 1, every tenth something between."""
    random = np.random.default_rng(seed)
    happened = []
    for at, outcome in enumerate(outcomes(count, seed)):
        chance = outcome.after or 0.0
        happened.append(
            msgspec.structs.replace(outcome, after=chance if at % 10 == 0 else float(random.random() < chance))
        )
    return steps_of(happened, batch)


def published(spec: PolicySpec, model: bytes | None, ahead: Sequence[OpenStep] = (), as_of: float = AT) -> Snapshot:
    """Return the snapshot that carries a model."""
    content = LEARNER.published(model, spec, ahead, as_of)
    return msgspec.structs.replace(snapshot_of(Posterior(as_of), spec, 3), model=content)


def predicted(snapshot: Snapshot) -> tuple[Array, Array]:
    """Return mean and spread of the log-odds of known and unknown actions in two contexts, shape (2, n) both."""
    predictor = LinearPredictor(snapshot)
    both = [predictor.predict(context, everywhere) for context in CONTEXTS]
    return np.array([each.mean for each in both]), np.array([each.spread() for each in both])


def read_model(snapshot: Snapshot) -> LinearModel:
    """Return the model that a snapshot carries."""
    assert snapshot.model is not None
    return decode_model(snapshot.model)


def designed(spec: PolicySpec, model: LinearModel, steps: Sequence[Step]) -> tuple[Array, Array, Array, list[str]]:
    """Return the standardised blocks of each step, its rewards and its actions, worked out one by one."""
    assert spec.features is not None
    encoder = Encoder(spec.features, model.encoding, (model.own_centre, model.shared_centre))
    features = {action.id: action.features for action in ACTIONS}
    own, shared = encoder.rows(Seen([s.context for s in steps], [features[s.actions[0]] for s in steps]))
    return (
        (own - model.own_centre) / model.own_scale,
        (shared - model.shared_centre) / model.shared_scale,
        np.array([step.rewards[0] for step in steps]),
        [step.actions[0] for step in steps],
    )


@blocks
def test_one_batch_gives_the_mode_and_the_curvature(features: FeatureSpec) -> None:
    """All weights, and the mean of the prior, are where SciPy finds the posterior's mode; the covariance is Laplace's (1e-8)."""
    spec = spec_of(features)
    steps = clicks(400, seed=5, batch=400)
    model = read_model(published(spec, LEARNER.learn(None, spec, steps)))
    own, shared, rewards, shown = designed(spec, model, steps)
    (k, d), s = model.coefficients.shape, len(model.shared)
    row = [model.actions.index(action) for action in shown]
    design = np.zeros((len(steps), k * d + s + 1))
    for at, place in enumerate(row):
        design[at, place * d : (place + 1) * d] = own[at]
    design[:, k * d : k * d + s] = shared
    precision = np.diag(np.append(np.tile(np.append(1.0, np.full(d - 1, RIDGE * max(d - 1, 1))), k), np.zeros(s + 1)))
    precision[range(k * d, k * d + s), range(k * d, k * d + s)] = RIDGE * s
    precision[-1, -1] = 1.0 + k  # each action's first weight lies around m, and m around 0
    precision[-1, : k * d : d] = precision[: k * d : d, -1] = -1.0

    def height(weights: Array) -> float:
        eta = design @ weights
        return float(weights @ precision @ weights / 2 + np.sum(np.logaddexp(0.0, eta) - rewards * eta))

    def slope(weights: Array) -> Array:
        gradient: Array = precision @ weights + design.T @ (expit(design @ weights) - rewards)
        return gradient

    def curvature(weights: Array) -> Array:
        chance = expit(design @ weights)
        matrix: Array = precision + (design * (chance * (1.0 - chance))[:, None]).T @ design
        return matrix

    best = minimize(height, np.zeros(design.shape[1]), jac=slope, hess=curvature, method="trust-exact", tol=1e-8).x
    best = root(slope, best, jac=curvature, tol=1e-14).x  # the height alone is too flat there for the last digits
    assert np.abs(slope(best)).max() < 1e-9
    theta = model.coefficients - model.loadings @ model.shared
    np.testing.assert_allclose(np.concatenate([theta.ravel(), model.shared, model.start[:1]]), best, atol=1e-8)
    covariance = np.linalg.inv(curvature(best)[:-1, :-1])  # given the mean of the prior, which is taken as known
    np.testing.assert_allclose(model.shared_factor @ model.shared_factor.T, covariance[k * d :, k * d :], atol=1e-8)
    predictor = LinearPredictor(published(spec, LEARNER.learn(None, spec, steps)))
    for step, at in zip(steps[:40], range(40), strict=True):
        whole = predictor.predict(step.context, [action.id for action in ACTIONS])
        named = [action.id for action in ACTIONS].index(shown[at])
        weights = np.delete(design[at], -1)
        assert whole.mean[named] == pytest.approx(weights @ best[:-1], abs=1e-8)
        assert whole.spread()[named] == pytest.approx(np.sqrt(weights @ covariance @ weights), abs=1e-8)


@blocks
@pytest.mark.parametrize("batch", [1, 10, 100])
def test_batches_come_close_to_the_whole_at_once(features: FeatureSpec, batch: int) -> None:
    """After 1,000 decisions log-odds lie within 0.15 of their standard deviation of the fit to all at once, those within 5 %."""
    spec = spec_of(features)
    whole, whole_spread = predicted(published(spec, LEARNER.learn(None, spec, clicks(1_000, 5, 1_000))))
    parts, parts_spread = predicted(published(spec, LEARNER.learn(None, spec, clicks(1_000, 5, batch))))
    assert np.abs((parts - whole) / whole_spread).max() < 0.15
    np.testing.assert_allclose(parts_spread, whole_spread, rtol=0.05)


def test_how_batches_are_handed_over_does_not_matter() -> None:
    """The same batches in one call, or each in a call of its own, give the same bytes."""
    spec = spec_of(half_life_s=500.0)
    steps = clicks(300, seed=3, batch=30)
    model = None
    for begin in range(0, 300, 30):
        model = LEARNER.learn(model, spec, steps[begin : begin + 30])
    assert model == LEARNER.learn(None, spec, steps)


def test_a_feature_that_appears_late_had_been_missing_before() -> None:
    """A number that only the second batch holds gets a column with gaps, and what was known of the others stays."""
    spec = spec_of(FeatureSpec(shared=()))
    first = clicks(200, seed=3, batch=200)
    second = [
        msgspec.structs.replace(step, context=step.context | {"late": float(at % 3)})
        for at, step in enumerate(clicks(200, seed=4, batch=200))
    ]
    before = LEARNER.learn(None, spec, first)
    after = unpack(LEARNER.learn(before, spec, second))
    assert [number.has_gaps for number in after.encoding.own.numbers if number.name == "late"] == [True]
    assert after.moments.gram[0, 0, 0] == 400
    names = [number.name for number in unpack(before).encoding.own.numbers]
    assert [number.name for number in after.encoding.own.numbers][: len(names)] == names


def test_other_features_leave_the_model_behind() -> None:
    """A model of other columns is not gone on with."""
    steps = clicks(50, seed=3, batch=50)
    old = LEARNER.learn(None, spec_of(FeatureSpec(per_action=("age",))), steps)
    spec = spec_of()
    assert LEARNER.learn(old, spec, steps) == LEARNER.learn(None, spec, steps)
    assert LEARNER.published(old, spec, [], AT) == LEARNER.published(None, spec, [], AT)


def test_what_the_weights_depend_on_asks_for_a_refit() -> None:
    """Features, the reward range and the ridge do, and so does the kind, either way; exploration does not."""
    spec = spec_of()
    changes: list[dict[str, object]] = [
        {"features": FeatureSpec(hash_dimension=4)},
        {"reward_range": (0.0, 2.0)},
        {"parameters": {"ridge": 1.0}},
        {"kind": "lin_thompson"},
    ]
    for change in changes:
        other = msgspec.structs.replace(spec, **change)
        assert not orders_alike(other, spec), change
        assert not orders_alike(spec, other), change
    assert orders_alike(spec, msgspec.structs.replace(spec, parameters={"exploration": 1.0}))


def test_what_is_forgotten_leaves_the_prior() -> None:
    """Beliefs fade towards those of one who knows nothing, never get wider than these, and nothing fails on the way."""
    spec = spec_of(half_life_s=100.0)
    model = LEARNER.learn(None, spec, clicks(300, seed=5, batch=30))
    after = unpack(model).as_of
    assert after == AT + 299.0
    widest = None
    for half_lives in (0, 1, 5, 20, 60, 400, 20_000):
        snapshot = published(spec, model, as_of=after + 100.0 * half_lives)
        known = read_model(snapshot)
        spread = known.spreads[:, 0]  # of the first weight, given the shared ones
        assert (spread <= 1.0 + 1e-12).all()
        assert widest is None or (spread >= widest - 1e-12).all()
        widest = spread
        assert sum(Chooser(snapshot).propensities(None, CONTEXT).values()) == pytest.approx(1.0)
    np.testing.assert_allclose(known.coefficients, 0.0, atol=1e-9)
    np.testing.assert_allclose(known.shared, 0.0, atol=1e-9)
    np.testing.assert_allclose(known.spreads[:, 0], 1.0, atol=1e-9)


def drifting(batches: int) -> list[Step]:
    """Return batches of 1,000 decisions of two actions: numbers far from 0, columns that repeat one another, rare rewards."""
    random = np.random.default_rng(4)
    steps = []
    for at in range(1_000 * batches):
        x = float(random.normal())
        context: Context = {"x": x, "x again": x, "moment": 1.7e9 + at, "always": 3.0, "kind": "one"}
        reward = float(random.random() < expit(-2.0 + (x if at % 2 else -x)))
        steps.append(Step(AT + at, context, ("odd" if at % 2 else "even",), (reward,), (), (0.5,), at % 1_000 == 999))
    return steps


def leans(snapshot: Snapshot, moment: float) -> Array:
    """Return how much the log-odds of odd and even grow with x at a moment."""
    contexts: list[Context] = [
        {"x": x, "x again": x, "moment": moment, "always": 3.0, "kind": "one"} for x in (-0.5, 0.5)
    ]
    low, high = (LinearPredictor(snapshot).predict(context, ["odd", "even"]).mean for context in contexts)
    return high - low


def test_ten_million_updates_do_no_harm() -> None:
    """After 50 batches of 1,000 decisions, each counted 200 times over, the model has found the weights and is sure of them."""
    spec = PolicySpec("p", 1, "logistic_thompson", features=FeatureSpec())
    first = LEARNER.learn(None, spec, drifting(50)[:1_000])
    weights = unpack(first)
    encoder = Encoder(FeatureSpec(), weights.encoding)
    sums, using = weights.sums, standards_of(weights.moments, weights.encoding)
    steps = drifting(50)
    for begin in range(0, len(steps), 1_000):
        part = steps[begin : begin + 1_000]
        own, shared = encoder.rows(Seen([step.context for step in part], [{}] * len(part)))
        rewards = np.array([step.rewards[0] for step in part])
        batch = Batch(own, shared, [step.actions[0] for step in part], rewards, np.full(len(part), 200.0))
        sums = learned(sums, using, RIDGE, batch)
    assert np.linalg.eigvalsh(sums.gram).min() > -1e-6 * np.abs(sums.gram).max()
    model = compiled(sums, using, weights.encoding, RIDGE, 1e7)
    snapshot = msgspec.structs.replace(published(spec, first), model=encode_model(model))
    np.testing.assert_allclose(leans(snapshot, 1.7e9 + 25_000), [1.0, -1.0], atol=0.1)
    assert 0.0 < predictor_spread(snapshot) < 0.05


def predictor_spread(snapshot: Snapshot) -> float:
    """Return how unsure a snapshot is of an action in a context as it was seen."""
    context: Context = {"x": 0.3, "x again": 0.3, "moment": 1.7e9 + 500.0, "always": 3.0, "kind": "one"}
    return float(LinearPredictor(snapshot).predict(context, ["odd"]).spread()[0])


@pytest.mark.parametrize("half_life_s", [1.0, 200.0, 1e5])
def test_forgetting_for_ever_does_no_harm(half_life_s: float) -> None:
    """However much of 30,000 decisions is forgotten at once, beliefs stay finite, and never surer than what is remembered."""
    spec = PolicySpec("p", 1, "logistic_thompson", features=FeatureSpec(), half_life_s=half_life_s)
    snapshot = published(spec, LEARNER.learn(None, spec, drifting(30)), as_of=AT + 30_000.0)
    remembered = read_model(snapshot).rewards
    assert remembered == pytest.approx(half_life_s / np.log(2.0), rel=0.5) or half_life_s > 30_000.0
    assert np.isfinite(leans(snapshot, 1.7e9 + 29_000)).all()
    assert predictor_spread(snapshot) > 1.0 / np.sqrt(1.0 + remembered)
    if half_life_s > 100.0:
        np.testing.assert_allclose(leans(snapshot, 1.7e9 + 29_000), [1.0, -1.0], atol=1.0)


@pytest.mark.parametrize("reward", [0.0, 1.0])
def test_rewards_that_are_all_alike_and_wild_numbers_converge(reward: float) -> None:
    """Where no finite log-odds are the likeliest, and where numbers are as large as they can be, the prior holds the mode."""
    spec = spec_of(FeatureSpec(interactions=(("age", "action.price"),)))
    steps = [
        msgspec.structs.replace(
            step, rewards=(reward,), context=step.context | {"age": (-1.0) ** at * 10.0 ** (at % 300), "tiny": 1e-300}
        )
        for at, step in enumerate(clicks(400, seed=5, batch=100))
    ]
    snapshot = published(spec, LEARNER.learn(None, spec, steps))
    mean, spread = predicted(snapshot)
    assert np.isfinite(mean).all()
    assert np.isfinite(spread).all()
    assert (mean[1, :5] > 0).all() == bool(reward)
    law = Chooser(snapshot).law(CONTEXT, everywhere)
    assert all(0.0 <= (score or 0.0) <= 1.0 for score in law.scores)


def test_a_step_that_overshoots_is_halved() -> None:
    """A reward that contradicts a steep belief throws Newton's whole steps to and fro; the mode is found all the same."""
    spec = spec_of(FeatureSpec(shared=()), parameters={"ridge": 1e-6})

    def step(at: int, x: float, reward: float) -> Step:
        return Step(AT + at, {"x": x}, ("a",), (reward,), ACTIONS, (1.0,), ends=at >= 1_999)

    steep = LEARNER.learn(None, spec, [step(at, 1.0 if at % 2 else -1.0, float(at % 2)) for at in range(2_000)])
    against = LEARNER.learn(steep, spec, [step(2_000, 30.0, 0.0)])
    [mean] = LinearPredictor(published(spec, against)).predict({"x": 30.0}, ["a"]).mean
    weight = unpack(against).sums.gram[0, 0, 0] - unpack(steep).sums.gram[0, 0, 0]
    assert LinearPredictor(published(spec, steep)).predict({"x": 30.0}, ["a"]).mean[0] > 100.0
    assert -30.0 < mean < 0.0
    assert weight == pytest.approx(expit(mean) * expit(-mean), rel=1e-6), "taken to second order where the mode is"


def opened(steps: Sequence[Step], *, answered: bool) -> list[OpenStep]:
    """Return the same decisions as open ones."""
    return [OpenStep(**msgspec.structs.asdict(step), answered=(answered,)) for step in steps]


def test_open_decisions_count_as_closed_ones_do() -> None:
    """What is open and answered, or silent where silence is believed at once, is known to the snapshot like a closed batch."""
    spec = spec_of(half_life_s=1_000.0)
    steps = clicks(200, seed=6, batch=100)
    model = LEARNER.learn(None, spec, steps[:100])
    closed = LEARNER.learn(model, spec, steps[100:])
    for answered in (True, False):
        ahead = opened(steps[100:], answered=answered)
        assert LEARNER.published(model, spec, ahead, AT + 150.0) == LEARNER.published(closed, spec, [], AT + 199.0)
    assert LEARNER.published(model, spec, [], AT) != LEARNER.published(closed, spec, [], AT)


def test_young_silence_counts_little_where_rewards_are_slow() -> None:
    """A decision without feedback weighs as F(age): nothing when it was just made, all when its window is over."""
    spec = spec_of(expected_delay_s=100.0, reward_window_s=400.0)
    steps = [msgspec.structs.replace(step, rewards=(0.0,), decided_at=AT) for step in clicks(300, seed=6, batch=300)]
    ahead = opened(steps, answered=False)

    def chance(as_of: float) -> float:
        snapshot = published(spec, None, ahead, as_of)
        return Chooser(snapshot).law(CONTEXT, ["a"]).scores[0] or 0.0

    assert chance(AT) == pytest.approx(0.5, abs=1e-9)
    assert chance(AT) > chance(AT + 20.0) > chance(AT + 100.0) > chance(AT + 400.0)
    whole = published(msgspec.structs.replace(spec, expected_delay_s=None), None, ahead, AT + 400.0)
    assert chance(AT + 400.0) == Chooser(whole).law(CONTEXT, ["a"]).scores[0]


def test_a_slates_items_count_each() -> None:
    """A decision of two items is as good as two decisions in the same context."""
    spec = spec_of()
    pair = Step(AT, CONTEXT, ("a", "c"), (1.0, 0.25), ACTIONS, (0.2, 0.25), ends=True)
    alone = [
        msgspec.structs.replace(pair, actions=("a",), rewards=(1.0,), ends=False),
        msgspec.structs.replace(pair, actions=("c",), rewards=(0.25,)),
    ]
    assert LEARNER.learn(None, spec, [pair]) == LEARNER.learn(None, spec, alone)


def test_a_reward_range_is_taken_for_0_to_1() -> None:
    """Rewards of another range teach the same log-odds; scores are in units of reward."""
    steps = clicks(200, seed=6, batch=50)
    wide = [msgspec.structs.replace(step, rewards=(20.0 * step.rewards[0] - 5.0,)) for step in steps]
    spec, wide_spec = spec_of(), spec_of(reward_range=(-5.0, 15.0))
    one, other = (
        published(spec, LEARNER.learn(None, spec, steps)),
        published(wide_spec, LEARNER.learn(None, wide_spec, wide)),
    )
    np.testing.assert_allclose(predicted(one)[0], predicted(other)[0], atol=1e-9)
    scores = (Chooser(each).law(CONTEXT, everywhere).scores for each in (one, other))
    for narrow, stretched in zip(*scores, strict=True):
        assert stretched == pytest.approx(20.0 * (narrow or 0.0) - 5.0, abs=1e-8)


def test_scores_are_expected_rewards() -> None:
    """MacKay's approximation lies within 0.02 of the integral, for log-odds of any mean and spread."""
    for mean in (-8.0, -3.0, -1.0, 0.0, 0.5, 2.0, 5.0):
        for spread in (1e-3, 0.3, 1.0, 2.0, 5.0):
            prediction = Prediction(np.array([mean]), np.array([spread * 0.6]), np.array([[spread * 0.8]]))
            score = expit(mean * shrinkage(prediction)[0])
            reach = np.linspace(mean - 9.0 * spread, mean + 9.0 * spread, 20_001)
            exact = np.trapezoid(expit(reach) * norm.pdf(reach, mean, spread), reach)
            assert score == pytest.approx(exact, abs=0.02)


def test_contributions_sum_to_the_score() -> None:
    """What moved the expected reward is told by name, in units of reward."""
    spec = spec_of(reward_range=(0.0, 4.0))
    snapshot = published(spec, LEARNER.learn(None, spec, clicks(300, seed=5, batch=60)))
    algorithm = LogisticThompson(snapshot)
    for context in [*CONTEXTS, {}]:
        for action in everywhere:
            named = algorithm.contributions(context, action)
            [score] = Chooser(snapshot).law(context, [action]).scores
            assert sum(named.values()) == pytest.approx(score, abs=1e-9)
            assert "(baseline)" in named
    older = algorithm.contributions({"age": 80.0, "device": "desk", "member": True}, "e")
    assert max((abs(value), name) for name, value in older.items() if name != "(baseline)")[1] == "age"
