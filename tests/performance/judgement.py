"""How often the verdict's statistics err, by simulation: `make bench-judgement` writes build/bench/judgement.json.

Sample-ratio tests without a mismatch, group sequential tests with and without an effect beside the fixed horizon, and experiments that a
bandit assigned, whose plain means are held against the adaptively weighted ones.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from shared.experiments.statistics.adaptive import adaptive_effect
from shared.experiments.statistics.group_sequential import Spending, bounds, stagewise_interval
from shared.experiments.statistics.sample_ratio import chi_square_p_value, log_bayes_factor

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Bandit = Literal["epsilon_greedy", "thompson"]
BANDITS: tuple[Bandit, ...] = ("epsilon_greedy", "thompson")
SPENDING: tuple[Spending, ...] = ("obrien_fleming", "pocock")

OUT = Path("build/bench/judgement.json")
UNITS, LOOKS, EVERY = 10_000, 5, 100
NULLS = 25
"""Experiments without an effect for each with one: they cost nothing."""
BATCH = 50
"""Rows between two snapshots of the simulated bandit."""


def sample_ratio_alarms(
    runs: int,
    seed: int,
    level: float,
    shares: tuple[float, ...] = (0.5, 0.3, 0.2),
    truth: tuple[float, ...] | None = None,
) -> dict[str, float]:
    """Return how often each test alarms at `level` over 10,000 units that are looked at after every 100, whose shares are `truth` (None: the planned ones)."""
    random = np.random.RandomState(seed)
    counts = np.cumsum(random.multinomial(EVERY, truth or shares, size=(runs, UNITS // EVERY)), axis=1)
    factors = log_bayes_factor(counts.reshape(-1, len(shares)), shares).reshape(runs, -1)
    every = np.array([[chi_square_p_value(look, shares) for look in run[::5]] for run in counts])
    return {
        "sequential": float((factors >= -math.log(level)).any(axis=1).mean()),
        "chi_square_every_look": float((every <= level).any(axis=1).mean()),
        "chi_square_once": float(np.mean([chi_square_p_value(run[-1], shares) <= level for run in counts])),
    }


def group_sequential_rates(
    runs: int,
    seed: int,
    rate: float = 0.1,
    power: float = 0.91,
    *,
    spending: Spending = "obrien_fleming",
    intervals: int | None = None,
) -> dict[str, float]:
    """Return error rate, power and how early five even looks at 10,000 units end, beside one look, where a fixed horizon has `power`.

    Errors are those of `NULLS` times as many runs. `intervals`: of how many runs the stagewise ones are made; None for all.
    """
    random = np.random.RandomState(seed)
    times = [(look + 1) / LOOKS for look in range(LOOKS)]
    limits = bounds(times, spending=spending)
    once = -float(ndtri(0.025))
    effect = (once + float(ndtri(power))) * math.sqrt(4.0 * rate * (1.0 - rate) / UNITS)
    found: dict[str, float] = {}
    for name, lift in (("null", 0.0), ("effect", effect)):
        z, errors = _looks(random, runs if lift else NULLS * runs, rate, lift)
        crossed = abs(z) >= limits
        first = np.where(crossed.any(axis=1), crossed.argmax(axis=1), LOOKS - 1)
        if name == "null":
            found["false_positives"] = float(crossed.any(axis=1).mean())
            found["fixed_horizon_false_positives"] = float((abs(z[:, -1]) >= once).mean())
            found["fixed_horizon_at_every_look"] = float((abs(z) >= once).any(axis=1).mean())
            continue
        found["power"] = float((crossed & (z > 0.0)).any(axis=1).mean())
        found["fixed_horizon_power"] = float((z[:, -1] >= once).mean())
        found["mean_share_of_units"] = float(np.mean((first + 1) / LOOKS))
        rows = np.arange(runs)
        held, at_stop = [], z[rows, first] * errors[rows, first]
        for difference, error, look in list(zip(at_stop, errors[rows, first], first, strict=True))[:intervals]:
            low, _, high = stagewise_interval(difference, error, times[: look + 1], limits[:look].tolist())
            held.append(low <= lift <= high)
        found["stagewise_coverage"] = float(np.mean(held))
        found["naive_coverage_at_stop"] = float(np.mean(abs(at_stop - lift) <= once * errors[rows, first]))
    return found


def _looks(random: np.random.RandomState, runs: int, rate: float, lift: float) -> tuple[Floats, Floats]:
    """Return Z and the standard error of the difference at each look, both of shape (runs, LOOKS)."""
    step = UNITS // (2 * LOOKS)
    units = step * np.arange(1, LOOKS + 1)
    shares = [
        np.cumsum(random.binomial(step, each, size=(runs, LOOKS)), axis=1) / units for each in (rate, rate + lift)
    ]
    errors = np.sqrt(sum(share * (1.0 - share) for share in shares) / units)
    return (shares[1] - shares[0]) / errors, errors


def adaptive_coverage(
    runs: int, rows: int, seed: int, bandit: Bandit, *, rates: tuple[float, float] = (0.1, 0.1), floor: float = 0.1
) -> dict[str, float]:
    """Return how often 95 % intervals of the difference hold the truth, after `rows` rows that a bandit assigned.

    `naive`: of the two means, as if the split had been fixed; `adaptive`: at the end; `sequential`: at all of 10 looks at once. `bias`: of the two means, on average, relative to the rate;
    `adaptive_bias`: the same of the adaptive one. `width`: of the adaptive interval over the naive one's.
    """
    rewards, assigned, propensities = _assigned(np.random.RandomState(seed), (runs, rows), bandit, rates, floor)
    truth = rates[1] - rates[0]
    found: dict[str, list[float]] = {
        name: [] for name in ("naive", "adaptive", "sequential", "bias", "adaptive_bias", "width")
    }
    for y, w, e in zip(rewards, assigned, propensities, strict=True):
        parts = [y[w == variation] for variation in (0, 1)]
        means = [float(part.mean()) if len(part) else 0.0 for part in parts]
        error = math.sqrt(sum(mean * (1.0 - mean) / max(len(part), 1) for mean, part in zip(means, parts, strict=True)))
        found["naive"].append(abs(means[1] - means[0] - truth) <= 1.96 * error)
        found["bias"].append(float(np.mean(np.array(means) - rates)) / rates[0])
        once = adaptive_effect(y, w, e, 0, 1, inference="fixed_horizon")
        found["adaptive_bias"].append((once.control.mean + once.treatment.mean - sum(rates)) / 2.0 / rates[0])
        found["adaptive"].append(_holds(once.low, once.high, truth))
        found["width"].append(
            math.nan if once.low is None or once.high is None else (once.high - once.low) / (3.92 * error)
        )
        looks = [
            adaptive_effect(y[:n], w[:n], e[:n], 0, 1, design_rows=rows)
            for n in range(rows // 10, rows + 1, rows // 10)
        ]
        found["sequential"].append(all(_holds(look.low, look.high, truth) for look in looks))
    return {name: float(np.nanmean(values)) for name, values in found.items()} | {
        "silent": float(np.isnan(found["width"]).mean())
    }


def _holds(low: float | None, high: float | None, truth: float) -> bool:
    return low is None or high is None or low <= truth <= high


def _assigned(
    random: np.random.RandomState, shape: tuple[int, int], bandit: Bandit, rates: tuple[float, float], floor: float
) -> tuple[Floats, Integers, Floats]:
    """Return rewards and assignments, shape (runs, rows), and propensities, shape (runs, rows, 2), of bandits with snapshots every `BATCH` rows."""
    runs, rows = shape
    rewards, assigned = np.empty((runs, rows)), np.empty((runs, rows), dtype=np.int64)
    propensities = np.empty((runs, rows, 2))
    shown, won = np.zeros((runs, 2)), np.zeros((runs, 2))
    for start in range(0, rows, BATCH):
        if bandit == "thompson":
            draws = random.beta(1.0 + won[:, None, :], 1.0 + (shown - won)[:, None, :], size=(runs, 256, 2))
            better = (draws[:, :, 1] > draws[:, :, 0]).mean(axis=1)
        else:
            means = won / np.maximum(shown, 1.0)
            better = np.where(means[:, 1] == means[:, 0], 0.5, means[:, 1] > means[:, 0])
        law = floor / 2.0 + (1.0 - floor) * np.stack([1.0 - better, better], axis=1)
        size = min(BATCH, rows - start)
        w = (random.uniform(size=(runs, size)) < law[:, 1:]).astype(np.int64)
        y = (random.uniform(size=(runs, size)) < np.array(rates)[w]).astype(np.float64)
        rewards[:, start : start + size], assigned[:, start : start + size] = y, w
        propensities[:, start : start + size] = law[:, None, :]
        for variation in (0, 1):
            shown[:, variation] += (w == variation).sum(axis=1)
            won[:, variation] += (y * (w == variation)).sum(axis=1)
    return rewards, assigned, propensities


def main() -> None:
    """Run everything at full size, and write and print what is there so far after each part."""
    runs = 2_000
    parts: dict[str, Callable[[], dict[str, float]]] = {
        f"sample ratio at {level:g}": partial(sample_ratio_alarms, runs, 1, level) for level in (0.05, 0.01, 0.001)
    }
    parts["sample ratio at 0.001, 5 % lost in one of two"] = partial(
        sample_ratio_alarms, runs, 2, 0.001, (0.5, 0.5), (1 / 1.95, 0.95 / 1.95)
    )
    for spending in SPENDING:
        for rate in (0.5, 0.05, 0.01):
            parts[f"group sequential, {spending}, rate {rate:g}"] = partial(
                group_sequential_rates, runs, 3, rate, spending=spending
            )
    for bandit in BANDITS:
        for rates, floor in (((0.1, 0.1), 0.1), ((0.1, 0.12), 0.1), ((0.1, 0.1), 0.02), ((0.5, 0.5), 0.1)):
            parts[f"{bandit}, rates {rates[0]:g} and {rates[1]:g}, floor {floor:g}"] = partial(
                adaptive_coverage, runs // 2, 10_000, 4, bandit, rates=rates, floor=floor
            )
    found: dict[str, dict[str, float]] = {}
    OUT.parent.mkdir(parents=True, exist_ok=True)
    for name, part in parts.items():
        found[name] = part()
        OUT.write_text(json.dumps(found, indent=1) + "\n")
        print(name, found[name], flush=True)


if __name__ == "__main__":
    main()
