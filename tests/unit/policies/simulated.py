"""Bandits played through the project's own `learn`, `snapshot_of` and `choose`: one decision a second."""

from __future__ import annotations

from collections import defaultdict

import msgspec
import numpy as np

from shared.policies.choosing import Chooser
from shared.policies.posterior import Outcome, Posterior, learn, snapshot_of
from shared.vocabulary import Action, PolicySpec

START = 1_700_000_000.0
MATURE = ("a", "b", "c", "d")
NEW = "new"


def slow_rewards(
    spec: PolicySpec,
    seed: int,
    *,
    decisions: int = 40_000,
    mean_delay_s: float = 5_000.0,
    rates: tuple[float, float] = (0.10, 0.15),
    history: int = 25_000,
    are_delays_known: bool = True,
    renewed_s: int = 50,
) -> float:
    """Return the regret of a policy to which an action of rate `rates[1]` comes beside four mature ones of `rates[0]`.

    Each mature action was shown `history` times before its window began. Conversions come after exponential delays and
    are lost beyond the window. A new snapshot is made every `renewed_s` decisions. `are_delays_known`: whether
    outcomes say when their reward came; without it F stays as declared.
    """
    random = np.random.default_rng(seed)
    mature, fresh = rates
    window_s = spec.reward_window_s
    old = START - 2 * window_s - 100.0
    past = []
    for action in MATURE:
        delays_s = random.exponential(mean_delay_s, int(random.binomial(history, mature)))
        past += [Outcome(old, action, shown=True)] * history
        past += [
            Outcome(old, action, after=1.0, delay_after_s=delay_s if are_delays_known else None)
            for delay_s in delays_s.tolist()
            if delay_s <= window_s
        ]
    posterior = learn(Posterior(), spec, past, START)
    converts, delays = random.random(decisions), random.exponential(mean_delay_s, decisions)
    draws = random.random(decisions).tolist()
    due: dict[int, list[Outcome]] = defaultdict(list)
    outcomes: list[Outcome] = []
    regret = 0.0
    for at in range(decisions):
        now = START + at
        outcomes += due.pop(at, [])
        if at % renewed_s == 0:
            posterior = learn(posterior, spec, outcomes, now)
            chooser = Chooser(snapshot_of(posterior, spec, at + seed * decisions + 1))
            outcomes = []
        (item,) = chooser.choose({}, None, draws[at : at + 1])
        rate = fresh if item.action == NEW else mature
        regret += fresh - rate
        outcomes.append(Outcome(now, item.action, shown=True))
        if converts[at] < rate and delays[at] <= window_s:
            delay_s = float(delays[at])
            due[at + 1 + int(delay_s)].append(
                Outcome(now, item.action, after=1.0, delay_after_s=delay_s if are_delays_known else None)
            )
    return regret


def slow_policy(**changes: object) -> PolicySpec:
    """Return the policy of `slow_rewards`: Thompson, a window of four mean delays."""
    spec = PolicySpec("slow", 1, "thompson", {}, tuple(map(Action, (*MATURE, NEW))), reward_window_s=20_000.0)
    return msgspec.structs.replace(spec, **changes)


def bernoulli_regret(kind: str, seed: int, *, decisions: int = 10_000, renewed: int = 10) -> float:
    """Return the regret among ten actions that earn 1 to 10 %, with a new snapshot every `renewed` decisions."""
    random = np.random.default_rng(seed)
    rates = [0.01 * (at + 1) for at in range(10)]
    own = tuple(Action(str(at)) for at in range(10))
    spec = PolicySpec("rare", 1, kind, {}, own, exploration_floor=0.0)
    posterior, outcomes, regret = Posterior(), list[Outcome](), 0.0
    luck, draws = random.random(decisions), random.random(decisions).tolist()
    for at in range(decisions):
        if at % renewed == 0:
            posterior = learn(posterior, spec, outcomes, START)
            chooser = Chooser(snapshot_of(posterior, spec, at + 1))
            outcomes = []
        (item,) = chooser.choose({}, None, draws[at : at + 1])
        rate = rates[int(item.action)]
        regret += rates[-1] - rate
        outcomes.append(Outcome(START, item.action, True, None, float(luck[at] < rate)))
    return regret


def swapped_regret(
    spec: PolicySpec, seed: int, *, swaps: int = 20, every: int = 2_000, renewed: int = 50, rotates: bool = False
) -> float:
    """Return the regret among five actions, one of mean .6 and four of .3, when the best changes places.

    Every `every` decisions the .6 swaps with the .3 of the second action, and back again; where it `rotates`, with that of the
    next action in turn. One decision a second.
    """
    random = np.random.default_rng(seed)
    decisions = every * (swaps + 1)
    luck, draws = random.random(decisions), random.random(decisions).tolist()
    posterior, outcomes, regret = Posterior(), list[Outcome](), 0.0
    for at in range(decisions):
        if at % renewed == 0:
            posterior = learn(posterior, spec, outcomes, START + at)
            chooser = Chooser(snapshot_of(posterior, spec, seed * decisions + at + 1))
            outcomes = []
        (item,) = chooser.choose({}, None, draws[at : at + 1])
        best = str(at // every % (5 if rotates else 2))
        mean = 0.6 if item.action == best else 0.3
        regret += 0.6 - mean
        outcomes.append(Outcome(START + at, item.action, True, None, float(luck[at] < mean)))
    return regret


def swapped_policy(half_life_s: float | None, kind: str = "thompson") -> PolicySpec:
    """Return the policy of `swapped_regret`: Thompson sampling with that half-life."""
    return PolicySpec("swapped", 1, kind, {}, tuple(Action(str(at)) for at in range(5)), half_life_s=half_life_s)
