"""The peers of `make bench-policies`: Vowpal Wabbit and MABWiser, one decision and one update at a time.

Runs in the peers' environment. `python -m tests.performance.policies_peers DATA KEPT FIRST LAST CONTENDER...` plays
all tasks for the seeds FIRST to LAST - 1, and keeps the mean reward of each run in KEPT, a file per contender and
task: what is there is not played again.

Both get standardised contexts with a constant. Vowpal Wabbit reads an action as `|a name=`, and crosses it with the
context (`-q ca`), which makes its models one per action; its cost is 1 - reward, or minus the reward where a
candidate says so.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from mabwiser.mab import MAB, LearningPolicy
from vowpalwabbit import Workspace

from tests.performance.policies_tasks import TASKS, Run, run_of

CANDIDATES: dict[str, dict[str, str]] = {
    "vw_epsilon": {},
    "vw_squarecb": {},
    "vw_bag": {},
    "mabwiser_lin_ucb": {f"{alpha:g}": str(alpha) for alpha in (0.1, 0.25, 0.5, 1.0)},
    "mabwiser_lin_ts": {f"{alpha:g}": str(alpha) for alpha in (0.1, 0.25, 0.5, 1.0)},
}
"""Per peer, its configurations by name."""


def play(peer: str, configuration: str, run: Run) -> float:
    """Return the mean reward of one pass."""
    if peer.startswith("vw_"):
        return _vowpal_wabbit(configuration, run)
    return _mabwiser(peer, float(configuration), run)


def _vowpal_wabbit(options: str, run: Run) -> float:
    count = run.rewards.shape[1]
    negative = "NEGATIVE" in options
    options = options.replace("NEGATIVE", "")
    workspace = Workspace(f"--cb_explore_adf {options} --quiet --random_seed {run.seed + 1}")
    generator = np.random.default_rng([run.seed, 1])
    actions = [f"|a a{action}" for action in range(count)]
    earned = 0.0
    for row, draw, rewards in zip(run.standardised, generator.random(len(run.rewards)), run.rewards, strict=True):
        shared = "shared |c " + " ".join(f"{at}:{value:.6g}" for at, value in enumerate(row) if value)
        law = np.cumsum(workspace.predict([shared, *actions]))
        chosen = min(int(np.searchsorted(law, draw * law[-1], side="right")), count - 1)
        propensity = law[chosen] - (law[chosen - 1] if chosen else 0.0)
        reward = float(rewards[chosen])
        earned += reward
        cost = -reward if negative else 1.0 - reward
        labelled = list(actions)
        labelled[chosen] = f"0:{cost:.6g}:{propensity:.6g} {actions[chosen]}"
        workspace.learn([shared, *labelled])
    workspace.finish()
    return earned / len(run.rewards)


def _mabwiser(peer: str, alpha: float, run: Run) -> float:
    count = run.rewards.shape[1]
    law = LearningPolicy.LinUCB(alpha=alpha) if peer == "mabwiser_lin_ucb" else LearningPolicy.LinTS(alpha=alpha)
    bandit = MAB(list(range(count)), law, seed=run.seed + 1)
    contexts = np.hstack([np.ones((len(run.standardised), 1)), run.standardised])
    chosen = int(np.random.default_rng([run.seed, 1]).integers(count))  # the first one: it must be fitted before it predicts
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
        peer, name = contender.split(":", 1)
        for task in TASKS:
            path = kept / f"{peer}-{name.replace(' ', '')}-{task}.json"
            done: dict[str, float] = json.loads(path.read_text()) if path.exists() else {}
            begin = time.monotonic()
            for seed in range(first, last):
                if str(seed) not in done:
                    done[str(seed)] = play(peer, CANDIDATES[peer][name], run_of(task, seed, data))
            path.write_text(json.dumps(done))
            mean = np.mean([done[str(s)] for s in range(first,last)])
            print(f"{contender} {task} {mean:.4f} {time.monotonic() - begin:.1f} s", flush=True)


if __name__ == "__main__":
    main()
