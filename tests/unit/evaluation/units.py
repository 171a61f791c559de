"""The sums of users whose decisions are known one by one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from shared.evaluation.revision_moments import PairMoments, RevisionMoments

Unit = tuple[Sequence[float], Sequence[float]]
"""The rewards of a user's decisions: of the candidate, of the serving revision."""


def moments_of(units: Iterable[Unit]) -> PairMoments:
    """Return the sums, added up one unit at a time."""
    sums = np.zeros(16)
    for new, old in units:
        n, r, m, s = len(new), sum(new), len(old), sum(old)
        candidate = [n, r, sum(x * x for x in new), n * n, n * r, r * r]
        serving = [m, s, sum(x * x for x in old), m * m, m * s, s * s]
        sums += [*candidate, *serving, n * m, n * s, r * m, r * s]
    numbers = sums.tolist()
    return PairMoments(RevisionMoments(*numbers[:6]), RevisionMoments(*numbers[6:12]), *numbers[12:])
