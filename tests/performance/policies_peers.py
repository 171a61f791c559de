"""The peers of `make bench-policies`: Vowpal Wabbit and MABWiser, one decision and one update at a time.

Runs in the peers' environment. `python -m tests.performance.policies_peers DATA KEPT FIRST LAST PEER:NAME...` plays all tasks
for the seeds FIRST to LAST - 1, and keeps the mean reward of each run in KEPT, a file per contender and task: what is
there is not played again.

Both get standardised contexts and a constant. Vowpal Wabbit reads an action as `|a name` and crosses it with the context
(`-q ca`), which makes its models one per action.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mabwiser.mab import MAB, LearningPolicy
from vowpalwabbit import Workspace

from tests.performance.policies_tasks import TASKS, Run, run_of


@dataclass(frozen=True)
class VowpalWabbit:
    """Its options; `cost`: what a reward of 0 costs, 1 (the rest of 1) or 0 (minus the reward)."""

    options: str
    cost: float = 1.0


CROSSED = "-q ca -q cc --interactions cca"
CANDIDATES: dict[str, dict[str, VowpalWabbit | float]] = {
    "vw_epsilon": {
        "default": VowpalWabbit("--epsilon 0.05 -q ca"),
        "l2": VowpalWabbit("--epsilon 0.05 -q ca -l 2"),
        "l2-minus": VowpalWabbit("--epsilon 0.05 -q ca -l 2", 0.0),
        "l4": VowpalWabbit("--epsilon 0.05 -q ca -l 4"),
        "crossed-minus": VowpalWabbit(f"--epsilon 0.05 {CROSSED}", 0.0),
    },
    "vw_squarecb": {
        "default": VowpalWabbit("--squarecb -q ca"),
        "gamma100": VowpalWabbit("--squarecb -q ca --gamma_scale 100"),
        "l2": VowpalWabbit("--squarecb -q ca -l 2"),
        "l2-gamma30": VowpalWabbit("--squarecb -q ca -l 2 --gamma_scale 30"),
        "l2-gamma100": VowpalWabbit("--squarecb -q ca -l 2 --gamma_scale 100"),
        "l2-minus": VowpalWabbit("--squarecb -q ca -l 2", 0.0),
        "crossed": VowpalWabbit(f"--squarecb {CROSSED}"),
        "crossed-gamma100-minus": VowpalWabbit(f"--squarecb {CROSSED} --gamma_scale 100", 0.0),
    },
    "vw_bag": {
        "default": VowpalWabbit("--bag 5 -q ca"),
        "l2": VowpalWabbit("--bag 5 -q ca -l 2"),
        "minus": VowpalWabbit("--bag 5 -q ca", 0.0),
        "l2-minus": VowpalWabbit("--bag 5 -q ca -l 2", 0.0),
        "l2-minus-own": VowpalWabbit("--bag 5 -q ca -l 2 --ignore_linear c", 0.0),
        "crossed": VowpalWabbit(f"--bag 5 {CROSSED}"),
    },
    "mabwiser_lin_ucb": {f"alpha{alpha:g}": alpha for alpha in (0.1, 0.25, 0.5, 1.0)},
    "mabwiser_lin_ts": {f"alpha{alpha:g}": alpha for alpha in (0.1, 0.25, 0.5, 1.0)},
}
"""Per peer the configurations, by name, of which the one with the best mean rank over all tasks stands for it."""


def play(peer: str, name: str, run: Run) -> float:
    """Return the mean reward of one pass."""
    configuration = CANDIDATES[peer][name]
    if isinstance(configuration, VowpalWabbit):
        return _vowpal_wabbit(configuration, run)
    return _mabwiser(peer, configuration, run)


def text_of(row: list[float]) -> str:
    """Return a context as Vowpal Wabbit reads it."""
    return "shared |c " + " ".join([f"{at}:{value:.6g}" for at, value in enumerate(row) if value])


def _vowpal_wabbit(configuration: VowpalWabbit, run: Run) -> float:
    count = run.rewards.shape[1]
    workspace = Workspace(f"--cb_explore_adf {configuration.options} --quiet --random_seed {run.seed + 1}")
    draws = np.random.default_rng([run.seed, 1]).random(len(run.rewards))
    actions = [f"|a a{action}" for action in range(count)]
    earned = 0.0
    for row, draw, rewards in zip(run.standardised.tolist(), draws, run.rewards, strict=True):
        shared = text_of(row)
        law = np.cumsum(workspace.predict([shared, *actions]))
        chosen = min(int(np.searchsorted(law, draw * law[-1], side="right")), count - 1)
        propensity = law[chosen] - (law[chosen - 1] if chosen else 0.0)
        reward = float(rewards[chosen])
        earned += reward
        labelled = list(actions)
        labelled[chosen] = f"0:{configuration.cost - reward:.6g}:{propensity:.6g} {actions[chosen]}"
        workspace.learn([shared, *labelled])
    workspace.finish()
    return earned / len(run.rewards)


def _mabwiser(peer: str, alpha: float, run: Run) -> float:
    count = run.rewards.shape[1]
    law = LearningPolicy.LinUCB(alpha=alpha) if peer == "mabwiser_lin_ucb" else LearningPolicy.LinTS(alpha=alpha)
    bandit = MAB(list(range(count)), law, seed=run.seed + 1)
    contexts = np.hstack([np.ones((len(run.standardised), 1)), run.standardised])
    chosen = int(np.random.default_rng([run.seed, 1]).integers(count))  # it must be fitted before it predicts
    earned = 0.0
    for step, rewards in enumerate(run.rewards):
        context = contexts[step : step + 1]
        if step:
            chosen = bandit.predict(context)
        reward = float(rewards[chosen])
        earned += reward
        bandit.partial_fit([chosen], [reward], context)
    return earned / len(run.rewards)


def main() -> None:
    """Play what is missing."""
    data, kept, first, last = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    for contender in sys.argv[5:]:
        peer, name = contender.split(":")
        for task in TASKS:
            path = kept / f"{peer}-{name}-{task}.json"
            done: dict[str, float] = json.loads(path.read_text()) if path.exists() else {}
            missing = [seed for seed in range(first, last) if str(seed) not in done]
            if missing:
                done |= {str(seed): play(peer, name, run_of(task, seed, data)) for seed in missing}
                unfinished = path.with_suffix(".unfinished")
                unfinished.write_text(json.dumps(done) + "\n")
                unfinished.rename(path)
        print(contender, flush=True)


if __name__ == "__main__":
    main()
