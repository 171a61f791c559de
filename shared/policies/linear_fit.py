"""From a linear model's sums to its posterior: ridge regression with a prior and a noise scale of its own making.

The model of action a's reward is hybrid (Li et al., A Contextual-Bandit Approach to Personalized News Article
Recommendation, 2010, algorithm 2), with p and s standardised by the sums themselves:

    r = p' theta_a + s' beta + e,   e ~ N(0, v),   theta_a ~ N(mu, v / ridge I),   beta ~ N(0, v / ridge I)

    A_a = gram_a + ridge I        M_a = A_a^-1 cross_a        c_a = A_a^-1 (response_a + ridge mu)
    H   = shared_gram + ridge I - sum_a cross_a' M_a
    beta | data ~ N(H^-1 h, v H^-1),   h = shared_response - sum_a cross_a' c_a
    theta_a | beta, data ~ N(c_a - M_a beta, v A_a^-1)

mu, where an action starts that was never seen, is estimated from all actions (empirical Bayes: theta_a integrated out),

    mu = (sum_a P_a + I)^-1 (sum_a ridge A_a^-1 response_a + mu_0),   P_a = ridge I - ridge^2 A_a^-1

and v is the scale of its posterior, an inverse gamma one that began with the largest variance a reward in the range can have,
so that nothing needs tuning to a task's scale.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np

from shared.policies.algorithm import FloatArray, Parameter
from shared.policies.arrays import encode, read
from shared.policies.features import Encoding
from shared.policies.linear_statistics import Sums

RIDGE = 1.0
"""The ridge of a policy that names none."""
LINEAR_PARAMETERS: Mapping[str, Parameter] = {
    "ridge": Parameter(RIDGE, 1e-6, 1e6, "how many rewards the prior of a weight is worth"),
}
"""Parameters of every kind that stands on this model."""
LEAST_DEVIATION = 1e-9
"""Below this standard deviation, in anchored units, a column says nothing and is not divided by it."""
PRIOR_REWARDS = 2.0
"""How many rewards the first guess of the noise is worth."""


class LinearModel(msgspec.Struct, frozen=True, array_like=True, eq=False):
    """The posterior as a snapshot carries it; K actions, d own columns, s shared ones, t = d (d + 1) / 2.

    `own_centre`, `own_scale` (d,), `shared_centre`, `shared_scale` (s,): standardise anchored columns. `start` (d,), `start_spread`:
    mean and variance of each weight of an action that was never seen. `coefficients` (K, d): c_a. `spreads` (K, t): v A_a^-1,
    the upper triangle row by row, twice off the diagonal. `loadings` (K, d, s): M_a. `shared` (s,): the mean of beta;
    `shared_factor` (s, s): F with F F' its covariance. `noise`: v. `rewards`: how many rewards it was learned from.
    """

    encoding: Encoding
    own_centre: FloatArray
    own_scale: FloatArray
    shared_centre: FloatArray
    shared_scale: FloatArray
    start: FloatArray
    start_spread: float
    actions: tuple[str, ...]
    coefficients: FloatArray
    spreads: FloatArray
    loadings: FloatArray
    shared: FloatArray
    shared_factor: FloatArray
    noise: float
    rewards: float


_decoder = msgspec.msgpack.Decoder(LinearModel, dec_hook=read)


def encode_model(model: LinearModel) -> bytes:
    """Return the model as `Snapshot.model` carries it."""
    return encode(model)


def decode_model(content: bytes) -> LinearModel:
    """Read what `encode_model` wrote."""
    return _decoder.decode(content)


def fit(sums: Sums, encoding: Encoding, ridge: float, reward_range: tuple[float, float] | None) -> LinearModel:
    """Return the posterior that follows from `sums`. Before any reward, its mean is the middle of the range, 0 without one."""
    own_centre, own_scale, shared_centre, shared_scale = _standards(sums, encoding)
    gram, cross, response, shared_gram, shared_response = _standardised(
        sums, own_centre, own_scale, shared_centre, shared_scale
    )
    k, d = response.shape
    s = len(shared_response)
    inverse = np.linalg.inv(gram + ridge * np.eye(d)) if k else np.zeros((0, d, d))
    inverse = (inverse + inverse.transpose(0, 2, 1)) / 2
    loadings = inverse @ cross
    reduced = shared_gram + ridge * np.eye(s) - np.einsum("kds,kdt->st", cross, loadings)
    shared_inverse = np.linalg.inv(reduced)
    guess = np.zeros(d)
    guess[0] = 0.0 if reward_range is None else (reward_range[0] + reward_range[1]) / 2
    start, shared = guess, np.zeros(s)
    for _ in range(2 if s else 1):  # the start takes away what the shared block explains, which depends on the start
        left = response - cross @ shared
        precision = ridge * k * np.eye(d) - ridge**2 * inverse.sum(axis=0) + np.eye(d)
        start = np.linalg.solve(precision, ridge * np.einsum("kij,kj->i", inverse, left) + guess)
        right = response + ridge * start
        coefficients = np.einsum("kij,kj->ki", inverse, right)
        moved = shared_response - np.einsum("kds,kd->s", cross, coefficients)
        shared = shared_inverse @ moved
    rewards = float(gram[:, 0, 0].sum())
    unexplained = float(
        sums.squares.sum() + k * ridge * start @ start - np.einsum("kd,kd->", right, coefficients) - moved @ shared
    )
    noise = (PRIOR_REWARDS * _largest_variance(sums, reward_range) + max(unexplained, 0.0)) / (PRIOR_REWARDS + rewards)
    rows, columns = np.triu_indices(d)
    spreads = noise * inverse[:, rows, columns] * np.where(rows == columns, 1.0, 2.0)
    factor: FloatArray = np.zeros((s, s))
    if s:
        factor = np.linalg.cholesky(noise * (shared_inverse + shared_inverse.T) / 2).astype(np.float64)
    return LinearModel(
        encoding,
        own_centre,
        own_scale,
        shared_centre,
        shared_scale,
        start,
        noise / ridge,
        sums.actions,
        coefficients,
        spreads,
        loadings,
        shared,
        factor,
        noise,
        rewards,
    )


def _largest_variance(sums: Sums, reward_range: tuple[float, float] | None) -> float:
    """Return how much a reward may vary: half the range, squared; without a range, how much those that were seen do."""
    if reward_range is not None:
        return ((reward_range[1] - reward_range[0]) / 2) ** 2
    n = float(sums.gram[:, 0, 0].sum())
    variance = float(sums.squares.sum()) / n - (float(sums.response[:, 0].sum()) / n) ** 2 if n > 0 else 0.0
    return variance if variance > 0 else 1.0


def _standards(sums: Sums, encoding: Encoding) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Return centre and scale of the columns of both blocks: of numbers; the ones and what is hashed stay as they are."""
    pooled = sums.gram.sum(axis=0)
    n = pooled[0, 0]
    own_numbers, shared_numbers = 1 + len(encoding.own.numbers), len(encoding.shared.numbers)
    own_centre, own_scale = np.zeros(len(pooled)), np.ones(len(pooled))
    shared_centre, shared_scale = np.zeros(len(sums.shared_gram)), np.ones(len(sums.shared_gram))
    if n > 0:
        own_centre[1:own_numbers] = pooled[0, 1:own_numbers] / n
        own_scale[1:own_numbers] = _deviations(np.diag(pooled)[1:own_numbers] / n, own_centre[1:own_numbers])
        shared_centre[:shared_numbers] = sums.cross[:, 0, :shared_numbers].sum(axis=0) / n
        mean_squares = np.diag(sums.shared_gram)[:shared_numbers] / n
        shared_scale[:shared_numbers] = _deviations(mean_squares, shared_centre[:shared_numbers])
    return own_centre, own_scale, shared_centre, shared_scale


def _deviations(mean_squares: FloatArray, means: FloatArray) -> FloatArray:
    deviations = np.sqrt(np.maximum(mean_squares - means**2, 0.0))
    return np.where(deviations > LEAST_DEVIATION, deviations, 1.0)


def _standardised(
    sums: Sums, own_centre: FloatArray, own_scale: FloatArray, shared_centre: FloatArray, shared_scale: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray, FloatArray]:
    """Return (gram, cross, response, shared_gram, shared_response) as if every column had been standardised."""
    turn = np.diag(1.0 / own_scale)
    turn[:, 0] -= own_centre / own_scale
    gram = turn @ sums.gram @ turn.T
    response = sums.response @ turn.T
    ones, rewards = sums.gram[:, :, 0], sums.response[:, 0]
    cross = turn @ (sums.cross - ones[:, :, None] * shared_centre) / shared_scale
    seen = sums.cross[:, 0, :].sum(axis=0)
    outer = np.outer(shared_centre, seen)
    shared_gram = sums.shared_gram - outer - outer.T + sums.gram[:, 0, 0].sum() * np.outer(shared_centre, shared_centre)
    shared_gram = shared_gram / np.outer(shared_scale, shared_scale)
    shared_response = (sums.shared_response - shared_centre * rewards.sum()) / shared_scale
    return gram, cross, response, shared_gram, shared_response
