"""The typed structures of the OpenFeature Remote Evaluation Protocol (OFREP) 0.3."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from shared.experiments.experiment import Json

OfrepReason = Literal["STATIC", "TARGETING_MATCH", "SPLIT", "DISABLED", "UNKNOWN"]
ErrorCode = Literal[
    "PARSE_ERROR",
    "TARGETING_KEY_MISSING",
    "INVALID_CONTEXT",
    "FLAG_NOT_FOUND",
    "PROVIDER_NOT_READY",
    "GENERAL",
]


class EvaluationRequest(msgspec.Struct):
    """`POST /ofrep/v1/evaluate/flags[/{key}]`. `context`: `targetingKey`, the user's id, and any attributes."""

    context: dict[str, Any]


class EvaluationOut(msgspec.Struct, frozen=True):
    """What a user gets of one flag or experiment; without a `value` the caller's own default is meant.

    `metadata`: why, in this system's words, and of which experiment.
    """

    key: str
    reason: OfrepReason
    variant: str
    metadata: dict[str, str | bool | int]
    value: Json | UnsetType = UNSET


class BulkEvaluationOut(msgspec.Struct, frozen=True):
    """What a user gets of all flags and experiments, by key."""

    flags: list[EvaluationOut]


class EvaluationFailure(msgspec.Struct, frozen=True, rename="camel"):
    """Why there is no answer. `key`: of the flag, left out where all were asked for."""

    error_code: ErrorCode
    error_details: str
    key: str | UnsetType = UNSET
