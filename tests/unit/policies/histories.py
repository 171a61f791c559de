"""Snapshots of contextual policies that have learned from histories made here."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from shared.policies.ordered import Step
from shared.policies.ordered_kinds import LEARNERS, PUBLISHERS
from shared.policies.posterior import Outcome, Posterior, learn, snapshot_of
from shared.vocabulary import Action, Context, FeatureSpec, PolicySpec, Snapshot

AT = 1_700_000_000.0
ACTIONS = (
    Action("a", {"price": 3.0, "tags": ["new", "red"]}),
    Action("b", {"price": 8.5, "tags": ["red"]}),
    Action("c", {"price": 1.25}),
    Action("d"),
    Action("e", {"price": 5.0, "tags": []}),
)
CONTEXT: Context = {"age": 37.0, "device": "phone", "member": True, "tags": ["x", "y"], "nothing": None}
"""A context with something of every type."""

HISTORIES: dict[str, tuple[int, FeatureSpec, tuple[float, float] | None]] = {
    "nothing learned": (0, FeatureSpec(), (0.0, 1.0)),
    "one reward": (1, FeatureSpec(), (0.0, 1.0)),
    "per action and shared": (300, FeatureSpec(), (0.0, 1.0)),
    "per action only": (300, FeatureSpec(shared=(), hash_dimension=8), (0.0, 1.0)),
    "shared only": (300, FeatureSpec(per_action=(), interactions=(("age", "action.price"),)), (0.0, 1.0)),
    "interactions": (
        300,
        FeatureSpec(("age",), None, (("device", "action.tags"), ("age", "action.*"), ("*", "action.price")), 16),
        (-10.0, 10.0),
    ),
    "unbounded": (300, FeatureSpec(), None),
}


def spec_of(kind: str, features: FeatureSpec, reward_range: tuple[float, float] | None = (0.0, 1.0)) -> PolicySpec:
    """Return a policy over these actions."""
    return PolicySpec(
        "news", 1, kind, actions=ACTIONS, reward_range=reward_range, exploration_floor=0.05, features=features
    )


def outcomes(count: int, seed: int, scale: float = 1.0) -> list[Outcome]:
    """Return what happened to decisions at random, one a second: rewards depend on age, device and action."""
    random = np.random.default_rng(seed)
    made = []
    for at in range(count):
        place = int(random.integers(len(ACTIONS)))
        age, phone = float(random.normal(40.0, 12.0)), bool(random.integers(2))
        context: Context = {"age": age, "device": "phone" if phone else "desk", "member": bool(random.integers(2))}
        if at % 7 == 0:
            context = {"device": "tv", "tags": ["x", "z"]}
        mean = 0.3 + 0.1 * place + 0.01 * (age - 40.0) * (place - 2) + (0.1 if phone and place == 4 else 0.0)
        reward = scale * float(np.clip(mean + random.normal(0.0, 0.2), 0.0, 1.0))
        action = ACTIONS[place]
        made.append(Outcome(AT + at, action.id, True, None, reward, context, action.features))
    return made


def learned(kind: str, history: str) -> Snapshot:
    """Return the snapshot of a kind after one of the histories."""
    count, features, reward_range = HISTORIES[history]
    spec = spec_of(kind, features, reward_range)
    happened = outcomes(count, seed=5)
    posterior = learn(Posterior(), spec, happened, AT + 1_000.0)
    snapshot = snapshot_of(posterior, spec, 3)
    if kind not in PUBLISHERS:
        return snapshot
    model = LEARNERS[kind].learn(None, spec, steps_of(happened, batch=50))
    return msgspec.structs.replace(snapshot, model=PUBLISHERS[kind].published(model, spec, [], snapshot.as_of))


def steps_of(happened: Sequence[Outcome], batch: int) -> list[Step]:
    """Return the same as closed decisions, so many at a time."""
    return [
        Step(
            outcome.decided_at,
            outcome.context,
            (outcome.action,),
            (0.0 if outcome.after is None else outcome.after,),
            ACTIONS,
            (1.0 / len(ACTIONS),),
            ends=at % batch == 0 or at == len(happened),
        )
        for at, outcome in enumerate(happened, 1)
    ]
