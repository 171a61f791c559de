"""`make bench-logistic`: what logistic Thompson sampling earns and costs beside linear Thompson sampling, in the same run.

*Quality*: simulated bandits whose rewards are 0 or 1 with log-odds linear in the context, floor 0, learned 100 decisions at a
time; every kind meets the same contexts, the same luck and the same draws. Regret is the sum over decisions of the best
chance minus that of what was chosen; differences are paired over the seeds. *Cost*: a choice among 50 actions by 32 numbers,
the learning of a decision in batches of 5,000, and a snapshot that looks ahead at as many open decisions. Writes
`build/bench/logistic.json`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
from scipy.stats import t as student

from shared.policies.choosing import Chooser
from shared.policies.ordered import OpenStep, Step
from shared.policies.ordered_kinds import LEARNERS, PUBLISHERS
from shared.policies.posterior import Outcome, Posterior, learn, snapshot_of
from shared.vocabulary import Action, Context, FeatureSpec, PolicySpec, Snapshot
from tests.performance.processes import ROOT

RESULT = ROOT / "build" / "bench" / "logistic.json"
AT_ONCE = 100
Floats = npt.NDArray[np.float64]
Made = tuple[Context, str, float]


class World(NamedTuple):
    """`base`: log-odds of an average action in an average context; `slope`: standard deviation of what contexts add."""

    actions: int
    features: int
    decisions: int
    base: float
    slope: float


WORLDS = {
    "half of rewards": World(8, 6, 4_000, 0.0, 1.5),
    "a reward in ten": World(8, 6, 4_000, -2.0, 1.5),
    "a reward in fifty": World(8, 6, 8_000, -4.0, 1.5),
    "steep": World(8, 6, 4_000, -2.0, 3.75),
    "twenty actions": World(20, 10, 6_000, -1.0, 1.5),
    "long": World(8, 6, 16_000, -2.0, 1.5),
}
KINDS: dict[str, tuple[str, dict[str, float]]] = {
    "logistic_thompson": ("logistic_thompson", {}),
    "lin_thompson": ("lin_thompson", {}),
    "lin_thompson, exploration 0.5": ("lin_thompson", {"exploration": 0.5}),
    "logistic_thompson, exploration 1": ("logistic_thompson", {"exploration": 1.0}),
}


class Loop:
    """A policy that learns what it is given, as storage does: sums at once, or a closed batch in its order."""

    def __init__(self, spec: PolicySpec) -> None:
        """Begin with nothing."""
        self._spec = spec
        self._posterior = Posterior()
        self._model: bytes | None = None
        self._version = 0

    def learned(self, made: Sequence[Made]) -> Snapshot:
        """Learn decisions, their rewards final, and return the snapshot that follows."""
        spec = self._spec
        self._version += 1
        learner = LEARNERS.get(spec.kind)
        if learner is None:
            outcomes = [Outcome(0.0, action, True, None, reward, context) for context, action, reward in made]
            self._posterior = learn(self._posterior, spec, outcomes, 0.0)
            return snapshot_of(self._posterior, spec, self._version)
        self._model = learner.learn(self._model, spec, steps_of(made, spec))
        model = PUBLISHERS[spec.kind].published(self._model, spec, [], 0.0)
        return msgspec.structs.replace(snapshot_of(self._posterior, spec, self._version), model=model)


def steps_of(made: Sequence[Made], spec: PolicySpec) -> list[Step]:
    """Return decisions as one closed batch."""
    return [
        Step(0.0, context, (action,), (reward,), spec.actions, (None,), ends=at == len(made))
        for at, (context, action, reward) in enumerate(made, 1)
    ]


def policy(kind: str, parameters: dict[str, float], n_actions: int) -> PolicySpec:
    """Return a policy over actions without features, floor 0."""
    actions = tuple(Action(f"action-{at}") for at in range(n_actions))
    return PolicySpec(
        "p", 1, kind, parameters=parameters, actions=actions, features=FeatureSpec(), exploration_floor=0.0
    )


def regret(world: World, kind: str, parameters: dict[str, float], seed: int) -> float:
    """Return what a policy loses against the best choices."""
    random = np.random.RandomState(seed)
    weights = random.standard_normal((world.features, world.actions)) * world.slope / np.sqrt(world.features)
    bases = world.base + 0.5 * random.standard_normal(world.actions)
    contexts = random.standard_normal((world.decisions, world.features))
    chances = 1.0 / (1.0 + np.exp(-(contexts @ weights + bases)))
    draws, luck = random.random_sample(world.decisions), random.random_sample(chances.shape)
    loop = Loop(policy(kind, parameters, world.actions))
    chooser = Chooser(loop.learned([]))
    made: list[Made] = []
    lost = 0.0
    for at, row in enumerate(contexts.tolist()):
        context: Context = {f"x{place}": value for place, value in enumerate(row)}
        chosen = chooser.law(context, None).draw(draws[at])
        lost += float(chances[at].max() - chances[at, chosen])
        made.append((context, f"action-{chosen}", float(luck[at, chosen] < chances[at, chosen])))
        if len(made) == AT_ONCE:
            chooser, made = Chooser(loop.learned(made)), []
    return lost


def quality(seeds: int) -> dict[str, Any]:
    """Return mean regrets, and how much less (negative: more) than each other kind's the default's is, with 95 % intervals."""
    found: dict[str, Any] = {}
    for name, world in WORLDS.items():
        regrets = {
            label: np.array([regret(world, *kind, seed) for seed in range(seeds)]) for label, kind in KINDS.items()
        }
        found[name] = {label: {"regret": round(float(each.mean()), 1)} for label, each in regrets.items()}
        pairs = [(next(iter(KINDS)), label) for label in list(KINDS)[1:]] + [(list(KINDS)[3], list(KINDS)[1])]
        for one, other in pairs:
            low, high = interval(regrets[other] - regrets[one])
            found[name][f"{other} minus {one}"] = [round(low, 1), round(high, 1)]
        print(name, json.dumps(found[name], indent=1), flush=True)
    return found


def interval(differences: Floats) -> tuple[float, float]:
    """Return the 95 % interval of the mean of paired differences (Student's)."""
    reach = student.ppf(0.975, len(differences) - 1) * differences.std(ddof=1) / np.sqrt(len(differences))
    return float(differences.mean() - reach), float(differences.mean() + reach)


def costs() -> dict[str, float]:
    """Return times in microseconds: the best of several rounds, the kinds in turn."""
    random = np.random.RandomState(0)
    contexts: list[Context] = [
        {f"x{at}": value for at, value in enumerate(row)} for row in random.standard_normal((20_000, 32)).tolist()
    ]
    made = [(context, f"action-{at % 50}", float(random.random_sample() < 0.2)) for at, context in enumerate(contexts)]
    figures: dict[str, float] = {}
    for kind in ("lin_thompson", "logistic_thompson"):
        spec = policy(kind, {}, 50)
        loop = Loop(spec)
        chooser = Chooser(loop.learned(made[:5_000]))
        figures[f"{kind}: a choice"] = best_us(partial(chosen_for, chooser, contexts[:1_000]), 1_000)
        figures[f"{kind}: learning a decision and compiling"] = best_us(
            partial(loop.learned, made[5_000:10_000]), 5_000
        )
    ahead = [OpenStep(**msgspec.structs.asdict(step), answered=(True,)) for step in steps_of(made[:5_000], spec)]
    learner, publisher = LEARNERS[spec.kind], PUBLISHERS[spec.kind]
    model = learner.learn(None, spec, steps_of(made[5_000:], spec))
    figures["logistic_thompson: learning a decision"] = best_us(
        lambda: learner.learn(model, spec, steps_of(made[:5_000], spec)), 5_000
    )
    figures["logistic_thompson: a snapshot that looks ahead at 5,000"] = best_us(
        lambda: publisher.published(model, spec, ahead, 0.0), 1
    )
    figures["logistic_thompson: a snapshot"] = best_us(lambda: publisher.published(model, spec, [], 0.0), 1)
    return figures


def chosen_for(chooser: Chooser, contexts: Sequence[Context]) -> None:
    """Choose once in each context."""
    for context in contexts:
        chooser.choose(context, None, (0.5,))


def best_us(work: Callable[[], object], times: int, rounds: int = 5) -> float:
    """Return the least time of a round, for one of the `times` that it works."""
    taken = []
    for _ in range(rounds):
        begin = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begin)
    return round(min(taken) / times * 1e6, 1)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--costs-only", action="store_true")
    given = parser.parse_args()
    result: dict[str, Any] = {"costs_us": costs()}
    print(json.dumps(result, indent=1), flush=True)
    if not given.costs_only:
        result |= {"seeds": given.seeds, "quality": quality(given.seeds)}
        RESULT.parent.mkdir(parents=True, exist_ok=True)
        RESULT.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
