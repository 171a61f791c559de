"""`make bench-policies`: the default contextual policy beside Vowpal Wabbit and MABWiser, on eight tasks in one run.

Every contender plays the same passes, one decision and one reward at a time (`policies_tasks`). A peer stands with one
configuration for all tasks: of its candidates (`policies_peers`) the one with the best mean rank over the tasks, on the first
`SELECTION` seeds. Ours has nothing to choose. The best peer of a task is the one with the highest mean over all seeds, and
the difference to it is paired: seed by seed, with a 95 % interval of Student's t. Writes `build/bench/policies.json`
({task: {ours, best_peer, best_peer_name, difference_low, difference_high}}), `policies-detail.json` (all means, all
configurations, batches, speed) and `policies.png`. What is played is kept under `build/bench/policies/`, by the code that played
it, and not played again.

`--batch 100`: shuffled and repeated to 20,000 decisions, updates every 100 and rewards out of order, beside an update after
every decision; only that.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from hashlib import sha256
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy: the processes below use all cores already

import numpy as np
import numpy.typing as npt

from shared.vocabulary import FeatureSpec
from tests.performance import policies_ours, policies_speed
from tests.performance.figures import table
from tests.performance.policies_tasks import TASKS, run_of
from tests.performance.processes import ROOT

SELECTION = 5
BATCH, BATCH_ROUNDS = 100, 20_000
T_975 = {19: 2.093, 9: 2.262, 4: 2.776, 2: 4.303, 1: 12.706}
"""Student's t at 97.5 %, by degrees of freedom."""
LEAST_ANYWHERE, LEAST_WINS = -0.01, 3
PLACE = ROOT / "build" / "bench"
RESULT = PLACE / "policies.json"
PEERS_PYTHON = ROOT / "build" / "peers" / "bin" / "python"
Floats = npt.NDArray[np.float64]


def fingerprint(paths: Iterable[Path]) -> str:
    """Return a name for the code in `paths`."""
    digest = sha256()
    for path in sorted(paths):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def peers_played(python: Path, data: Path, seeds: int) -> tuple[dict[str, str], dict[str, dict[str, Floats]]]:
    """Return the configuration that stands for each peer, and its mean rewards by task, shape (seeds,)."""
    here = ROOT / "tests" / "performance"
    kept = PLACE / "policies" / f"peers-{fingerprint([here / 'policies_peers.py', here / 'policies_tasks.py'])}"
    kept.mkdir(parents=True, exist_ok=True)
    listing = "import json; from tests.performance.policies_peers import CANDIDATES as c; print(json.dumps({p: [*c[p]] for p in c}))"
    candidates: dict[str, list[str]] = json.loads(
        subprocess.run([python, "-c", listing], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    )
    everyone = [f"{peer}:{name}" for peer, names in candidates.items() for name in names]
    selection = min(SELECTION, seeds)
    _in_two(python, [str(data), str(kept), "0", str(selection)], everyone)

    def means(contender: str, count: int) -> dict[str, Floats]:
        rewards = {}
        for task in TASKS:
            done = json.loads((kept / f"{contender.replace(':', '-')}-{task}.json").read_text())
            rewards[task] = np.array([done[str(seed)] for seed in range(count)])
        return rewards

    chosen = {}
    for peer, names in candidates.items():
        earned = np.array([[means(f"{peer}:{name}", selection)[task].mean() for task in TASKS] for name in names])
        chosen[peer] = names[int(mean_ranks(earned).argmin())]
    _in_two(python, [str(data), str(kept), "0", str(seeds)], [f"{peer}:{name}" for peer, name in chosen.items()])
    return chosen, {peer: means(f"{peer}:{name}", seeds) for peer, name in chosen.items()}


def mean_ranks(earned: Floats) -> Floats:
    """Return the mean rank of each row over the columns, 1 for the highest; ties share theirs. `earned`: shape (n, n_tasks).

    >>> mean_ranks(np.array([[0.9, 0.5], [0.8, 0.5], [0.1, 0.2]])).tolist()
    [1.25, 1.75, 3.0]
    """
    above = (earned[None, :, :] > earned[:, None, :]).sum(axis=1)
    level = (earned[None, :, :] == earned[:, None, :]).sum(axis=1)
    ranks: Floats = (above + (level + 1) / 2).mean(axis=1)
    return ranks


def _in_two(python: Path, arguments: Sequence[str], contenders: Sequence[str]) -> None:
    """Let the contenders play in two processes."""
    running = [
        subprocess.Popen(
            [python, "-m", "tests.performance.policies_peers", *arguments, *part],
            cwd=ROOT,
            stdout=sys.stderr,
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
        )
        for part in (contenders[::2], contenders[1::2])
        if part
    ]
    codes = [process.wait() for process in running]
    if any(codes):
        msg = "a peer failed; what it said stands above"
        raise SystemExit(msg)


def one_of_ours(task: str, seed: int, data: str, *, kind: str, expansion: int, mode: str) -> float:
    """Return our mean reward of one pass. `mode`: `online`, `long` (20,000 rounds), or `batch` and its size."""
    rounds = None if mode == "online" else BATCH_ROUNDS
    run = run_of(task, seed, Path(data), rounds)
    features = FeatureSpec(expansion=expansion)
    batches = policies_ours.Batches(int(mode.removeprefix("batch"))) if mode.startswith("batch") else None
    return policies_ours.play(run, policies_ours.spec_of(run, kind, features), batches)


def ours_played(data: Path, seeds: int, kind: str, expansion: int, mode: str = "online") -> dict[str, Floats]:
    """Return our mean rewards by task, shape (seeds,)."""
    here = ROOT / "tests" / "performance"
    code = [*(ROOT / "shared" / "policies").glob("*.py"), ROOT / "shared" / "vocabulary.py"]
    code += [here / "policies_ours.py", here / "policies_tasks.py"]
    path = PLACE / "policies" / f"ours-{kind}-{expansion}-{mode}-{fingerprint(code)}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    done: dict[str, float] = json.loads(path.read_text()) if path.exists() else {}
    todo = [(task, seed) for seed in range(seeds) for task in TASKS if f"{task}-{seed}" not in done]
    begin = time.monotonic()
    with ProcessPoolExecutor() as pool:
        running = {
            pool.submit(one_of_ours, task, seed, str(data), kind=kind, expansion=expansion, mode=mode): f"{task}-{seed}"
            for task, seed in todo
        }
        for count, future in enumerate(as_completed(running), start=1):
            done[running[future]] = future.result()
            _write(path, done)
            left_s = (time.monotonic() - begin) / count * (len(todo) - count)
            print(
                f"\r{kind} {mode}: {count} of {len(todo)} passes, {left_s / 60:.1f} min left ", end="", file=sys.stderr
            )
    if todo:
        print(file=sys.stderr)
    return {task: np.array([done[f"{task}-{seed}"] for seed in range(seeds)]) for task in TASKS}


def compared(ours: Mapping[str, Floats], peers: Mapping[str, Mapping[str, Floats]]) -> dict[str, dict[str, Any]]:
    """Return what `policies.json` holds."""
    result = {}
    for task in TASKS:
        best = max(peers, key=lambda peer: float(peers[peer][task].mean()))
        low, high = paired_interval(ours[task], peers[best][task])
        result[task] = {
            "ours": round(float(ours[task].mean()), 4),
            "best_peer": round(float(peers[best][task].mean()), 4),
            "best_peer_name": best,
            "difference_low": round(low, 4),
            "difference_high": round(high, 4),
        }
    return result


def paired_interval(ours: Floats, theirs: Floats) -> tuple[float, float]:
    """Return the 95 % interval of the mean difference, seed by seed."""
    differences = ours - theirs
    n = len(differences)
    half = T_975.get(n - 1, 1.96) * float(differences.std(ddof=1)) / n**0.5
    return float(differences.mean()) - half, float(differences.mean()) + half


def draw(result: Mapping[str, Mapping[str, Any]], peers: Mapping[str, Mapping[str, Floats]], path: Path) -> None:
    """Write the plot: mean rewards of everyone, and the difference to the best peer with its interval."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(13, 5), width_ratios=(3, 2), constrained_layout=True)
    names = ["ours", *peers]
    at = np.arange(len(TASKS))
    for place, name in enumerate(names):
        means = [result[task]["ours"] if name == "ours" else float(peers[name][task].mean()) for task in TASKS]
        label = "Knudge" if name == "ours" else name.replace("_", " ")
        left.bar(at + (place - len(names) / 2 + 0.5) * 0.14, means, 0.14, label=label)
    left.set_xticks(at, [task.replace("_", "\n") for task in TASKS])
    left.set_ylabel("mean reward of one pass")
    left.set_ylim(0, 1)
    left.legend(loc="upper center", ncols=3, bbox_to_anchor=(0.5, 1.17), frameon=False)
    lows = np.array([result[task]["difference_low"] for task in TASKS])
    highs = np.array([result[task]["difference_high"] for task in TASKS])
    middle = (lows + highs) / 2
    right.errorbar(middle, at, xerr=(highs - lows) / 2, fmt="o", color="tab:blue", capsize=4)
    right.axvline(0.0, color="black", linewidth=0.8)
    right.axvline(LEAST_ANYWHERE, color="tab:red", linewidth=0.8, linestyle="--")
    right.set_yticks(at, [f"{task.replace('_', ' ')}\n({result[task]['best_peer_name']})" for task in TASKS])
    right.invert_yaxis()
    right.set_xlabel("Knudge minus the best peer, 95 % (dashed: bound)")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def held(result: Mapping[str, Mapping[str, Any]]) -> bool:
    """Return whether the bounds hold: nowhere below -0.01, above 0 on three tasks at least."""
    lows = [float(row["difference_low"]) for row in result.values()]
    return min(lows) > LEAST_ANYWHERE and sum(low > 0 for low in lows) >= LEAST_WINS


def batched(data: Path, seeds: int, kind: str, expansion: int, size: int) -> dict[str, Any]:
    """Return what updates every `size` decisions, out of order, lose beside one after every decision."""
    at_once = ours_played(data, seeds, kind, expansion, "long")
    late = ours_played(data, seeds, kind, expansion, f"batch{size}")
    return {
        task: {
            "at_once": round(float(at_once[task].mean()), 4),
            "in_batches": round(float(late[task].mean()), 4),
            "lost": round(float((at_once[task] - late[task]).mean()), 4),
        }
        for task in TASKS
    }


def data_of(python: Path) -> Path:
    """Return the file of the data sets, made where it is missing."""
    path = PLACE / "policies" / f"data-{fingerprint([ROOT / 'tests' / 'performance' / 'policies_data.py'])}.npz"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run([python, "-m", "tests.performance.policies_data", str(path)], cwd=ROOT, check=True)
    return path


def main() -> None:
    """Run what is asked for, print it, write it."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.performance.policies", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--kind", default=policies_ours.KIND, help="another kind of ours, to see what it earns")
    parser.add_argument("--expansion", type=int, default=policies_ours.FEATURES.expansion)
    parser.add_argument("--batch", type=int, default=None, help="only: what updates every so many decisions lose")
    parser.add_argument("--batch-seeds", type=int, default=3)
    parser.add_argument("--peers-python", type=Path, default=PEERS_PYTHON)
    arguments = parser.parse_args()
    data = data_of(arguments.peers_python)
    if arguments.batch is not None:
        losses = batched(data, arguments.batch_seeds, arguments.kind, arguments.expansion, arguments.batch)
        _write(PLACE / f"policies-batch-{arguments.batch}.json", losses)
        print(table([{"task": task} | row for task, row in losses.items()]))
        return
    chosen, peers = peers_played(arguments.peers_python, data, arguments.seeds)
    ours = ours_played(data, arguments.seeds, arguments.kind, arguments.expansion)
    result = compared(ours, peers)
    _write(RESULT, result)
    means = [
        {"task": task, arguments.kind: round(float(ours[task].mean()), 4)}
        | {peer: round(float(peers[peer][task].mean()), 4) for peer in peers}
        for task in TASKS
    ]
    detail = {"seeds": arguments.seeds, "kind": arguments.kind, "configurations": chosen, "means": means}
    _write(PLACE / "policies-detail.json", detail)
    draw(result, peers, PLACE / "policies.png")
    print(table(means))
    print("configurations:", ", ".join(f"{peer} {name}" for peer, name in chosen.items()))
    print(table([{"task": task} | row for task, row in result.items()]))
    losses = batched(data, arguments.batch_seeds, arguments.kind, arguments.expansion, BATCH)
    print(table([{"task": task} | row for task, row in losses.items()]))
    speed = policies_speed.measure(arguments.peers_python.absolute(), ROOT)
    print(table(speed))
    _write(PLACE / "policies-detail.json", detail | {"batches": losses, "speed": speed})
    print(f"the bounds {'hold' if held(result) else 'do not hold'}; written to {RESULT}")


def _write(path: Path, content: object) -> None:
    """Write whole or not at all."""
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(content, indent=2) + "\n")
    unfinished.rename(path)


if __name__ == "__main__":
    main()
