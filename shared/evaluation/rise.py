"""Are there more bad answers (errors, slow ones) from the new revision than its traffic explains?

Given how many requests both revisions answered in a while, n_c and n_s, each bad answer is the candidate's with probability

    π(rho) = rho n_c / (rho n_c + n_s)

where the candidate's rate of bad answers is rho times the serving revision's; the rate itself cancels, so an outage that hits both is
no rise. Against "rho <= 1" stands a mixture of `RATIOS`, each a likelihood ratio that is a test martingale (the mean of them is one
too): whoever stops when the mean reaches 1/alpha errs with probability at most alpha, however often it is looked at. Where rates are not
small the number of bad answers that are the candidate's is hypergeometric, which varies less than the binomial and keeps the bound.
"""

from __future__ import annotations

import math

import msgspec

RATIOS = (1.5, 2.0, 4.0, 10.0, 100.0)


class Rise(msgspec.Struct, frozen=True, array_like=True):
    """The evidence so far: the logarithm of each likelihood ratio, and how many requests and bad answers were seen."""

    logs: tuple[float, ...] = (0.0,) * len(RATIOS)
    candidate_requests: int = 0
    candidate_bad: int = 0
    serving_requests: int = 0
    serving_bad: int = 0

    @property
    def evidence(self) -> float:
        """Return the e-value: 1 is none, 1/alpha rejects "no rise" at level alpha."""
        highest = max(self.logs)
        if highest > _LARGEST_LOG:
            return math.inf
        return sum(math.exp(log) for log in self.logs) / len(self.logs)

    @property
    def candidate_rate(self) -> float:
        """Return the share of the candidate's answers that were bad."""
        return self.candidate_bad / self.candidate_requests if self.candidate_requests else 0.0

    @property
    def serving_rate(self) -> float:
        """Return the share of the serving revision's answers that were bad."""
        return self.serving_bad / self.serving_requests if self.serving_requests else 0.0

    def is_told(self, alpha: float, least: float) -> bool:
        """Return whether there is a rise, at level `alpha`, of at least `least` (a share of all answers)."""
        return self.evidence >= 1 / alpha and self.candidate_rate - self.serving_rate >= least


def observe(rise: Rise, candidate: tuple[int, int], serving: tuple[int, int]) -> Rise:
    """Add what both revisions answered in the same while, each as (requests, bad ones among them).

    >>> observe(Rise(), (100, 9), (900, 1)).evidence > 1000
    True
    >>> observe(Rise(), (100, 1), (900, 9)).evidence < 1
    True
    """
    (n_c, bad_c), (n_s, bad_s) = candidate, serving
    logs = rise.logs
    if n_c and n_s and (bad_c or bad_s):  # without both at work nothing is compared
        even = n_c / (n_c + n_s)
        shares = [ratio * n_c / (ratio * n_c + n_s) for ratio in RATIOS]
        logs = tuple(
            log + bad_c * math.log(share / even) + bad_s * math.log((1 - share) / (1 - even))
            for log, share in zip(logs, shares, strict=True)
        )
    return Rise(
        logs,
        rise.candidate_requests + n_c,
        rise.candidate_bad + bad_c,
        rise.serving_requests + n_s,
        rise.serving_bad + bad_s,
    )


_LARGEST_LOG = 700.0
