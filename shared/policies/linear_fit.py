"""From a linear model's sums to its posterior: ridge regression with a prior and a noise scale of its own making.

The model of action a's reward is hybrid (Li et al., A Contextual-Bandit Approach to Personalized News Article
Recommendation, 2010, algorithm 2), with p and s standardised by the sums themselves:

    r = p' theta_a + s' beta + e,   e ~ N(0, v),   theta_a ~ N(mu, v L^-1),   beta ~ N(0, v / (ridge s) I)

    L   = diag(1, ridge d, .., ridge d)  for d columns beside the ones: the more there are, the less each is trusted;
          with `kinship`, the weights of columns that move together are alike (`linear_prior`)
    A_a = gram_a + L        M_a = A_a^-1 cross_a        c_a = A_a^-1 (response_a + L mu)
    H   = shared_gram + ridge s I - sum_a cross_a' M_a
    beta | data ~ N(H^-1 h, v H^-1),   h = shared_response - sum_a cross_a' c_a
    theta_a | beta, data ~ N(c_a - M_a beta, v A_a^-1)

mu = (m, 0, .., 0), where an action starts that was never seen, is estimated from all actions (empirical Bayes: theta_a integrated
out), with the middle of the reward range m_0 for one action's worth; slopes start at 0, because what other actions have in common
in the contexts that chose them says little of a new one:

    m = (sum_a (A_a^-1 response_a)_0 + m_0) / (sum_a (1 - (A_a^-1)_00) + 1)

and v is the scale of its posterior, an inverse gamma one that began with the largest variance a reward in the range can have,
so that nothing needs tuning to a task's scale.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec
import numpy as np

from shared.policies.algorithm import FloatArray, Parameter
from shared.policies.arrays import encode, read
from shared.policies.encoding import ONE, Block, Encoding
from shared.policies.linear_prior import own_prior
from shared.policies.linear_statistics import Sums, with_ones

RIDGE = 0.3
"""The ridge of a policy that names none."""
LINEAR_PARAMETERS: Mapping[str, Parameter] = {
    "ridge": Parameter(RIDGE, 1e-6, 1e6, "how many rewards the prior of a weight is worth, for each column there is"),
}
"""Parameters of every kind that stands on this model."""
LEAST_DEVIATION = 1e-9
"""Below this standard deviation, in anchored units, a column says nothing and is not divided by it."""
EXPANSION_RIDGES = (0.3, 1.0, 3.0)
"""The ridges of an expansion's columns, for each there is, among which the data choose; or none of these columns at all."""
LEAST_KURTIC = 3.0**-0.25
"""The least that the fourth-moment scale can be, in standard deviations: that of a column of two values, equally often."""
PRIOR_REWARDS = 2.0
"""How many rewards the first guess of the noise is worth."""


class LinearModel(msgspec.Struct, frozen=True, array_like=True, eq=False):
    """The posterior as a snapshot carries it; K actions, d own columns, s shared ones, t = d (d + 1) / 2.

    `own_centre`, `own_scale` (d,), `shared_centre`, `shared_scale` (s,): standardise anchored columns. `start` (d,), `start_spreads` (d,):
    mean and variance of each weight of an action that was never seen, the variance as if its other weights were known (`linear_prior`).
    `coefficients` (K, d): c_a. `spreads` (K, t): v A_a^-1, the upper triangle row by row, twice off the diagonal. `loadings` (K, d, s): M_a.
    `shared` (s,): the mean of beta; `shared_factor` (s, s): F with F F' its covariance. `noise`: v. `rewards`: how many it was learned from.
    """

    encoding: Encoding
    own_centre: FloatArray
    own_scale: FloatArray
    shared_centre: FloatArray
    shared_scale: FloatArray
    start: FloatArray
    start_spreads: FloatArray
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


def fit(
    sums: Sums, encoding: Encoding, ridge: float, reward_range: tuple[float, float] | None, kinship: float = 0.0
) -> LinearModel:
    """Return the posterior that follows from `sums`. Before any reward, its mean is the middle of the range, 0 without one."""
    own_centre, own_scale, shared_centre, shared_scale = standards(sums, encoding)
    gram, cross, response, shared_gram, shared_response = standardised(
        sums, turn_own(encoding.own, own_centre, own_scale), turn_shared(encoding.shared, shared_centre, shared_scale)
    )
    (k, d), s = response.shape, len(shared_response)
    size = 0 if encoding.expansion is None else encoding.expansion.size
    linear = d - size
    prior = np.eye(d)
    prior[:linear, :linear] = own_prior(gram[:, :linear, :linear].sum(axis=0), ridge, kinship)
    system = _System(
        gram, cross, response, shared_gram, shared_response, float(sums.squares.sum()), _guess(sums, reward_range)
    )
    shared_ridge = ridge * max(s, 1)
    best = _solved(system.cut(linear), prior[:linear, :linear], shared_ridge)
    for each in EXPANSION_RIDGES if size and k else ():
        prior[linear:, linear:] = each * size * np.eye(size)
        other = _solved(system, prior.copy(), shared_ridge)
        best = other if other.evidence > best.evidence else best
    if len(best.prior) < d:
        encoding = msgspec.structs.replace(encoding, expansion=None)
        d, own_centre, own_scale = linear, own_centre[:linear], own_scale[:linear]
    noise = best.noise
    inverse = np.linalg.inv(best.precision) if k else np.zeros((0, d, d))
    inverse = (inverse + inverse.transpose(0, 2, 1)) / 2
    rows, columns = np.triu_indices(d)
    spreads = noise * inverse[:, rows, columns] * np.where(rows == columns, 1.0, 2.0)
    factor: FloatArray = np.zeros((s, s))
    if s:
        factor = np.linalg.cholesky(noise * (best.shared_inverse + best.shared_inverse.T) / 2).astype(np.float64)
    return LinearModel(
        encoding,
        own_centre,
        own_scale,
        shared_centre,
        shared_scale,
        best.start,
        noise / np.diagonal(best.prior),
        sums.actions,
        best.coefficients,
        spreads,
        best.loadings,
        best.shared,
        factor,
        noise,
        float(gram[:, 0, 0].sum()),
    )


class _System(NamedTuple):
    """The standardised sums, the sum of squared rewards, and the `guess`: mean and variance of a reward before any is known."""

    gram: FloatArray
    cross: FloatArray
    response: FloatArray
    shared_gram: FloatArray
    shared_response: FloatArray
    squares: float
    guess: tuple[float, float]

    def cut(self, d: int) -> _System:
        """Return the system of the first d own columns."""
        return self._replace(gram=self.gram[:, :d, :d], cross=self.cross[:, :d], response=self.response[:, :d])


class _Solved(NamedTuple):
    """The posterior for one choice of the prior, and the logarithm of its marginal likelihood, up to a constant."""

    prior: FloatArray
    precision: FloatArray
    loadings: FloatArray
    start: FloatArray
    coefficients: FloatArray
    shared: FloatArray
    shared_inverse: FloatArray
    noise: float
    evidence: float


def _solved(system: _System, prior: FloatArray, shared_ridge: float) -> _Solved:
    gram, cross, response, shared_gram, shared_response, squares, (middle, largest) = system
    (k, d), s = response.shape, len(shared_response)
    precision = gram + prior
    first = np.zeros((k, d, 1))
    first[:, 0] = 1.0
    solved = np.linalg.solve(precision, np.concatenate([cross, response[:, :, None], first], axis=2))
    loadings, plain, first_column = solved[:, :, :s], solved[:, :, s], solved[:, :, s + 1]
    reduced = shared_gram + shared_ridge * np.eye(s) - np.einsum("kds,kdt->st", cross, loadings)
    shared_inverse = np.linalg.inv(reduced)
    start, shared = np.zeros(d), np.zeros(s)
    for _ in range(2 if s else 1):  # the start takes away what the shared block explains, which depends on the start
        left = response - cross @ shared
        earned = np.einsum("kj,kj->", first_column, left)
        start[0] = (earned + middle) / ((1.0 - first_column[:, 0]).sum() + 1.0)
        coefficients = plain + start[0] * first_column
        moved = shared_response - np.einsum("kds,kd->s", cross, coefficients)
        shared = shared_inverse @ moved
    rewards = float(gram[:, 0, 0].sum())
    right = np.einsum("kd,kd->", response, coefficients) + start[0] * coefficients[:, 0].sum()
    unexplained = float(squares + k * start[0] ** 2 - right - moved @ shared)
    noise = (PRIOR_REWARDS * largest + max(unexplained, 0.0)) / (PRIOR_REWARDS + rewards)
    volume = _log_determinant(precision) - k * _log_determinant(prior) + _log_determinant(reduced)
    evidence = -0.5 * (volume - s * np.log(shared_ridge)) - 0.5 * (PRIOR_REWARDS + rewards) * np.log(noise)
    return _Solved(prior, precision, loadings, start, coefficients, shared, shared_inverse, noise, float(evidence))


def _log_determinant(matrices: FloatArray) -> float:
    """Return the sum of the logarithms of the determinants of positive definite matrices, shape (.., d, d)."""
    if not matrices.size:
        return 0.0
    return 2.0 * float(np.log(np.diagonal(np.linalg.cholesky(matrices), axis1=-2, axis2=-1)).sum())


def _guess(sums: Sums, reward_range: tuple[float, float] | None) -> tuple[float, float]:
    """Return the middle of the range and the largest variance in it; without a range, 0 and the variance of what was seen."""
    if reward_range is not None:
        return (reward_range[0] + reward_range[1]) / 2, ((reward_range[1] - reward_range[0]) / 2) ** 2
    n = float(sums.gram[:, 0, 0].sum())
    variance = float(sums.squares.sum()) / n - (float(sums.response[:, 0].sum()) / n) ** 2 if n > 0 else 0.0
    return 0.0, variance if variance > 0 else 1.0


def standards(sums: Sums, encoding: Encoding) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Return centre and scale of the columns of both blocks: of numbers where they are given; the others stay as they are."""
    _, shared_gram, _ = with_ones(sums)
    own_centre, own_scale = _standard(encoding.own, sums.gram.sum(axis=0), sums.moments, first=1, one=0)
    shared_centre, shared_scale = _standard(encoding.shared, shared_gram, None, first=0, one=len(shared_gram) - 1)
    return own_centre, own_scale, shared_centre[:-1], shared_scale[:-1]


def _standard(
    block: Block, gram: FloatArray, moments: FloatArray | None, first: int, one: int
) -> tuple[FloatArray, FloatArray]:
    """Return centre and scale of each column of `gram`, where the block's begin at `first` and the column of ones is `one`.

    The scale is the standard deviation; with `moments`, (E (x - centre)^4 / 3)^(1/4), which is the same for a Normal column, and
    larger for one that is rarely far from its centre: a unit of a rare column is not worth more than that of the others.
    """
    centre, scale = np.zeros(len(gram)), np.ones(len(gram))
    given = block.centred_by()
    given = np.where(given == ONE, one, given + first)
    columns = first + np.arange(len(block.numbers))
    n = gram[given, given]
    counts = np.where(n > 0, n, 1.0)
    centre[columns] = gram[given, columns] / counts
    middle, second = centre[columns], gram[columns, columns] / counts
    deviations = np.sqrt(np.maximum(second - middle**2, 0.0))
    if moments is not None:
        third, fourth = moments[:, columns] / counts
        kurtic = np.maximum(fourth - 4 * middle * third + 6 * middle**2 * second - 3 * middle**4, 0.0)
        deviations = np.maximum((kurtic / 3.0) ** 0.25, LEAST_KURTIC * deviations)
    scale[columns] = np.where(deviations > LEAST_DEVIATION, deviations, 1.0)
    return centre, scale


def turn_own(block: Block, centre: FloatArray, scale: FloatArray) -> FloatArray:
    """Return the matrix that standardises the own block, shape (d, d): a number is centred by its own column of gaps, or by 1."""
    turn = np.diag(1.0 / scale)
    given = block.centred_by()
    columns = 1 + np.arange(len(block.numbers))
    turn[columns, np.where(given == ONE, 0, given + 1)] -= centre[columns] / scale[columns]
    return turn


def turn_shared(block: Block, centre: FloatArray, scale: FloatArray) -> FloatArray:
    """Return the same for the shared block and a column of ones after it, shape (s, s + 1)."""
    turn = np.hstack([np.diag(1.0 / scale), np.zeros((len(scale), 1))])
    given = block.centred_by()
    columns = np.arange(len(block.numbers))
    turn[columns, np.where(given == ONE, len(scale), given)] -= centre[columns] / scale[columns]
    return turn


def standardised(
    sums: Sums, own: FloatArray, shared: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray, FloatArray]:
    """Return (gram, cross, response, shared_gram, shared_response) as if every column had been standardised."""
    cross, shared_gram, shared_response = with_ones(sums)
    return (
        own @ sums.gram @ own.T,
        own @ cross @ shared.T,
        sums.response @ own.T,
        shared @ shared_gram @ shared.T,
        shared @ shared_response,
    )
