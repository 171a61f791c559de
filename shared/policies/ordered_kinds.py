"""Every kind that depends on order, by name, with how it learns. The others learn sums, which need no order."""

from __future__ import annotations

from collections.abc import Mapping

from shared.policies.fitted_values import FittedValues
from shared.policies.logistic_weights import LogisticWeights
from shared.policies.ordered import OrderedLearner, Publisher
from shared.policies.q_tables import QTables
from shared.vocabulary import PolicySpec

LEARNERS: Mapping[str, OrderedLearner] = {
    "fitted_q": FittedValues(),
    "logistic_thompson": LogisticWeights(),
    "q_learning": QTables(),
}

PUBLISHERS: Mapping[str, Publisher] = {"logistic_thompson": LogisticWeights()}
"""Those whose snapshots carry more than the model: what is still open as well."""


def learner_of(spec: PolicySpec) -> OrderedLearner | None:
    """Return how a policy learns in order; None where its kind learns sums alone and nothing steers it."""
    return learner_named(spec.kind, is_steered=spec.steering is not None)


def learner_named(kind: str, *, is_steered: bool) -> OrderedLearner | None:
    """Return how a kind of policy learns in order; one that is steered learns tables beside its sums."""
    return LEARNERS.get(kind) or (LEARNERS["q_learning"] if is_steered else None)


def orders_alike(one: PolicySpec, other: PolicySpec) -> bool:
    """Tell whether the model of one version can be gone on with under the other, as far as its kind is concerned."""
    learner = learner_of(other)
    if learner is None:
        return one.features is None or learner_of(one) is None  # else no sums of features were kept
    return (
        learner_of(one) is learner
        and all(getattr(one, field) == getattr(other, field) for field in learner.FIELDS)
        and all(one.parameters.get(name) == other.parameters.get(name) for name in learner.PARAMETERS)
    )
