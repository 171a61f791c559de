"""The linear model against MABWiser's LinUCB and LinTS (`make oracles`), to 1e-9.

MABWiser's ridge regression starts every weight at 0, ours starts the first, of the column of ones, at a mean m that is estimated from all actions. A ridge
regression is linear in the rewards, so with its penalty of 1 ours is theirs plus m times the first column of A⁻¹; spreads do not depend on m. The fixture's contexts
are standardised as our model does it by itself, which is given the raw ones; its penalty is 1 where `ridge` is one over the number of numbers.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.policies.linear_fit import LinearModel, decode_model
from shared.policies.linear_model import LinearPredictor
from shared.policies.posterior import Outcome, Posterior, learn, snapshot_of
from shared.vocabulary import Action, Context, FeatureSpec, PolicySpec, Snapshot

MABWISER: dict[str, Any] = json.loads((Path(__file__).parent / "fixtures/mabwiser.json").read_text())
ARMS: list[str] = MABWISER["arms"]
SHOWN = [arm for arm in ARMS if arm in MABWISER["decisions"]]
EXACT = 1e-9
AT = 1_000_000.0


def context_of(numbers: list[float]) -> Context:
    """Return the features x0, x1, ... of a row."""
    return {f"x{at}": number for at, number in enumerate(numbers)}


@pytest.fixture(scope="module")
def snapshot() -> Snapshot:
    """Return what our learner makes of the same decisions, in the same two batches."""
    spec = PolicySpec(
        "mabwiser",
        1,
        "lin_ucb",
        actions=tuple(Action(arm) for arm in ARMS),
        parameters={"ridge": MABWISER["parameters"]["ridge"] / (len(MABWISER["contexts"][0]) - 1)},
        features=FeatureSpec(),
        reward_range=None,
    )
    rows = zip(MABWISER["decisions"], MABWISER["rewards"], MABWISER["raw_contexts"], strict=True)
    seen = [Outcome(AT, arm, True, None, reward, context_of(numbers)) for arm, reward, numbers in rows]
    batch = MABWISER["parameters"]["batch"]
    posterior = learn(learn(Posterior(), spec, seen[:batch], AT), spec, seen[batch:], AT)
    return snapshot_of(posterior, spec, 1)


@pytest.fixture(scope="module")
def model(snapshot: Snapshot) -> LinearModel:
    """Return the model inside the snapshot."""
    assert snapshot.model is not None
    return decode_model(snapshot.model)


def moved(arm: str, model: LinearModel) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return how far our start moves the weights of an arm: m times the first column of A⁻¹."""
    return np.asarray(model.start[0] * np.array(MABWISER["models"][arm]["A_inverse"])[:, 0])


@pytest.mark.parametrize("arm", SHOWN)
def test_weights_and_covariances(arm: str, model: LinearModel) -> None:
    """Coefficients and A⁻¹ of each arm, which LinTS's posterior consists of too."""
    theirs, at = MABWISER["models"][arm], model.actions.index(arm)
    expected = np.array(theirs["beta"]) + moved(arm, model)
    assert model.coefficients[at] == pytest.approx(expected, rel=EXACT, abs=EXACT)
    rows, columns = np.triu_indices(len(model.start))
    inverse = model.spreads[at] / model.noise / np.where(rows == columns, 1.0, 2.0)
    assert inverse == pytest.approx(np.array(theirs["A_inverse"])[rows, columns], rel=EXACT, abs=EXACT)
    scaled = MABWISER["parameters"]["alpha_thompson"] ** 2 * inverse
    assert scaled == pytest.approx(np.array(theirs["thompson_covariance"])[rows, columns], rel=EXACT, abs=EXACT)


@pytest.mark.parametrize("arm", SHOWN)
def test_expectations_and_upper_bounds_in_new_contexts(arm: str, snapshot: Snapshot, model: LinearModel) -> None:
    """Means and LinUCB's index; their alpha times the root of x'A⁻¹x is our standard deviation over that of the noise."""
    theirs, predictor = MABWISER["models"][arm], LinearPredictor(snapshot)
    alpha = MABWISER["parameters"]["alpha_ucb"]
    for row, numbers in enumerate(MABWISER["new_raw_contexts"]):
        prediction = predictor.predict(context_of(numbers), [arm])
        shift = float(np.array(MABWISER["new_contexts"][row]) @ moved(arm, model))
        bound = prediction.mean[0] + alpha * prediction.spread()[0] / np.sqrt(model.noise)
        assert prediction.mean[0] == pytest.approx(theirs["expectation"][row] + shift, rel=EXACT, abs=EXACT)
        assert bound == pytest.approx(theirs["ucb"][row] + shift, rel=EXACT, abs=EXACT)


def test_an_arm_that_was_never_shown_stays_at_its_prior(snapshot: Snapshot, model: LinearModel) -> None:
    """MABWiser expects 0 of it, which is its prior mean; ours is m, in every context."""
    for numbers in MABWISER["new_raw_contexts"]:
        prediction = LinearPredictor(snapshot).predict(context_of(numbers), ["never_shown"])
        assert prediction.mean[0] == pytest.approx(model.start[0], rel=EXACT)
    assert MABWISER["models"]["never_shown"]["expectation"] == [0.0] * 5
