"""OpenFeature Remote Evaluation Protocol (OFREP) 0.3: its requests, answers and errors in terms of flags and experiments.

`targetingKey` is the user's id, the rest of the context its attributes. An evaluation of one flag shows it to the user, so it exposes; one
of all flags exposes nobody. Without a catalogue clients are told that the provider is not ready, and serve their own defaults.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b

import msgspec
from msgspec import UNSET

from functions.assignment.handler import Evaluated
from shared.edge.decoding import decode
from shared.edge.function import Call
from shared.edge.http import JSON_HEADERS, Reply
from shared.edge.ofrep_contracts import (
    BulkEvaluationOut,
    ErrorCode,
    EvaluationFailure,
    EvaluationOut,
    EvaluationRequest,
    OfrepReason,
)
from shared.errors import InvalidInput, KnudgeError, NoCatalogue, Overloaded, TooLarge
from shared.experiments.assigning import Catalogue, Evaluation
from shared.experiments.assignment import Reason
from shared.experiments.experiment import Json

TARGETING_KEY = "targetingKey"
STATUSES = (400, 404, 429, 500, 503)
_REASONS: Mapping[Reason, OfrepReason] = {
    "assigned": "SPLIT",
    "sticky": "SPLIT",
    "forced": "TARGETING_MATCH",
    "released": "STATIC",
    "draft": "DISABLED",
    "stopped": "DISABLED",
    "coverage": "SPLIT",
    "layer": "SPLIT",
    "holdout": "SPLIT",
}
"""By why an experiment's value is served; other reasons, which OFREP has no word for, are UNKNOWN."""

_request = msgspec.json.Decoder(EvaluationRequest)
_encode = msgspec.json.Encoder().encode
_encode_sorted = msgspec.json.Encoder(order="deterministic").encode


class NoFlag(KnudgeError):
    """No such flag."""

    slug = "unknown-flag"


class NoTargetingKey(InvalidInput):
    """The context names nobody."""


def read_request(body: bytes) -> tuple[str, dict[str, Json]]:
    """Return the user's id and attributes that a request speaks of; raises `InvalidInput`."""
    context = decode(_request, body).context
    user_id = context.get(TARGETING_KEY)
    if user_id is None or user_id == "":
        raise NoTargetingKey("is required: the user's id", field=f"context.{TARGETING_KEY}")
    if not isinstance(user_id, str):
        raise InvalidInput("must be a string", field=f"context.{TARGETING_KEY}")
    return user_id, {name: value for name, value in context.items() if name != TARGETING_KEY}


def single_reply(call: Call, evaluated: Evaluated) -> Reply:
    """Return the answer about one flag; raises `NoFlag`."""
    [evaluation] = evaluated.evaluations
    if evaluation.source == "unknown":
        detail = f"there is no flag and no experiment {evaluation.key!r}"
        raise NoFlag(detail, field="key")
    told = _told(evaluation, evaluated.catalogue)
    if evaluated.degraded:
        told.metadata["degraded"] = True
    return _tagged(call, _encode(told))


def bulk_reply(call: Call, evaluated: Evaluated) -> Reply:
    """Return the answer about all flags."""
    told = [_told(each, evaluated.catalogue) for each in evaluated.evaluations]
    return _tagged(call, _encode(BulkEvaluationOut(told)))


def refusal(error: KnudgeError | None, variables: Mapping[str, str]) -> Reply:
    """Return the answer to an error, None for one that nobody foresaw."""
    status, code = _classified(error)
    detail = "something went wrong here; the log of the function says more"
    if error is not None:
        detail = f"{error.field}: {error.detail}" if error.field else error.detail
    failure = EvaluationFailure(code, detail, variables.get("key", UNSET))
    headers = [*JSON_HEADERS, (b"retry-after", b"1")] if status in _RETRY_LATER else JSON_HEADERS
    return Reply(status, _encode(failure), headers)


_RETRY_LATER = {429, 503}


def _classified(error: KnudgeError | None) -> tuple[int, ErrorCode]:
    if isinstance(error, InvalidInput | TooLarge):
        return 400, _fault(error)
    for kind, status, code in _OTHERS:
        if isinstance(error, kind):
            return status, code
    return 500, "GENERAL"


def _fault(error: InvalidInput | TooLarge) -> ErrorCode:
    if isinstance(error, NoTargetingKey):
        return "TARGETING_KEY_MISSING"
    if error.field == "body" and isinstance(error, InvalidInput):
        return "PARSE_ERROR"
    return "INVALID_CONTEXT" if (error.field or "").startswith("context") else "GENERAL"


_OTHERS: tuple[tuple[type[KnudgeError], int, ErrorCode], ...] = (
    (NoFlag, 404, "FLAG_NOT_FOUND"),
    (Overloaded, 429, "GENERAL"),
    (NoCatalogue, 503, "PROVIDER_NOT_READY"),
)


def _told(evaluation: Evaluation, catalogue: Catalogue) -> EvaluationOut:
    metadata: dict[str, str | bool | int] = {"source": evaluation.source}
    if evaluation.assignments:
        last = evaluation.assignments[-1]
        metadata["experiment"] = last.experiment
        metadata["phase"] = last.phase
        metadata["inExperiment"] = last.in_experiment
        metadata["reason"] = last.reason
    value = UNSET if evaluation.value is None else evaluation.value
    return EvaluationOut(evaluation.key, _reason(evaluation, catalogue), evaluation.variant, metadata, value)


def _reason(evaluation: Evaluation, catalogue: Catalogue) -> OfrepReason:
    """Return why, in the words that OFREP has: what no rule took, and what a prerequisite kept back, is UNKNOWN."""
    flag = catalogue.flags.get(evaluation.key)
    if flag is None or evaluation.source == "experiment":
        return _REASONS.get(evaluation.assignments[-1].reason, "UNKNOWN")
    if not flag.rules:
        return "STATIC"
    if evaluation.source != "value":
        return "UNKNOWN"
    taken = next(compiled.rule for compiled in flag.rules if compiled.variant == evaluation.variant)
    return "TARGETING_MATCH" if taken.coverage is None and taken.range is None else "SPLIT"


def _tagged(call: Call, content: bytes) -> Reply:
    """Return an answer, or where the caller holds it already nothing but its tag."""
    tag = b'"%b"' % _tag(content, call.body)
    headers = [*JSON_HEADERS, (b"etag", tag)]
    held = call.headers.get(b"if-none-match", b"")
    if tag.strip(b'"') in {each.strip().removeprefix(b"W/").strip(b'"') for each in held.split(b",")}:
        return Reply(304, b"", [(b"etag", tag)])
    return Reply(200, content, headers)


def _tag(content: bytes, asked: bytes) -> bytes:
    """Return a tag of an answer's content and of the context that it answers, however that is spelled."""
    context = _encode_sorted(_request.decode(asked).context)
    return blake2b(content + b"\0" + context, digest_size=16).hexdigest().encode()
