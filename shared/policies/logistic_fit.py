"""The posterior of a logistic model: what was learned before as a Gaussian, a batch of rewards by Newton's method.

The chance of a reward y in [0, 1] (a share of the reward range) is sigma(eta), with p and s standardised and

    eta = p' theta_a + s' beta,   theta_a ~ N(mu, L^-1),   beta ~ N(0, 1 / (ridge s) I),   mu = (m, 0, .., 0),   m ~ N(0, 1)
    L   = diag(1, ridge d, .., ridge d)  for d columns beside the ones: the more there are, the less each is trusted

m, where an action starts that was never seen, is what all actions have in common. What earlier batches taught is held as
sums (`linear_statistics`) that stand for a Gaussian likelihood; the prior stands outside them. A batch, with weights c, is
added to them by what its log likelihood is to second order at the mode eta* of the posterior that knows it (Laplace):

    w = c sigma(eta*) (1 - sigma(eta*))     gram += w p p', ..     response += (w eta* + c (y - sigma(eta*))) p, ..

The mode is that of a strictly convex function; Newton's method with halved steps finds it whatever the features are. Every
step solves an arrow: given b = (beta, m) the actions are independent, and only the batch's own ones change.

Spiegelhalter and Lauritzen, Sequential Updating of Conditional Probabilities on Directed Graphical Structures (1990);
MacKay, The Evidence Framework Applied to Classification Networks (1992).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from shared.policies.algorithm import FloatArray
from shared.policies.encoding import Encoding
from shared.policies.linear_fit import LinearModel, standardised, standards, turn_own, turn_shared
from shared.policies.linear_statistics import Rows, Sums, added, sums_of

CONVERGED = 1e-9
"""Newton's method stops when no log-odds of the batch moves by more."""
MOST_STEPS = 100
"""It needs 5 to 10 steps, more where rewards contradict all that was believed."""
_MOST_HALVINGS = 40


class Batch(NamedTuple):
    """Decisions as columns, in anchored units: `own` (n, d), `shared` (n, s), and the n `actions` shown.

    `y` (n,): rewards in [0, 1]; `weights` (n,): how much each counts, c >= 0.
    """

    own: FloatArray
    shared: FloatArray
    actions: list[str]
    y: FloatArray
    weights: FloatArray


class _Arrow(NamedTuple):
    """A Gaussian over (theta_1, .., theta_K, b), b = (beta, m), by its precision and its linear term.

    Shapes: own (K, d, d), cross (K, d, s + 1), response (K, d), common (s + 1, s + 1), common_response (s + 1,).
    """

    own: FloatArray
    cross: FloatArray
    response: FloatArray
    common: FloatArray
    common_response: FloatArray

    def eliminated(self) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """Return (u, M, H, h): theta_a = u_a - M_a b is best given b, and H b = h is left to solve."""
        solved = np.linalg.solve(self.own, np.concatenate([self.response[:, :, None], self.cross], axis=2))
        means, loadings = solved[:, :, 0], solved[:, :, 1:]
        left = self.common - np.einsum("kdi,kdj->ij", self.cross, loadings)
        return means, loadings, left, self.common_response - np.einsum("kdi,kd->i", self.cross, means)

    def mode(self) -> tuple[FloatArray, FloatArray]:
        """Return (theta, b), shapes (K, d) and (s + 1,)."""
        means, loadings, left, right = self.eliminated()
        common = np.linalg.solve(left, right).astype(np.float64)
        return means - loadings @ common, common

    def energy(self, theta: FloatArray, common: FloatArray) -> float:
        """Return the negative logarithm of the density, but for a constant."""
        pull = np.einsum("kij,kj->ki", self.own, theta) / 2 + self.cross @ common - self.response
        return float(np.einsum("ki,ki->", pull, theta) + common @ (self.common @ common / 2 - self.common_response))

    def among(self, rows: list[int]) -> _Arrow:
        """Return the marginal of some thetas and b."""
        others = np.setdiff1d(np.arange(len(self.own)), rows)
        _, _, common, common_response = self._replace(
            own=self.own[others], cross=self.cross[others], response=self.response[others]
        ).eliminated()
        return _Arrow(self.own[rows], self.cross[rows], self.response[rows], common, common_response)

    def plus(self, sums: Sums) -> _Arrow:
        """Return the sum with a likelihood of the same actions, in standardised units."""
        cross, common, common_response = self.cross.copy(), self.common.copy(), self.common_response.copy()
        cross[:, :, :-1] += sums.cross
        common[:-1, :-1] += sums.shared_gram
        common_response[:-1] += sums.shared_response
        return _Arrow(self.own + sums.gram, cross, self.response + sums.response, common, common_response)


class Standards(NamedTuple):
    """Centre and scale of every column, and the matrices that standardise anchored rows (`linear_fit`)."""

    own_centre: FloatArray
    own_scale: FloatArray
    shared_centre: FloatArray
    shared_scale: FloatArray
    own_turn: FloatArray
    shared_turn: FloatArray


def standards_of(moments: Sums, encoding: Encoding) -> Standards:
    """Return how to standardise the columns whose `moments` these are: the sums over all decisions, as of one action."""
    own_centre, own_scale, shared_centre, shared_scale = standards(moments, encoding)
    own_turn = turn_own(encoding.own, own_centre, own_scale)
    shared_turn = turn_shared(encoding.shared, shared_centre, shared_scale)
    return Standards(own_centre, own_scale, shared_centre, shared_scale, own_turn, shared_turn)


def learned(sums: Sums, using: Standards, ridge: float, batch: Batch) -> Sums:
    """Return the sums that also know `batch`, as above."""
    nothing = np.zeros(len(batch.y))
    anchored = Rows(batch.own, batch.shared, batch.actions, nothing, nothing, nothing)
    sums = added(sums, sums_of(anchored))  # every action of the batch has its place now
    place = {action: at for at, action in enumerate(sums.actions)}
    touched = sorted(set(batch.actions))
    prior = _prior(sums, using, ridge).among([place[action] for action in touched])
    own = batch.own @ using.own_turn.T
    shared = np.hstack([batch.shared, np.ones((len(own), 1))]) @ using.shared_turn.T
    rows = Rows(own, shared, batch.actions, nothing, nothing, nothing)
    row_of = {action: at for at, action in enumerate(touched)}
    of = np.array([row_of[action] for action in batch.actions], dtype=np.intp)

    def log_odds(theta: FloatArray, common: FloatArray) -> FloatArray:
        result: FloatArray = np.einsum("nd,nd->n", own, theta[of]) + shared @ common[:-1]
        return result

    def energy(theta: FloatArray, common: FloatArray, eta: FloatArray) -> float:
        return prior.energy(theta, common) + float(batch.weights @ (np.logaddexp(0.0, eta) - batch.y * eta))

    theta, common = prior.mode()
    eta = log_odds(theta, common)
    height = energy(theta, common, eta)
    for _ in range(MOST_STEPS):
        weights, responses = _expanded(batch, eta)
        likelihood = sums_of(Rows(*_columns(rows), weights, responses, nothing))
        best_theta, best_common = prior.plus(likelihood).mode()
        step = 1.0
        for _ in range(_MOST_HALVINGS):
            next_theta, next_common = theta + step * (best_theta - theta), common + step * (best_common - common)
            next_eta = log_odds(next_theta, next_common)
            next_height = energy(next_theta, next_common, next_eta)
            if next_height <= height + _ROUNDING * abs(height):
                break
            step /= 2
        moved = float(np.abs(next_eta - eta).max(initial=0.0))
        theta, common, eta, height = next_theta, next_common, next_eta, next_height
        if moved <= CONVERGED * (1.0 + float(np.abs(eta).max(initial=0.0))):
            break
    weights, responses = _expanded(batch, eta)
    return added(sums, sums_of(Rows(*_columns(anchored), weights, responses, nothing)))


def compiled(sums: Sums, using: Standards, encoding: Encoding, ridge: float, rewards: float) -> LinearModel:
    """Return the posterior of the log-odds as a snapshot carries it: a linear model of noise 1, given the estimate of m."""
    arrow = _prior(sums, using, ridge)
    (k, d), s = arrow.response.shape, len(arrow.common_response) - 1
    inverse = np.linalg.inv(arrow.own) if k else np.zeros((0, d, d))
    inverse = (inverse + inverse.transpose(0, 2, 1)) / 2
    means, loadings, left, right = arrow.eliminated()
    common = np.linalg.solve(left, right)
    start = np.zeros(d)
    start[0] = common[-1]
    covariance = np.linalg.inv(left[:-1, :-1])
    rows, columns = np.triu_indices(d)
    return LinearModel(
        encoding,
        using.own_centre,
        using.own_scale,
        using.shared_centre,
        using.shared_scale,
        start,
        1.0 / _own_ridge(d, ridge),
        sums.actions,
        means - loadings[:, :, -1] * common[-1],
        inverse[:, rows, columns] * np.where(rows == columns, 1.0, 2.0),
        loadings[:, :, :-1],
        common[:-1].astype(np.float64),
        np.linalg.cholesky((covariance + covariance.T) / 2).astype(np.float64) if s else np.zeros((0, 0)),
        1.0,
        rewards,
    )


def _prior(sums: Sums, using: Standards, ridge: float) -> _Arrow:
    """Return what is believed when `sums` are known, in standardised units."""
    gram, cross, response, shared_gram, shared_response = standardised(sums, using.own_turn, using.shared_turn)
    (k, d), s = response.shape, len(shared_response)
    of_start = np.zeros((k, d, 1))
    of_start[:, 0] = -1.0
    common = np.zeros((s + 1, s + 1))
    common[:s, :s] = shared_gram + ridge * max(s, 1) * np.eye(s)
    common[s, s] = 1.0 + k
    own = gram + np.diag(_own_ridge(d, ridge))
    return _Arrow(own, np.concatenate([cross, of_start], axis=2), response, common, np.append(shared_response, 0.0))


def _own_ridge(d: int, ridge: float) -> FloatArray:
    own_ridge = np.full(d, ridge * max(d - 1, 1))
    own_ridge[0] = 1.0
    return own_ridge


def _expanded(batch: Batch, eta: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return what each row adds to grams and to responses, with the likelihood taken to second order at `eta`."""
    chance = np.exp(-np.logaddexp(0.0, -eta))
    weights = batch.weights * chance * np.exp(-np.logaddexp(0.0, eta))
    return weights, weights * eta + batch.weights * (batch.y - chance)


def _columns(rows: Rows) -> tuple[FloatArray, FloatArray, list[str]]:
    return rows.own, rows.shared, list(rows.actions)


_ROUNDING = 1e-13
