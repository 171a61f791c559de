"""Roll-outs of simulated revisions whose true reward rates are known, through `knative.revisions.rollout` itself.

Users make three decisions each, a rate of their own (Beta, mean `rate`), and each decision goes to the candidate by its share of the
traffic, so what one user earns in both revisions is alike. All the ways in which a user's decisions can turn out are few,
so that a look draws how many users went each way in one multinomial, for all runs.
"""

from __future__ import annotations

import itertools
from functools import cache
from math import comb

import msgspec
import numpy as np
import numpy.typing as npt

from knative.revisions.plan import Plan
from knative.revisions.rollout import Look, advance, begin
from shared.evaluation.revision_moments import PairMoments, RevisionMoments

DECISIONS_OF_A_USER = 3
SPREAD = 2.0
"""The first parameter of the users' Beta distribution: their rates differ by 1/sqrt(2) of the mean."""
LOOKS = 100
LOOK_S = 60.0
MOST = 25.0
"""Within how many σ²/δ² decisions of the candidate a roll-out must have ended."""
_POINTS = 200_000

Floats = npt.NDArray[np.float64]


class Ended(msgspec.Struct, frozen=True):
    """How a roll-out ended; `decisions`: of the candidate, in σ²/δ²."""

    phase: str
    decisions: float


def roll_out(rate: float, ratio: float, runs: int, seed: int, plan: Plan | None = None) -> list[Ended]:
    """Simulate `runs` roll-outs of a candidate that earns `ratio` times the serving revision's `rate`."""
    plan = plan or Plan("serving", "candidate", age_s=0.0, step_s=LOOK_S)
    random = np.random.default_rng(seed)
    unit = rate * (1 - rate) / (plan.margin * rate) ** 2
    states = [begin(plan, {}, 0.0) for _ in range(runs)]
    sums: list[list[Floats]] = [[np.zeros(_SIZE)] for _ in range(runs)]
    ended: list[Ended | None] = [None] * runs
    for look in range(1, 2 * LOOKS):
        going = [run for run in range(runs) if ended[run] is None]
        for share in plan.steps:
            here = [run for run in going if states[run].share == share]
            if here:
                users = round(MOST * unit / LOOKS / (share / 100) / DECISIONS_OF_A_USER)
                ways, effects = _ways(rate, ratio, share)
                drawn = random.multinomial(users, ways, size=len(here)) @ effects
                for run, added in zip(here, drawn, strict=True):
                    sums[run][-1] += added
        for run in going:
            moments = tuple(_moments(each) for each in sums[run])
            states[run], move = advance(states[run], Look(look * LOOK_S + _AFTER_S, moments))
            if move.kind == "forward":
                sums[run].append(np.zeros(_SIZE))
            if states[run].phase != "running":
                decisions = sum(each.candidate.decisions for each in moments)
                ended[run] = Ended(states[run].phase, decisions / unit)
    return [each or Ended("undecided", np.inf) for each in ended]


def share_within(ended: list[Ended], phase: str) -> float:
    """Return the share of roll-outs that ended so within `MOST` σ²/δ² decisions (and the look in which they were made)."""
    return sum(each.phase == phase and each.decisions <= MOST + 1e-9 for each in ended) / len(ended)


@cache
def _ways(rate: float, ratio: float, share: int) -> tuple[Floats, Floats]:
    """Return (probability, sums) of every way in which a user's decisions turn out: shape (n_ways,), (n_ways, n_sums)."""
    theta = np.random.default_rng(1).beta(SPREAD, SPREAD * (1 - rate) / rate, size=_POINTS)
    theta *= rate / theta.mean()
    ways, effects = [], []
    for n in range(DECISIONS_OF_A_USER + 1):
        m = DECISIONS_OF_A_USER - n
        routed = comb(n + m, n) * (share / 100) ** n * (1 - share / 100) ** m
        for r, s in itertools.product(range(n + 1), range(m + 1)):
            mine = comb(n, r) * (ratio * theta) ** r * (1 - ratio * theta) ** (n - r)
            theirs = comb(m, s) * theta**s * (1 - theta) ** (m - s)
            ways.append(routed * float(np.mean(mine * theirs)))
            effects.append([n, r, r, n * n, n * r, r * r, m, s, s, m * m, m * s, s * s, n * m, n * s, r * m, r * s])
    probabilities = np.array(ways)
    return probabilities / probabilities.sum(), np.array(effects, float)


def _moments(sums: Floats) -> PairMoments:
    numbers = sums.tolist()
    return PairMoments(RevisionMoments(*numbers[:6]), RevisionMoments(*numbers[6:12]), *numbers[12:])


_SIZE = 16
_AFTER_S = 20.0
