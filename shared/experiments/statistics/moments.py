"""What a variation's units measured, as sums that can be added, and as the mean and variance that every test starts from.

`Sums` are the joint moments of four numbers a unit: value y, denominator d, and the same two before the exposure, x and e (the covariate). A mean is
a ratio whose denominator is 1, and a metric without a covariate has x = 0, so that there is one formula. By the delta method

    R = ȳ / d̄,        ψ_i = (y_i - R d_i) / d̄,        Var(R) = Σ ψ_i² / (n (n - 1))

Sums are kept centred: nothing is lost to rounding where the mean is large. They merge by Chan, Golub & LeVeque, "Updating formulae and a pairwise
algorithm for computing sample variances", 1979. The delta method for ratio metrics: Deng, Knoblich & Lu, "Applying the delta method in metric
analytics", KDD 2018 (arXiv:1803.06336).
"""

from __future__ import annotations

import math

import msgspec
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


class Sample(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is known of one metric in one variation.

    `n`: units, >= 0; 0 where nothing is known, such as a ratio in which nobody has a denominator. `mean`: the estimate: a share, a mean,
    a ratio or a quantile. `variance`: of one unit's influence on it, >= 0: its standard error is √(variance / n); 0 where n < 2. `common`: variance of that part
    of the estimate which the other variations have in common with it (not of the unit's influence): it does not touch a difference, and touches a
    ratio; 0 but for adjusted metrics. `conversions`: how many conversions of one size would tell as much as those that there are (`metrics`),
    None where that is no question.

    >>> Sample(n=100, mean=0.5, variance=0.25).standard_error
    0.05
    """

    n: int
    mean: float
    variance: float
    common: float = 0.0
    conversions: int | None = None

    @property
    def standard_error(self) -> float:
        """Return √(variance / n), without the common part; 0 of nothing."""
        return math.sqrt(self.variance / self.n) if self.n else 0.0


class Sums(msgspec.Struct, frozen=True):
    """The joint moments of y, d, x and e over the units of one variation.

    `n`: units, >= 0. `means`: shape (4,), 0 of nothing. `products`: shape (4, 4), Σ (z - z̄)(z - z̄)ᵀ. `size`: Σ |y|.
    """

    n: int
    means: tuple[float, ...]
    products: tuple[tuple[float, ...], ...]
    size: float

    @property
    def conversions(self) -> int:
        """Return (Σ |y|)² / Σ y², rounded down: the conversions where y is 0 or 1, fewer than the units with a value where few of them make up the most.

        >>> sums(np.array([1.0, 1.0, 0.0, 1.0])).conversions, sums(np.array([9.0, 1.0, 0.0, 1.0])).conversions
        (3, 1)
        """
        squares = self.products[0][0] + self.n * self.means[0] ** 2
        return int(self.size**2 / squares * (1.0 + 1e-9)) if squares > 0.0 else 0

    def merged(self, other: Sums) -> Sums:
        """Return the sums of the units of both, which must not share any.

        >>> one, other = sums(np.array([1.0, 2.0])), sums(np.array([6.0]))
        >>> one.merged(other).sample() == sums(np.array([1.0, 2.0, 6.0])).sample()
        True
        """
        if not self.n or not other.n:
            return self if self.n else other
        n = self.n + other.n
        apart = np.array(other.means) - np.array(self.means)
        return _sums(
            n,
            np.array(self.means) + apart * (other.n / n),
            np.array(self.products) + np.array(other.products) + np.outer(apart, apart) * (self.n * other.n / n),
            self.size + other.size,
        )

    def sample(self) -> Sample:
        """Return the mean, or the ratio by the delta method; the covariate has no part in it."""
        value, denominator = self.means[0], self.means[1]
        if not self.n or denominator == 0.0:
            return Sample(0, 0.0, 0.0, conversions=0)
        ratio = value / denominator
        return Sample(self.n, ratio, self.variance_of(self.influence()), conversions=self.conversions)

    def influence(self) -> Floats:
        """Return the weights, shape (4,), of the linear form whose value a unit is its influence on ȳ / d̄. Supposes that d̄ is not 0."""
        value, denominator = self.means[0], self.means[1]
        return np.array([1.0, -value / denominator, 0.0, 0.0]) / denominator

    def variance_of(self, weights: Floats) -> float:
        """Return the variance over units of a linear form of y, d, x and e with `weights`, shape (4,); 0 where n < 2."""
        if self.n < 2:  # noqa: PLR2004 - one unit has no spread
            return 0.0
        return max(float(weights @ np.array(self.products) @ weights) / (self.n - 1), 0.0)


def sums(
    values: Floats,
    denominators: Floats | None = None,
    covariates: Floats | None = None,
    covariate_denominators: Floats | None = None,
) -> Sums:
    """Return the sums of units whose arrays have shape (n_units,) each and hold finite numbers.

    Raises ValueError where the shapes differ or a number is not finite.
    """
    n = len(values)
    columns = (values, denominators, covariates, covariate_denominators)
    if any(column is not None and column.shape != (n,) for column in columns):
        raise ValueError(f"every array of a metric must have one number for each of the {n} units")
    rows = np.empty((4, n))
    for row, column, absent in zip(rows, columns, (0.0, 1.0, 0.0, 1.0), strict=True):
        row[:] = absent if column is None else column
    if not np.isfinite(rows).all():
        raise ValueError("the values of a metric must be finite numbers")
    means = rows.mean(axis=1) if n else np.zeros(4)
    centred = rows - means[:, None]
    return _sums(n, means, centred @ centred.T, float(np.abs(values).sum()))


def _sums(n: int, means: Floats, products: Floats, size: float) -> Sums:
    return Sums(n, tuple(means.tolist()), tuple(map(tuple, products.tolist())), size)
