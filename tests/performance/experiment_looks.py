"""Simulated experiments that are looked at after every 100 users: how often each test finds something, and how early.

A world says what a user does: a conversion at some rate, or with it an amount. The users come one by one, and each gets a variation at random. Every look
goes through the functions that `analyse` calls; only the running sums are made here, for all looks of a run at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from shared.experiments.statistics.confidence_sequences import confidence_sequence
from shared.experiments.statistics.moments import Sample
from shared.experiments.statistics.welch import welch

Floats = npt.NDArray[np.float64]

EVERY, PLANNED, LONGEST = 100, 10_000, 14_000
NEEDED = 1.959963984540054 + 1.340755033690217
"""By how many standard errors at `PLANNED` users the effects differ from 0: Welch's test has 91 % power there."""
USERS_FOR_80 = PLANNED * ((1.959963984540054 + 0.8416212335729143) / NEEDED) ** 2
"""Where Welch's test has 80 %."""


class World(NamedTuple):
    """`rate`: who converts. `sigma`: of the logarithm of the amount, None for a proportion. `share`: of the users, who gets the treatment."""

    name: str
    rate: float
    sigma: float | None = None
    share: float = 0.5

    def draw(self, random: np.random.Generator, users: int, lift: Floats | float) -> Floats:
        """Return values; a proportion's `lift` raises the rate, the others' the amounts, as shares of what they are."""
        if self.sigma is None:
            return (random.random(users) < self.rate * (1.0 + lift)).astype(np.float64)
        amounts = np.exp(self.sigma * random.standard_normal(users))
        return np.asarray((random.random(users) < self.rate) * amounts * (1.0 + lift))

    def moments(self, lift: float) -> tuple[float, float]:
        """Return the mean and variance of a user's value."""
        if self.sigma is None:
            rate = self.rate * (1.0 + lift)
            return rate, rate * (1.0 - rate)
        mean = self.rate * float(np.exp(self.sigma**2 / 2.0)) * (1.0 + lift)
        return mean, self.rate * float(np.exp(2.0 * self.sigma**2)) * (1.0 + lift) ** 2 - mean**2

    def detectable(self) -> float:
        """Return the lift that is `NEEDED` standard errors at `PLANNED` users."""
        low, high = 0.0, 10.0 if self.sigma is not None else min(10.0, 1.0 / self.rate - 1.0)
        for _ in range(60):
            lift = (low + high) / 2.0
            (base, one), (mean, other) = self.moments(0.0), self.moments(lift)
            error = np.sqrt(one / ((1.0 - self.share) * PLANNED) + other / (self.share * PLANNED))
            low, high = (low, lift) if mean - base > NEEDED * error else (lift, high)
        return low


WORLDS = (
    World("proportion 50 %", 0.5),
    World("proportion 5 %", 0.05),
    World("proportion 1 %", 0.01),
    World("mean, 10 % lognormal(1)", 0.1, 1.0),
)
HARDER = (
    World("mean, 5 % lognormal(1.5)", 0.05, 1.5),
    World("proportion 5 %, one in ten treated", 0.05, None, 0.1),
    World("proportion 1 %, one in ten treated", 0.01, None, 0.1),
    World("mean, 10 % lognormal(1), one in ten treated", 0.1, 1.0, 0.1),
)


LEAST_POWER, MOST_COST, MOST_FALSE = 0.68, 1.9, 0.05


class Run(NamedTuple):
    """One experiment. Users at the first look where the test found something, None where it never did; and whether intervals ever missed the truth.

    `welch_at_end`: whether Welch's test found something at `PLANNED` users. `spoke_early`: whether anything was said before each variation had 10 conversions.
    """

    sequential: int | None
    welch: int | None
    welch_at_end: bool
    missed: bool
    relative_missed: bool
    spoke_early: bool


def run(world: World, random: np.random.Generator, users: int, lift: float) -> Run:
    """Return what the looks of one experiment found. `lift`: 0 for two variations that are alike."""
    treated = random.random(users) < world.share
    values = world.draw(random, users, lift * treated.astype(np.float64))
    difference = world.moments(lift)[0] - world.moments(0.0)[0]
    first: dict[str, int] = {}
    at_end = missed = relative_missed = early = False
    for seen, control, treatment in _looks(values, treated, proportion=world.sigma is None):
        sequential, fixed = confidence_sequence(control, treatment), welch(control, treatment)
        early |= sequential.low is not None and min(control.conversions or 0, treatment.conversions or 0) < 10
        if seen <= PLANNED and sequential.low is not None and sequential.high is not None:
            missed |= not sequential.low <= difference <= sequential.high
            if sequential.relative_low is not None and sequential.relative_high is not None:
                relative_missed |= not sequential.relative_low <= lift <= sequential.relative_high
        if sequential.direction:
            first.setdefault("sequential", seen)
        if fixed.direction:
            first.setdefault("welch", seen)
        if seen == PLANNED:
            at_end = fixed.direction != 0
    return Run(first.get("sequential"), first.get("welch"), at_end, missed, relative_missed, early)


def runs(
    world: World,
    count: int,
    *,
    seed: int,
    lift: float,
    users: int,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> list[Run]:
    """Return `count` runs, each with draws of its own."""
    return [run(world, np.random.default_rng([seed, each]), users, lift) for each in progress(range(count))]


def summary(alike: list[Run], different: list[Run]) -> dict[str, float | None]:
    """Return the figures of a world: from runs without an effect, and from those with one that Welch's test finds in 91 %.

    `cost`: how many times as many users the sequential test takes for a power of 80 % as Welch's, None where `LONGEST` are too few.
    """
    early = sorted(each.sequential or LONGEST + 1 for each in different)
    at_80 = early[math.ceil(0.8 * len(early)) - 1]
    return {
        "false_sequential": float(np.mean([each.sequential is not None for each in alike])),
        "false_welch": float(np.mean([each.welch is not None for each in alike])),
        "false_welch_at_end": float(np.mean([each.welch_at_end for each in alike])),
        "power_welch": float(np.mean([each.welch_at_end for each in different])),
        "power_sequential": float(np.mean([users <= PLANNED for users in early])),
        "median_users": float(np.median(early)),
        "cost": at_80 / USERS_FOR_80 if at_80 <= LONGEST else None,
        "missed": float(np.mean([each.missed for each in different])),
        "missed_lift": float(np.mean([each.relative_missed for each in different])),
        "spoke_early": float(np.mean([each.spoke_early for each in (*alike, *different)])),
    }


def holds(figures: Mapping[str, float | None]) -> bool:
    """Return whether the figures of a world are as they should be."""
    cost = figures["cost"]
    return (
        (figures["false_sequential"] or 0.0) <= MOST_FALSE
        and (figures["power_sequential"] or 0.0) >= LEAST_POWER
        and cost is not None
        and cost <= MOST_COST
        and not figures["spoke_early"]
    )


def _looks(values: Floats, treated: npt.NDArray[np.bool_], *, proportion: bool) -> Iterable[tuple[int, Sample, Sample]]:
    seen = np.arange(EVERY, len(values) + 1, EVERY)
    both = []
    for mine in (~treated, treated):
        n, total, squares = (
            np.cumsum(np.where(mine, column, 0.0))[seen - 1] for column in (np.ones_like(values), values, values**2)
        )
        variance = (squares - total**2 / np.maximum(n, 1.0)) / np.maximum(n - 1.0, 1.0)
        conversions = np.minimum(total, n - total) if proportion else total**2 / np.maximum(squares, 1e-300)
        both.append(
            [
                Sample(int(units), mean, max(spread, 0.0), conversions=int(count))
                for units, mean, spread, count in zip(
                    n.tolist(),
                    (total / np.maximum(n, 1.0)).tolist(),
                    variance.tolist(),
                    conversions.tolist(),
                    strict=True,
                )
            ]
        )
    return zip(seen.tolist(), *both, strict=True)
