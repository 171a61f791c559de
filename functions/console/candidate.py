"""What a candidate knows at each moment of a log, and who would decide by it.

A candidate is a version of the policy that might have been: another kind, other parameters. It learns as the learner would (sums from
outcomes as they come; kinds that depend on order from closed decisions, once, in their order; those that only a training changes when there
is one), so its snapshot at any moment knows only what was decided, and what feedback had come, before that moment.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

import msgspec

from shared.policies.choosing import Chooser
from shared.policies.closing import MOST_FITTED
from shared.policies.ordered import OpenStep, OrderedLearner, Step
from shared.policies.ordered_kinds import PUBLISHERS, learner_of
from shared.policies.posterior import Outcome, Posterior, learn, nothing_learned, snapshot_of
from shared.vocabulary import PolicySpec


class Candidate:
    """One candidate and what it has learned so far. `learner`: how it learns in order, None where it learns sums alone."""

    def __init__(self, name: str, spec: PolicySpec) -> None:
        """Know nothing."""
        self.name = name
        self.spec = spec
        self.learner: OrderedLearner | None = learner_of(spec)
        self._publisher = PUBLISHERS.get(spec.kind)
        self._posterior: Posterior = nothing_learned(spec, Posterior())
        self._model: bytes | None = None
        self._retained: deque[Step] = deque(maxlen=MOST_FITTED)
        self._ahead: Sequence[OpenStep] = ()
        self._version = 0
        self._chooser: Chooser | None = None

    @property
    def looks_ahead(self) -> bool:
        """Whether its snapshots know of open decisions."""
        return self._publisher is not None

    def learn(self, outcomes: Iterable[Outcome], as_of: float) -> None:
        """Learn `outcomes`, at `as_of` (POSIX seconds); what decides is renewed when it is next asked for."""
        self._posterior = learn(self._posterior, self.spec, outcomes, as_of)
        self._chooser = None

    def learn_in_order(self, steps: Sequence[Step], ahead: Sequence[OpenStep] = ()) -> None:
        """Learn closed decisions, whole episodes or batches in their order; `ahead`: what is open now."""
        self._ahead = ahead
        self._chooser = None
        if self.learner is None or not steps:
            return
        if self.learner.OFFLINE:
            self._retained.extend(steps)
        else:
            self._model = self.learner.learn(self._model, self.spec, steps)

    def train(self) -> None:
        """Let a kind that learns from a training alone be trained from the closed decisions so far."""
        if self.learner is not None and self.learner.OFFLINE and self._retained:
            self._model = self.learner.learn(None, self.spec, list(self._retained))
            self._chooser = None

    def chooser(self) -> Chooser:
        """Return who decides by what is known now."""
        if self._chooser is None:
            self._version += 1
            snapshot = snapshot_of(self._posterior, self.spec, self._version)
            model = self._model
            if self._publisher is not None:
                model = self._publisher.published(model, self.spec, self._ahead, snapshot.as_of)
            if model is not None:
                place = "model" if self.spec.steering is None else "tables"
                snapshot = msgspec.structs.replace(snapshot, **{place: model})
            self._chooser = Chooser(snapshot)
        return self._chooser
