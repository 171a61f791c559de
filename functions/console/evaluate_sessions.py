"""Goes through a log session by session: each is judged, from its first decision to its last, by what candidates knew when it began.

A session is an episode as kinds that depend on order learn it (`shared.policies.closing`). A candidate's snapshot may change while a session
goes on; what judges it does not, so that no candidate is judged by a session that it has learned from. Judged is whoever began in the span and is
over, as a whole: without a decision that cannot be judged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec
import numpy as np

from functions.console.candidate import Candidate
from functions.console.decided_items import DecidedItem
from functions.console.evaluation_log import usable
from functions.console.evaluation_report import Report
from functions.console.evaluation_task import Task
from functions.console.progressive import Progress, judged_by
from functions.console.session_log import Mask, SessionLog
from functions.console.session_report import judge_sessions
from shared.policies.choosing import Chooser
from shared.policies.closing import LONGEST_EPISODE, Episode, Episodes
from shared.vocabulary import PolicySpec

_BEFORE, _PART, _ONGOING, _UNSETTLED, _UNKNOWN = (
    "in a session that began before the span",
    "in a session with a decision that is left out",
    "in a session that is not over at the end of the span",
    "in a session with a reward window that is not over",
    "propensity unknown, in a session",
)


class _Going(msgspec.Struct):
    """A session that goes on: its row (-1: none, it began too early), who judges it, when its last decision was made."""

    row: int
    choosers: Sequence[Chooser]
    last: float


class _Row(msgspec.Struct):
    """What is known of a session that began in the span. `length`: so many of its decisions are judged."""

    last: float = 0.0
    length: int = 0
    is_whole: bool = True
    is_settled: bool = True


class Sessions:
    """Sessions on their way through a log, and what is known of each row."""

    def __init__(self, policy: PolicySpec, task: Task, candidates: int) -> None:
        """Judge `candidates` by the sessions of `policy`."""
        self._timeout_s = policy.session_timeout_s
        self._task = task
        self._cut = Episodes(policy.session_timeout_s)
        self._going: dict[Episode, _Going] = {}
        self._longest = min(task.horizon or LONGEST_EPISODE, LONGEST_EPISODE)
        self._rows: list[_Row] = []
        self.log = SessionLog(policy.state, candidates)
        self.left_out: Counter[str] = Counter()
        self.alone = 0

    def pass_by(self, items: Sequence[DecidedItem]) -> None:
        """Note a decision that was made before the span: its session is not judged."""
        self._of(items, -1)

    def look_at(self, items: Sequence[DecidedItem], progress: Progress) -> None:
        """Judge a decision of the span by what candidates knew when its session began. Raises `ConsoleFailure`."""
        stored = items[0].stored
        going = self._of(items, len(self._rows), progress)
        if going.row < 0:
            self.left_out[_BEFORE] += 1
            return
        if going.row == len(self._rows):
            self._rows.append(_Row())
            self.alone += stored.decision.session is None
        row = self._rows[going.row]
        row.last = stored.decided_at
        if row.length == self._longest:
            return  # beyond the horizon
        if not row.is_whole:
            self.left_out[_PART] += 1
        elif not usable(items, self.left_out, slates=False) or self._has_unknown(items):
            row.is_whole = False
        else:
            self.log.add(going.row, items, judged_by(going.choosers, items))
            row.is_settled &= items[0].settled
            row.length += 1

    def forget(self, now: float) -> None:
        """Let go of sessions that are over at `now`, and of what judged them."""
        over = [episode for episode, going in self._going.items() if going.last + self._timeout_s < now]
        for episode in over:
            del self._going[episode]

    def kept(self) -> Mask:
        """Return which rows are judged, shape (n_sessions,); count the decisions of the others."""
        kept = np.zeros(len(self._rows), dtype=bool)
        for at, row in enumerate(self._rows):
            is_over = row.length == self._longest or row.last + self._timeout_s <= self._task.until
            if not row.is_whole:
                self.left_out[_PART] += row.length
            elif not is_over:
                self.left_out[_ONGOING] += row.length
            elif self._task.settled and not row.is_settled:
                self.left_out[_UNSETTLED] += row.length
            else:
                kept[at] = True
        self.left_out = +self.left_out
        return kept

    def _of(self, items: Sequence[DecidedItem], row: int, progress: Progress | None = None) -> _Going:
        """Return the session of a decision; where it is a new one, it has the number `row` and is judged by what is known now."""
        stored = items[0].stored
        episode = self._cut.of(stored.decided_at, stored.decision.decision_id, stored.decision.session)
        going = self._going.get(episode)
        if going is None:
            choosers = () if progress is None else progress.choosers()
            going = self._going[episode] = _Going(row, choosers, stored.decided_at)
        going.last = stored.decided_at
        return going

    def _has_unknown(self, items: Sequence[DecidedItem]) -> bool:
        unknown = any(item.propensity is None for item in items)
        self.left_out[_UNKNOWN] += unknown
        return unknown


def evaluate_sessions(
    policy: PolicySpec, decisions: Iterable[Sequence[DecidedItem]], given: Sequence[Candidate], size: int, task: Task
) -> Report:
    """Judge `given` by the sessions of a log of `policy`. Raises `ConsoleFailure`.

    `decisions`: in their order, beginning one session time-out before what is learned from, of which there are `size`.
    """
    sessions = Sessions(policy, task, len(given))
    progress = Progress(given, policy, task.block(size), trained_from=task.began, train_every_s=task.train_every_s)
    for items in decisions:
        decided_at = items[0].stored.decided_at
        if decided_at < task.began:
            sessions.pass_by(items)
        if decided_at < task.learned:
            continue
        if progress.go_on(decided_at):
            sessions.forget(decided_at)
        if decided_at >= task.began:
            sessions.look_at(items, progress)
        progress.remember(items)
    kept = sessions.kept()
    notes = []
    if task.horizon is not None:
        notes.append(f"judged: the first {task.horizon:,} decisions of each session")
    if sessions.alone:
        notes.append(f"{sessions.alone:,} of {len(kept):,} sessions are single decisions that name no session")
    return judge_sessions(
        policy.name,
        sessions.log,
        kept,
        given,
        blocks=progress.blocks,
        left_out=sessions.left_out,
        notes=notes,
        is_cut=task.horizon is not None,
    )
