"""How fast the default contextual policy chooses and learns; a part of `make bench-policies`.

Choosing: 50 actions, 32 numbers, one `Chooser.law` and draw, beside what Vowpal Wabbit's Python `predict` takes for the same request
(its own process, in the same minute: `predict_us` runs in the peers' environment). Learning: outcomes per second of `learn` in
batches of 10,000. Both for the linear model and for the default with its expansion. Medians over rounds.
"""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from shared.policies.choosing import Chooser
from shared.policies.posterior import Outcome, Posterior, learn, snapshot_of
from shared.vocabulary import Action, Context, FeatureSpec, PolicySpec

N_ACTIONS, N_FEATURES, KNOWN, BATCH, ROUNDS, REQUESTS = 50, 32, 10_000, 10_000, 7, 500
ACTIONS = tuple(Action(f"a{at}") for at in range(N_ACTIONS))


def contexts_of(count: int, seed: int) -> list[Context]:
    """Return contexts of 32 numbers."""
    rows = np.random.default_rng(seed).normal(size=(count, N_FEATURES)).tolist()
    return [{f"x{at}": value for at, value in enumerate(row)} for row in rows]


def outcomes_of(count: int, seed: int) -> list[Outcome]:
    """Return decisions with rewards that bend with every feature, so that an expansion has something to find."""
    random = np.random.default_rng(seed)
    made = []
    for at, context in enumerate(contexts_of(count, seed)):
        place = int(random.integers(N_ACTIONS))
        x = np.array([*context.values()], dtype=np.float64)
        mean = 0.5 + 0.4 * np.tanh((np.abs(x).sum() - 25.5) / 3.4) + 0.05 * np.tanh(x[2]) * (place % 3 - 1)
        made.append(Outcome(float(at), f"a{place}", True, None, float(random.random() < mean), context))
    return made


def choosing_us(chooser: Chooser, contexts: list[Context]) -> float:
    """Return the microseconds that propensities and choice take, the mean of one pass over `contexts`."""
    begin = time.perf_counter()
    for context in contexts:
        chooser.choose(context, None, [0.37])
    return (time.perf_counter() - begin) / len(contexts) * 1e6


def learned_per_s(posterior: Posterior, spec: PolicySpec, batch: list[Outcome]) -> float:
    """Return how many outcomes per second `learn` takes."""
    begin = time.perf_counter()
    learn(posterior, spec, batch, float(KNOWN))
    return len(batch) / (time.perf_counter() - begin)


def measure(python: Path, root: Path) -> list[dict[str, Any]]:
    """Return a row for each kind, and one for Vowpal Wabbit."""
    history, batch, contexts = outcomes_of(KNOWN, 1), outcomes_of(BATCH, 2), contexts_of(REQUESTS, 3)
    made = {}
    for kind, expansion in (("lin_ucb", 0), ("lin_thompson", 0), ("square_cb", 0), ("rand_ucb", 0), ("rand_ucb", 64)):
        spec = PolicySpec("speed", 1, kind, actions=ACTIONS, features=FeatureSpec(expansion=expansion))
        posterior = learn(Posterior(), spec, history, float(KNOWN))
        snapshot = snapshot_of(posterior, spec, 1)
        made[kind, expansion] = posterior, spec, Chooser(snapshot), len(snapshot.model or b"")
    choosing: dict[Any, list[float]] = {key: [] for key in made}
    learning: dict[Any, list[float]] = {key: [] for key in made}
    theirs = []
    for _ in range(ROUNDS):
        for key, (posterior, spec, chooser, _) in made.items():
            choosing[key].append(choosing_us(chooser, contexts))
            learning[key].append(learned_per_s(posterior, spec, batch))
        command: list[str | Path] = [
            python,
            "-m",
            "tests.performance.policies_speed_peer",
            str(N_ACTIONS),
            str(N_FEATURES),
            str(REQUESTS),
        ]
        theirs.append(float(json.loads(subprocess.run(command, cwd=root, check=True, capture_output=True).stdout)))
    rows: list[dict[str, Any]] = [
        {
            "kind": key[0] + (f", expansion {key[1]}" if key[1] else ""),
            "choice_us": round(median(choosing[key]), 1),
            "least_us": round(min(choosing[key]), 1),
            "learned_per_s": round(median(learning[key])),
            "most_per_s": round(max(learning[key])),
            "snapshot_kb": round(made[key][3] / 1000),
        }
        for key in made
    ]
    return [
        *rows,
        {"kind": "vowpal wabbit predict", "choice_us": round(median(theirs), 1), "least_us": round(min(theirs), 1)},
    ]
