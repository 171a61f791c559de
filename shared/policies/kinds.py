"""Every kind of policy by name. A new algorithm is a file beside this one and a line here.

A name may stand in both tables: which algorithm it is depends on whether the policy names features.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Generic, TypeVar, cast

from shared.policies.algorithm import ContextualKind, Kind, Parameter, SequentialKind
from shared.vocabulary import PolicySpec

T = TypeVar("T")


class Table(Mapping[str, T], Generic[T]):
    """Kinds by name. A kind's module is imported when the kind is asked for, so that a process starts without the others."""

    def __init__(self, classes: Mapping[str, str]) -> None:
        """Take "module.Class" within this package by the name of each kind."""
        self._classes = classes

    def __getitem__(self, name: str) -> T:
        """Return the class of a kind; raises `KeyError`."""
        module, _, member = self._classes[name].partition(".")
        return cast("T", getattr(import_module(f"shared.policies.{module}"), member))

    def __contains__(self, name: object) -> bool:
        """Tell whether there is such a kind, importing nothing."""
        return name in self._classes

    def __iter__(self) -> Iterator[str]:
        """Run over the names."""
        return iter(self._classes)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._classes)


KINDS: Mapping[str, Kind] = Table(
    {
        "epsilon_greedy": "epsilon_greedy.EpsilonGreedy",
        "kl_ucb": "kl_ucb.KlUcb",
        "softmax": "softmax.Softmax",
        "thompson": "thompson.Thompson",
        "top_two_thompson": "top_two_thompson.TopTwoThompson",
        "ucb1": "ucb1.Ucb1",
    }
)
"""Kinds that look at nothing but the action."""

CONTEXTUAL_KINDS: Mapping[str, ContextualKind] = Table(
    {
        "epsilon_greedy": "lin_epsilon_greedy.LinEpsilonGreedy",
        "lin_thompson": "lin_thompson.LinThompson",
        "lin_ucb": "lin_ucb.LinUcb",
        "logistic_thompson": "logistic_thompson.LogisticThompson",
        "rand_ucb": "rand_ucb.RandUcb",
        "softmax": "lin_softmax.LinSoftmax",
        "square_cb": "square_cb.SquareCb",
    }
)
"""Kinds that look at the context and at the features of actions."""

SEQUENTIAL_KINDS: Mapping[str, SequentialKind] = Table(
    {"fitted_q": "fitted_q.FittedQ", "q_learning": "q_learning.QLearning"}
)
"""Kinds that look at the state that a session is in, and at what comes after it."""

EXPANSIONS: Mapping[str, int] = {"rand_ucb": 64}
"""How many columns the expansion of a kind has where its policy does not say; the other kinds have none."""


def completed(spec: PolicySpec) -> dict[str, float]:
    """Return the policy's parameters with every default that is a number: a snapshot keeps them when a default changes."""
    parameters = parameters_of(spec.kind, looks_at_features=spec.features is not None)
    return {name: each.default for name, each in parameters.items() if each.default is not None} | spec.parameters


def parameters_of(kind: str, *, looks_at_features: bool) -> Mapping[str, Parameter]:
    """Return the parameters that a kind takes; raises `KeyError` where there is no such kind."""
    if looks_at_features:
        return CONTEXTUAL_KINDS[kind].PARAMETERS
    return SEQUENTIAL_KINDS[kind].PARAMETERS if kind in SEQUENTIAL_KINDS else KINDS[kind].PARAMETERS
