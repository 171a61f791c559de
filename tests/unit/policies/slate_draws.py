"""What the tests of moved evidence share: which columns a kind moves, and slates of two, drawn many at once as `Law.draw` does."""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt

from shared.policies.choosing import Law
from shared.policies.kinds import SEQUENTIAL_KINDS
from shared.vocabulary import Snapshot

Floats = npt.NDArray[np.float64]


def worth_more(snapshot: Snapshot, evidence: Floats, shift: Floats) -> Floats:
    """Return the evidence of actions that are worth more by `shift`, in units of reward, shape (n,), kind by kind."""
    low, high = snapshot.reward_range or (0.0, 1.0)
    columns = evidence.shape[1]
    if snapshot.kind == "logistic_thompson":  # draws are log-odds of rewards in the range
        rewards = low + (high - low) / (1.0 + np.exp(-evidence[:, 1:]))
        return np.column_stack([evidence[:, 0], rewards + shift[:, None]])
    by_column = np.ones(columns)
    if snapshot.kind in {"thompson", "top_two_thompson"}:  # draws of rewards in a range are scaled
        by_column /= high - low
    if snapshot.kind == "rand_ucb" or (snapshot.kind in SEQUENTIAL_KINDS and columns == 2):  # spreads, exploration
        by_column[1] = 0.0
    if snapshot.kind in SEQUENTIAL_KINDS and columns > 2:  # a score, and the draws of the bandit within
        by_column[0], by_column[1:] = 0.0, 1.0 / (high - low)
    return evidence + np.outer(shift, by_column)


def places(law: Law, uniforms: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
    """Return the position that each uniform number draws, shape (n,)."""
    drawn: npt.NDArray[np.intp] = np.minimum(np.searchsorted(law._below, uniforms, side="right"), law._last)
    assert drawn[:50].tolist() == [law.draw(uniform) for uniform in uniforms[:50].tolist()]
    return drawn


def pairs_of(law: Law, uniforms: npt.NDArray[np.float64]) -> tuple[Counter[str], dict[str, float]]:
    """Draw first and second items by `uniforms`, shape (2, n); return how often each pair came, and its stated probability."""
    counts: Counter[str] = Counter()
    stated: dict[str, float] = {}
    first = places(law, uniforms[0])
    for at, (above, share) in enumerate(zip(law.actions, law.propensities, strict=True)):
        rest = law.without(at)
        second = np.bincount(places(rest, uniforms[1, first == at]), minlength=len(rest.actions))
        counts += Counter({f"{above} {action}": int(n) for action, n in zip(rest.actions, second, strict=True)})
        stated |= {f"{above} {a}": share * p for a, p in zip(rest.actions, rest.propensities, strict=True)}
    return counts, stated
