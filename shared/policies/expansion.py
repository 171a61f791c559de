"""Random rectified features: columns that let a linear model bend, and weigh two features together.

Unit u looks at two inputs i and j of the own block, drawn once for all by a fixed seed, and adds the column

    max(0, a_u z_i + b_u z_j + c_u) - e_u,    a_u, b_u = +1 or -1,   c_u uniform in [-1, 1]

where z is an input in standard deviations from its mean, 3 at most, 0 where it is missing, and e_u is what the first term is on
average for independent standard Normal inputs. Rahimi and Recht, Weighted Sums of Random Kitchen Sinks (2008). The columns
are ordinary ones for the model: their sums are as additive as the others.

Means and deviations must stay what they are once sums have been made with them, so they are taken when `ENOUGH` decisions are
known. Decisions up to that time have zeros in these columns, whenever their reward comes, so that learning all of it again
makes the same sums.
"""

from __future__ import annotations

from functools import lru_cache
from math import erf, exp, pi, sqrt

import msgspec
import numpy as np
from numpy.typing import NDArray

from shared.policies.algorithm import FloatArray

ENOUGH = 32
"""From how many decisions means and deviations are taken."""
FARTHEST = 3.0
"""How many standard deviations from its mean an input is taken to be at most."""
_SEED = 4
_LEAST_DEVIATION = 1e-9


class Input(msgspec.Struct, frozen=True, array_like=True):
    """An input: the number at `place` of the own block, or the hashed column `-1 - place`; its mean and deviation, anchored."""

    place: int
    centre: float
    scale: float


class Expansion(msgspec.Struct, frozen=True, array_like=True):
    """The columns: of decisions made after `since`, `size` units over `inputs`."""

    since: float
    size: int
    inputs: tuple[Input, ...]


class Units(msgspec.Struct, frozen=True, eq=False):
    """The units of an expansion. `one`, `other`: places among the inputs, shape (size,); `signs` (2, size); `bias`, `centre` (size,)."""

    one: NDArray[np.intp]
    other: NDArray[np.intp]
    signs: FloatArray
    bias: FloatArray
    centre: FloatArray


@lru_cache(maxsize=64)
def units_of(n_inputs: int, size: int) -> Units:
    """Return the units over `n_inputs` (at least 1); with a single input, each looks at that alone."""
    random = np.random.RandomState(_SEED)
    pairs = np.array([random.permutation(n_inputs)[:2] if n_inputs > 1 else (0, 0) for _ in range(size)], dtype=np.intp)
    signs = np.where(random.random_sample((2, size)) < 0.5, -1.0, 1.0)  # noqa: PLR2004 - as often the one as the other
    if n_inputs == 1:
        signs[1] = 0.0
    bias = random.uniform(-1.0, 1.0, size)
    deviation = sqrt(min(n_inputs, 2))
    centre = [b * 0.5 * (1.0 + erf(b / deviation / sqrt(2.0))) + deviation * _density(b / deviation) for b in bias]
    return Units(pairs[:, 0], pairs[:, 1], signs, bias, np.array(centre))


def expanded(expansion: Expansion, values: FloatArray, given: FloatArray | None) -> FloatArray:
    """Return the columns, shape (n, size), for anchored inputs `values` (n, n_inputs). `given`: 0 where one is missing."""
    centres = np.array([each.centre for each in expansion.inputs])
    scales = np.array([each.scale for each in expansion.inputs])
    z = np.minimum(np.maximum((values - centres) / scales, -FARTHEST), FARTHEST)
    if given is not None:
        z = z * given
    units = units_of(len(expansion.inputs), expansion.size)
    bent = units.signs[0] * z[:, units.one] + units.signs[1] * z[:, units.other] + units.bias
    columns: FloatArray = np.maximum(bent, 0.0) - units.centre
    return columns


def input_of(place: int, total: float, squares: float, weight: float) -> Input | None:
    """Return the input whose anchored values sum to `total` and their squares to `squares`; None where it does not vary."""
    if weight <= 0:
        return None
    centre = float(total) / float(weight)
    variance = float(squares) / float(weight) - centre**2
    return Input(place, centre, sqrt(variance)) if variance > _LEAST_DEVIATION**2 else None


def _density(x: float) -> float:
    return exp(-0.5 * x * x) / sqrt(2.0 * pi)
