"""Every kind of policy by name. A new algorithm is a file beside this one and a line here."""

from __future__ import annotations

from collections.abc import Mapping

from shared.policies.algorithm import Kind
from shared.policies.epsilon_greedy import EpsilonGreedy
from shared.policies.kl_ucb import KlUcb
from shared.policies.softmax import Softmax
from shared.policies.thompson import Thompson
from shared.policies.top_two_thompson import TopTwoThompson
from shared.policies.ucb1 import Ucb1

KINDS: Mapping[str, Kind] = {
    "epsilon_greedy": EpsilonGreedy,
    "kl_ucb": KlUcb,
    "softmax": Softmax,
    "thompson": Thompson,
    "top_two_thompson": TopTwoThompson,
    "ucb1": Ucb1,
}


def completed(kind: str, parameters: Mapping[str, float]) -> dict[str, float]:
    """Return the parameters with every default that is a number: a snapshot keeps its own when a default changes."""
    known = {name: each.default for name, each in KINDS[kind].PARAMETERS.items() if each.default is not None}
    return known | dict(parameters)
