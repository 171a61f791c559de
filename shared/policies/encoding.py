"""Which columns the terms of a policy are written to, and how columns grow.

A number has a column to itself, found by its name: (value - centre) / scale, where centre and scale are anchors, fixed when the
number is first seen. They only keep the sums well conditioned: models standardise from their own sums, whatever the anchors
are. A number that is sometimes missing has a second column, 1 where it is given; both are 0 where it is not. Categories are
hashed into a fixed number of columns.

An encoding only grows. What the sums of a longer one say of decisions that were learned before follows from those sums: a number
that appears had been missing, so its columns were 0; one that goes missing for the first time had always been given, so the
second column was 1. So it does not matter when a feature was first seen.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from shared.policies.expansion import Expansion, Input, input_of
from shared.policies.features import Seen, Terms, is_named, own_terms, reads_context, shared_terms
from shared.vocabulary import FeatureSpec

MOST_NUMBERS = 256
"""How many numbers a block may hold; those that are first seen later are left out."""
ONE, ZERO = -2, -1
"""Where a new column comes from that stood in no earlier encoding: it had always been 1, or 0."""


class Number(msgspec.Struct, frozen=True, array_like=True):
    """The column of a number. `scale`: above 0; `has_gaps`: whether a column says if it is given."""

    name: str
    centre: float
    scale: float
    has_gaps: bool = False


class Block(msgspec.Struct, frozen=True, array_like=True):
    """The columns of a block: of numbers, of gaps in them in the same order, then `hashed` ones (0 until a category was seen)."""

    numbers: tuple[Number, ...] = ()
    hashed: int = 0

    @property
    def gaps(self) -> tuple[int, ...]:
        """Return the places of the numbers that have gaps."""
        return tuple([place for place, number in enumerate(self.numbers) if number.has_gaps])

    @property
    def width(self) -> int:
        """Return the number of columns."""
        return len(self.numbers) + len(self.gaps) + self.hashed

    def centred_by(self) -> NDArray[np.intp]:
        """Return for each number the column, within the block, that is 1 where it is given; `ONE` where it always is."""
        columns = np.full(len(self.numbers), ONE, dtype=np.intp)
        gaps = self.gaps
        columns[list(gaps)] = len(self.numbers) + np.arange(len(gaps))
        return columns

    def sources(self, earlier: Block) -> NDArray[np.intp]:
        """Return for each column where it stood in an earlier encoding, or `ONE` or `ZERO`."""
        known = len(earlier.numbers)
        before = earlier.centred_by()
        numbers = [place if place < known else ZERO for place in range(len(self.numbers))]
        gaps = [int(before[place]) if place < known else ZERO for place in self.gaps]
        first = known + len(earlier.gaps)
        hashed = [first + at if earlier.hashed else ZERO for at in range(self.hashed)]
        return np.array(numbers + gaps + hashed, dtype=np.intp)


class Encoding(msgspec.Struct, frozen=True, array_like=True):
    """The columns of both blocks; the own block has the column of ones before these, and those of `expansion` after them."""

    own: Block = Block()
    shared: Block = Block()
    expansion: Expansion | None = None

    @property
    def own_width(self) -> int:
        """Return the number of columns of the whole own block."""
        return 1 + self.own.width + (0 if self.expansion is None else self.expansion.size)

    def own_sources(self, earlier: Encoding) -> NDArray[np.intp]:
        """Return for each column of the whole own block where it stood in an earlier encoding, or `ZERO`."""
        block = self.own.sources(earlier.own)
        block = np.where(block >= 0, block + 1, np.where(block == ONE, 0, ZERO))
        size = 0 if self.expansion is None else self.expansion.size
        added = np.full(size, ZERO) if earlier.expansion is None else 1 + earlier.own.width + np.arange(size)
        return np.concatenate([np.zeros(1, dtype=np.intp), block, added])


def joined(one: Encoding, other: Encoding) -> Encoding:
    """Return the encoding that both have grown into; raises `ValueError` where a column means different things in them."""
    if one.expansion is not None and other.expansion is not None and one.expansion != other.expansion:
        msg = "two encodings disagree about the columns of their expansion"
        raise ValueError(msg)
    return Encoding(_joined(one.own, other.own), _joined(one.shared, other.shared), one.expansion or other.expansion)


def inputs_of(block: Block, gram: NDArray[np.float64]) -> tuple[Input, ...]:
    """Return what an expansion can look at: the columns of the own block that vary, by the pooled `gram` of ones and block."""
    given = block.centred_by()
    found = [
        input_of(place, gram[0, 1 + place], gram[1 + place, 1 + place], gram[given[place] + 1, given[place] + 1])
        if given[place] != ONE
        else input_of(place, gram[0, 1 + place], gram[1 + place, 1 + place], gram[0, 0])
        for place in range(len(block.numbers))
    ]
    first = 1 + block.width - block.hashed
    found += [
        input_of(-1 - at, gram[0, first + at], gram[first + at, first + at], gram[0, 0]) for at in range(block.hashed)
    ]
    return tuple([each for each in found if each is not None])


def discover(spec: FeatureSpec, encoding: Encoding, seen: Seen, *, is_first: bool) -> Encoding:
    """Return the encoding that also has columns for what `seen` brings. `is_first`: nothing was learned before.

    Anchors of a new number: centre, the mean of what was seen; scale, the standard deviation, or half the centre where
    that is larger, 1 where both are 0.
    """
    own, shared = _Census(encoding.own), _Census(encoding.shared)
    for group in seen.groups:
        if group.numbers is None:
            for context in group.contexts:
                own.look(own_terms(spec, context))
        else:
            named = [place for place, name in enumerate(group.names) if is_named(spec.per_action, name)]
            own.look_at_all([group.names[place] for place in named], group.numbers[:, named])
    if spec.shared != () or spec.interactions:
        context_is_read = reads_context(spec)
        for context, features in zip(seen.contexts, seen.features, strict=True):
            if features or context_is_read:
                shared.look(shared_terms(spec, context, features))
    n = len(seen.contexts)
    dimension = spec.hash_dimension
    return Encoding(
        own.block(n, dimension, is_first=is_first),
        shared.block(n, dimension, is_first=is_first),
        encoding.expansion,
    )


class _Census:
    """How often each number is given, what a new one is like, and whether there are categories."""

    def __init__(self, block: Block) -> None:
        self._block = block
        self._given = {number.name: 0 for number in block.numbers}
        self._values: dict[str, list[float]] = {}
        self._has_categories = bool(block.hashed)

    def look(self, terms: Terms) -> None:
        self._has_categories = self._has_categories or bool(terms.categories)
        for name, value in terms.numbers.items():
            if name in self._given:
                self._given[name] += 1
            else:
                self._values.setdefault(name, []).append(value)

    def look_at_all(self, names: Sequence[str], numbers: NDArray[np.float64]) -> None:
        for name, column in zip(names, numbers.T, strict=True):
            if name in self._given:
                self._given[name] += len(column)
            else:
                self._values.setdefault(name, []).extend(column.tolist())

    def block(self, n: int, hash_dimension: int, *, is_first: bool) -> Block:
        known = tuple(
            msgspec.structs.replace(number, has_gaps=True)
            if self._given[number.name] < n and not number.has_gaps
            else number
            for number in self._block.numbers
        )
        room = MOST_NUMBERS - len(known)
        added = tuple(
            _anchored(name, values, has_gaps=len(values) < n or not is_first)
            for name, values in sorted(self._values.items())[:room]
        )
        hashed = hash_dimension if self._has_categories else 0
        return Block(known + added, hashed)


def _joined(one: Block, other: Block) -> Block:
    if one == other:
        return one
    short, long = sorted((one, other), key=lambda block: len(block.numbers))
    numbers = []
    for place, number in enumerate(long.numbers):
        mine = short.numbers[place] if place < len(short.numbers) else number
        if (mine.name, mine.centre, mine.scale) != (number.name, number.centre, number.scale):
            msg = f"two encodings disagree about column {place}: {mine.name!r} and {number.name!r}"
            raise ValueError(msg)
        has_gaps = number.has_gaps or mine.has_gaps or place >= len(short.numbers)
        numbers.append(msgspec.structs.replace(number, has_gaps=has_gaps))
    return Block(tuple(numbers), max(one.hashed, other.hashed))


def _anchored(name: str, values: Sequence[float], *, has_gaps: bool) -> Number:
    seen = np.clip(np.array(values), -_LARGEST, _LARGEST)
    centre = float(seen.mean())
    scale = max(float(seen.std()), abs(centre) / 2)
    return Number(name, centre, scale if scale > _SMALLEST else 1.0, has_gaps)


_LARGEST, _SMALLEST = 1e100, 1e-100
