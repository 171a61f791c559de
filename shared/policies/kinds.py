"""Every kind of policy by name. A new algorithm is a file beside this one and a line here.

A name may stand in both tables: which algorithm it is depends on whether the policy names features.
"""

from __future__ import annotations

from collections.abc import Mapping

from shared.policies.algorithm import ContextualKind, Kind, Parameter, SequentialKind
from shared.policies.epsilon_greedy import EpsilonGreedy
from shared.policies.fitted_q import FittedQ
from shared.policies.kl_ucb import KlUcb
from shared.policies.lin_epsilon_greedy import LinEpsilonGreedy
from shared.policies.lin_softmax import LinSoftmax
from shared.policies.lin_thompson import LinThompson
from shared.policies.lin_ucb import LinUcb
from shared.policies.logistic_thompson import LogisticThompson
from shared.policies.q_learning import QLearning
from shared.policies.rand_ucb import RandUcb
from shared.policies.softmax import Softmax
from shared.policies.square_cb import SquareCb
from shared.policies.thompson import Thompson
from shared.policies.top_two_thompson import TopTwoThompson
from shared.policies.ucb1 import Ucb1
from shared.vocabulary import PolicySpec

KINDS: Mapping[str, Kind] = {
    "epsilon_greedy": EpsilonGreedy,
    "kl_ucb": KlUcb,
    "softmax": Softmax,
    "thompson": Thompson,
    "top_two_thompson": TopTwoThompson,
    "ucb1": Ucb1,
}
"""Kinds that look at nothing but the action."""

CONTEXTUAL_KINDS: Mapping[str, ContextualKind] = {
    "epsilon_greedy": LinEpsilonGreedy,
    "lin_thompson": LinThompson,
    "lin_ucb": LinUcb,
    "logistic_thompson": LogisticThompson,
    "rand_ucb": RandUcb,
    "softmax": LinSoftmax,
    "square_cb": SquareCb,
}
"""Kinds that look at the context and at the features of actions."""

SEQUENTIAL_KINDS: Mapping[str, SequentialKind] = {"fitted_q": FittedQ, "q_learning": QLearning}
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
