"""What each arm of a policy earns: the policy itself, its baseline, the caller's default action.

Sums over the items that were shown, kept apart for `BUCKETS` groups of users (of decisions where no user is known), so that what
users have in common is seen in how groups differ. They are additive: any order of decisions and of revised rewards gives the
same, and nothing of a single user is kept. Nothing is forgotten here. They speak of one way of serving, mode and
baseline: decisions that were made under another do not count.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

import msgspec
import numpy as np

from shared.policies.algorithm import FloatArray
from shared.vocabulary import Baseline, Mode, PolicySpec

BUCKETS = 256
"""Into how many groups units are put: the variance of a mean is known to some 9 %."""
SHOWN, REWARD, SQUARES, WEIGHTS, WEIGHTED, WEIGHTED_SQUARES, AGREED, SAID, GAIN = range(9)
"""Columns: items; their rewards, and the squares; importance weights of the policy itself, these times rewards, and the squares of that;
the policy's own propensities; items of which it believed something, and what it believed that it would have gained."""
_COLUMNS = 9


class Part(msgspec.Struct, frozen=True):
    """How an item counts. `weight`: how much more often the policy itself would have served it and those above, >= 0.

    `agreement`: the policy's own propensity of it; `gain`: None where the policy believed nothing.
    """

    arm: str
    bucket: int
    weight: float = 1.0
    agreement: float = 1.0
    gain: float | None = None


class Counted(Protocol):
    """What happened to an item (an `Outcome`)."""

    @property
    def part(self) -> Part | None:
        """How it counts; None: not at all."""

    @property
    def shown(self) -> bool:
        """Whether it counts as shown from now on."""

    @property
    def before(self) -> float | None:
        """Its reward so far, None for silence."""

    @property
    def after(self) -> float | None:
        """Its reward from now on, None for no change."""


class ArmSums(msgspec.Struct, frozen=True, array_like=True):
    """The sums of each arm, shape (BUCKETS, 9), under one mode and baseline."""

    mode: Mode
    baseline: Baseline | None
    sums: dict[str, FloatArray] = {}


def is_compared(spec: PolicySpec) -> bool:
    """Tell whether a policy has more arms than itself."""
    return spec.baseline is not None or spec.mode != "serve"


def serves_alike(one: PolicySpec, other: PolicySpec) -> bool:
    """Tell whether decisions of two versions may be counted together."""
    return (one.mode, one.baseline) == (other.mode, other.baseline)


def counted(known: ArmSums | None, spec: PolicySpec, outcomes: Iterable[Counted]) -> ArmSums | None:
    """Return the sums that also know `outcomes`; what speaks of another way of serving is left behind."""
    if not is_compared(spec):
        return None
    sums = dict(_of(known, spec))
    rows: dict[str, list[tuple[float, ...]]] = {}
    for outcome in outcomes:
        part = outcome.part
        if part is None:
            continue
        gained, squares = 0.0, 0.0
        if outcome.after is not None:
            before = spec.default_reward if outcome.before is None else outcome.before
            gained, squares = outcome.after - before, outcome.after**2 - before**2
        shown = 1.0 if outcome.shown else 0.0
        gained += shown * spec.default_reward
        squares += shown * spec.default_reward**2
        weight = part.weight
        said = 0.0 if part.gain is None else shown
        believed = 0.0 if part.gain is None else shown * part.gain
        row = (shown, gained, squares, shown * weight, weight * gained, weight**2 * squares)
        rows.setdefault(part.arm, []).append((part.bucket, *row, shown * part.agreement, said, believed))
    for arm, counts in rows.items():
        table = np.array(counts)
        added = sums[arm].copy() if arm in sums else np.zeros((BUCKETS, _COLUMNS))
        np.add.at(added, table[:, 0].astype(np.intp), table[:, 1:])
        sums[arm] = added
    return ArmSums(spec.mode, spec.baseline, sums)


def merged(one: ArmSums | None, other: ArmSums | None, spec: PolicySpec) -> ArmSums | None:
    """Return the sums of both, as far as they speak of how `spec` serves."""
    if not is_compared(spec):
        return None
    sums = dict(_of(one, spec))
    for arm, more in _of(other, spec).items():
        sums[arm] = sums[arm] + more if arm in sums else more
    return ArmSums(spec.mode, spec.baseline, sums)


def _of(known: ArmSums | None, spec: PolicySpec) -> Mapping[str, FloatArray]:
    if known is None or (known.mode, known.baseline) != (spec.mode, spec.baseline):
        return {}
    return known.sums
