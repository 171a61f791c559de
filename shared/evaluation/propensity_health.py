"""Are actions chosen as often as their propensities say? Watched for as long as a policy version decides, with one alarm level.

A choice among n actions whose stated law is p falls on a. For an event A with the stated probability P, the ratio

    θ^1{A} / (1 - P + θ P),     θ > 0

has the mean 1 if the statement is true, whatever was seen before: its product over choices is a test martingale, and so is every
average of such products with weights fixed beforehand. So are products of

    (1 - ε) + ε / (n p(a)),

against laws that explore more than they say. The *evidence* is the average over both families (half each):

- events: each action is chosen; the draw falls into the lower half of the distribution function (whatever actions stand there);
  another than the likeliest action is chosen. Event j, as they first occur, weighs 1/(j (j + 1)), and within it all `ODDS` alike.
- exploration: all `SHARES` alike. An action chosen against a stated probability of 0 is infinite evidence.

By Ville's inequality evidence ever reaches 1/alpha with probability at most alpha, if all statements are true: no correction for
looking often, for many actions, or for actions that come later. Waudby-Smith and Ramdas, Estimating means of bounded random
variables by betting (2024).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import exp, inf, log
from typing import NamedTuple

import msgspec
import numpy as np

from shared.errors import InvalidInput

ALPHA = 1e-4
"""The chance that a policy version whose propensities are right ever raises an alarm."""
ODDS = (0.5, 0.8, 0.95, 1 / 0.95, 1.25, 2.0)
"""θ: by how much the odds of an event may differ from what is stated."""
SHARES = (0.003, 0.03, 0.3)
"""ε: how much more may be explored than is stated."""
LOWER, OTHERS = "\0lower half of the draw", "\0not the likeliest"
"""Events that are no action; no action's id holds a NUL."""
REST = "\0other actions"
MOST_EVENTS = 1_000
"""Actions beyond these are one event, `REST`."""


class Choice(NamedTuple):
    """One item as it was chosen: the eligible `actions`, their stated `propensities`, and the place of the `chosen` one.

    `agrees`: what is stored of it is what was recomputed.
    """

    actions: Sequence[str]
    propensities: Sequence[float]
    chosen: int
    agrees: bool = True


class Event(msgspec.Struct, frozen=True, array_like=True):
    """How often an event came, how often it was to be expected, the variance of that, and log ratios by `ODDS`."""

    count: float = 0.0
    expected: float = 0.0
    variance: float = 0.0
    logs: tuple[float, ...] = (0.0,) * len(ODDS)


class Health(msgspec.Struct, frozen=True):
    """What was seen so far. `choices`: items looked at; `different`: of those, not as stored; `highest`: log evidence, at most."""

    choices: int = 0
    different: int = 0
    events: dict[str, Event] = {}
    shares: tuple[float, ...] = (0.0,) * len(SHARES)
    highest: float = 0.0

    def is_alarming(self, alpha: float = ALPHA) -> bool:
        """Return whether propensities are wrong: some do not recompute, or the evidence once reached 1/`alpha`."""
        return self.different > 0 or self.highest >= log(1.0 / alpha)


def observe(health: Health, choices: Iterable[Choice]) -> Health:
    """Return the health that has also seen `choices`, in the order in which they were made.

    Raises `InvalidInput` (field `propensities`) where they are no law.

    >>> rare = observe(Health(), [Choice("ab", (0.999, 0.001), 1)] * 5)
    >>> rare.is_alarming(), observe(Health(), [Choice("ab", (0.5, 0.5), 1)] * 5).is_alarming()
    (True, False)
    """
    places = {name: at for at, name in enumerate(health.events)}
    rows: list[int] = []
    chances: list[float] = []
    came: list[bool] = []
    shares = np.array(health.shares)
    seen = different = 0
    for choice in choices:
        seen += 1
        different += not choice.agrees
        law = np.asarray(choice.propensities, dtype=np.float64)
        if len(law) != len(choice.actions) or not np.all(law >= 0.0) or abs(law.sum() - 1.0) > _ROUNDING:
            message = "must be at least 0 and sum to 1"
            raise InvalidInput(message, field="propensities")
        for name, chance, did in _events(choice, law, places):
            rows.append(places.setdefault(name, len(places)))
            chances.append(chance)
            came.append(did)
        own = float(law[choice.chosen])
        shares += [inf] * len(SHARES) if own == 0.0 else np.log1p(np.array(SHARES) * (1.0 / (len(law) * own) - 1.0))
    events = _added(health.events, places, np.array(rows, dtype=np.intp), np.array(chances), np.array(came))
    summed = Health(health.choices + seen, health.different + different, events, tuple(shares.tolist()))
    return msgspec.structs.replace(summed, highest=max(health.highest, log_evidence(summed)))


def log_evidence(health: Health) -> float:
    """Return the logarithm of the evidence against the propensities as it stands; 0 is none."""
    weights: list[float] = []
    logs: list[float] = []
    rest = 1.0
    for place, event in enumerate(health.events.values(), 1):
        weight = 1.0 / (place * (place + 1))
        rest -= weight
        weights += [0.5 * weight / len(ODDS)] * len(ODDS)
        logs += event.logs
    weights += [0.5 * rest, *[0.5 / len(SHARES)] * len(SHARES)]
    logs += [0.0, *health.shares]
    highest = max(logs)
    if highest == inf:
        return inf
    return highest + log(sum(w * exp(value - highest) for w, value in zip(weights, logs, strict=True)))


_ROUNDING = 1e-6


def _events(choice: Choice, law: np.ndarray, places: dict[str, int]) -> Iterable[tuple[str, float, bool]]:
    """Yield the events of a choice with their stated chances, and whether they came."""
    below = np.cumsum(law)
    middle = int(np.argmin(np.abs(below - 0.5)))
    yield LOWER, min(float(below[middle]), 1.0), choice.chosen <= middle
    likeliest = int(np.argmax(law))
    yield OTHERS, max(1.0 - float(law[likeliest]), 0.0), choice.chosen != likeliest
    rest, rest_came = 0.0, False
    for at, (action, chance) in enumerate(zip(choice.actions, law.tolist(), strict=True)):
        if action in places or len(places) < MOST_EVENTS:
            yield action, min(chance, 1.0), at == choice.chosen
        else:
            rest += chance
            rest_came = rest_came or at == choice.chosen
    if rest:
        yield REST, min(rest, 1.0), rest_came


def _added(
    events: dict[str, Event], places: dict[str, int], rows: np.ndarray, chances: np.ndarray, came: np.ndarray
) -> dict[str, Event]:
    """Return the events with what came of them added."""
    n = len(places)
    sums = [np.bincount(rows, values, n).tolist() for values in (came, chances, chances * (1.0 - chances))]
    with np.errstate(divide="ignore"):
        logs = [np.bincount(rows, came * log(odds) - np.log1p((odds - 1.0) * chances), n).tolist() for odds in ODDS]
    added = dict(events)
    for name, at in places.items():
        known = events.get(name, Event())
        count, expected, variance = (column[at] for column in sums)
        added[name] = Event(
            known.count + count,
            known.expected + expected,
            known.variance + variance,
            tuple(one + column[at] for one, column in zip(known.logs, logs, strict=True)),
        )
    return added
