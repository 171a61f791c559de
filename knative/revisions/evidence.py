"""What the rewards say of a new revision, as numbers and in words."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from knative.revisions.plan import Plan
from shared.evaluation.non_inferiority import (
    MOST,
    TYPICAL,
    Contrast,
    Lift,
    contrast,
    decisions_needed,
    lift,
    log_ratio,
)
from shared.evaluation.revision_moments import PairMoments, RevisionMoments


class Evidence(msgspec.Struct, frozen=True):
    """The comparison of all windows.

    `log_ratio`: of "not worse" to "worse by the margin"; a verdict at plus or minus `bound`, or by its sign once `decisions` of the
    candidate reach `most`. `contrasts`: of the windows that say something.
    """

    log_ratio: float
    bound: float
    decisions: int
    most: float
    contrasts: tuple[Contrast, ...]
    margin: float
    lift: Lift | None
    serving: RevisionMoments

    @property
    def is_closing(self) -> bool:
        """Return whether the candidate has had as many decisions as a verdict may take."""
        return self.decisions >= self.most

    @property
    def back(self) -> str | None:
        """Return why the roll-out must go back, or None."""
        if self.log_ratio <= -self.bound:
            return f"the new revision earns less: by {self.margin:.0%} rather than nothing ({self._odds})"
        if self.is_closing and self.log_ratio <= 0:
            return f"after {self.decisions:,} decisions the new revision looks nearer {self.margin:.0%} worse than equal ({self._odds})"
        return None

    @property
    def ahead(self) -> str:
        """Return why the roll-out may go forward, where `waits` says nothing."""
        return f"the new revision is not {self.margin:.0%} worse ({self._odds})"

    def waits(self, gate: float) -> str | None:
        """Return what is still missing for a step whose gate is that share of the bound, or None."""
        if not self.contrasts:
            if self.serving.decisions and self.serving.total <= 0:
                return "the serving revision has earned nothing yet, so there is nothing to compare"
            return f"too few rewards to compare anything ({self.decisions:,} decisions of the new revision)"
        if self.is_closing or self.log_ratio >= gate * self.bound:
            return None
        return f"not enough evidence for the next step ({self._odds}; needed e^{gate * self.bound:.1f})"

    @property
    def words(self) -> tuple[str, ...]:
        """Return the numbers in words."""
        if self.lift is None:
            return (f"{self.decisions:,} decisions of the new revision",)
        low, high = self.lift.low, self.lift.high
        last = self.contrasts[-1]
        rewards = f"reward {last.serving_mean:.4g} before, {last.candidate_mean:.4g} new"
        return (
            f"{rewards}; over all steps {self.lift.value:+.1%} (95 % interval at any time {low:+.1%} to {high:+.1%})",
            f"{self.decisions:,} decisions of the new revision, at most {math.ceil(self.most):,} until a verdict",
        )

    @property
    def _odds(self) -> str:
        return f"evidence for equal e^{self.log_ratio:.1f}, a verdict at e^±{self.bound:.1f}"


def weigh(plan: Plan, moments: Sequence[PairMoments]) -> Evidence:
    """Weigh what both revisions earned, one `PairMoments` for each window."""
    found = tuple(each for each in (contrast(window, plan.margin) for window in moments) if each is not None)
    serving = RevisionMoments(
        *(sum(values) for values in zip(*(msgspec.structs.astuple(m.serving) for m in moments), strict=True))
    )
    unit = decisions_needed(serving, plan.margin, found)
    return Evidence(
        log_ratio=log_ratio(found),
        bound=math.log(1 / plan.alpha),
        decisions=int(sum(window.candidate.decisions for window in moments)),
        most=math.inf if unit is None else MOST * unit,
        contrasts=found,
        margin=plan.margin,
        lift=lift(found, plan.margin),
        serving=serving,
    )


def forecast(plan: Plan, serving: RevisionMoments, over_s: float) -> str:
    """Say how many decisions of the new revision a verdict will need, and how long that takes.

    `serving`: what the serving revision earned in the last `over_s` seconds.
    """
    if not serving.decisions:
        return f"the serving revision made no decision in the last {_time(over_s)}: nothing can be foretold"
    rate = serving.decisions / over_s
    unit = decisions_needed(serving, plan.margin)
    if unit is None:
        return (
            f"the serving revision earned nothing in the last {_time(over_s)}: without rewards there will be no verdict"
        )
    needed = [factor * unit for factor in (TYPICAL, MOST)]
    times = [_time(decisions / (rate * plan.steps[0] / 100)) for decisions in needed]
    fastest = _time(needed[0] / (rate * plan.steps[-1] / 100))
    return (
        f"at the present reward of {serving.mean:.4g} a decision and {rate:,.3g} decisions a second, a verdict on {plan.margin:.0%} takes "
        f"about {math.ceil(needed[0]):,} decisions of the new revision (at most {math.ceil(needed[1]):,}): "
        f"between {fastest} at {plan.steps[-1]} % of the traffic and {times[0]} (at most {times[1]}) at {plan.steps[0]} %"
    )


def _time(seconds: float) -> str:
    for unit, name in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:,.0f} {name}"
    return f"{seconds:,.0f} s"
