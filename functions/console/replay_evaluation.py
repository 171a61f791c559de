"""What the held-out impressions say about three policies of one campaign.

Which rows and which weights, and why:

* *learned* and *uniform* are estimated on the held-out rows of the `random` log, by self-normalised
  importance weighting with the logged propensities. The learned policy does not look at the position, so its
  probability of a row's item is the same at all three; the `random` log gave each item 1 / n_items at each of
  them. Its weights are therefore bounded by n_items; those of uniform are all one.
* *bts* is estimated on the held-out rows of its own log, where it is target and behaviour at once: all
  weights are one, and the estimate is the mean. Its probabilities for rows of the `random` log are not in the
  data (they moved over the week, and only those of shown items were logged).
* As a *cross-check*, learned and uniform are also estimated on the `bts` log. The weights there spread over
  several orders of magnitude (propensities go down to 1e-6), so few rows carry the estimate: look at the
  effective sample size before believing it. It decides nothing.

learned and uniform share rows, so their difference is a paired one; a difference to bts is one of independent
logs. The learned policy never saw a held-out row. Rows are taken as independent: the data has no user ids
that could tell otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from functions.console.failure import ConsoleFailure
from functions.console.obd_log import Behaviour, Campaign, Impression
from shared.evaluation.doubts import LEAST_EFFECTIVE_REWARDS
from shared.evaluation.independent_difference import independent_difference
from shared.evaluation.logged_decisions import LoggedDecisions, dense
from shared.evaluation.logged_mean import logged_mean
from shared.evaluation.paired_difference import paired_difference
from shared.evaluation.self_normalised import self_normalised, self_normalised_terms
from shared.evaluation.value_estimate import Difference, ValueEstimate

_SUM_TOLERANCE = 1e-6


class PolicyEstimate(msgspec.Struct, frozen=True):
    """One policy's estimated click rate. `log`: whose rows it rests on; `clicks`: how many were clicked."""

    policy: str
    log: Behaviour
    clicks: int
    estimate: ValueEstimate
    cross_check: bool = False


class Comparison(msgspec.Struct, frozen=True):
    """`first` minus `second`.

    `clicks`: how many both estimates rest on together; `effective_clicks`: of the one that rests on fewer.
    """

    first: str
    second: str
    clicks: int
    effective_clicks: float
    difference: Difference

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves out zero and rests on enough clicks to be believed."""
        return self.difference.is_told_apart() and self.effective_clicks >= LEAST_EFFECTIVE_REWARDS


class CampaignResult(msgspec.Struct, frozen=True):
    """Everything that was estimated for one campaign."""

    campaign: Campaign
    estimates: tuple[PolicyEstimate, ...]
    comparisons: tuple[Comparison, ...]


def evaluate_campaign(
    campaign: Campaign, held_out: Sequence[Impression], action_to_propensity: Mapping[str, float]
) -> CampaignResult:
    """Estimate all three policies from the `held_out` rows of both logs of `campaign`.

    `action_to_propensity`: the learned policy's probability of every item, summing to 1. Raises
    `ConsoleFailure` where it does not, or where a log has no held-out row.
    """
    total = math.fsum(action_to_propensity.values())
    if abs(total - 1.0) > _SUM_TOLERANCE:
        message = f"the propensities of the learned policy for {campaign} sum to {total:.6f}, not to 1"
        raise ConsoleFailure(message)
    uniform = dict.fromkeys(action_to_propensity, 1.0 / len(action_to_propensity))
    random_log = _Log("random", campaign, held_out)
    bts_log = _Log("bts", campaign, held_out)

    learned_log, uniform_log = random_log.under(action_to_propensity), random_log.under(uniform)
    learned = random_log.estimate("learned", self_normalised(learned_log))
    even = random_log.estimate("uniform", self_normalised(uniform_log))
    bts = bts_log.estimate("bts", logged_mean(bts_log.under(uniform)))
    cross_checks = (
        bts_log.estimate(policy, self_normalised(bts_log.under(target)), cross_check=True)
        for policy, target in (("learned", action_to_propensity), ("uniform", uniform))
    )
    return CampaignResult(
        campaign=campaign,
        estimates=(learned, even, bts, *cross_checks),
        comparisons=(
            Comparison(
                "learned",
                "uniform",
                random_log.clicks,
                min(learned.estimate.effective_rewards, even.estimate.effective_rewards),
                paired_difference(self_normalised_terms(learned_log), self_normalised_terms(uniform_log)),
            ),
            _independent(learned, bts),
            _independent(bts, even),
        ),
    )


def impressions_factor(difference: Difference) -> float | None:
    """Return how many times as many rows would tell a difference of this size from zero.

    None where there is no interval or no difference. A standard error shrinks with the root of the number of
    rows.
    """
    interval = difference.interval()
    if interval is None or difference.value == 0.0:
        return None
    return ((interval[1] - difference.value) / difference.value) ** 2


class _Log:
    """The held-out rows of one log, in time order."""

    def __init__(self, behaviour: Behaviour, campaign: Campaign, held_out: Sequence[Impression]) -> None:
        self._behaviour = behaviour
        self._rows = [row for row in held_out if row.behaviour == behaviour and row.campaign == campaign]
        if not self._rows:
            message = f"no impression of the {behaviour} log of {campaign} was held out: take more rows"
            raise ConsoleFailure(message, field="held_out")
        self.clicks = sum(row.clicked for row in self._rows)

    def under(self, action_to_propensity: Mapping[str, float]) -> LoggedDecisions:
        """Return the rows with a target policy that gives every row the same probabilities, 0 to items that it does not know."""
        items = sorted({*action_to_propensity, *(row.item for row in self._rows)})
        item_to_number = {item: number for number, item in enumerate(items)}
        target = np.array([action_to_propensity.get(item, 0.0) for item in items])
        return dense(
            np.array([float(row.clicked) for row in self._rows]),
            np.array([row.propensity for row in self._rows]),
            np.tile(target / target.sum(), (len(self._rows), 1)),
            np.array([item_to_number[row.item] for row in self._rows]),
            reward_range=(0.0, 1.0),
        )

    def estimate(self, policy: str, estimate: ValueEstimate, *, cross_check: bool = False) -> PolicyEstimate:
        return PolicyEstimate(policy, self._behaviour, self.clicks, estimate, cross_check)


def _independent(first: PolicyEstimate, second: PolicyEstimate) -> Comparison:
    return Comparison(
        first.policy,
        second.policy,
        first.clicks + second.clicks,
        min(first.estimate.effective_rewards, second.estimate.effective_rewards),
        independent_difference(first.estimate, second.estimate),
    )
