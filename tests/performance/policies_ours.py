"""The project's default contextual policy on a run of `make bench-policies`, through its real classes.

Each round is a choice of the real `Chooser` and one outcome for the real `learn`. A snapshot is compiled after every reward up to
`EVERY` of them, then whenever a hundredth more is known: a compilation costs as much however little is new, and what the
policy does not yet know can only harm it beside peers that learn at every step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shared.policies.choosing import Chooser
from shared.policies.posterior import Outcome, Posterior, learn, snapshot_of
from shared.vocabulary import Action, Context, FeatureSpec, PolicySpec
from tests.performance.policies_tasks import Run

KIND, FEATURES = "rand_ucb", FeatureSpec(expansion=64)
EVERY = 100
SHARE = 0.01
ROUND_S = 10.0


@dataclass(frozen=True)
class Batches:
    """Updates every `size` rounds, the rewards of a batch in random order, half of them one batch late."""

    size: int


def spec_of(run: Run, kind: str = KIND, features: FeatureSpec = FEATURES, floor: float = 0.01) -> PolicySpec:
    """Return the policy: nothing is told but its actions, and that rewards of the `linear` task have no bounds."""
    return PolicySpec(
        f"{run.task}-{run.seed}",
        1,
        kind,
        actions=tuple(Action(f"a{at}") for at in range(run.rewards.shape[1])),
        reward_range=None if run.task == "linear" else (0.0, 1.0),
        features=features,
        exploration_floor=floor,
    )


def play(run: Run, spec: PolicySpec, batches: Batches | None = None) -> float:
    """Return the mean reward of one pass."""
    random = np.random.default_rng([run.seed, 2])
    draws = random.random(len(run.rewards)).tolist()
    names = [f"x{at}" for at in range(run.contexts.shape[1])]
    place = {action.id: at for at, action in enumerate(spec.actions)}
    posterior = Posterior()
    chooser = Chooser(snapshot_of(posterior, spec, 1))
    compiled_at, earned = 0, 0.0
    waiting: list[Outcome] = []
    late: list[Outcome] = []
    for step, (row, rewards) in enumerate(zip(run.contexts.tolist(), run.rewards, strict=True)):
        context: Context = dict(zip(names, row, strict=True))
        (item,) = chooser.choose(context, None, draws[step : step + 1])
        reward = float(rewards[place[item.action]])
        earned += reward
        waiting.append(Outcome(step * ROUND_S, item.action, True, None, reward, context))
        if batches is None:
            due = step + 1 - compiled_at >= max(1.0, SHARE * step) or step < EVERY
        else:
            due = (step + 1) % batches.size == 0
        if not due:
            continue
        if batches is not None:
            order = [waiting[at] for at in random.permutation(len(waiting))]
            half = len(order) // 2
            waiting, late = late + order[:half], order[half:]
        posterior = learn(posterior, spec, waiting, step * ROUND_S)
        waiting = []
        chooser = Chooser(snapshot_of(posterior, spec, step + 2))
        compiled_at = step + 1
    return earned / len(run.rewards)
