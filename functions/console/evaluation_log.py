"""A log of decisions as the arrays that estimators take, with what each candidate would have done there.

A log without slates becomes `LoggedDecisions` with a reward model; one with slates `LoggedSequences`, of which a decision with one item is the shortest.
What cannot be judged is left out and counted: a chosen action that is not among the eligible ones, and for slates an unknown propensity.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from functions.console.decided_items import DecidedItem
from functions.console.failure import ConsoleFailure
from functions.console.model_columns import Columns
from shared.evaluation.logged_decisions import LoggedDecisions, ragged
from shared.evaluation.logged_sequences import LoggedSequences, sequences
from shared.evaluation.reward_model import cross_fitted, folds_of
from shared.policies.choosing import Law
from shared.vocabulary import Action

MOST_ENTRIES = 20_000_000
"""Decisions times eligible actions that are held in memory."""
MOST_CELLS = 100_000_000
"""Entries times columns of action features; beyond, the reward model goes without those."""

Floats = npt.NDArray[np.float64]


class Survey:
    """A first pass: how many decisions there are, whether any is a slate, and what the reward model's columns are."""

    def __init__(self) -> None:
        """Know nothing."""
        self.decisions = self.entries = 0
        self.longest = 0
        self.contexts, self.features = Columns(), Columns()
        self._known: dict[str, Action] = {}

    def look_at(self, items: Sequence[DecidedItem]) -> None:
        """Count one decision. Raises `ConsoleFailure` where there is too much for memory."""
        self.decisions += 1
        self.entries += len(items[0].eligible)
        self.longest = max(self.longest, len(items))
        if self.entries > MOST_ENTRIES:
            message = f"more than {MOST_ENTRIES:,} decisions times eligible actions: take a shorter span"
            raise ConsoleFailure(message, field="from")
        self.contexts.look(items[0].stored.decision.context)
        for action in items[0].eligible:
            if action.features and self._known.get(action.id) is not action:
                self._known[action.id] = action
                self.features.look(action.features)

    @property
    def has_slates(self) -> bool:
        """Return whether a decision has several items."""
        return self.longest > 1

    @property
    def has_features(self) -> bool:
        """Return whether the reward model looks at features of actions."""
        return 0 < self.features.width * self.entries <= MOST_CELLS


def usable(items: Sequence[DecidedItem], left_out: Counter[str], *, slates: bool) -> bool:
    """Return whether a decision can be judged; count in `left_out` why it cannot."""
    if any(item.chosen is None for item in items):
        left_out["chosen action not among the eligible"] += 1
        return False
    if items[0].stored.decision.served_by is not None and items[0].floor == 0.0:
        left_out["served by a default action, which leaves nothing to chance"] += 1
        return False
    if slates and any(item.propensity is None for item in items):
        left_out["propensity unknown, in a log with slates"] += 1
        return False
    return True


class EvaluationLog:
    """The second pass: rows are added one by one, and become arrays at the end."""

    def __init__(self, survey: Survey, candidates: int) -> None:
        """Prepare for what the survey found, and so many candidates."""
        self._survey = survey
        self._rewards, self._propensities, self._floors = array("d"), array("d"), array("d")
        self._sizes, self._chosen, self._codes = array("q"), array("q"), array("q")
        self._lengths = array("q")
        self._targets = [array("d") for _ in range(candidates)]
        self._numbers: dict[str, int] = {}
        slates = survey.has_slates
        self._contexts = np.zeros((0 if slates else survey.decisions, survey.contexts.width))
        rows = survey.entries if survey.has_features and not slates else 0
        self._features = np.zeros((rows, survey.features.width))

    @property
    def rows(self) -> int:
        """Return how many decisions were added."""
        return len(self._lengths)

    def add(self, items: Sequence[DecidedItem], laws: Sequence[Sequence[Law]]) -> None:
        """Add one decision, with the laws of each candidate, one an item."""
        first = items[0]
        if not self._survey.has_slates:
            self._contexts[self.rows] = self._survey.contexts.write(first.stored.decision.context)
            if len(self._features):
                for at, action in enumerate(first.eligible, len(self._codes)):
                    self._features[at] = self._survey.features.write(action.features)
            self._sizes.append(len(first.eligible))
            self._codes.extend(self._numbers.setdefault(action.id, len(self._numbers)) for action in first.eligible)
            for target, (law, *_) in zip(self._targets, laws, strict=True):
                target.extend(law.propensities)
        else:
            for target, of_items in zip(self._targets, laws, strict=True):
                target.extend(law.propensities[item.chosen or 0] for item, law in zip(items, of_items, strict=True))
        for item in items:
            self._rewards.append(item.reward)
            self._propensities.append(np.nan if item.propensity is None else item.propensity)
            self._chosen.append(item.chosen or 0)
        self._floors.append(np.nan if first.floor is None else first.floor)
        self._lengths.append(len(items))

    def without_floor(self) -> int:
        """Return how many decisions were made with an exploration floor of 0."""
        return int((np.array(self._floors) == 0.0).sum())

    def decisions(self, reward_range: tuple[float, float] | None) -> Iterator[LoggedDecisions]:
        """Yield the decisions with each candidate for the target, and the predictions of one reward model."""
        offsets = np.concatenate([[0], np.cumsum(np.array(self._sizes))]).astype(np.int64)
        rewards = np.array(self._rewards)
        log = None
        for given in self._targets:
            target = np.clip(np.array(given), 0.0, 1.0)
            if log is None:
                log = ragged(
                    rewards,
                    np.minimum(np.array(self._propensities), 1.0),
                    offsets,
                    target,
                    np.array(self._chosen),
                    actions=np.array(self._codes),
                    floors=np.array(self._floors),
                    reward_range=reward_range,
                )
                log = self._predicted(log)
            yield log.with_target(target)

    def slates(self) -> Iterator[LoggedSequences]:
        """Yield the slates with each candidate for the target."""
        lengths = np.array(self._lengths)
        mask = np.arange(self._survey.longest) < lengths[:, None]
        for given in self._targets:
            target = np.clip(np.array(given), 0.0, 1.0)
            rewards, propensities, probabilities = (
                self._laid_out(mask, np.array(values), fill)
                for values, fill in ((self._rewards, 0.0), (self._propensities, 1.0), (target, 1.0))
            )
            yield sequences(rewards, np.minimum(propensities, 1.0), probabilities, lengths)

    def _predicted(self, log: LoggedDecisions) -> LoggedDecisions:
        if log.rows < _LEAST_FOR_A_MODEL:
            return log
        features = self._features if len(self._features) else None
        return log.with_predictions(cross_fitted(log, self._contexts[: log.rows], features, folds_of(log.rows)))

    @staticmethod
    def _laid_out(mask: npt.NDArray[np.bool_], values: Floats, fill: float) -> Floats:
        matrix = np.full(mask.shape, fill)
        matrix[mask] = values
        return matrix


_LEAST_FOR_A_MODEL = 30
