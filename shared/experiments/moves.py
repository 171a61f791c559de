"""Which changes of a running experiment would move units, or change what they see: within a phase there are none.

A unit moves where the new version gives it another variation than the old one, lets it in or leaves it out. The coverage may grow, a
variation may be added in what was free, targeting may be lifted as a whole: those take units in and move nobody. What is
sticky keeps its units however shares and targeting change.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from shared.experiments.bucketing import bucket_ranges, choose
from shared.experiments.experiment import ExperimentSpec, Layer
from shared.experiments.fault import Fault

_ALWAYS = ("kind", "policy", "hash_attribute", "fallback_attribute", "hash_version", "holdout")
_STICKY = ("bucket_version", "minimum_bucket_version")
_PLACES = 10_000
"""How many places there are for a unit to stand in, evenly over [0, 1)."""


def moves(old: ExperimentSpec, new: ExperimentSpec) -> list[Fault]:
    """Return what of `new`, a version of the same phase, would move units of `old`; nothing where none moves.

    >>> from shared.experiments.experiment import Variation
    >>> old = ExperimentSpec("e", 1, (Variation("a"), Variation("b")), coverage=0.5)
    >>> moves(old, ExperimentSpec("e", 2, (Variation("a"), Variation("b")), coverage=0.8))
    []
    >>> moves(old, ExperimentSpec("e", 2, (Variation("a"), Variation("b")), coverage=0.4))
    [Fault(field='coverage', detail='would move units between or out of variations')]
    """
    sticky = old.sticky and new.sticky
    found = [*_variations(old, new), *_fields(old, new, _STICKY if sticky else ("filters",))]
    return found if sticky else [*found, *_targeting(old, new), *_shares(old, new)]


def _variations(old: ExperimentSpec, new: ExperimentSpec) -> Iterator[Fault]:
    for at, before in enumerate(old.variations):
        if at >= len(new.variations):
            yield Fault("variations", f"{before.key!r} is under way and must stay")
        elif new.variations[at].key != before.key:
            yield Fault(f"variations[{at}].key", f"must remain {before.key!r}: its units would see another variation")
        elif new.variations[at].value != before.value:
            detail = f"must remain as it is: the units of {before.key!r} would see something else"
            yield Fault(f"variations[{at}].value", detail)


def _fields(old: ExperimentSpec, new: ExperimentSpec, more: Sequence[str]) -> Iterator[Fault]:
    for field in (*_ALWAYS, *more):
        before = getattr(old, field)
        if getattr(new, field) != before:
            yield Fault(field, f"must remain {before!r}: units would move")
    if old.sticky and not new.sticky:
        yield Fault("sticky", "must remain true: units whose place has changed would move")
    if old.effective_seed != new.effective_seed:
        yield Fault("seed", "must remain as it is: all units would move")


def _targeting(old: ExperimentSpec, new: ExperimentSpec) -> Iterator[Fault]:
    if new.condition is not None and new.condition != old.condition:
        yield Fault("condition", "must remain as it is, or go: units would be left out")
    if any(each not in old.prerequisites for each in new.prerequisites):
        yield Fault("prerequisites", "may only become fewer: units would be left out")
    if not _contains(new.layer, old.layer):
        yield Fault("layer", "must hold all that it held: units would be left out")


def _contains(new: Layer | None, old: Layer | None) -> bool:
    if new is None or old is None:
        return new is None
    return new.name == old.name and new.low <= old.low and new.high >= old.high


def _shares(old: ExperimentSpec, new: ExperimentSpec) -> Iterator[Fault]:
    """Yield which of the fields that make the ranges would move units, of those that fall to a variation now."""
    before, after = _ranges(old), _ranges(new)
    places = (at / _PLACES for at in range(_PLACES))  # those of hash version 1 are among them
    if before == after or all((had := choose(at, before)) < 0 or choose(at, after) == had for at in places):
        return
    fields = [field for field in ("weights", "coverage", "ranges") if getattr(old, field) != getattr(new, field)]
    for field in fields:
        yield Fault(field, "would move units between or out of variations")
    if not fields and len(new.variations) > len(old.variations):
        yield Fault("variations", "another one would take units from those that are under way")


def _ranges(spec: ExperimentSpec) -> Sequence[tuple[float, float]]:
    if spec.ranges is not None:
        return spec.ranges
    return bucket_ranges(len(spec.variations), spec.coverage, spec.weights)
