"""The record of an event that its function did not take."""

from __future__ import annotations

import msgspec


class DeadLetter(msgspec.Struct, frozen=True):
    """An event that its function did not take, as it is kept: names are sealed, data is JSON or left out (None).

    `time`: as it was sent. `attributes`: extension attributes, a broker's own excepted. `data_bytes`, `data_hash`: of the
    data as it was sent. `destination`: where it failed; `error_code`: the status of the last attempt, `error_data` what
    was answered to it. `actor`: who brought it.
    """

    type: str
    source: str
    event_id: str
    subject: str | None
    time: str | None
    content_type: str | None
    attributes: dict[str, str]
    data: bytes | None
    data_bytes: int
    data_hash: str
    destination: str | None
    error_code: int | None
    error_data: str | None
    actor: str
