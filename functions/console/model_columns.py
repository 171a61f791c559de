"""Features as the columns of the reward model that corrects estimates: numbers standardised, categories hashed.

Two passes: `look` at all of them, then `write` each. A number that is missing, or was the same everywhere, is 0. `name=value` of a category, and of each entry
of a list, falls into one of `HASHED` columns with a sign (Weinberger et al., Feature Hashing for Large Scale Multitask Learning, 2009).
The model only saves variance: what collides costs precision and no correctness.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from math import isfinite, sqrt

import numpy as np
import numpy.typing as npt

from shared.vocabulary import Context

HASHED = 32
MOST_NUMBERS = 256
_REMEMBERED = 100_000


class Columns:
    """The columns of one kind of features."""

    def __init__(self) -> None:
        """Know none."""
        self._moments: dict[str, list[float]] = {}
        self._has_categories = False
        self._places: dict[str, int] = {}
        self._hashes: dict[str, tuple[int, float]] = {}

    @property
    def width(self) -> int:
        """Return how many columns there are."""
        return len(self._moments) + (HASHED if self._has_categories else 0)

    def look(self, features: Context) -> None:
        """Take in what numbers are like, and whether there are categories."""
        for name, value in features.items():
            if isinstance(value, bool | float | int):
                if isfinite(value) and (name in self._moments or len(self._moments) < MOST_NUMBERS):
                    self._add(name, float(value))
            elif value is not None:
                self._has_categories = True

    def write(self, features: Context) -> npt.NDArray[np.float64]:
        """Return the columns of what was looked at, shape (width,)."""
        row = np.zeros(self.width)
        if not self._places:
            self._places = {name: at for at, name in enumerate(self._moments)}
        for name, value in features.items():
            if isinstance(value, bool | float | int):
                if isfinite(value) and name in self._moments:
                    seen, mean, squares = self._moments[name]
                    deviation = sqrt(squares / seen)
                    row[self._places[name]] = (value - mean) / deviation if deviation > abs(mean) * _ROUNDING else 0.0
            else:
                for key in _categories(name, value):
                    place, sign = self._hash(key)
                    row[len(self._moments) + place] += sign
        return row

    def _add(self, name: str, value: float) -> None:
        moments = self._moments.setdefault(name, [0.0, 0.0, 0.0])
        moments[0] += 1.0
        before = value - moments[1]
        moments[1] += before / moments[0]
        moments[2] += before * (value - moments[1])

    def _hash(self, key: str) -> tuple[int, float]:
        found = self._hashes.get(key)
        if found is None:
            if len(self._hashes) >= _REMEMBERED:
                self._hashes.clear()
            digest = int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "big")
            found = self._hashes[key] = (digest >> 1) % HASHED, 1.0 if digest & 1 else -1.0
        return found


_ROUNDING = 1e-12


def _categories(name: str, value: str | list[str] | None) -> Iterator[str]:
    if isinstance(value, str):
        yield f"{name}={value}"
    elif value is not None:
        for entry in value:
            yield f"{name}={entry}"
