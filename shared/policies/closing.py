"""When decisions of kinds that depend on order are closed, and in which order they are then learned.

The rule, for decisions that come in the order of (time, id): those of a session are an *episode*, up to a pause longer than
`session_timeout_s`, or `LONGEST_EPISODE` of them; one without a session is an episode of its own. An episode is closed when its last
decision is `waits_s` old, and episodes are learned in the order of (last decision, session, place in the session). Kinds that do not
look at sessions learn batches: what is `waits_s` old by then, in the order of (time, id), `CLOSED_AT_ONCE` at most.

The queries `closed` and `closed_batch` of storage say the same in SQL, where what is open is; here it is said for a log that is gone
through in memory. Times are compared in whole microseconds, as PostgreSQL keeps them.
"""

from __future__ import annotations

from typing import NamedTuple

from shared.policies.ordered import OrderedLearner
from shared.vocabulary import PolicySpec

CLOSED_AT_ONCE = 5_000
"""How many decisions one transaction learns in order, at most: a batch is no larger."""
MOST_AHEAD = 5_000
"""How many open decisions, the newest, a snapshot knows of, where its kind looks ahead."""
LONGEST_EPISODE = 1_000
"""After so many decisions an episode ends, however short the pauses."""
MOST_FITTED = 100_000
"""From how many decisions, the last ones in the order, a kind is refitted that learns from all of them at once."""


def waits_s(learner: OrderedLearner, spec: PolicySpec) -> float:
    """Return how old the last decision of an episode, or a decision of a batch, must be to be closed."""
    return max(spec.reward_window_s, spec.session_timeout_s) if learner.EPISODIC else spec.reward_window_s


class Episode(NamedTuple):
    """One episode: the `number`-th, from 0, of a session. A decision without one has its id for a session."""

    session: str
    number: int


class Closed(NamedTuple):
    """A decision that is closed. `since`: from when on it was, in POSIX seconds. `ends`: nothing of its episode or batch comes after it."""

    decision_id: str
    since: float
    ends: bool


class Episodes:
    """Cuts decisions into episodes, as they come.

    >>> cut = Episodes(timeout_s=60.0)
    >>> [cut.of(moment, "", "s").number for moment in (0.0, 60.0, 121.0)]
    [0, 0, 1]
    """

    def __init__(self, timeout_s: float, longest: int = LONGEST_EPISODE) -> None:
        """End an episode after a pause of more than `timeout_s`, or after `longest` decisions."""
        self._timeout = _microseconds(timeout_s)
        self._longest = longest
        self._sessions: dict[str, tuple[int, int, int]] = {}

    def of(self, decided_at: float, decision_id: str, session: str | None) -> Episode:
        """Return the episode of the next decision."""
        if session is None:
            return Episode(decision_id, 0)
        moment = _microseconds(decided_at)
        last, number, length = self._sessions.get(session, (moment, 0, 0))
        if moment - last > self._timeout or length == self._longest:
            number, length = number + 1, 0
        self._sessions[session] = (moment, number, length + 1)
        return Episode(session, number)


class OpenEpisodes:
    """Decisions of an episodic kind until they are closed."""

    def __init__(self, wait_s: float, timeout_s: float, longest: int = LONGEST_EPISODE) -> None:
        """Close an episode when its last decision is `wait_s` old, which is `timeout_s` or more."""
        self._wait_s = wait_s
        self._cut = Episodes(timeout_s, longest)
        self._open: dict[Episode, list[tuple[float, str]]] = {}

    def add(self, decided_at: float, decision_id: str, session: str | None) -> None:
        """Take a decision as open."""
        self._open.setdefault(self._cut.of(decided_at, decision_id, session), []).append((decided_at, decision_id))

    def closed(self, now: float) -> list[Closed]:
        """Take out and return what is closed at `now`, in the order in which it is learned."""
        over = [
            (_microseconds(known[-1][0]), episode)
            for episode, known in self._open.items()
            if _is_old(known[-1][0], self._wait_s, now)
        ]
        found = []
        for _, episode in sorted(over):
            known = self._open.pop(episode)
            since = known[-1][0] + self._wait_s
            found += [Closed(name, since, at == len(known)) for at, (_, name) in enumerate(known, 1)]
        return found


class OpenDecisions:
    """Decisions of a kind that learns batches until they are closed."""

    def __init__(self, wait_s: float, at_once: int = CLOSED_AT_ONCE) -> None:
        """Close a decision when it is `wait_s` old, in batches of `at_once` at most."""
        self._wait_s = wait_s
        self._at_once = at_once
        self._open: list[tuple[float, str]] = []

    def add(self, decided_at: float, decision_id: str, session: str | None = None) -> None:
        """Take a decision as open; its session says nothing."""
        self._open.append((decided_at, decision_id))

    def closed(self, now: float) -> list[Closed]:
        """Take out and return what is closed at `now`, batch after batch."""
        count = 0
        while count < len(self._open) and _is_old(self._open[count][0], self._wait_s, now):
            count += 1
        over, self._open = self._open[:count], self._open[count:]
        return [
            Closed(name, decided_at + self._wait_s, at == count or at % self._at_once == 0)
            for at, (decided_at, name) in enumerate(over, 1)
        ]

    def newest(self, most: int = MOST_AHEAD) -> list[str]:
        """Return the newest of what is open, `most` at most, the oldest first."""
        return [name for _, name in self._open[-most:]]


def _is_old(decided_at: float, wait_s: float, now: float) -> bool:
    return _microseconds(decided_at) <= _microseconds(now - wait_s)


def _microseconds(moment: float) -> int:
    return round(moment * 1e6)
