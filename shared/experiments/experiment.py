"""One version of an experiment: who takes part, what they see, what is measured. Immutable, as `control` writes it.

Who sees what follows GrowthBook's rules, so that its SDKs agree with this system (`docs/experiments.md`). All shares and
places lie in [0, 1]. What the fields may hold is checked by `control` before anything is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from shared.experiments.plan import AnalysisPlan

Json = Any
"""A value of JSON: None, a bool, a number, a string, a list or an object of such."""
Condition = Mapping[str, Any]
"""A condition in GrowthBook's language, such as `{"country": {"$in": ["DE", "AT"]}}`."""
Status = Literal["draft", "running", "stopped"]
USER_ID = "user_id"
"""The attribute that experiments split by unless they say otherwise."""


class Variation(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What some of the units see. `value`: any JSON; `{"policy": "name"}` makes `recommend` decide by that policy.

    `name`: for people.
    """

    key: str
    value: Json = None
    name: str | None = None


class Layer(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The part of a mutual-exclusion layer that an experiment takes: units whose place in `name` lies in [low, high).

    Experiments of one layer whose parts do not overlap never share a unit. The place is hashed from the layer's name alone.
    """

    name: str
    low: float = 0.0
    high: float = 1.0


class Filter(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Units that may take part: those whose place under `seed` lies in one of the ranges [low, high).

    A layer by another name, for any attribute (`attribute`: None for `user_id`) and by the better hash.
    """

    seed: str
    ranges: tuple[tuple[float, float], ...]
    attribute: str | None = None
    hash_version: Literal[1, 2] = 2


class Prerequisite(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What another experiment or flag must give the unit first: `condition` over `{"value": ...}`."""

    key: str
    condition: Condition


class ExperimentSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """An experiment, or a holdout: an experiment whose first variation is kept out of all experiments that name it.

    `phase`: 1 and up; a new one splits anew. `weights`: share of each variation, None for equal ones. `coverage`: share of the
    units that take part. `ranges`: the variations' buckets [low, high), in place of weights and coverage.
    `hash_attribute`: whose value is hashed; `fallback_attribute`: in its place where a unit lacks it (sticky experiments only).
    `seed`: hashed with it; None for one that no other experiment and phase has. `layer`: None for all units. `filters`: all of them must let a unit in; they stand in a layer's place.
    `holdout`: key of the holdout whose first variation stays out. `forced`: pseudonym of a hash attribute's value -> variation.
    `sticky`: a unit keeps its variation however the shares change; `bucket_version`: what was kept under another is forgotten, and units
    that were kept below `minimum_bucket_version` stay out.
    `policy`: whose `recommend` calls it splits. `default`: the variation whose value is served to whoever is not in the experiment; None
    for the first. `released`: the variation that everybody gets once it is stopped.
    """

    key: str
    version: int
    variations: tuple[Variation, ...]
    phase: int = 1
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

    @property
    def effective_seed(self) -> str:
        """Return what is hashed with the unit: the seed, or one of the key and phase."""
        if self.seed is not None:
            return self.seed
        return self.key if self.phase == 1 else f"{self.key}:{self.phase}"
