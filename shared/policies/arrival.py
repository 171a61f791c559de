"""How much of the feedback has arrived by a given age.

A decision without feedback weighs as the default reward times F(age). Where a policy declares no expected delay, F is
1 at once: silence is believed immediately. Counting slow rewards at once would starve new actions. Where it declares
one, F is estimated from the delays of the answers that came, with the declared one as the prior.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import ceil, expm1, log2

N_BINS = 15
"""Delays are counted in bins whose upper ends are window * 2^(-7), 2^(-6.5), ..., 2^(-0.5), 1: as fine as ages are known."""
PRIOR_ANSWERS = 20.0
"""How many answers the declared delay is worth."""


def delay_bin(delay_s: float, window_s: float) -> int:
    """Return the bin, in [0, N_BINS), of an answer that came `delay_s` after its decision.

    >>> [delay_bin(delay_s, 128.0) for delay_s in (-1.0, 1.0, 1.1, 64.0, 100.0, 128.0)]
    [0, 0, 1, 12, 14, 14]
    """
    if delay_s * 2.0 ** ((N_BINS - 1) / 2) <= window_s:
        return 0
    return min(ceil(2.0 * log2(delay_s / window_s)) + N_BINS - 1, N_BINS - 1)


def declared_share(age_s: float, expected_delay_s: float, window_s: float) -> float:
    """Return the share of answers, in [0, 1], that have arrived by `age_s` if the delay is what was declared.

    Delays are then exponential with mean `expected_delay_s`, cut off at the end of the reward window:
    F0(a) = (1 - exp(-a/d)) / (1 - exp(-w/d)) below the window w, 1 from there on.
    """
    if age_s >= window_s:
        return 1.0
    return expm1(-age_s / expected_delay_s) / expm1(-window_s / expected_delay_s) if age_s > 0 else 0.0


class Arrival:
    """F(age), estimated from answers that are seen only once they have come.

    An answer with delay x of a decision of age a is seen only if x <= a: delays are truncated on the right. Of the
    answers that came by the end u(k) of bin k, among decisions at least that old, a share q(k) came within the bin, the
    reversed hazard, and

        q(k) = (n(k) + m * (F0(u(k)) - F0(u(k - 1)))) / (N(k) + m * F0(u(k))),   F(u(k - 1)) = F(u(k)) * (1 - q(k)),

    from F(window) = 1 downwards, with n and N the weights of answers within and up to the bin, and the declared F0 worth
    m = `PRIOR_ANSWERS`; without answers F is F0. Between the ends F follows the shape of F0 as far as the prior
    weighs, and is straight for the rest. Decisions that will never be answered are in no count, so F does not depend on how many there are. What no decision is old enough to show is the
    prior's to say. Lagakos, Barraj and De Gruttola, Nonparametric analysis of truncated survival data (1988).

    >>> exponential = Arrival(20.0, 60.0, [])
    >>> exponential.share(60.0), round(exponential.share(20.0), 6)
    (1.0, 0.665241)
    >>> Arrival(20.0, 60.0, [(60.0, {N_BINS - 1: 1e9})]).share(30.0) < 1e-6
    True
    """

    def __init__(
        self, expected_delay_s: float, window_s: float, answers: Iterable[tuple[float, Mapping[int, float]]]
    ) -> None:
        """Estimate from groups of decisions: the age in s of the youngest of each, and its answers' weight by bin."""
        self._expected_delay_s, self._window_s = expected_delay_s, window_s
        within, up_to = [0.0] * N_BINS, [0.0] * N_BINS
        self._ends: list[float] = [window_s * 2.0 ** ((at - N_BINS + 1) / 2) for at in range(N_BINS)]
        for youngest_s, weights in answers:
            so_far = 0.0
            for at, end_s in enumerate(self._ends):
                if end_s > youngest_s:
                    break
                weight = max(weights.get(at, 0.0), 0.0)
                so_far += weight
                within[at] += weight
                up_to[at] += so_far
        self._shares, self._trust = [1.0] * N_BINS, [1.0] * N_BINS
        for at in range(N_BINS - 1, -1, -1):
            declared = PRIOR_ANSWERS * self._declared(self._ends[at])
            self._trust[at] = declared / (up_to[at] + declared)
            if at:
                below = PRIOR_ANSWERS * self._declared(self._ends[at - 1])
                hazard = (within[at] + declared - below) / (up_to[at] + declared)
                self._shares[at - 1] = self._shares[at] * (1.0 - hazard)

    def share(self, age_s: float) -> float:
        """Return the share of answers, in [0, 1], that have arrived by `age_s` seconds."""
        if age_s <= 0:
            return 0.0
        if age_s >= self._window_s:
            return 1.0
        at = delay_bin(age_s, self._window_s)
        first_s, last_s = self._ends[at - 1] if at else 0.0, self._ends[at]
        below = self._shares[at - 1] if at else 0.0
        start, end = self._declared(first_s), self._declared(last_s)
        passed = (age_s - first_s) / (last_s - first_s)
        if end > start:
            passed += self._trust[at] * ((self._declared(age_s) - start) / (end - start) - passed)
        return below + (self._shares[at] - below) * min(max(passed, 0.0), 1.0)

    def _declared(self, age_s: float) -> float:
        return declared_share(age_s, self._expected_delay_s, self._window_s)
