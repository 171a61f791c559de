"""Error rates and power of the experiments' tests, by simulation: `make bench-experiments`.

In each world 2,000 experiments without an effect and 2,000 with one that Welch's test finds in 91 % at 10,000 users, all looked at after every 100 users by
the sequential default and by Welch's test. Four worlds have bounds to hold: false positives of the sequential test at most 5 %, power at least 68 %, 80 % power at no more
than 1.9 times Welch's users, nothing said below 10 conversions. Four harder ones show where the tests bend. Writes `build/bench/experiments.json` and `experiments.png`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from shared.experiments.statistics.confidence_sequences import confidence_sequence
from shared.experiments.statistics.moments import sums
from shared.experiments.statistics.welch import welch
from tests.performance.experiment_looks import (
    EVERY,
    HARDER,
    LONGEST,
    PLANNED,
    USERS_FOR_80,
    WORLDS,
    Run,
    World,
    holds,
    runs,
    summary,
)
from tests.performance.figures import table

PLACE = Path(__file__).parents[2] / "build" / "bench"
SEED = 5


def main() -> int:
    """Run all worlds, print and write their figures; return 1 where a bound does not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.performance.experiments")
    parser.add_argument("--runs", type=int, default=2_000)
    count = parser.parse_args().runs
    played: dict[str, tuple[list[Run], list[Run]]] = {}
    figures: dict[str, dict[str, Any]] = {}
    for number, world in enumerate(WORLDS + HARDER):
        lift = world.detectable()
        alike = runs(
            world, count, seed=SEED + 2 * number, lift=0.0, users=PLANNED, progress=_shown(world.name, "alike")
        )
        different = runs(
            world, count, seed=SEED + 2 * number + 1, lift=lift, users=LONGEST, progress=_shown(world.name, "different")
        )
        played[world.name] = alike, different
        figures[world.name] = {"lift": round(lift, 4)} | summary(alike, different)
    bounded = {world.name: holds(figures[world.name]) for world in WORLDS}
    PLACE.mkdir(parents=True, exist_ok=True)
    result = {"runs": count, "every": EVERY, "planned": PLANNED, "worlds": figures, "holds": bounded}
    (PLACE / "experiments.json").write_text(json.dumps(result, indent=2) + "\n")
    draw(played, PLACE / "experiments.png")
    print(table([{"world": name} | row for name, row in figures.items()]))
    print(
        "the bounds " + ("hold" if all(bounded.values()) else "do not hold") + f"; written to {PLACE}/experiments.json"
    )
    return 0 if all(bounded.values()) else 1


def _shown(world: str, what: str) -> Any:
    def progress(each: Iterable[int]) -> Iterable[int]:
        print(f"{world}: {what}", file=sys.stderr, flush=True)
        return each

    return progress


def draw(played: Mapping[str, tuple[list[Run], list[Run]]], path: Path) -> None:
    """Write the plot: false positives and effects found by users, and one experiment as it went."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(17, 5), constrained_layout=True)
    users = np.arange(EVERY, LONGEST + 1, EVERY)
    for world, colour in zip(WORLDS, ("tab:blue", "tab:orange", "tab:green", "tab:red"), strict=True):
        alike, different = played[world.name]
        for name, style in (("sequential", "-"), ("welch", "--")):
            first = np.array([getattr(each, name) or np.inf for each in alike])
            shares = [float(np.mean(first <= seen)) for seen in users[users <= PLANNED]]
            left.plot(users[users <= PLANNED], shares, style, color=colour, label=world.name if style == "-" else None)
        found = np.array([each.sequential or np.inf for each in different])
        middle.plot(users, [float(np.mean(found <= seen)) for seen in users], color=colour, label=world.name)
        middle.plot(PLANNED, np.mean([each.welch_at_end for each in different]), "o", color=colour, fillstyle="none")
    left.axhline(0.05, color="black", linewidth=0.8)
    left.set_title(
        "nothing to find: share that found something\n(dashed: Welch's test at every look; line: 5 %)", fontsize=10
    )
    middle.axhline(0.8, color="black", linewidth=0.8)
    middle.axvline(USERS_FOR_80, color="black", linewidth=0.8, linestyle=":")
    middle.axvline(1.9 * USERS_FOR_80, color="black", linewidth=0.8, linestyle=":")
    middle.set_title(
        "an effect: share that found it, looking always\n(circles: Welch once; dotted: its users for 80 %, times 1.9)",
        fontsize=10,
    )
    for axis in (left, middle):
        axis.set_xlabel("users, looked at after every 100")
        axis.legend(frameon=False, fontsize=9)
        axis.set_ylim(0, None)
    _draw_one(right, WORLDS[1])
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _draw_one(axis: Any, world: World) -> None:
    """Draw one experiment: the lift with both intervals, as users come."""
    random = np.random.default_rng(SEED)
    lift = world.detectable()
    treated = random.random(LONGEST) < world.share
    values = world.draw(random, LONGEST, lift * treated.astype(np.float64))
    users = np.arange(EVERY, LONGEST + 1, EVERY)
    pairs = [[sums(values[:seen][arm[:seen]]).sample() for arm in (~treated, treated)] for seen in users]
    for method, colour in ((welch, "tab:gray"), (confidence_sequence, "tab:blue")):
        effects = [method(control, treatment) for control, treatment in pairs]
        known = [each.relative_low is not None for each in effects]
        lows, highs = (
            [getattr(each, name) for each in effects if each.relative_low is not None]
            for name in ("relative_low", "relative_high")
        )
        axis.fill_between(users[known], lows, highs, color=colour, alpha=0.25, label=method.__name__.replace("_", " "))
    axis.plot(users, [each.relative for each in effects], color="black", linewidth=1, label="estimate")
    axis.axhline(0.0, color="black", linewidth=0.8)
    axis.axhline(lift, color="tab:red", linewidth=0.8, linestyle="--", label="true lift")
    axis.set_ylim(-1.0, 2.0)
    axis.set_xlabel("users")
    axis.set_title(f"one experiment: lift of a {world.name}, 95 % intervals", fontsize=10)
    axis.legend(frameon=False, fontsize=9)


if __name__ == "__main__":
    sys.exit(main())
