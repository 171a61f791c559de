"""A policy learns from simulated sessions by its own code: the real chooser, the real posterior, the real ordered learner."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from shared.policies.choosing import Chooser
from shared.policies.ordered_kinds import learner_of
from shared.policies.posterior import Outcome, Posterior, learn, snapshot_of
from shared.vocabulary import PolicySpec
from tests.unit.policies.session_worlds import World


def policy(world: World, kind: str, **fields: Any) -> PolicySpec:
    """Return a policy for a world, which sees its states where its kind tells states apart."""
    state = dict(world.cells) if kind in {"q_learning", "fitted_q"} else {}
    return PolicySpec("sessions", 1, kind, actions=world.actions, state=state, **fields)


def taught(world: World, spec: PolicySpec, sessions: int, seed: int, *, at_once: int = 250) -> Chooser:
    """Return what a policy serves after so many sessions, learned `at_once` at a time, as closed sessions are."""
    random = np.random.RandomState(seed)
    learner = learner_of(spec)
    posterior, model = Posterior(), None
    chooser = Chooser(snapshot_of(posterior, spec, 1))
    for version, batch in enumerate(range(0, sessions, at_once), start=2):
        steps = list(world.play(chooser, min(at_once, sessions - batch), random))
        outcomes = [Outcome(0.0, step.actions[0], shown=True, after=step.rewards[0]) for step in steps]
        posterior = learn(posterior, spec, outcomes, 0.0)
        snapshot = snapshot_of(posterior, spec, version)
        if learner is not None:
            model = learner.learn(model, spec, steps)
            snapshot = msgspec.structs.replace(snapshot, model=model)
        chooser = Chooser(snapshot)
    return chooser
