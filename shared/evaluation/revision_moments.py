"""What two revisions earned, as sums: enough to compare them by user, and of one size however many decisions there were.

A *unit* is a user, whose decisions are alike, or a decision without a user. Traffic is split by request, so one user's
decisions may come from both revisions. Sums of the units of different times cannot be added where a unit stands in both.
"""

from __future__ import annotations

import msgspec


class RevisionMoments(msgspec.Struct, frozen=True, array_like=True):
    """The sums of one revision, N decisions and R rewards a unit.

    `decisions`: count. `total`, `squares`: Σ r and Σ r² over decisions. `unit_counts`: Σ N² over units, `unit_products`:
    Σ N R, `unit_squares`: Σ R².
    """

    decisions: float = 0.0
    total: float = 0.0
    squares: float = 0.0
    unit_counts: float = 0.0
    unit_products: float = 0.0
    unit_squares: float = 0.0

    @property
    def mean(self) -> float:
        """Return the mean reward of a decision; 0 where there is none."""
        return self.total / self.decisions if self.decisions else 0.0


class PairMoments(msgspec.Struct, frozen=True, array_like=True):
    """The sums of the candidate and of the serving revision over the same time, and across them (c and s) over units.

    `counts`: Σ N_c N_s, `count_reward`: Σ N_c R_s, `reward_count`: Σ R_c N_s, `rewards`: Σ R_c R_s.
    """

    candidate: RevisionMoments = RevisionMoments()
    serving: RevisionMoments = RevisionMoments()
    counts: float = 0.0
    count_reward: float = 0.0
    reward_count: float = 0.0
    rewards: float = 0.0
