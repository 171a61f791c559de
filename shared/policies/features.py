"""From a context and an action's features to the columns that a model weighs.

There are two blocks. The *own* block is of the context, and every action has weights of its own for it; its first column is 1.
The *shared* block is of the action's features (and of what the policy names), and all actions have the same weights for it.

A number has a column to itself, found by its name: (value - centre) / scale, where centre and scale are anchors, fixed when the
number is first seen. They only keep the sums well conditioned: models standardise from their own sums, whatever the anchors
are. A number that is missing stands at its centre. A string, and each entry of a list, is a category: `name=value` is hashed
into one of `hash_dimension` columns, with a sign, so that what collides cancels in the mean (Weinberger et al., Feature Hashing
for Large Scale Multitask Learning, 2009). True and false are the numbers 1 and 0.

Which columns there are is the *encoding*: it grows with what is seen, by columns that were 0 until then, and never shrinks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from itertools import chain
from math import isfinite

import msgspec
import numpy as np
from numpy.typing import NDArray

from shared.policies.algorithm import FloatArray
from shared.vocabulary import Action, Context, ContextValue, FeatureSpec

MOST_NUMBERS = 256
"""How many numbers a block may hold; those that are first seen later are left out."""
FARTHEST = 1e3
"""How many scales from its centre a number is taken to be at most."""
ACTION_PREFIX = "action."
"""What stands before the name of an action's feature, where names of both kinds are given."""
EVERYTHING = "*"
"""Stands for all features: `*` of the context, `action.*` of the action."""


class Number(msgspec.Struct, frozen=True, array_like=True):
    """The column of a number. `scale`: above 0."""

    name: str
    centre: float
    scale: float


class Block(msgspec.Struct, frozen=True, array_like=True):
    """The columns of a block: numbers first, then `hashed` columns for categories (0 until one was seen)."""

    numbers: tuple[Number, ...] = ()
    hashed: int = 0

    @property
    def width(self) -> int:
        """Return the number of columns."""
        return len(self.numbers) + self.hashed


class Encoding(msgspec.Struct, frozen=True, array_like=True):
    """The columns of both blocks; the own block has the column of ones before these."""

    own: Block = Block()
    shared: Block = Block()


class Terms(msgspec.Struct):
    """What one context, or one action in a context, says: numbers by name, and categories with how often they count."""

    numbers: dict[str, float]
    categories: dict[str, float]


class Encoder:
    """Writes features as columns of one encoding. Names that the encoding does not know are left out."""

    def __init__(self, spec: FeatureSpec, encoding: Encoding) -> None:
        """Prepare for `spec` and `encoding`."""
        self.encoding = encoding
        self._spec = spec
        self._own = _BlockEncoder(encoding.own, first=1)
        self._shared = _BlockEncoder(encoding.shared, first=0)
        self._has_context_in_shared = _reads_context(spec)
        self._plans: dict[tuple[str, ...], tuple[NDArray[np.intp], FloatArray, FloatArray] | None] = {}

    @property
    def own_width(self) -> int:
        """Return the number of columns of the own block, the one of ones included."""
        return 1 + self.encoding.own.width

    @property
    def shared_width(self) -> int:
        """Return the number of columns of the shared block."""
        return self.encoding.shared.width

    @property
    def shared_is_fixed(self) -> bool:
        """Return whether the shared columns depend on the action alone."""
        return not self._has_context_in_shared

    def own(self, context: Context) -> FloatArray:
        """Return the own block of a context, shape (own_width,)."""
        row = np.zeros(self.own_width)
        row[0] = 1.0
        plan = self._plan(tuple(context))
        if plan is not None and _NUMERIC.issuperset(map(type, context.values())):
            places, centres, scales = plan
            row[places] = _anchor(np.array([*context.values()], dtype=np.float64), centres, scales)
        else:
            self._own.write(row, own_terms(self._spec, context))
        return row

    def shared(self, context: Context, actions: Sequence[Action]) -> FloatArray:
        """Return the shared block of each action in a context, shape (n_actions, shared_width)."""
        rows = np.zeros((len(actions), self.shared_width))
        if self.shared_width:
            for row, action in zip(rows, actions, strict=True):
                self._shared.write(row, shared_terms(self._spec, context, action.features))
        return rows

    def rows(self, seen: Seen) -> tuple[FloatArray, FloatArray]:
        """Return both blocks of what was seen: shapes (n, own_width), (n, shared_width)."""
        own = np.zeros((len(seen.contexts), self.own_width))
        own[:, 0] = 1.0
        for group in seen.groups:
            plan = None if group.numbers is None else self._plan(group.names)
            if plan is not None and group.numbers is not None:
                places, centres, scales = plan
                own[group.rows, places] = _anchor(group.numbers, centres, scales)
            else:
                for at, context in zip(group.rows[:, 0].tolist(), group.contexts, strict=True):
                    self._own.write(own[at], own_terms(self._spec, context))
        shared = np.zeros((len(seen.contexts), self.shared_width))
        if self.shared_width:
            for row, context, features in zip(shared, seen.contexts, seen.features, strict=True):
                self._shared.write(row, shared_terms(self._spec, context, features))
        return own, shared

    def own_names(self, context: Context) -> dict[int, str]:
        """Return what stands in the columns of a context's own block, the first excepted, by column."""
        return self._own.names(own_terms(self._spec, context))

    def shared_names(self, context: Context, action: Action) -> dict[int, str]:
        """Return what stands in the columns of an action's shared block, by column."""
        return self._shared.names(shared_terms(self._spec, context, action.features))

    def _plan(self, names: tuple[str, ...]) -> tuple[NDArray[np.intp], FloatArray, FloatArray] | None:
        """Return (columns, centres, scales) of these features as numbers; None where one of them is not to be read as one."""
        plan = self._plans.get(names)
        if plan is None and names not in self._plans:
            if len(self._plans) >= _REMEMBERED_PLANS:
                self._plans.clear()
            if self._spec.per_action is None:
                plan = self._own.plan(names)
            self._plans[names] = plan
        return plan


class Seen:
    """Contexts, each with the features of an action; those that name the same features stand together in a group."""

    def __init__(self, contexts: Sequence[Context], features: Sequence[Context]) -> None:
        """Sort `contexts` by the names in them."""
        self.contexts = contexts
        self.features = features
        alike: dict[tuple[str, ...], list[int]] = {}
        for at, context in enumerate(contexts):
            alike.setdefault(tuple(context), []).append(at)
        self.groups = [Group(names, places, [contexts[at] for at in places]) for names, places in alike.items()]


class Group:
    """Contexts of one set of names, at `rows` (n, 1). `numbers`: shape (n, n_names), None where not all of it is numbers."""

    __slots__ = ("contexts", "names", "numbers", "rows")

    def __init__(self, names: tuple[str, ...], places: Sequence[int], contexts: Sequence[Context]) -> None:
        """Look at the values."""
        self.names = names
        self.rows = np.array(places, dtype=np.intp)[:, None]
        self.contexts = contexts
        self.numbers: FloatArray | None = None
        values = list(chain.from_iterable(context.values() for context in contexts))
        if _NUMERIC.issuperset(map(type, values)):
            self.numbers = np.array(values, dtype=np.float64).reshape(len(contexts), len(names))


class _BlockEncoder:
    def __init__(self, block: Block, first: int) -> None:
        self._numbers = {number.name: (first + at, number) for at, number in enumerate(block.numbers)}
        self._first_hashed = first + len(block.numbers)
        self._hashed = block.hashed
        self._places: dict[str, tuple[int, float]] = {}

    def write(self, row: FloatArray, terms: Terms) -> None:
        for name, value in terms.numbers.items():
            found = self._numbers.get(name)
            if found is not None:
                at, number = found
                row[at] = min(max((value - number.centre) / number.scale, -FARTHEST), FARTHEST)
        if self._hashed:
            for key, times in terms.categories.items():
                at, sign = self._place(key)
                row[at] += sign * times

    def names(self, terms: Terms) -> dict[int, str]:
        """Return the columns that `terms` are written to, with their names; categories that share one are joined."""
        named = {self._numbers[name][0]: name for name in terms.numbers if name in self._numbers}
        for key in terms.categories if self._hashed else ():
            at, _ = self._place(key)
            named[at] = f"{named[at]} + {key}" if at in named else key
        return named

    def plan(self, names: Sequence[str]) -> tuple[NDArray[np.intp], FloatArray, FloatArray] | None:
        """Return (columns, centres, scales) of numbers; None where the block does not know one of them."""
        found = [self._numbers.get(name) for name in names]
        known = [each for each in found if each is not None]
        if len(known) < len(found):
            return None
        places = np.array([at for at, _ in known], dtype=np.intp)
        return places, np.array([n.centre for _, n in known]), np.array([n.scale for _, n in known])

    def _place(self, key: str) -> tuple[int, float]:
        place = self._places.get(key)
        if place is None:
            if len(self._places) >= _REMEMBERED_KEYS:
                self._places.clear()
            digest = int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "big")
            place = self._first_hashed + (digest >> 1) % self._hashed, 1.0 if digest & 1 else -1.0
            self._places[key] = place
        return place


def own_terms(spec: FeatureSpec, context: Context) -> Terms:
    """Return what the own block says of a context."""
    if spec.per_action is None:
        return _terms(context)
    return _terms({name: value for name, value in context.items() if _is_named(spec.per_action, name)})


def shared_terms(spec: FeatureSpec, context: Context, features: Context) -> Terms:
    """Return what the shared block says of an action with `features` in a context; interactions are products of terms."""
    terms = Terms({}, {})
    for name in (ACTION_PREFIX + EVERYTHING,) if spec.shared is None else spec.shared:
        _add(terms, _named(name, context, features))
    for one, other in spec.interactions:
        _add(terms, _product(_named(one, context, features), _named(other, context, features)))
    return terms


def discover(spec: FeatureSpec, encoding: Encoding, seen: Seen) -> Encoding:
    """Return the encoding that also has a column for what `seen` brings.

    Anchors of a new number: centre, the mean of what was seen; scale, the standard deviation, or half the centre where
    that is larger, 1 where both are 0.
    """
    own, shared = _Newcomers(encoding.own), _Newcomers(encoding.shared)
    for group in seen.groups:
        if group.numbers is None:
            for context in group.contexts:
                own.look(own_terms(spec, context))
        else:
            for name, column in zip(group.names, group.numbers.T, strict=True):
                if _is_named(spec.per_action, name):
                    own.look_at_column(name, column)
    if spec.shared != () or spec.interactions:
        reads_context = _reads_context(spec)
        for context, features in zip(seen.contexts, seen.features, strict=True):
            if features or reads_context:
                shared.look(shared_terms(spec, context, features))
    return Encoding(own.joined(spec.hash_dimension), shared.joined(spec.hash_dimension))


class _Newcomers:
    """Numbers that a block has no column for, and whether there are categories."""

    def __init__(self, block: Block) -> None:
        self._block = block
        self._known = {number.name for number in block.numbers}
        self._values: dict[str, list[float]] = {}
        self._has_categories = bool(block.hashed)

    def look(self, terms: Terms) -> None:
        self._has_categories = self._has_categories or bool(terms.categories)
        for name, value in terms.numbers.items():
            if name not in self._known:
                self._values.setdefault(name, []).append(value)

    def look_at_column(self, name: str, column: FloatArray) -> None:
        if name not in self._known:
            finite = column[np.isfinite(column)]
            if len(finite):
                self._values.setdefault(name, []).extend(finite.tolist())

    def joined(self, hash_dimension: int) -> Block:
        room = MOST_NUMBERS - len(self._block.numbers)
        added = tuple(_anchored(name, values) for name, values in sorted(self._values.items())[:room])
        hashed = hash_dimension if self._has_categories else 0
        if not added and hashed == self._block.hashed:
            return self._block
        return Block(self._block.numbers + added, hashed)


def widened(array: FloatArray, axis: int, before: Block, after: Block, first: int) -> FloatArray:
    """Return `array`, whose `axis` runs over the columns of `before`, for the columns of `after`: new ones are 0.

    `first`: how many columns stand before the block's.
    """
    if before == after:
        return array
    shape = list(array.shape)
    shape[axis] = first + after.width
    result = np.zeros(shape)
    kept = first + len(before.numbers)
    into = np.moveaxis(result, axis, 0)
    out = np.moveaxis(array, axis, 0)
    into[:kept] = out[:kept]
    if before.hashed:
        into[first + len(after.numbers) :] = out[kept:]
    return result


_REMEMBERED_KEYS, _REMEMBERED_PLANS = 100_000, 1_000
_NUMERIC = {float, int, bool}


def _anchor(values: FloatArray, centre: float | FloatArray, scale: float | FloatArray) -> FloatArray:
    column = (values - centre) / scale
    if not np.isfinite(column).all():
        column[~np.isfinite(column)] = 0.0
    return np.minimum(np.maximum(column, -FARTHEST), FARTHEST)


def _is_named(names: Sequence[str] | None, name: str) -> bool:
    return names is None or name in names or EVERYTHING in names


def _terms(features: Mapping[str, ContextValue]) -> Terms:
    numbers: dict[str, float] = {}
    categories: dict[str, float] = {}
    for name, value in features.items():
        if isinstance(value, str):
            categories[f"{name}={value}"] = 1.0
        elif isinstance(value, list):
            for entry in value:
                key = f"{name}={entry}"
                categories[key] = categories.get(key, 0.0) + 1.0
        elif value is not None and isfinite(value):
            numbers[name] = float(value)
    return Terms(numbers, categories)


def _named(name: str, context: Context, features: Context) -> Terms:
    """Return the terms of the features that a name means."""
    if name.startswith(ACTION_PREFIX):
        rest = name.removeprefix(ACTION_PREFIX)
        chosen = features if rest == EVERYTHING else {rest: features[rest]} if rest in features else {}
        return _terms({ACTION_PREFIX + key: value for key, value in chosen.items()})
    if name == EVERYTHING:
        return _terms(context)
    return _terms({name: context[name]} if name in context else {})


def _product(one: Terms, other: Terms) -> Terms:
    numbers = {
        f"{left}*{right}": value * factor
        for left, value in one.numbers.items()
        for right, factor in other.numbers.items()
        if isfinite(value * factor)
    }
    categories = {
        f"{left}*{right}": value * factor
        for left, value in one.categories.items()
        for right, factor in (other.categories | other.numbers).items()
    }
    categories |= {
        f"{left}*{right}": value * factor
        for left, value in one.numbers.items()
        for right, factor in other.categories.items()
    }
    return Terms(numbers, categories)


def _add(terms: Terms, more: Terms) -> None:
    terms.numbers.update(more.numbers)
    for key, times in more.categories.items():
        terms.categories[key] = terms.categories.get(key, 0.0) + times


def _reads_context(spec: FeatureSpec) -> bool:
    names = [*(spec.shared or ()), *(name for pair in spec.interactions for name in pair)]
    return any(not name.startswith(ACTION_PREFIX) for name in names)


def _anchored(name: str, values: Sequence[float]) -> Number:
    seen = np.clip(np.array(values), -_LARGEST, _LARGEST)
    centre = float(seen.mean())
    scale = max(float(seen.std()), abs(centre) / 2)
    return Number(name, centre, scale if scale > _SMALLEST else 1.0)


_LARGEST, _SMALLEST = 1e100, 1e-100
