"""A reward model for the direct method and what corrects it: hybrid ridge regression, never fitted to the fold that it predicts.

    r = m + z·β + x·θ_a + noise,        min Σ (r - m - z·β - x·θ_a)² + μ |β|² + λ Σ_a |θ_a|²

m is an intercept without penalty, z what all actions share (the context, and the action's own features where there are any), x a
context with a leading 1, whose θ_a is the action's own deviation, shrunk towards nothing (λ well above μ, so that β says what actions have in
common): an action that was hardly ever logged, or never, is predicted as others are. With the blocks G_a = λI + Σ x x', H_a = Σ x z', g_a = Σ x r of the rows that logged a, and z led by a 1 for m,

    (μI + Σ z z' - Σ_a H_a' G_a⁻¹ H_a) β = Σ z r - Σ_a H_a' G_a⁻¹ g_a,        θ_a = G_a⁻¹ (g_a - H_a β)

Row i is predicted by the model of the other folds, so that no reward predicts itself: a model that saw its rows makes doubly robust estimates too
sure. Papers: Li, Chu, Langford & Schapire, "A Contextual-Bandit Approach to Personalized News Article Recommendation", WWW 2010 (hybrid
model); Chernozhukov et al., "Double/Debiased Machine Learning", Econometrics Journal 2018 (cross-fitting).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from shared.errors import InvalidInput
from shared.evaluation.logged_decisions import LoggedDecisions

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

RIDGE, SHARED_RIDGE = 1.0, 0.1
FOLDS = 3


def folds_of(rows: int, folds: int = FOLDS, seed: int = 0) -> Integers:
    """Return the fold of each row, shape (rows,), in [0, folds): equally large up to one row, by a draw that `seed` fixes."""
    return np.random.RandomState(seed).permutation(np.arange(rows) % folds).astype(np.int64)


def cross_fitted(
    decisions: LoggedDecisions,
    contexts: Floats,
    features: Floats | None,
    folds: Integers,
    *,
    ridge: float = RIDGE,
    shared_ridge: float = SHARED_RIDGE,
    per_action: bool = True,
) -> Floats:
    """Return the predicted reward of each eligible action, shape (n_entries,), for `LoggedDecisions.with_predictions`.

    `contexts`: shape (n_rows, d_x), best of standard scale; `features`: shape (n_entries, d_s), of each eligible action, None where actions have none.
    `folds`: shape (n_rows,), as `folds_of` gives. `ridge`: λ > 0, `shared_ridge`: μ > 0. `per_action`: False leaves out θ. Raises `InvalidInput`; per action it
    needs `decisions.actions`.
    """
    _check(decisions, contexts, features, folds)
    if not (ridge > 0.0 and shared_ridge > 0.0):
        raise InvalidInput("ridge and shared_ridge must be above 0", field="ridge")
    codes = _codes(decisions, per_action=per_action)
    thetas = np.zeros((int(codes.max()) + 1, contexts.shape[1] + 1))
    row_of_entry = np.repeat(np.arange(decisions.rows), decisions.sizes)
    intercept = np.ones((decisions.rows, 1))
    own = np.hstack([intercept, contexts])
    predictions = np.empty(len(row_of_entry))
    for fold in np.unique(folds):
        fitted = np.flatnonzero(folds != fold)
        places = decisions.places[fitted]
        beta, code_to_theta = _fit(
            _shared(own[fitted], features, places),
            own[fitted],
            decisions.rewards[fitted],
            codes[places],
            (ridge, shared_ridge),
            per_action=per_action,
        )
        thetas[:] = 0.0  # an action without data in these folds is predicted as others are
        for code, theta in code_to_theta.items():
            thetas[code] = theta
        entries = np.flatnonzero(folds[row_of_entry] == fold)
        x = own[row_of_entry[entries]]
        predictions[entries] = _shared(x, features, entries) @ beta + np.einsum("ij,ij->i", x, thetas[codes[entries]])
    return predictions


def _fit(
    shared: Floats, own: Floats, rewards: Floats, codes: Integers, ridges: tuple[float, float], *, per_action: bool
) -> tuple[Floats, dict[int, Floats]]:
    """Return β, shape (d_z,), and θ, shape (d_x,), of each action with data."""
    ridge, shared_ridge = ridges
    penalty = np.full(shared.shape[1], shared_ridge)
    penalty[0] = 0.0
    matrix, vector = np.diag(penalty) + shared.T @ shared, shared.T @ rewards
    blocks = []
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    for rows in np.split(order, starts[1:]) if per_action else []:
        x, z = own[rows], shared[rows]
        gram = ridge * np.eye(own.shape[1]) + x.T @ x
        cross, moment = x.T @ z, x.T @ rewards[rows]
        solved = np.linalg.solve(gram, np.column_stack([cross, moment]))
        matrix -= cross.T @ solved[:, :-1]
        vector -= cross.T @ solved[:, -1]
        blocks.append((int(codes[rows[0]]), solved))
    beta: Floats = np.linalg.solve(matrix, vector).astype(np.float64)
    return beta, {code: solved[:, -1] - solved[:, :-1] @ beta for code, solved in blocks}


def _shared(own: Floats, features: Floats | None, entries: Integers) -> Floats:
    return own if features is None else np.hstack([own, features[entries]])


def _codes(decisions: LoggedDecisions, *, per_action: bool) -> Integers:
    """Return actions renumbered from 0, shape (n_entries,): one number for all without θ."""
    if decisions.actions is None:
        if per_action:
            raise InvalidInput("a model per action needs the actions' numbers", field="actions")
        return np.zeros(int(decisions.offsets[-1]), dtype=np.int64)
    return np.unique(decisions.actions, return_inverse=True)[1].astype(np.int64)


def _check(decisions: LoggedDecisions, contexts: Floats, features: Floats | None, folds: Integers) -> None:
    entries = int(decisions.offsets[-1])
    for name, values, rows in (("contexts", contexts, decisions.rows), ("features", features, entries)):
        if values is not None and (values.ndim != 2 or len(values) != rows or not bool(np.isfinite(values).all())):  # noqa: PLR2004 - a matrix
            raise InvalidInput(f"{name} must be a matrix of {rows} rows of finite numbers", field=name)
    if folds.shape != (decisions.rows,) or len(np.unique(folds)) < 2:  # noqa: PLR2004 - one fold leaves nothing to fit
        raise InvalidInput("folds must name at least two folds, one for each row", field="folds")
