"""GrowthBook's experiments, features and contexts, written as this system's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared.experiments.assigning import Assignment, Catalogue, Evaluation, Preview
from shared.experiments.bucketing import equal_weights
from shared.experiments.coercion import text
from shared.experiments.conditions import compile_condition
from shared.experiments.experiment import ExperimentSpec, Filter, Layer, Prerequisite, Variation
from shared.experiments.flags import FlagSpec, Rule, RulePrerequisite

UNIT = "id"
"""The attribute that GrowthBook splits by unless told otherwise."""
_NO_LEAF = -1
"""The leaf of whoever no leaf of a bandit takes."""
Object = Mapping[str, Any]


class Situation:
    """A context of GrowthBook's SDK: the catalogue that it amounts to, and who asks.

    `documents`: what sticks, as GrowthBook keeps it; None where nothing does. `catalogue` holds the features as flags, and the
    experiments of their rules beside them.
    """

    def __init__(
        self, context: Object, *, experiment: Object | None = None, documents: list[Any] | None = None
    ) -> None:
        """Write all that a context holds, and one experiment beside it, where one is given."""
        self.attributes: Object = context.get("attributes") or {}
        self._sticky = documents is not None
        self._groups: Mapping[str, Any] = context.get("savedGroups") or {}
        self._bandits: Object = context.get("contextualBandits") or {}
        self._leaves: dict[str, Object] = {}
        self._written: dict[str, Object] = {}
        self._specs: dict[str, ExperimentSpec] = {}
        self._preview = _preview(context)
        self._documents = {
            (document["attributeName"], document["attributeValue"]): dict(document["assignments"])
            for document in documents or []
        }
        if experiment is not None:
            self._write(experiment)
            if "force" in experiment:
                keys = [variation.key for variation in self._specs[experiment["key"]].variations]
                pinned = {experiment["key"]: _at(keys, experiment["force"])}
                self._preview = Preview(self._preview.variations, pinned, self._preview.alone)
        flags = [self._flag(key, feature) for key, feature in (context.get("features") or {}).items()]
        self._preview = Preview(self._forced(context), self._preview.pinned, self._preview.alone)
        self.catalogue = Catalogue(1, self._specs.values(), flags, self._groups)
        if self.catalogue.broken:
            raise ValueError(str(self.catalogue.broken))

    def assign(self, experiment: Object) -> Assignment:
        """Assign whoever asks to the experiment that was given."""
        return self.catalogue.assign(experiment["key"], self.attributes, _pseudonym, self._kept(), self._preview)

    def evaluate(self, key: str) -> Evaluation:
        """Evaluate a feature for whoever asks."""
        return self.catalogue.evaluate(key, self.attributes, _pseudonym, self._kept(), self._preview)

    def experiment_of(self, key: str) -> Object:
        """Return the experiment that was written under a key, as GrowthBook has it."""
        return self._written[key]

    def leaf_of(self, key: str) -> Object:
        """Return what is said of the bandit whose weights an experiment has; nothing for another one."""
        return self._leaves.get(key, {})

    def documents_after(self, evaluation: Evaluation) -> dict[str, Any]:
        """Return what sticks once what an evaluation wants kept is kept, of the attributes that whoever asks has."""
        after = {
            name: dict(kept) for name, kept in self._documents.items() if text(self.attributes.get(name[0])) == name[1]
        }
        for assignment in evaluation.assignments:
            if assignment.kept is not None:
                key, variation = assignment.kept
                after.setdefault((assignment.hash_attribute, assignment.hash_value), {})[key] = variation
        return {
            f"{attribute}||{value}": {"attributeName": attribute, "attributeValue": value, "assignments": kept}
            for (attribute, value), kept in after.items()
        }

    def _kept(self) -> dict[str, dict[str, str]]:
        return {
            name: kept for (name, value), kept in self._documents.items() if text(self.attributes.get(name)) == value
        }

    def _forced(self, context: Object) -> dict[str, str]:
        if context.get("enabled") is False:
            return {}
        forced = context.get("forcedVariations") or {}
        return {
            key: _at([variation.key for variation in spec.variations], forced[self._written[key]["key"]])
            for key, spec in self._specs.items()
            if self._written[key]["key"] in forced
        }

    def _flag(self, key: str, feature: Object) -> FlagSpec:
        rules = tuple(self._rule(key, rule) for rule in feature.get("rules") or [])
        return FlagSpec(key, 1, feature.get("defaultValue"), rules)

    def _rule(self, feature: str, rule: Object) -> Rule:
        who: dict[str, Any] = {
            "id": rule.get("id"),
            "prerequisites": tuple(
                RulePrerequisite(each["id"], each.get("condition") or {}, bool(each.get("gate")))
                for each in rule.get("parentConditions") or []
            ),
            "filters": _filters(rule),
        }
        if "force" in rule:
            low_high = rule.get("range")
            return Rule(
                **who,
                value=rule["force"],
                condition=rule.get("condition"),
                coverage=rule.get("coverage"),
                range=(low_high[0], low_high[1]) if low_high else None,
                hash_attribute=rule.get("hashAttribute") or UNIT,
                fallback_attribute=rule.get("fallbackAttribute") if self._sticky else None,
                hash_version=rule.get("hashVersion") or 1,
                seed=rule.get("seed") or None,
            )
        variations = rule.get("contextualVariations") or rule.get("variations")
        if not variations:
            return Rule(**who)
        experiment = {name: rule[name] for name in _EXPERIMENT_FIELDS if name in rule}
        experiment |= {"key": rule.get("key") or feature, "variations": variations}
        leaf = self._leaf(rule, len(variations))
        if leaf is not None and leaf["leafId"] != _NO_LEAF:
            experiment["weights"] = leaf["variationWeights"]
        key = self._write(experiment)
        if leaf is not None:
            self._leaves[key] = leaf
        passing = tuple(
            each.get("key") or str(i) for i, each in enumerate(rule.get("meta") or []) if each.get("passthrough")
        )
        return Rule(**who, experiment=key, pass_through=passing)

    def _leaf(self, rule: Object, n: int) -> Object | None:
        """Return what GrowthBook's SDK says of a bandit: the weights of the first leaf whose condition holds, None where there is no bandit.

        It looks for the weights first and then assigns as in any experiment, and so does this.
        """
        bandit = self._bandits.get(rule.get("contextualBanditRef") or "")
        if bandit is None:
            return None
        version = {"banditVersion": bandit["banditVersion"]} if "banditVersion" in bandit else {}
        for leaf in bandit.get("contexts") or []:
            if compile_condition(leaf.get("condition") or {}, self._groups)(self.attributes):
                return {"leafId": leaf["leafId"], "variationWeights": leaf["weights"]} | version
        return {"leafId": _NO_LEAF, "variationWeights": rule.get("weights") or equal_weights(n)} | version

    def _write(self, experiment: Object) -> str:
        """Keep an experiment under its key, or under one of its own where another has that key; return the key."""
        key = str(experiment["key"])
        while key in self._written and self._written[key] != experiment:
            key += "'"
        self._written[key] = experiment
        self._specs[key] = _experiment(key, experiment, sticky=self._sticky)
        return key


_EXPERIMENT_FIELDS = [
    "variations",
    "weights",
    "coverage",
    "ranges",
    "hashAttribute",
    "fallbackAttribute",
    "hashVersion",
    "disableStickyBucketing",
    "bucketVersion",
    "minBucketVersion",
    "namespace",
    "meta",
    "filters",
    "seed",
    "name",
    "phase",
    "condition",
]
"""What a rule says of its experiment."""


def _experiment(key: str, experiment: Object, *, sticky: bool) -> ExperimentSpec:
    meta = experiment.get("meta") or [{}] * len(experiment["variations"])
    variations = tuple(
        Variation(meta[i].get("key") or str(i), value, meta[i].get("name"))
        for i, value in enumerate(experiment["variations"])
    )
    inactive = experiment.get("active") is False or experiment.get("status") == "draft"
    namespace = experiment.get("namespace")
    return ExperimentSpec(
        key=key,
        version=1,
        variations=variations,
        status="draft" if inactive else experiment.get("status", "running"),
        weights=experiment.get("weights"),
        coverage=experiment.get("coverage", 1.0),
        ranges=tuple((low, high) for low, high in experiment["ranges"]) if experiment.get("ranges") else None,
        hash_attribute=experiment.get("hashAttribute") or UNIT,
        fallback_attribute=experiment.get("fallbackAttribute"),
        hash_version=experiment.get("hashVersion") or 1,
        seed=experiment.get("seed") or experiment["key"],
        layer=Layer(*namespace) if namespace else None,
        filters=_filters(experiment),
        condition=experiment.get("condition"),
        prerequisites=tuple(
            Prerequisite(each["id"], each.get("condition") or {}) for each in experiment.get("parentConditions") or []
        ),
        sticky=sticky and not experiment.get("disableStickyBucketing"),
        bucket_version=experiment.get("bucketVersion") or 0,
        minimum_bucket_version=experiment.get("minBucketVersion") or 0,
    )


def _filters(part: Object) -> tuple[Filter, ...]:
    return tuple(
        Filter(
            each["seed"],
            tuple((low, high) for low, high in each["ranges"]),
            each.get("attribute") or UNIT,
            each.get("hashVersion") or 2,
        )
        for each in part.get("filters") or []
    )


def _preview(context: Object) -> Preview:
    """Return what a context forces: in quality assurance nobody is assigned beyond that, and where it is switched off nobody at all."""
    return Preview(alone=context.get("enabled") is False or bool(context.get("qaMode")))


def _at(keys: list[str], index: int) -> str:
    """Return the variation of an index; an index that there is not names none."""
    return keys[index] if 0 <= index < len(keys) else f"none: {index}"


def _pseudonym(attribute: str, value: str) -> str:
    return f"{attribute}={value}"
