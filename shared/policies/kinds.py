"""Every kind of policy by name. A new algorithm is a file beside this one and a line here."""

from __future__ import annotations

from collections.abc import Mapping

from shared.policies.algorithm import ContextualKind, Kind
from shared.policies.epsilon_greedy import EpsilonGreedy
from shared.policies.q_learning import QLearning
from shared.policies.thompson import Thompson
from shared.policies.ucb1 import Ucb1

KINDS: Mapping[str, Kind] = {"epsilon_greedy": EpsilonGreedy, "thompson": Thompson, "ucb1": Ucb1}
"""Kinds that look at nothing but the action."""

CONTEXTUAL_KINDS: Mapping[str, ContextualKind] = {"q_learning": QLearning}
"""Kinds that look at the context and at the features of actions."""
