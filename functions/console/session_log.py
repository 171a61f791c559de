"""A log of sessions as the arrays that estimators take, with what each candidate would have done there.

A row is an episode: the items of its decisions one after another, each with its propensity given all that came before. Where every decision has one item
and the policy tells states apart, the same decisions are transitions between its states.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from functions.console.decided_items import DecidedItem
from functions.console.failure import ConsoleFailure
from shared.evaluation.cell_transitions import MOST_PAIRS, CellTransitions
from shared.evaluation.logged_sequences import LoggedSequences, sequences
from shared.policies.choosing import Law
from shared.policies.state_space import StateSpace
from shared.vocabulary import Cells

MOST_ENTRIES = 20_000_000
"""Decisions times eligible actions, and sessions times the length of the longest, that are held in memory."""

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


class SessionLog:
    """Rows are added decision by decision, of all sessions in turn, and become arrays at the end."""

    def __init__(self, state: Mapping[str, Cells], candidates: int) -> None:
        """Prepare for so many candidates; `state`: by which states are told apart, empty for none."""
        self._space = StateSpace(state) if state else None
        self._rows, self._rewards, self._propensities = array("q"), array("d"), array("d")
        self._taken = [array("d") for _ in range(candidates)]
        self._decisions = 0
        self._floors, self._rows_of_decisions = array("d"), array("q")
        self._sizes, self._pairs, self._chosen = array("q"), array("q"), array("q")
        self._laws = [array("d") for _ in range(candidates)]
        self._numbers: dict[tuple[int, str], int] = {}
        self.has_slates = False

    def add(self, row: int, items: Sequence[DecidedItem], laws: Sequence[Sequence[Law]]) -> None:
        """Add the next decision of the session with the number `row`, with each candidate's laws of its items.

        Raises `ConsoleFailure` where there is too much for memory.
        """
        first = items[0]
        self.has_slates |= len(items) > 1
        self._rows_of_decisions.append(row)
        self._floors.append(np.nan if first.floor is None else first.floor)
        for at, item in enumerate(items):
            self._rows.append(row)
            self._rewards.append(item.reward)
            self._propensities.append(np.nan if item.propensity is None else item.propensity)
            for taken, of_items in zip(self._taken, laws, strict=True):
                taken.append(of_items[at].propensities[item.chosen or 0])
        if self._space is None or self.has_slates:
            return
        state = self._space.state(first.stored.decision.context)
        self._sizes.append(len(first.eligible))
        numbers = [self._numbers.setdefault((state, action.id), len(self._numbers)) for action in first.eligible]
        self._pairs.extend(numbers)
        self._chosen.append(numbers[first.chosen or 0])
        for law, (of_item, *_) in zip(self._laws, laws, strict=True):
            law.extend(of_item.propensities)
        if len(self._pairs) > MOST_ENTRIES:
            message = f"more than {MOST_ENTRIES:,} decisions times eligible actions: take a shorter span"
            raise ConsoleFailure(message, field="from")

    def decisions(self, kept: Mask) -> int:
        """Return how many decisions the kept sessions have; `kept`: shape (n_sessions,)."""
        return int(kept[np.array(self._rows_of_decisions, dtype=np.int64)].sum())

    def totals(self, kept: Mask) -> Floats:
        """Return the sum of the rewards of each kept session, shape (n_kept,)."""
        rows, at = _in_order(np.array(self._rows, dtype=np.int64), kept)
        return np.bincount(rows, np.array(self._rewards)[at]).astype(np.float64)

    def can_be_weighed(self, kept: Mask) -> bool:
        """Return whether importance weights exist: no decision of a kept session was made with an exploration floor of 0."""
        floors = np.array(self._floors)[kept[np.array(self._rows_of_decisions, dtype=np.int64)]]
        return not bool((floors == 0.0).any())

    def sequences(self, kept: Mask) -> Iterator[LoggedSequences]:
        """Yield the kept sessions with each candidate for the target. Raises `ConsoleFailure` where they do not fit."""
        rows, at = _in_order(np.array(self._rows, dtype=np.int64), kept)
        lengths = np.bincount(rows)
        longest = int(lengths.max())
        if len(lengths) * longest > MOST_ENTRIES:
            message = (
                f"{len(lengths):,} sessions of up to {longest:,} items do not fit: take a shorter span, or judge the "
                f"beginnings of sessions (--horizon {max(MOST_ENTRIES // len(lengths), 1):,})"
            )
            raise ConsoleFailure(message, field="from")
        mask = np.arange(longest) < lengths[:, None]
        rewards = _laid_out(mask, np.array(self._rewards)[at], 0.0)
        propensities = _laid_out(mask, np.minimum(np.array(self._propensities)[at], 1.0), 1.0)
        for taken in self._taken:
            target = _laid_out(mask, np.clip(np.array(taken)[at], 0.0, 1.0), 1.0)
            yield sequences(rewards, propensities, target, lengths)

    def no_transitions(self) -> str | None:
        """Return why the decisions are no transitions between states, None where they are."""
        if self._space is None:
            return "the policy has no state (--state gives one)"
        if self.has_slates:
            return "decisions have several items"
        pairs = len(set(self._chosen))
        if pairs > MOST_PAIRS:
            return f"{pairs:,} pairs of state and action were logged, more than {MOST_PAIRS:,}: take a coarser --state"
        return None

    def transitions(self, kept: Mask) -> Iterator[CellTransitions]:
        """Yield the decisions of the kept sessions with each candidate for the target."""
        rows, at = _in_order(np.array(self._rows_of_decisions, dtype=np.int64), kept)
        sizes = np.array(self._sizes, dtype=np.int64)
        begins = np.cumsum(sizes) - sizes
        offsets = np.concatenate([[0], np.cumsum(sizes[at])])
        entries = np.repeat(begins[at] - offsets[:-1], sizes[at]) + np.arange(offsets[-1])
        logged, pairs = np.unique(np.array(self._chosen, dtype=np.int64)[at], return_inverse=True)
        places = np.full(len(self._numbers), -1, dtype=np.int64)
        places[logged] = np.arange(len(logged))
        law_pairs = places[np.array(self._pairs, dtype=np.int64)[entries]]
        rewards = np.array(self._rewards)[at]
        for law in self._laws:
            yield CellTransitions(
                pairs=pairs,
                rewards=rewards,
                episodes=rows,
                offsets=offsets,
                law=np.array(law)[entries],
                law_pairs=law_pairs,
                n_pairs=len(logged),
            )


def _in_order(rows: Integers, kept: Mask) -> tuple[Integers, Integers]:
    """Return the number of each entry's session among the kept ones, in their order, and which entry that is."""
    at = np.flatnonzero(kept[rows])
    at = at[np.argsort(rows[at], kind="stable")]
    return (np.cumsum(kept) - 1)[rows[at]], at


def _laid_out(mask: Mask, values: Floats, fill: float) -> Floats:
    matrix = np.full(mask.shape, fill)
    matrix[mask] = values
    return matrix
