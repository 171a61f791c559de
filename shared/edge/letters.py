"""The typed structures of dead letters over HTTP, version 1; the rules of `shared.edge.contracts` hold."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from shared.edge.contracts import Timestamp


class CloudEventIn(msgspec.Struct):
    """`POST /v1/dead-letters`: any CloudEvent 1.0 in structured mode; binary mode and batches are taken too."""

    specversion: Literal["1.0"]
    id: str
    source: str
    type: str
    subject: str | None = None
    time: str | None = None
    datacontenttype: str | None = None
    data: Any = None
    knativeerrordest: str | None = None
    knativeerrorcode: int | str | None = None
    knativeerrordata: str | None = None


class DeadLettersAsked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which dead letters to list. `since`: that failed since then; `before`: with a lower id, for the next page."""

    type: str | None = None
    since: Timestamp | None = None
    open: bool | None = None
    before: Annotated[int, Meta(ge=1, le=2**63 - 1)] | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


class DeadLetterLine(msgspec.Struct, frozen=True):
    """A dead letter in the list. `open`: not replayed since it last failed, at `failed_at`; `arrivals`: how often it came."""

    id: int
    type: str
    source: str
    event_id: str
    destination: str | None
    error_code: int | None
    error_data: str | None
    received_at: str
    failed_at: str
    arrivals: int
    replays: int
    replayed_at: str | None
    replayed_by: str | None
    open: bool
    data_bytes: int
    data_kept: bool


class DeadLetters(msgspec.Struct, frozen=True):
    """`GET /v1/dead-letters`, newest first. `next`: what to ask `before` of for the next page; none on the last."""

    letters: list[DeadLetterLine]
    next: int | None


class DeadLetterOut(DeadLetterLine, frozen=True):
    """`GET /v1/dead-letters/{id}`: a dead letter with all that was kept of it; names are sealed."""

    subject: str | None
    time: str | None
    content_type: str | None
    attributes: dict[str, str]
    data: msgspec.Raw
    data_hash: str
    actor: str


class DeadLetterReplayed(msgspec.Struct, frozen=True):
    """A dead letter was sent again: `replays` counts how often it was."""

    id: int
    replays: int
