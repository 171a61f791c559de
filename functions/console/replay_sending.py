"""Sends logged impressions and their clicks through POST /v1/decisions and POST /v1/feedback.

Every decision carries a name made from the row alone, so sending the same rows again adds nothing. The server
answers its own decision ids, which the feedback must use; the click is named for that id, because a row that
goes to another policy or is moved by other weeks is another decision with a click of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TypeVar

import msgspec

from functions.console.client import Client, JsonObject
from functions.console.failure import ConsoleFailure
from functions.console.obd_log import Impression

_Row = TypeVar("_Row")
_CLICK_DELAY_S = 1.0  # the log says that a click came, not when


class Click(msgspec.Struct, frozen=True):
    """A click to send. `decision_id`: the server's; `occurred_at`: POSIX seconds, already shifted."""

    decision_id: str
    occurred_at: float


class Sent(msgspec.Struct):
    """What came of sending. `elapsed_s`: the time spent in requests."""

    accepted: int = 0
    duplicates: int = 0
    elapsed_s: float = 0.0

    def add(self, answer: JsonObject, elapsed_s: float) -> None:
        """Count what one request was answered."""
        self.accepted += int(answer["accepted"])
        self.duplicates += int(answer["duplicates"])
        self.elapsed_s += elapsed_s


class Sender:
    """Sends rows for one replay. `prefix` names its decisions; `shift_s` is added to every time."""

    def __init__(self, client: Client, *, prefix: str, shift_s: float, batch_size: int) -> None:
        """Remember how to send; `batch_size`: rows per request, >= 1."""
        self._client = client
        self._prefix = prefix
        self._shift_s = shift_s
        self._batch_size = batch_size
        self.decisions = Sent()
        self.feedback = Sent()

    def send_decisions(
        self, policy: str, impressions: Sequence[Impression], advance: Callable[[int], None]
    ) -> list[Click]:
        """Log `impressions` under `policy` and return the clicks that belong to them, unsent."""
        clicks: list[Click] = []
        for batch in _batches(impressions, self._batch_size):
            body = {"decisions": [self._decision(policy, impression) for impression in batch]}
            answer = self._timed_post("/v1/decisions", body, self.decisions)
            decision_ids = answer.get("decision_ids", [])
            if len(decision_ids) != len(batch):
                message = f"{len(batch)} decisions were sent, {len(decision_ids)} decision ids came back"
                raise ConsoleFailure(message)
            clicks += [
                Click(decision_id, row.occurred_at + self._shift_s + _CLICK_DELAY_S)
                for decision_id, row in zip(decision_ids, batch, strict=True)
                if row.clicked
            ]
            advance(len(batch))
        return clicks

    def send_clicks(self, clicks: Sequence[Click]) -> None:
        """Send `clicks` in batches; returns when the last batch is acknowledged."""
        for batch in _batches(clicks, self._batch_size):
            self._timed_post("/v1/feedback", {"events": [_event(click) for click in batch]}, self.feedback)

    def send_one_click(self, click: Click) -> bool:
        """Send one click by itself and return whether it was new."""
        accepted = self.feedback.accepted
        self._timed_post("/v1/feedback", _event(click), self.feedback)
        return self.feedback.accepted > accepted

    def _timed_post(self, path: str, body: JsonObject, sent: Sent) -> JsonObject:
        started = time.monotonic()
        answer = self._client.post(path, body)
        sent.add(answer, time.monotonic() - started)
        return answer

    def _name(self, impression: Impression) -> str:
        return f"{self._prefix}-{impression.key}"

    def _decision(self, policy: str, impression: Impression) -> JsonObject:
        return {
            "policy": policy,
            "decision_id": self._name(impression),
            "action": impression.item,
            "propensity": impression.propensity,
            "position": impression.position,
            "context": impression.context,
            "occurred_at": _rfc3339(impression.occurred_at + self._shift_s),
        }


def _batches(rows: Sequence[_Row], size: int) -> Iterator[Sequence[_Row]]:
    return (rows[start : start + size] for start in range(0, len(rows), size))


def _event(click: Click) -> JsonObject:
    return {
        "decision_id": click.decision_id,
        "kind": "click",
        "value": 1,
        "event_id": f"click-{click.decision_id}",
        "occurred_at": _rfc3339(click.occurred_at),
    }


def _rfc3339(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).isoformat(timespec="microseconds")
