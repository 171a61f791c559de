"""What is wrong with an experiment: everything at once, each fault with its field. `control` writes nothing that has one.

What needs other experiments (an unknown prerequisite, a cycle, a seed that is taken) is in `shared.experiments.catalogue_faults`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from math import isclose, isfinite

from shared.experiments.coercion import is_number
from shared.experiments.condition_faults import condition_faults
from shared.experiments.experiment import ExperimentSpec, Filter, Json, Layer, Prerequisite
from shared.experiments.fault import Fault, double_faults, json_faults, number_faults, range_faults, text_faults
from shared.experiments.plan_faults import plan_faults

KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
"""What a key of an experiment, a flag or a variation looks like. Without a colon: a seed is made of a key, a colon and a phase."""
_FEWEST = 2
_MOST = 100
"""Variations of an experiment."""
_TOLERANCE = 1e-6
"""How far from 1 the sum of weights may lie."""
_LAST_BUCKET_VERSION = 10_000
_EQUAL = 1e-9
"""How far apart the sizes of a holdout's groups may lie."""


def experiment_faults(spec: ExperimentSpec, groups: Collection[str] = ()) -> list[Fault]:
    """Return everything that is wrong with an experiment or a holdout, in the order of its fields. `groups`: the saved groups that there are."""
    return [
        *key_faults("key", spec.key),
        *_variation_faults(spec),
        *_share_faults(spec),
        *_hash_faults(spec),
        *_layer_faults(spec),
        *(condition_faults(spec.condition, "condition", groups) if spec.condition is not None else ()),
        *prerequisite_faults("prerequisites", spec.prerequisites, spec.key),
        *_named_faults(spec),
        *_sticky_faults(spec),
        *(_holdout_faults(spec) if spec.kind == "holdout" else ()),
        *plan_faults(spec.analysis, [variation.key for variation in spec.variations]),
    ]


def key_faults(field: str, key: str) -> Iterator[Fault]:
    """Yield what is wrong with a key."""
    if KEY.fullmatch(key) is None:
        yield Fault(field, "must be 1 to 100 letters, digits, `_`, `-` or `.`, the first a letter or a digit")


def prerequisite_faults(field: str, prerequisites: Collection[Prerequisite], own_key: str) -> Iterator[Fault]:
    """Yield what is wrong with prerequisites of `own_key`."""
    for index, each in enumerate(prerequisites):
        yield from key_faults(f"{field}[{index}].key", each.key)
        if each.key == own_key:
            yield Fault(f"{field}[{index}].key", "is the one that has the prerequisite")
        yield from condition_faults(each.condition, f"{field}[{index}].condition", only="value")


def filter_faults(field: str, filters: Collection[Filter]) -> Iterator[Fault]:
    """Yield what is wrong with filters."""
    for index, each in enumerate(filters):
        yield from text_faults(f"{field}[{index}].seed", each.seed)
        if not each.ranges:
            yield Fault(f"{field}[{index}].ranges", "must hold a range: without one nobody takes part")
        yield from range_faults(f"{field}[{index}].ranges", each.ranges)
        if each.attribute is not None:
            yield from text_faults(f"{field}[{index}].attribute", each.attribute)
        yield from hash_version_faults(f"{field}[{index}].hash_version", each.hash_version)


def hash_version_faults(field: str, version: int) -> Iterator[Fault]:
    """Yield what is wrong with a version of the hash."""
    if version not in (1, 2):
        yield Fault(field, "must be 1 or 2")


def _variation_faults(spec: ExperimentSpec) -> Iterator[Fault]:
    if not _FEWEST <= len(spec.variations) <= _MOST:
        yield Fault("variations", f"there must be {_FEWEST} to {_MOST}")
    for index, variation in enumerate(spec.variations):
        yield from key_faults(f"variations[{index}].key", variation.key)
        yield from json_faults(f"variations[{index}].value", variation.value)
        if spec.policy is not None and not _is_decided(variation.value):
            yield Fault(f"variations[{index}].value.policy", "must be the name of the policy that decides")
    yield from double_faults("variations[{}].key", [variation.key for variation in spec.variations])


def _is_decided(value: Json) -> bool:
    """Return whether a variation says by which policy its calls are decided: by the one it names, or else by the one that is split."""
    named = value.get("policy", "itself") if isinstance(value, dict) else "itself"
    return isinstance(named, str) and bool(named)


def _share_faults(spec: ExperimentSpec) -> Iterator[Fault]:
    """Yield what is wrong with weights, coverage and ranges."""
    n = len(spec.variations)
    yield from number_faults("coverage", spec.coverage, 0, 1)
    if spec.weights is not None:
        if len(spec.weights) != n:
            yield Fault("weights", f"there are {len(spec.weights)}, and {n} variations")
        bad = [
            Fault(f"weights[{i}]", "must be a number of at least 0")
            for i, weight in enumerate(spec.weights)
            if not _is_share(weight)
        ]
        yield from bad
        if not bad and abs(sum(spec.weights) - 1) > _TOLERANCE:
            yield Fault("weights", f"must sum to 1, not to {sum(spec.weights):g}")
    if spec.ranges is not None:
        if len(spec.ranges) != n:
            yield Fault("ranges", f"there are {len(spec.ranges)}, and {n} variations")
        yield from range_faults("ranges", spec.ranges)
        if spec.weights is not None:
            yield Fault("weights", "must be left out where there are ranges, which stand in their place")
        if spec.coverage != 1:
            yield Fault("coverage", "must be left out where there are ranges, which stand in its place")


def _is_share(weight: object) -> bool:
    return is_number(weight) and isfinite(weight) and weight >= 0  # type: ignore[operator,arg-type]


def _hash_faults(spec: ExperimentSpec) -> Iterator[Fault]:
    if spec.phase < 1:
        yield Fault("phase", "must be at least 1")
    yield from text_faults("hash_attribute", spec.hash_attribute)
    yield from hash_version_faults("hash_version", spec.hash_version)
    if spec.seed is not None:
        yield from text_faults("seed", spec.seed)
    if spec.fallback_attribute is not None:
        yield from text_faults("fallback_attribute", spec.fallback_attribute)
        if spec.fallback_attribute == spec.hash_attribute:
            yield Fault("fallback_attribute", "is the hash attribute itself")
        if not spec.sticky:
            yield Fault(
                "fallback_attribute",
                "needs a sticky experiment: else a unit would change its variation with its attribute",
            )


def _layer_faults(spec: ExperimentSpec) -> Iterator[Fault]:
    if spec.layer is not None:
        yield from _part_faults(spec.layer)
        if spec.filters:
            yield Fault("filters", "stand in the layer's place: only one of the two may be given")
    yield from filter_faults("filters", spec.filters)
    for index, each in enumerate(spec.filters):
        if each.seed == spec.effective_seed:
            yield Fault(
                f"filters[{index}].seed", "is the experiment's own seed: the filter would let in some variations only"
            )


def _part_faults(layer: Layer) -> Iterator[Fault]:
    yield from text_faults("layer.name", layer.name)
    wrong = [*number_faults("layer.low", layer.low, 0, 1), *number_faults("layer.high", layer.high, 0, 1)]
    yield from wrong
    if not wrong and layer.low >= layer.high:
        yield Fault("layer.high", f"must lie above layer.low, {layer.low:g}")


def _named_faults(spec: ExperimentSpec) -> Iterator[Fault]:
    """Yield every name of a variation that there is not, and what is wrong with the names of others."""
    keys = {variation.key for variation in spec.variations}
    for field, named in (("default", spec.default), ("released", spec.released)):
        if named is not None and named not in keys:
            yield Fault(field, f"there is no variation {named!r}")
    for unit, named in spec.forced.items():
        if named not in keys:
            yield Fault(f"forced.{unit}", f"there is no variation {named!r}")
    if spec.policy is not None:
        yield from text_faults("policy", spec.policy)
    if spec.holdout is not None:
        yield from key_faults("holdout", spec.holdout)
        if spec.holdout == spec.key:
            yield Fault("holdout", "is the experiment itself")


def _sticky_faults(spec: ExperimentSpec) -> Iterator[Fault]:
    yield from number_faults("bucket_version", spec.bucket_version, 0, _LAST_BUCKET_VERSION)
    yield from number_faults("minimum_bucket_version", spec.minimum_bucket_version, 0, _LAST_BUCKET_VERSION)
    if spec.minimum_bucket_version > spec.bucket_version:
        yield Fault(
            "minimum_bucket_version",
            f"is above bucket_version, {spec.bucket_version}: nobody could ever take part again",
        )
    if not spec.sticky:
        for field, version in (
            ("bucket_version", spec.bucket_version),
            ("minimum_bucket_version", spec.minimum_bucket_version),
        ):
            if version != 0:
                yield Fault(field, "needs a sticky experiment")


def _holdout_faults(spec: ExperimentSpec) -> Iterator[Fault]:
    """Yield what makes an experiment no holdout: the group kept out, and a measured one of the same size."""
    if len(spec.variations) != _FEWEST:
        yield Fault(
            "variations", "a holdout has two: the first is kept out, the second is the group it is compared with"
        )
    elif spec.ranges is not None:
        (low, high), (begin, end) = spec.ranges[:2] if len(spec.ranges) >= _FEWEST else ((0, 0), (0, 0))
        if not isclose(high - low, end - begin, abs_tol=_EQUAL):
            yield Fault("ranges", "a holdout's two groups have the same size")
    elif spec.weights is not None and len(spec.weights) == _FEWEST and not isclose(*spec.weights, abs_tol=_EQUAL):
        yield Fault("weights", "a holdout's two groups have the same size")
    for field, given in (("policy", spec.policy), ("holdout", spec.holdout), ("released", spec.released)):
        if given is not None:
            yield Fault(field, "a holdout has none")
    if spec.prerequisites:
        yield Fault("prerequisites", "a holdout has none: what it keeps out may not decide who is in it")
    if spec.sticky:
        yield Fault("sticky", "a holdout is never sticky: who is kept out follows from the unit alone")
