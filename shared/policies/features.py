"""What a context and an action say, as numbers and categories: the terms that a model weighs.

There are two kinds of terms. The *own* ones are of the context, and every action has weights of its own for them. The *shared*
ones are of the action's features (and of what the policy names), and all actions have the same weights for them. A string, and
each entry of a list, is a category `name=value`; true and false are the numbers 1 and 0; null is as good as missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from math import isfinite

import msgspec
import numpy as np

from shared.policies.algorithm import FloatArray
from shared.vocabulary import Context, ContextValue, FeatureSpec

ACTION_PREFIX = "action."
"""What stands before the name of an action's feature, where names of both kinds are given."""
EVERYTHING = "*"
"""Stands for all features: `*` of the context, `action.*` of the action."""
NUMERIC = {float, int, bool}
"""The types of a number."""


class Terms(msgspec.Struct):
    """What one context, or one action in a context, says: numbers by name, and categories with how often they count."""

    numbers: dict[str, float]
    categories: dict[str, float]


def own_terms(spec: FeatureSpec, context: Context) -> Terms:
    """Return what the own block says of a context."""
    if spec.per_action is None:
        return _terms(context)
    return _terms({name: value for name, value in context.items() if is_named(spec.per_action, name)})


def shared_terms(spec: FeatureSpec, context: Context, features: Context) -> Terms:
    """Return what the shared block says of an action with `features` in a context; interactions are products of terms."""
    terms = Terms({}, {})
    for name in (ACTION_PREFIX + EVERYTHING,) if spec.shared is None else spec.shared:
        _add(terms, _named(name, context, features))
    for one, other in spec.interactions:
        _add(terms, _product(_named(one, context, features), _named(other, context, features)))
    return terms


def is_named(names: Sequence[str] | None, name: str) -> bool:
    """Return whether a feature of the context is among `names` (None: all of them)."""
    return names is None or name in names or EVERYTHING in names


def reads_context(spec: FeatureSpec) -> bool:
    """Return whether the shared terms depend on more than the action."""
    names = [*(spec.shared or ()), *(name for pair in spec.interactions for name in pair)]
    return any(not name.startswith(ACTION_PREFIX) for name in names)


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
    """Contexts of one set of names, at `rows` (n, 1). `numbers`: shape (n, n_names), None where not all are finite numbers."""

    __slots__ = ("contexts", "names", "numbers", "rows")

    def __init__(self, names: tuple[str, ...], places: Sequence[int], contexts: Sequence[Context]) -> None:
        """Look at the values."""
        self.names = names
        self.rows = np.array(places, dtype=np.intp)[:, None]
        self.contexts = contexts
        self.numbers: FloatArray | None = None
        values = list(chain.from_iterable(context.values() for context in contexts))
        if NUMERIC.issuperset(map(type, values)):
            numbers = np.array(values, dtype=np.float64).reshape(len(contexts), len(names))
            self.numbers = numbers if np.isfinite(numbers).all() else None


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
