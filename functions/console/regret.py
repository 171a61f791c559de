"""Cumulative regret while it grows: what the policy missed, beside what uniform choice would have missed.

For a visit of user u with true rates r_u, the item a that was chosen and n items,

    regret of the policy   += max r_u - r_u[a]
    regret of uniform      += max r_u - mean r_u

both in expected clicks, so that the luck of single clicks does not show; the oracle's regret is zero by
definition. Visits are counted in the order in which they finish. All methods may be called from any thread.
"""

from __future__ import annotations

from threading import Lock

import msgspec
import numpy as np
import numpy.typing as npt

_POINTS = 600


class RegretCurve(msgspec.Struct, frozen=True):
    """The state after some visits. The curves have equal lengths; `visits` are counts, the rest clicks.

    `finished`: visits so far; `best_share`: the share of the visits of the last tenth that were given their
    best item.
    """

    finished: int
    clicks: int
    degraded: int
    best_share: float
    visits: tuple[int, ...]
    policy: tuple[float, ...]
    uniform: tuple[float, ...]

    @property
    def policy_regret(self) -> float:
        """Cumulative regret of the policy."""
        return self.policy[-1]

    @property
    def uniform_regret(self) -> float:
        """Cumulative regret of choosing uniformly."""
        return self.uniform[-1]


class RegretMeter:
    """Counts visits. `planned`: how many will come, which sets how densely the curve is sampled."""

    def __init__(self, planned: int) -> None:
        """Start from nothing."""
        self._lock = Lock()
        self._stride = max(1, planned // _POINTS)
        self._was_best = np.zeros(max(1, planned // 10), dtype=np.bool_)
        self._finished = self._clicks = self._degraded = 0
        self._policy = self._uniform = 0.0
        self._curve: list[tuple[int, float, float]] = [(0, 0.0, 0.0)]

    def record(self, rates: npt.NDArray[np.float64], place: int, *, clicked: bool, degraded: bool) -> None:
        """Count one visit with true `rates` (shape (n_items,)) that was given the item at `place`."""
        best = float(rates.max())
        missed = best - float(rates[place])
        missed_by_uniform = best - float(rates.mean())
        with self._lock:
            self._was_best[self._finished % len(self._was_best)] = missed <= 0.0
            self._finished += 1
            self._clicks += clicked
            self._degraded += degraded
            self._policy += missed
            self._uniform += missed_by_uniform
            if self._finished % self._stride == 0:
                self._curve.append((self._finished, self._policy, self._uniform))

    def read(self) -> RegretCurve:
        """Return the state as it is now."""
        with self._lock:
            curve = [*self._curve]
            if curve[-1][0] != self._finished:
                curve.append((self._finished, self._policy, self._uniform))
            recent = self._was_best[: min(self._finished, len(self._was_best))]
            visits, policy, uniform = zip(*curve, strict=True)
            return RegretCurve(
                finished=self._finished,
                clicks=self._clicks,
                degraded=self._degraded,
                best_share=float(recent.mean()) if len(recent) else 0.0,
                visits=visits,
                policy=policy,
                uniform=uniform,
            )
