"""`make bench-regret`: what the project's loop loses against the textbook's, on a simulated Bernoulli bandit.

Ten actions, one with mean 0.6 and nine with 0.5, floor 0. *Textbook*: one Beta draw per arm and decision, the
largest wins. *Pure*: the project's own `choose` and `learn`, a new snapshot after every reward. *HTTP*: the
running functions, where a snapshot lags (`regret_http`). Regret is the sum over decisions of 0.6 minus the
mean of what was chosen. All three pay seed by seed from the same reward numbers. Writes
`build/bench/regret.json`; what is done of the pure loop is kept under `build/bench/regret/` and not done
again, as long as the policies' code stays the same.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.policies.choosing import choose
from shared.policies.posterior import Outcome, Posterior, learn, snapshot_of
from shared.vocabulary import Action, PolicySpec, RewardRule
from tests.performance.figures import ratio_of_means
from tests.performance.processes import ROOT

MEANS = (0.6, *[0.5] * 9)
ACTIONS = tuple(f"arm-{arm}" for arm in range(len(MEANS)))
GAPS = np.array([max(MEANS) - mean for mean in MEANS])
BLOCK = 10
TEXTBOOK_BLOCK = 250
RESULT = ROOT / "build" / "bench" / "regret.json"
Floats = npt.NDArray[np.float64]


def rewards_of(seed: int, decisions: int) -> Floats:
    """Return the numbers that decide a seed's rewards, shape (decisions,): 1 where below the arm's mean."""
    return np.random.default_rng([seed, 0]).random(decisions)


def pure_regret(seed: int, decisions: int) -> float:
    """Return the regret of the project's own loop over `decisions`."""
    spec = PolicySpec(
        f"regret-{seed}",
        1,
        "thompson",
        actions=tuple(Action(action) for action in ACTIONS),
        reward={"click": RewardRule()},
        exploration_floor=0.0,
    )
    arm_of = {action: arm for arm, action in enumerate(ACTIONS)}
    luck = rewards_of(seed, decisions)
    draws = np.random.default_rng([seed, 1]).random(decisions)
    posterior = Posterior()
    regret = 0.0
    for step in range(decisions):
        snapshot = snapshot_of(posterior, spec, step + 1)
        (item,) = choose(snapshot, {}, None, [float(draws[step])])
        arm = arm_of[item.action]
        regret += GAPS[arm]
        reward = 1.0 if luck[step] < MEANS[arm] else 0.0
        at = float(step)
        posterior = learn(posterior, spec, [Outcome(at, item.action, shown=True, after=reward)], at)
    return float(regret)


def pure_block(first: int, decisions: int) -> list[float]:
    """Return the regrets of the seeds `first` to `first + BLOCK - 1`."""
    return [pure_regret(seed, decisions) for seed in range(first, first + BLOCK)]


def textbook_block(first: int, decisions: int) -> list[float]:
    """Return the textbook loop's regrets of `TEXTBOOK_BLOCK` seeds from `first` on, side by side."""
    seeds = np.arange(TEXTBOOK_BLOCK)
    luck = np.array([rewards_of(first + int(seed), decisions) for seed in seeds])
    generator = np.random.default_rng([first, 2])
    means = np.array(MEANS)
    won = np.ones((TEXTBOOK_BLOCK, len(MEANS)))
    lost = np.ones((TEXTBOOK_BLOCK, len(MEANS)))
    regret = np.zeros(TEXTBOOK_BLOCK)
    for step in range(decisions):
        arms = generator.beta(won, lost).argmax(axis=1)
        rewards = luck[:, step] < means[arms]
        won[seeds, arms] += rewards
        lost[seeds, arms] += ~rewards
        regret += GAPS[arms]
    return [float(value) for value in regret]


def law_fingerprint() -> str:
    """Return a name for the code that the pure loop runs: another code, other partial results."""
    digest = sha256()
    for path in sorted([*(ROOT / "shared" / "policies").glob("*.py"), ROOT / "shared" / "vocabulary.py"]):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def in_blocks(
    name: str, work: Callable[[int, int], list[float]], firsts: Iterable[int], decisions: int, kept: Path
) -> Floats:
    """Return `work(first, decisions)` of all `firsts`, end to end, on all cores; `kept` holds done ones."""
    kept.mkdir(parents=True, exist_ok=True)
    blocks: dict[int, list[float]] = {}
    todo = []
    for first in firsts:
        try:
            blocks[first] = json.loads((kept / f"{name}-{decisions}-{first}.json").read_text())
        except (OSError, ValueError):
            todo.append(first)
    begin = time.monotonic()
    with ProcessPoolExecutor() as pool:
        running = {pool.submit(work, first, decisions): first for first in todo}
        try:
            for done, future in enumerate(as_completed(running), start=1):
                first = running[future]
                blocks[first] = future.result()
                _write(kept / f"{name}-{decisions}-{first}.json", blocks[first])
                left_s = (time.monotonic() - begin) / done * (len(todo) - done)
                print(
                    f"\r{name}: {done} of {len(todo)} blocks, {left_s / 60:.1f} min left ",
                    end="",
                    file=sys.stderr,
                )
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True, wait=False)
            raise
    if todo:
        print(file=sys.stderr)
    return np.array([regret for first in sorted(blocks) for regret in blocks[first]])


def compare(ours: Floats, theirs: Floats, bound: float) -> dict[str, Any]:
    """Return ratios of mean regrets: against all textbook seeds (independent), and seed by seed (paired)."""
    ratio, error = ratio_of_means(ours, theirs, paired=False)
    paired, paired_error = ratio_of_means(ours, theirs[: len(ours)], paired=True)
    return {
        "seeds": len(ours),
        "mean_regret": round(float(ours.mean()), 3),
        "ratio": round(ratio, 4),
        "standard_error": round(error, 4),
        "same_seeds_ratio": round(paired, 4),
        "same_seeds_standard_error": round(paired_error, 4),
        "bound": bound,
        "within": ratio <= bound,
    }


def main() -> None:
    """Run what is asked for, print it, write it."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.performance.regret", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--seeds", type=int, default=1000, help="seeds of the pure loop (rounded up to tens)")
    parser.add_argument("--textbook-seeds", type=int, default=10_000, help="seeds of the textbook loop")
    parser.add_argument("--http-seeds", type=int, default=20, help="seeds through HTTP; 0 leaves that out")
    parser.add_argument("--decisions", type=int, default=10_000)
    parser.add_argument("--pace", type=float, default=None, help="HTTP: decisions per s of each policy, at most")
    arguments = parser.parse_args()
    decisions, kept = arguments.decisions, RESULT.parent / "regret"
    least = max(arguments.seeds, arguments.http_seeds, arguments.textbook_seeds)
    textbook = in_blocks("textbook", textbook_block, range(0, least, TEXTBOOK_BLOCK), decisions, kept)
    result: dict[str, Any] = {
        "decisions": decisions,
        "means": MEANS,
        "textbook": {
            "seeds": len(textbook),
            "mean_regret": round(float(textbook.mean()), 3),
            "standard_error": round(float(textbook.std(ddof=1)) / len(textbook) ** 0.5, 3),
        },
    }
    if arguments.seeds:
        name = f"pure-{law_fingerprint()}"
        pure = in_blocks(name, pure_block, range(0, arguments.seeds, BLOCK), decisions, kept)
        result["pure"] = compare(pure, textbook, 1.03)
    if arguments.http_seeds:
        from tests.performance import regret_http

        regrets, pace = regret_http.measure(list(range(arguments.http_seeds)), decisions, arguments.pace)
        result["http"] = compare(np.array(regrets), textbook, 1.25) | pace
    result["cores"] = os.cpu_count()
    _write(RESULT, result)
    print(json.dumps(result, indent=2))
    print(f"written to {RESULT}")


def _write(path: Path, content: object) -> None:
    """Write whole or not at all."""
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(content, indent=2) + "\n")
    unfinished.rename(path)


if __name__ == "__main__":
    main()
