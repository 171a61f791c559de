"""Runs GrowthBook's published test vectors (the form of its SDKs' `cases.json`) against the assignment engine.

A case's experiments and flags are written as this system's own (`growthbook_specs`) and put to the same `Catalogue` that serves.
`python -m tests.conformance.growthbook FILE` prints `passed N of M` for each group, every failure, and every case left out with its
reason; the exit status is 1 if one failed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from shared.experiments.assigning import Evaluation
from shared.experiments.bucketing import bucket_ranges, choose, equal_weights, in_layer
from shared.experiments.coercion import text
from shared.experiments.conditions import compile_condition
from shared.experiments.experiment import Layer
from shared.experiments.hashing import place
from tests.conformance.growthbook_specs import Situation

SOURCES = {
    "default": "defaultValue",
    "value": "force",
    "experiment": "experiment",
    "prerequisite": "prerequisite",
    "cycle": "cyclicPrerequisite",
    "unknown": "unknownFeature",
}
"""Where a value comes from -> GrowthBook's name for it."""
EXCLUDED_GROUPS = {
    "getQueryStringOverride": "a variation forced by the address of a page in a browser",
    "urlRedirect": "a browser's redirects",
    "decrypt": "the encryption of GrowthBook's API answers for browsers",
}
"""Groups that are left out -> why."""
_DIGITS = 6


class Outcome(NamedTuple):
    """What became of a case. `excluded`: why it was left out; None where it was run."""

    group: str
    name: str
    passed: bool
    found: object = None
    excluded: str | None = None


def outcomes(cases: Mapping[str, Any]) -> Iterator[Outcome]:
    """Run all cases of a file, in its order."""
    for group, listed in cases.items():
        if not isinstance(listed, list):
            continue
        for case in listed:
            yield _outcome(group, case)


def report(cases: Mapping[str, Any]) -> int:
    """Print what passed of each group; return 1 if something failed, else 0."""
    by_group: dict[str, list[Outcome]] = {}
    for outcome in outcomes(cases):
        by_group.setdefault(outcome.group, []).append(outcome)
    failed = 0
    for group, found in by_group.items():
        run = [outcome for outcome in found if outcome.excluded is None]
        passed = sum(outcome.passed for outcome in run)
        failed += len(run) - passed
        left_out = f" ({len(found) - len(run)} left out)" if len(run) < len(found) else ""
        print(f"{group}: passed {passed} of {len(run)}{left_out}")
        for outcome in run:
            if not outcome.passed:
                print(f"  FAILED {outcome.name}: {outcome.found}")
        for outcome in found:
            if outcome.excluded is not None:
                print(f"  left out {outcome.name}: {outcome.excluded}")
    return int(failed > 0)


def _outcome(group: str, case: list[Any]) -> Outcome:
    name = str(case[0]) if group != "hash" else f"{case[1]!r} under {case[0]!r}, version {case[2]}"
    reason = (
        EXCLUDED_GROUPS.get(group)
        or (None if group in _RUN else "a group that nobody here knows")
        or _browser(group, case)
    )
    if reason is not None:
        return Outcome(group, name, passed=False, excluded=reason)
    try:
        found, expected = _RUN[group](case)
    except Exception as error:  # a case that raises has failed, and the others are run all the same
        return Outcome(group, name, passed=False, found=repr(error))
    return Outcome(group, name, passed=_same(found, expected), found=found)


def _browser(group: str, case: list[Any]) -> str | None:
    """Return why a case of `run`, `feature` or the like depends on a browser, None where it does not."""
    if group not in ("run", "feature", "stickyBucket", "contextualBandit"):
        return None
    if case[1].get("url"):
        return "a variation forced by the address of a page in a browser"
    if group == "run" and case[2].keys() & {"url", "urlPatterns"}:
        return "targets the address of a page in a browser"
    return None


def _same(found: object, expected: object) -> bool:
    if isinstance(found, bool) or isinstance(expected, bool) or found is None or expected is None:
        return found is expected
    if isinstance(found, int | float) and isinstance(expected, int | float):
        return round(found - expected, _DIGITS) == 0
    if isinstance(found, list | tuple) and isinstance(expected, list | tuple):
        return len(found) == len(expected) and all(map(_same, found, expected))
    if isinstance(found, dict) and isinstance(expected, dict):
        return found.keys() == expected.keys() and all(_same(found[name], expected[name]) for name in found)
    return found == expected


def _hash(case: list[Any]) -> tuple[object, object]:
    seed, value, version, expected = case
    return place(seed, value, version), expected


def _bucket_range(case: list[Any]) -> tuple[object, object]:
    _, (n, coverage, weights), expected = case
    return bucket_ranges(n, 1.0 if coverage is None else coverage, weights), expected


def _choose_variation(case: list[Any]) -> tuple[object, object]:
    _, where, ranges, expected = case
    return choose(where, [(low, high) for low, high in ranges]), expected


def _in_namespace(case: list[Any]) -> tuple[object, object]:
    _, value, namespace, expected = case
    return in_layer(value, Layer(*namespace)), expected


def _equal_weights(case: list[Any]) -> tuple[object, object]:
    n, expected = case
    return equal_weights(n), expected


def _condition(case: list[Any]) -> tuple[object, object]:
    _, condition, attributes, expected, *groups = case
    return compile_condition(condition, groups[0] if groups else {})(attributes), expected


def _run(case: list[Any]) -> tuple[object, object]:
    _, context, experiment, *expected = case
    situation = Situation(context, experiment=experiment)
    assignment = situation.assign(experiment)
    return [assignment.value, assignment.variation is not None, assignment.in_experiment], expected


def _feature(case: list[Any]) -> tuple[object, object]:
    _, context, key, expected = case
    situation = Situation(context)
    evaluation = situation.evaluate(key)
    found: dict[str, Any] = {
        "value": evaluation.value,
        "on": bool(evaluation.value),
        "off": not evaluation.value,
        "source": SOURCES[evaluation.source],
        "ruleId": evaluation.rule or "",
    }
    if evaluation.source == "experiment":
        found["experimentResult"] = _result(situation, evaluation)
        decisive = evaluation.assignments[-1]
        leaf = situation.leaf_of(decisive.experiment) if decisive.in_experiment else {}
        found["experiment"] = dict(situation.experiment_of(decisive.experiment)) | (
            {"contextualBandit": leaf} if leaf else {}
        )
    return found, expected


def _sticky(case: list[Any]) -> tuple[object, object]:
    _, context, documents, key, *expected = case
    situation = Situation(context, documents=documents)
    evaluation = situation.evaluate(key)
    result = _result(situation, evaluation) if evaluation.source == "experiment" else None
    return [result, situation.documents_after(evaluation)], expected


def _result(situation: Situation, evaluation: Evaluation) -> dict[str, Any]:
    """Return the assignment that decided, as GrowthBook's SDKs describe it."""
    assignment = evaluation.assignments[-1]
    variation = situation.catalogue.experiments[assignment.experiment].keys.index(assignment.variation or "")
    meta = (situation.experiment_of(assignment.experiment).get("meta") or [{}] * (variation + 1))[variation]
    described = {
        "key": assignment.variation,
        "featureId": evaluation.key,
        "inExperiment": assignment.variation is not None,
        "hashUsed": assignment.in_experiment,
        "variationId": variation,
        "value": assignment.value,
        "hashAttribute": assignment.hash_attribute,
        "hashValue": situation.attributes.get(assignment.hash_attribute, ""),
        "stickyBucketUsed": assignment.reason == "sticky",
    }
    if text(described["hashValue"]) != assignment.hash_value:
        described["hashValue"] = assignment.hash_value
    if assignment.place is not None:
        described["bucket"] = assignment.place
    if assignment.in_experiment:
        described |= dict(situation.leaf_of(assignment.experiment))
    return described | {name: meta[name] for name in ("name", "passthrough") if meta.get(name)}


_RUN: Mapping[str, Callable[[list[Any]], tuple[object, object]]] = {
    "hash": _hash,
    "getBucketRange": _bucket_range,
    "chooseVariation": _choose_variation,
    "inNamespace": _in_namespace,
    "getEqualWeights": _equal_weights,
    "evalCondition": _condition,
    "run": _run,
    "feature": _feature,
    "stickyBucket": _sticky,
    "contextualBandit": _feature,
}
"""Group -> what runs a case of it and returns what was found and what is expected."""


def main(path: Path) -> int:
    """Run a file of cases; return the exit status: 2 where there is no such file."""
    if not path.is_file():
        print(f"{path}: there is no such file", file=sys.stderr)
        return 2
    return report(json.loads(path.read_text()))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
