"""Snapshots of sequential policies that have learned from sessions made here."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from shared.policies.ordered import Step
from shared.policies.ordered_kinds import LEARNERS
from shared.policies.posterior import Outcome, Posterior, learn, snapshot_of
from shared.vocabulary import Action, Cells, Context, PolicySpec, Snapshot

ACTIONS = tuple(Action(action) for action in ("a", "b", "c", "d", "e"))
STATE = {"age": Cells(bins=(30.0, 50.0)), "device": Cells(categories=("desk", "phone"))}

EPISODES: dict[str, tuple[int, dict[str, Any]]] = {
    "nothing learned": (0, {}),
    "one session": (1, {}),
    "many sessions": (200, {}),
    "by temperature": (200, {"parameters": {"temperature": 0.3}}),
    "hardly known states": (40, {"exploration_floor": 0.0, "parameters": {"epsilon": 0.4}}),
    "unbounded": (100, {"reward_range": None}),
}
"""How many sessions, and what the policy says otherwise."""


def sessions(count: int, seed: int) -> list[Step]:
    """Return the steps of sessions of one to six decisions at random, some of them slates, some among few actions."""
    random = np.random.default_rng(seed)
    steps: list[Step] = []
    for session in range(count):
        length = int(random.integers(1, 7))
        for at in range(length):
            context: Context = {
                "age": float(random.normal(40.0, 12.0)),
                "device": str(random.choice(["desk", "phone"])),
            }
            if session % 9 == 0:
                context = {"device": ["a", "list"]}
            eligible = ACTIONS if random.random() < 0.8 else ACTIONS[1:4]
            shown = random.permutation(len(eligible))[: 1 + (session % 11 == 0)].tolist()
            rewards = tuple(float(random.random() < 0.2 + 0.1 * place) for place in shown)
            actions = tuple(eligible[place].id for place in shown)
            propensities = tuple(1.0 / len(eligible) for _ in shown)
            steps.append(Step(60.0 * session + at, context, actions, rewards, eligible, propensities, at == length - 1))
    return steps


def spec_of(kind: str, **fields: Any) -> PolicySpec:
    """Return a policy over these actions and states."""
    given: dict[str, Any] = {"actions": ACTIONS, "state": STATE, "exploration_floor": 0.05}
    return PolicySpec("news", 1, kind, **(given | fields))


def taught(kind: str, name: str) -> Snapshot:
    """Return the snapshot of a kind that has learned the sessions of that name."""
    count, fields = EPISODES[name]
    spec, steps = spec_of(kind, **fields), sessions(count, 5)
    outcomes = [
        Outcome(step.decided_at, action, shown=True, after=reward)
        for step in steps
        for action, reward in zip(step.actions, step.rewards, strict=True)
    ]
    snapshot = snapshot_of(learn(Posterior(), spec, outcomes, 1e6), spec, 3)
    if not steps:
        return snapshot
    return msgspec.structs.replace(snapshot, model=LEARNERS[kind].learn(None, spec, steps))
