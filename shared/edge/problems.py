"""Errors become problem details (RFC 9457), here and nowhere else.

Statuses are chosen for Knative's broker too: it tries again on 404, 408, 409, 429 and 5xx, so what will never work is
another 4xx, and what may work later is 503 with `Retry-After`.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from shared import errors
from shared.edge.http import Reply

STATUSES: Mapping[type[errors.KnudgeError], int] = {
    errors.InvalidInput: 400,
    errors.UnknownEventType: 422,
    errors.UnknownRoute: 404,
    errors.UnknownPolicy: 404,
    errors.UnknownDecision: 404,
    errors.UnknownExperiment: 404,
    errors.UnknownFlag: 404,
    errors.UnknownDeadLetter: 404,
    errors.WrongMethod: 405,
    errors.Conflict: 409,
    errors.NotKept: 409,
    errors.TooLarge: 413,
    errors.NotBootstrapped: 503,
    errors.NoCatalogue: 503,
    errors.Unavailable: 503,
    errors.SinkUnavailable: 503,
    errors.Overloaded: 503,
}
_FOR_EVENTS = {404: 422, 409: 422}
_RETRY_LATER = 503
_LONGEST_FOR_EVENTS = 768
"""As much of an answer as a broker hands on to its dead letter sink; what is longer would be cut within the JSON."""


class Fault(msgspec.Struct, frozen=True):
    """One of several faults of an input."""

    field: str
    detail: str


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """The body of every error. `type` is stable; `field` is the dotted path of the input at fault.

    `errors`: every fault, where all were looked for; `field` is then the first one's, and `detail` tells all of them.
    """

    type: str
    title: str
    status: int
    detail: str
    field: str | None = None
    errors: tuple[Fault, ...] = ()


def problem_reply(error: errors.KnudgeError, *, of_event: bool = False) -> Reply:
    """Return the reply for an error; `of_event`: to a CloudEvent, where a poison one must not be tried again."""
    status = STATUSES.get(type(error), 500)
    if of_event:
        status = _FOR_EVENTS.get(status, status)
    faults = () if of_event else tuple(Fault(*fault) for fault in error.faults)
    kind = f"urn:knudge:problem:{error.slug}"
    problem = Problem(kind, error.title(), status, error.detail, error.field, faults)
    content = msgspec.json.encode(problem)
    while of_event and len(content) > _LONGEST_FOR_EVENTS:
        detail, field = problem.detail, problem.field
        if field is not None and len(field) > len(detail):
            field = field[: len(field) // 2]
        else:
            detail = detail[: len(detail) // 2]
        problem = msgspec.structs.replace(problem, detail=detail, field=field)
        content = msgspec.json.encode(problem)
    headers = [(b"content-type", b"application/problem+json")]
    if status == _RETRY_LATER:
        headers.append((b"retry-after", b"1"))
    return Reply(status, content, headers)


def fault_reply() -> Reply:
    """Return the reply for an error that nobody foresaw; its cause stands in the log."""
    problem = Problem("urn:knudge:problem:fault", "Something went wrong here", 500, "the log of the function says more")
    return Reply(500, msgspec.json.encode(problem), [(b"content-type", b"application/problem+json")])
