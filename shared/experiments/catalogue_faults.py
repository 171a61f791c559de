"""What is wrong with an experiment or a flag among the others: names that nobody has, circles, hashes that are shared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from shared.experiments.experiment import ExperimentSpec
from shared.experiments.fault import Fault
from shared.experiments.flags import FlagSpec, Rule

Written = ExperimentSpec | FlagSpec


def catalogue_faults(spec: Written, others: Mapping[str, Written]) -> list[Fault]:
    """Return what is wrong with what is being written, given everything else that is written, by key.

    `others` may hold the version that it replaces. Layers may overlap: experiments that share units are what layers tell apart
    from those that do not.
    """
    beside = {key: other for key, other in others.items() if key != spec.key}
    found = []
    replaced = others.get(spec.key)
    if replaced is not None and isinstance(replaced, FlagSpec) is not isinstance(spec, FlagSpec):
        found.append(
            Fault("key", f"{spec.key!r} is {'a flag' if isinstance(replaced, FlagSpec) else 'an experiment'} already")
        )
    found += _unknown(spec, beside)
    found += _circles(spec, beside)
    found += _shared_hashes(spec, beside)
    return found


def _unknown(spec: Written, beside: Mapping[str, Written]) -> Iterator[Fault]:
    for field, key in _named(spec):
        if key not in beside and key != spec.key:
            yield Fault(field, f"there is no experiment and no flag {key!r}")
    if isinstance(spec, FlagSpec):
        for index, rule in enumerate(spec.rules):
            if rule.experiment is not None:
                yield from _unknown_variations(rule, f"rules[{index}]", beside.get(rule.experiment))
    elif spec.holdout is not None:
        holdout = beside.get(spec.holdout)
        if not isinstance(holdout, ExperimentSpec) or holdout.kind != "holdout":
            yield Fault("holdout", f"there is no holdout {spec.holdout!r}")


def _unknown_variations(rule: Rule, field: str, experiment: Written | None) -> Iterator[Fault]:
    if not isinstance(experiment, ExperimentSpec):
        yield Fault(f"{field}.experiment", f"there is no experiment {rule.experiment!r}")
        return
    keys = {variation.key for variation in experiment.variations}
    for index, variation in enumerate(rule.pass_through):
        if variation not in keys:
            yield Fault(f"{field}.pass_through[{index}]", f"{rule.experiment!r} has no variation {variation!r}")


def _circles(spec: Written, beside: Mapping[str, Written]) -> Iterator[Fault]:
    """Yield every prerequisite or experiment that leads back to what is written."""
    leads = [*_named(spec), *(_experiments(spec))]
    for field, key in leads:
        way = _way_back(key, spec.key, beside)
        if way is not None and key != spec.key:
            yield Fault(field, f"leads back here: {' -> '.join([spec.key, *way])}")


def _way_back(start: str, goal: str, beside: Mapping[str, Written]) -> list[str] | None:
    """Return the way from one key to another along what they need, None where there is none."""
    came_from: dict[str, str | None] = {start: None}
    waiting = [start]
    while waiting:
        key = waiting.pop()
        if key == goal:
            way: list[str] = []
            step: str | None = key
            while step is not None:
                way.append(step)
                step = came_from[step]
            return way[::-1]
        needed = [name for _, name in (*_named(beside[key]), *_experiments(beside[key]))] if key in beside else []
        for name in needed:
            if name not in came_from:
                came_from[name] = key
                waiting.append(name)
    return None


def _named(spec: Written) -> Iterator[tuple[str, str]]:
    """Yield the prerequisites, each with its field."""
    if isinstance(spec, ExperimentSpec):
        for index, each in enumerate(spec.prerequisites):
            yield f"prerequisites[{index}].key", each.key
        return
    for number, rule in enumerate(spec.rules):
        for index, each in enumerate(rule.prerequisites):
            yield f"rules[{number}].prerequisites[{index}].key", each.key


def _experiments(spec: Written) -> Iterator[tuple[str, str]]:
    """Yield the experiments that a flag's rules give the value of, each with its field."""
    if isinstance(spec, FlagSpec):
        for number, rule in enumerate(spec.rules):
            if rule.experiment is not None:
                yield f"rules[{number}].experiment", rule.experiment


def _shared_hashes(spec: Written, beside: Mapping[str, Written]) -> Iterator[Fault]:
    """Yield where a hash is shared with an experiment: who is in A of the one would be in A of the other, or be let in for it."""
    for other in beside.values():
        if isinstance(other, ExperimentSpec) and other.status == "stopped":
            continue
        splits, lets_in = set(_splitting(other).values()), set(_letting_in(other).values())
        for field, seed in _splitting(spec).items():
            if seed in splits and (isinstance(spec, ExperimentSpec) or isinstance(other, ExperimentSpec)):
                yield Fault(field, f"{other.key!r} splits by the seed {seed!r}, too: both would split units alike")
            if seed in lets_in:
                yield Fault(
                    field, f"{other.key!r} lets in by the seed {seed!r}: it would let in some of the variations only"
                )
        for field, seed in _letting_in(spec).items():
            if seed in splits:
                yield Fault(
                    field, f"{other.key!r} splits by the seed {seed!r}: some of its variations only would be let in"
                )


def _splitting(spec: Written) -> dict[str, str]:
    """Return the seeds that units are split by, by field."""
    if isinstance(spec, ExperimentSpec):
        return {"seed" if spec.seed is not None else "key": spec.effective_seed}
    return {
        f"rules[{index}].seed" if rule.seed is not None else "key": rule.seed if rule.seed is not None else spec.key
        for index, rule in enumerate(spec.rules)
        if rule.coverage is not None or rule.range is not None
    }


def _letting_in(spec: Written) -> dict[str, str]:
    """Return the seeds that decide who may take part, by field."""
    if isinstance(spec, FlagSpec):
        return {
            f"rules[{index}].filters[{place}].seed": each.seed
            for index, rule in enumerate(spec.rules)
            for place, each in enumerate(rule.filters)
        }
    layer = {"layer.name": f"__{spec.layer.name}"} if spec.layer is not None else {}
    return layer | {f"filters[{place}].seed": each.seed for place, each in enumerate(spec.filters)}
