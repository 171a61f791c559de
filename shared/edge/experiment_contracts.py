"""The typed structures by which operators write and read experiments and flags, version 1."""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from shared.experiments.experiment import (
    USER_ID,
    Condition,
    Filter,
    Json,
    Layer,
    Prerequisite,
    Status,
    Variation,
)
from shared.experiments.flags import Rule
from shared.experiments.plan import AnalysisPlan


class ExperimentIn(msgspec.Struct, forbid_unknown_fields=True):
    """`PUT /v1/experiments/{key}`: a new version, active at once. The fields are those of `ExperimentSpec`.

    `phase`: the active one where it is left out. `forced`: value of the hash attribute, such as a user's id -> variation; only the
    value's pseudonym is stored.
    """

    variations: tuple[Variation, ...]
    phase: int | UnsetType = UNSET
    status: Status = "running"
    kind: Literal["experiment", "holdout"] = "experiment"
    weights: tuple[float, ...] | None = None
    coverage: float = 1.0
    ranges: tuple[tuple[float, float], ...] | None = None
    hash_attribute: str = USER_ID
    fallback_attribute: str | None = None
    hash_version: Literal[1, 2] = 2
    seed: str | None = None
    layer: Layer | None = None
    filters: tuple[Filter, ...] = ()
    holdout: str | None = None
    condition: Condition | None = None
    prerequisites: tuple[Prerequisite, ...] = ()
    forced: dict[str, str] = {}
    sticky: bool = False
    bucket_version: int = 0
    minimum_bucket_version: int = 0
    policy: str | None = None
    default: str | None = None
    released: str | None = None
    analysis: AnalysisPlan = AnalysisPlan()


class ExperimentOut(msgspec.Struct, frozen=True):
    """A version of an experiment as it was written, whether it is active, who wrote it and when.

    `forced`: with sealed names in place of what was given; they may be given back.
    """

    key: str
    version: int
    active: bool
    actor: str
    created_at: str
    variations: tuple[Variation, ...]
    phase: int
    status: Status
    kind: Literal["experiment", "holdout"]
    weights: tuple[float, ...] | None
    coverage: float
    ranges: tuple[tuple[float, float], ...] | None
    hash_attribute: str
    fallback_attribute: str | None
    hash_version: Literal[1, 2]
    seed: str | None
    layer: Layer | None
    filters: tuple[Filter, ...]
    holdout: str | None
    condition: Condition | None
    prerequisites: tuple[Prerequisite, ...]
    forced: dict[str, str]
    sticky: bool
    bucket_version: int
    minimum_bucket_version: int
    policy: str | None
    default: str | None
    released: str | None
    analysis: AnalysisPlan


class ExperimentLine(msgspec.Struct, frozen=True):
    """An experiment in the list of all."""

    key: str
    version: int
    phase: int
    status: Status
    kind: Literal["experiment", "holdout"]
    policy: str | None
    variations: list[str]


class Experiments(msgspec.Struct, frozen=True):
    """`GET /v1/experiments`."""

    experiments: list[ExperimentLine]


class ExperimentVersionLine(msgspec.Struct, frozen=True):
    """A version of an experiment: who wrote it and when."""

    version: int
    phase: int
    status: Status
    active: bool
    actor: str
    created_at: str


class ExperimentVersions(msgspec.Struct, frozen=True):
    """`GET /v1/experiments/{key}/versions`, newest first."""

    experiment: str
    versions: list[ExperimentVersionLine]


class ExperimentAsked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The arguments of `GET /v1/experiments/{key}`: a version, the active one where it is left out."""

    version: int | None = None


class ExperimentStop(msgspec.Struct, forbid_unknown_fields=True):
    """`POST /v1/experiments/{key}/stop`: the variation that everybody gets from now on, none for the default one."""

    released: str | None = None


class FlagIn(msgspec.Struct, forbid_unknown_fields=True):
    """`PUT /v1/flags/{key}`: the flag as it is from now on."""

    default_value: Json = None
    rules: tuple[Rule, ...] = ()


class FlagOut(msgspec.Struct, frozen=True):
    """A flag as it was written, who wrote it and when."""

    key: str
    version: int
    actor: str
    written_at: str
    default_value: Json
    rules: tuple[Rule, ...]


class FlagLine(msgspec.Struct, frozen=True):
    """A flag in the list of all."""

    key: str
    version: int
    actor: str
    written_at: str


class Flags(msgspec.Struct, frozen=True):
    """`GET /v1/flags`."""

    flags: list[FlagLine]
