"""What a linear model says of actions in a context; compiled once per snapshot."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import NamedTuple

import numpy as np

from shared.policies.algorithm import FloatArray
from shared.policies.encoder import Encoder
from shared.policies.linear_fit import decode_model
from shared.vocabulary import Action, Context, Snapshot

N_DRAWS = 256
"""How many joint draws a snapshot fixes."""


class Prediction(NamedTuple):
    """What is believed of the mean reward of n actions: jointly Normal.

    `mean` (n,); `deviation` (n,): the standard deviation that each has of its own; `loadings` (n, s): how each depends on s
    independent standard Normal numbers, which all share (s may be 0).
    """

    mean: FloatArray
    deviation: FloatArray
    loadings: FloatArray

    def spread(self) -> FloatArray:
        """Return the whole standard deviation of each action's mean, shape (n,)."""
        spread: FloatArray = np.sqrt(self.deviation**2 + (self.loadings**2).sum(axis=1))
        return spread


class LinearPredictor:
    """A snapshot's model, ready to predict."""

    def __init__(self, snapshot: Snapshot) -> None:
        """Compile the model of a snapshot; without one, nothing is known of any action."""
        if snapshot.features is None or snapshot.model is None:
            msg = f"the snapshot of {snapshot.policy!r} holds no model"
            raise ValueError(msg)
        model = decode_model(snapshot.model)
        self._model = model
        self._encoder = Encoder(snapshot.features, model.encoding, (model.own_centre, model.shared_centre))
        self._seed = snapshot.seed
        own = tuple(action.id for action in snapshot.actions)
        self._own_actions = snapshot.actions
        self._own_features = {action.id: action for action in snapshot.actions}
        known = {action: at for at, action in enumerate(model.actions)}
        self._order = own + tuple(action for action in model.actions if action not in self._own_features)
        rows = np.array([known.get(action, -1) for action in self._order], dtype=np.intp)
        self._row = {action: at for at, action in enumerate(self._order)}
        d, s = len(model.start), len(model.shared)
        first, second = np.triu_indices(d)
        self._first, self._second = first, second
        unseen = np.where(first == second, model.start_spreads[first], 0.0)
        self._coefficients = np.vstack([model.coefficients, model.start])[rows]
        self._spreads = np.vstack([model.spreads, unseen])[rows]
        self._loadings = np.concatenate([model.loadings, np.zeros((1, d, s))])[rows]
        self._unseen = unseen
        self._fixed_shared = self._shared({}, snapshot.actions) if self._encoder.shared_is_fixed else None
        self._normals: dict[str, FloatArray] = {}
        self._shared_normals = np.ascontiguousarray(_antithetic(_named_seed(self._seed, ""), s).T)

    @property
    def noise(self) -> float:
        """Return the variance of a reward around its mean."""
        return self._model.noise

    @property
    def rewards(self) -> float:
        """Return how many rewards the model was learned from."""
        return self._model.rewards

    def resolved(self, actions: Sequence[Action | str]) -> list[Action]:
        """Return the actions with their features: an id alone means the policy's action of that name, else one without."""
        return [
            action if isinstance(action, Action) else self._own_features.get(action) or Action(action)
            for action in actions
        ]

    def predict(self, context: Context, actions: Sequence[Action | str] | None) -> Prediction:
        """Return what is believed of `actions` (None: the snapshot's own) in `context`."""
        model = self._model
        own = (self._encoder.own(context) - model.own_centre) / model.own_scale
        products = own[self._first] * own[self._second]
        if actions is None:
            n = len(self._own_actions)
            mean = self._coefficients[:n] @ own
            variance = self._spreads[:n] @ products
            loadings = self._loadings[:n]
            given: Sequence[Action] = self._own_actions
        else:
            given = self.resolved(actions)
            rows = [self._row.get(action.id, -1) for action in given]
            mean = np.append(self._coefficients @ own, model.start @ own)[rows]
            variance = np.append(self._spreads @ products, self._unseen @ products)[rows]
            nothing = np.zeros((1, *self._loadings.shape[1:]))
            loadings = np.concatenate([self._loadings, nothing])[rows]
        if len(model.shared):
            fixed = actions is None and self._fixed_shared is not None
            shared = self._fixed_shared if fixed else self._shared(context, given)
            assert shared is not None  # noqa: S101 - for mypy
            effective = shared - own @ loadings
            mean = mean + effective @ model.shared
            loadings = effective @ model.shared_factor
        else:
            loadings = np.zeros((len(given), 0))
        return Prediction(mean, np.sqrt(np.maximum(variance, 0.0)), loadings)

    def draws(
        self, prediction: Prediction, actions: Sequence[Action | str] | None, exploration: float = 1.0
    ) -> FloatArray:
        """Return the means (row 0) and the snapshot's fixed joint draws of them, shape (1 + N_DRAWS, n_actions).

        `exploration` multiplies how far draws lie from the mean.
        """
        block = np.empty((1 + N_DRAWS, len(prediction.mean)))
        block[0] = prediction.mean
        drawn = np.multiply(self._stacked(self.ids(actions)), exploration * prediction.deviation, out=block[1:])
        drawn += prediction.mean
        if prediction.loadings.shape[1]:
            drawn += self._shared_normals @ (exploration * prediction.loadings.T)
        return block

    def ids(self, actions: Sequence[Action | str] | None) -> tuple[str, ...]:
        """Return the ids of the actions; None: of the snapshot's own."""
        given = self._own_actions if actions is None else actions
        return tuple([action if isinstance(action, str) else action.id for action in given])

    def contributions(self, context: Context, action: Action | str) -> dict[str, float]:
        """Return what each feature adds to the mean of an action, in units of reward; their sum is the mean.

        `(baseline)`: what an average context earns; `(expansion)`: what features add together, in ways that bend; `(missing)`: from
        numbers that are not given. Categories that were hashed into one column are named together.
        """
        model = self._model
        [given] = self.resolved([action])
        own = (self._encoder.own(context) - model.own_centre) / model.own_scale
        row = self._row.get(given.id, -1)
        coefficients = model.start if row < 0 else self._coefficients[row] - self._loadings[row] @ model.shared
        weighed = coefficients * own
        named = {"(baseline)": float(weighed[0])}
        named |= {name: float(weighed[column]) for column, name in self._encoder.own_names(context).items()}
        size = 0 if model.encoding.expansion is None else model.encoding.expansion.size
        if size:
            named["(expansion)"] = float(weighed[-size:].sum())
        missing = float(weighed.sum()) - sum(named.values())
        if len(model.shared):
            shared = model.shared * self._shared(context, [given])[0]
            of_action = {name: float(shared[at]) for at, name in self._encoder.shared_names(context, given).items()}
            missing += float(shared.sum()) - sum(of_action.values())
            named |= {name: named.get(name, 0.0) + value for name, value in of_action.items()}
        if abs(missing) > _ROUNDING:
            named["(missing)"] = missing
        return named

    def _shared(self, context: Context, actions: Sequence[Action]) -> FloatArray:
        model = self._model
        return (self._encoder.shared(context, actions) - model.shared_centre) / model.shared_scale

    def _stacked(self, ids: tuple[str, ...]) -> FloatArray:
        key = "\0".join(ids)
        normals = self._normals.get(key)
        if normals is None:
            if len(self._normals) >= _REMEMBERED:
                self._normals.clear()
            seeds = [_named_seed(self._seed, action) for action in ids]
            normals = np.ascontiguousarray(np.array([_antithetic(seed, 1)[0] for seed in seeds]).T)
            self._normals[key] = normals
        return normals


def _antithetic(seed: int, n_rows: int) -> FloatArray:
    """Return standard Normal numbers, shape (n_rows, N_DRAWS): the second half mirrors the first, so their mean is 0."""
    random = np.random.RandomState([seed & 0xFFFFFFFF, seed >> 32])
    half = random.standard_normal((n_rows, N_DRAWS // 2))
    return np.hstack([half, -half])


def _named_seed(seed: int, action: str) -> int:
    return int.from_bytes(sha256(f"{seed}\0{action}".encode()).digest()[:7], "big")


_REMEMBERED = 1_000
_ROUNDING = 1e-12
