"""Who sees what: the catalogue of all experiments and flags of one published version, compiled.

Built once for each version and never changed, so that any number of threads may ask it at once. It does no I/O: what sticks to a
unit is given, what is to be kept is said. Rules are GrowthBook's, in GrowthBook's order (`docs/experiments.md` says where not).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

import msgspec

from shared.experiments.assignment import NO_PREVIEW, Asked, Assignment, Evaluation, Kept, Preview, Reason, Source
from shared.experiments.compiled import CompiledExperiment, Draw, Hashed, hashed
from shared.experiments.evaluating import CompiledFlag, evaluate_flag
from shared.experiments.experiment import ExperimentSpec, Json
from shared.experiments.flags import FlagSpec
from shared.experiments.operators import Groups

__all__ = ["Assignment", "Catalogue", "Evaluation", "Kept", "Preview", "PublishedCatalogue"]

_DEEPEST = 50
"""How many prerequisites may need one another; one more counts as a circle."""
_MOST_CIRCLES = 1000
"""How often one request may come upon a circle, before whatever else it needs counts as one."""


class PublishedCatalogue(msgspec.Struct, frozen=True, omit_defaults=True):
    """A catalogue as it is published. `version` rises with every change; `groups`: saved groups that conditions name -> members."""

    version: int = 0
    experiments: tuple[ExperimentSpec, ...] = ()
    flags: tuple[FlagSpec, ...] = ()
    groups: dict[str, list[Json]] = {}


class Catalogue:
    """All experiments and flags, ready to be asked.

    `by_policy`: name of a policy -> the running experiment that splits its `recommend` calls (the first by key, if there were several).
    `broken`: key -> why it could not be compiled; it is unknown then, and harms no other.
    """

    def __init__(
        self,
        version: int = 0,
        experiments: Iterable[ExperimentSpec] = (),
        flags: Iterable[FlagSpec] = (),
        groups: Groups | None = None,
    ) -> None:
        """Compile what was published. `groups`: name of a saved group -> its members."""
        self.version = version
        compiled: dict[str, CompiledExperiment] = {}
        compiled_flags: dict[str, CompiledFlag] = {}
        broken: dict[str, str] = {}
        for experiment in experiments:
            try:
                compiled[experiment.key] = CompiledExperiment(experiment, groups or {})
            except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
                broken[experiment.key] = f"{type(error).__name__}: {error}"
        for flag in flags:
            try:
                compiled_flags[flag.key] = CompiledFlag(flag, groups or {})
            except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
                broken[flag.key] = f"{type(error).__name__}: {error}"
        self.experiments: Mapping[str, CompiledExperiment] = MappingProxyType(compiled)
        self.flags: Mapping[str, CompiledFlag] = MappingProxyType(compiled_flags)
        self.broken: Mapping[str, str] = MappingProxyType(broken)
        self.by_policy: Mapping[str, CompiledExperiment] = MappingProxyType(
            {
                compiled[key].spec.policy or "": compiled[key]
                for key in sorted(compiled, reverse=True)
                if compiled[key].spec.policy is not None and compiled[key].active
            }
        )

    @classmethod
    def of(cls, published: PublishedCatalogue) -> Catalogue:
        """Return what was published, compiled."""
        return cls(published.version, published.experiments, published.flags, published.groups)

    def assign(
        self,
        key: str,
        attributes: Mapping[str, Json],
        pseudonym_of: Callable[[str, str], str],
        sticky: Kept | None = None,
        preview: Preview = NO_PREVIEW,
    ) -> Assignment:
        """Return what a unit gets of one experiment; the reason is `unknown` where there is none of that key.

        `attributes`: what is known of the unit, such as its `user_id`. `pseudonym_of`: (attribute, value) -> pseudonym, called only where
        an experiment forces variations. `sticky`: what is kept for the unit's attributes; None for nothing.
        """
        return self.assigned(key, Asked(attributes, pseudonym_of, sticky or {}, preview, {}, []))

    def evaluate(
        self,
        key: str,
        attributes: Mapping[str, Json],
        pseudonym_of: Callable[[str, str], str],
        sticky: Kept | None = None,
        preview: Preview = NO_PREVIEW,
    ) -> Evaluation:
        """Return what a unit gets of a flag or of an experiment, arguments as of `assign`; an unknown one gives null."""
        return self.evaluated(key, Asked(attributes, pseudonym_of, sticky or {}, preview, {}, []))

    def evaluated(self, key: str, asked: Asked) -> Evaluation:
        """Evaluate a flag or an experiment for whoever asks."""
        known = asked.known.get(key)
        if known is not None:
            return known
        if key in asked.path or len(asked.path) > _DEEPEST or len(asked.circles) > _MOST_CIRCLES:
            asked.circles.append(key)
            return Evaluation(key, None, "default", "cycle")
        circles = len(asked.circles)
        evaluation = self._evaluated(key, asked)
        if len(asked.circles) == circles:  # what a circle cut short would come out otherwise from elsewhere
            asked.known[key] = evaluation
        return evaluation

    def _evaluated(self, key: str, asked: Asked) -> Evaluation:
        flag = self.flags.get(key)
        if flag is not None:
            return evaluate_flag(flag, self, asked.onward(key))
        experiment = self.experiments.get(key)
        if experiment is None:
            return Evaluation(key, None, "default", "unknown")
        assignment = self.assigned(key, asked)
        source: Source = "default" if assignment.variation is None else "experiment"
        return Evaluation(
            key, assignment.value, assignment.variation or experiment.default, source, None, (assignment,)
        )

    def assigned(self, key: str, asked: Asked) -> Assignment:
        """Assign whoever asks to an experiment: in order, whatever first decides."""
        experiment = self.experiments.get(key)
        if experiment is None:
            return Assignment(key, 0, None, None, False, "unknown")
        unit = hashed(experiment.spec, asked.attributes)
        forced = _forced(experiment, unit, asked)
        if forced is not None:
            return _given(experiment, unit, "forced", forced)
        if not experiment.active:
            return self._inactive(experiment, unit, asked)
        draw = experiment.draw(unit.value, asked.attributes, _kept(experiment, asked))
        if draw.variation is None:
            return _outside(experiment, unit, draw.reason, draw.place)
        if experiment.independent and asked.preview is NO_PREVIEW:
            spec, variation = experiment.spec, draw.variation
            value = experiment.value_of[variation]
            return Assignment(
                key, spec.phase, variation, value, True, draw.reason, unit.attribute, unit.value, draw.place
            )
        return self._admitted(experiment, unit, draw.variation, draw, asked)

    def _admitted(
        self, experiment: CompiledExperiment, unit: Hashed, variation: str, draw: Draw, asked: Asked
    ) -> Assignment:
        """Return what a unit gets that drew a variation: what others say of it comes after what it drew, and costs more."""
        spec = experiment.spec
        holdout, stays_out = self._held_out(experiment, asked)
        if stays_out:
            return _outside(experiment, unit, "holdout", draw.place, holdout)
        if draw.reason != "sticky" and not self._prerequisites_met(experiment, asked):
            return _outside(experiment, unit, "prerequisite", draw.place, holdout)
        pinned = asked.preview.pinned.get(spec.key)
        if pinned is not None:
            return _given(experiment, unit, "forced", pinned)
        if asked.preview.alone:
            return _outside(experiment, unit, "preview", draw.place)
        keep = None
        if spec.sticky and asked.kept.get(unit.attribute, {}).get(experiment.sticky_key) != variation:
            keep = (experiment.sticky_key, variation)
        value = experiment.value_of[variation]
        return Assignment(spec.key, spec.phase, variation, value, True, draw.reason, *unit, draw.place, holdout, keep)

    def _inactive(self, experiment: CompiledExperiment, unit: Hashed, asked: Asked) -> Assignment:
        spec = experiment.spec
        if spec.status != "stopped":
            return _outside(experiment, unit, "draft")
        if spec.released is None:
            return _outside(experiment, unit, "stopped")
        holdout, stays_out = self._held_out(experiment, asked)
        if stays_out:
            return _outside(experiment, unit, "holdout", None, holdout)
        return _given(experiment, unit, "released", spec.released, holdout)

    def _held_out(self, experiment: CompiledExperiment, asked: Asked) -> tuple[tuple[str, int, str] | None, bool]:
        """Return the exposure of the holdout that is due, None for none, and whether the unit is kept out."""
        spec = experiment.spec
        if spec.holdout is None or spec.kind == "holdout":
            return None, False
        holdout = self.experiments.get(spec.holdout)
        if holdout is None or holdout.spec.kind != "holdout" or not holdout.active:
            return None, False
        held = self.assigned(spec.holdout, asked.onward(spec.key))
        if held.variation is None:
            return None, False
        due = (held.experiment, held.phase, held.variation) if held.in_experiment else None
        return due, held.variation == holdout.keys[0]

    def _prerequisites_met(self, experiment: CompiledExperiment, asked: Asked) -> bool:
        if not experiment.prerequisites:
            return True
        onward = asked.onward(experiment.spec.key)
        for prerequisite, met in experiment.prerequisites:
            parent = self.evaluated(prerequisite.key, onward)
            if parent.source == "cycle" or not met({"value": parent.value}):
                return False
        return True


def _forced(experiment: CompiledExperiment, unit: Hashed, asked: Asked) -> str | None:
    spec = experiment.spec
    if len(experiment.keys) > 1 and spec.key in asked.preview.variations:
        return asked.preview.variations[spec.key]
    if not spec.forced or not unit.value or spec.status == "stopped":
        return None
    return spec.forced.get(asked.pseudonym_of(*unit))


def _kept(experiment: CompiledExperiment, asked: Asked) -> Mapping[str, str]:
    """Return what is kept for the unit: for the fallback attribute's value, and over that for the hash attribute's."""
    spec = experiment.spec
    if not spec.sticky or not asked.kept:
        return {}
    own = asked.kept.get(spec.hash_attribute, {})
    if spec.fallback_attribute is None:
        return own
    return {**asked.kept.get(spec.fallback_attribute, {}), **own}


def _outside(
    experiment: CompiledExperiment,
    unit: Hashed,
    reason: Reason,
    place: float | None = None,
    holdout: tuple[str, int, str] | None = None,
) -> Assignment:
    spec = experiment.spec
    return Assignment(spec.key, spec.phase, None, experiment.default_value, False, reason, *unit, place, holdout)


def _given(
    experiment: CompiledExperiment,
    unit: Hashed,
    reason: Reason,
    variation: str,
    holdout: tuple[str, int, str] | None = None,
) -> Assignment:
    """Return a variation that was not drawn; one that does not exist is none."""
    if variation not in experiment.value_of:
        return _outside(experiment, unit, reason, None, holdout)
    spec, value = experiment.spec, experiment.value_of[variation]
    return Assignment(spec.key, spec.phase, variation, value, False, reason, *unit, None, holdout)
