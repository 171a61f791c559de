"""Everything that is wrong with what is written, each fault with its field, all at once."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.experiments.assigning import Catalogue
from shared.experiments.catalogue_faults import catalogue_faults
from shared.experiments.experiment import ExperimentSpec, Filter, Layer, Prerequisite, Variation
from shared.experiments.faults import experiment_faults
from shared.experiments.flag_faults import flag_faults
from shared.experiments.flags import FlagSpec, Rule, RulePrerequisite
from shared.experiments.plan import AnalysisPlan, Guardrail, Metric
from tests.unit.experiments.catalogues import experiment

NAN, INFINITE = float("nan"), float("inf")
NINE: Any = 9
"""A version of the hash that nobody knows."""


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"weights": (0.1, 0.9), "coverage": 0.5, "layer": Layer("l", 0.2, 0.3)},
        {"weights": (1 / 3, 2 / 3)},
        {"weights": (0.0, 1.0)},
        {"ranges": ((0.5, 1.0), (0.0, 0.5))},
        {"ranges": ((0.1, 0.1), (0.1, 0.2))},
        {"filters": (Filter("s", ((0.0, 0.1), (0.5, 0.6)), "device", 1),)},
        {"sticky": True, "fallback_attribute": "device", "bucket_version": 3, "minimum_bucket_version": 2},
        {"condition": {"country": {"$in": ["DE"]}}, "prerequisites": (Prerequisite("p", {"value": True}),)},
        {"forced": {"0123": "a"}, "default": "b", "released": "a", "holdout": "h"},
        {"policy": "p", "variations": (Variation("a", {"policy": "p"}), Variation("b", {"policy": "q"}))},
        {"kind": "holdout", "coverage": 0.1},
        {"kind": "holdout", "ranges": ((0.0, 0.05), (0.5, 0.55))},
        {
            "analysis": AnalysisPlan(
                (Metric("m", "click"), Metric("r", "dwell", "ratio", denominator="decisions")),
                ("r",),
                (Guardrail("m", 0.1),),
            )
        },
        {
            "analysis": AnalysisPlan(
                (Metric("q", "dwell", "quantile", quantile=0.9, winsorise=0.99),),
                inference="group_sequential",
                planned_units=1000,
            )
        },
    ],
)
def test_what_is_right_has_no_fault(fields: dict[str, Any]) -> None:
    """And it can be compiled."""
    spec = experiment("e", **fields)
    assert experiment_faults(spec) == []
    assert Catalogue(1, [spec]).broken == {}


@pytest.mark.parametrize(
    ("fields", "faults"),
    [
        ({"key": "a:2"}, ["key"]),
        ({"key": ""}, ["key"]),
        ({"variations": ()}, ["variations"]),
        ({"variations": (Variation("a", 1), Variation("a", 2))}, ["variations[1].key"]),
        (
            {"variations": (Variation("a b", NAN), Variation("b", {"x": [INFINITE]}))},
            ["variations[0].key", "variations[0].value", "variations[1].value.x[0]"],
        ),
        (
            {"policy": "p", "variations": (Variation("a", {"policy": ""}), Variation("b", {"policy": 7}))},
            ["variations[0].value.policy", "variations[1].value.policy"],
        ),
        ({"weights": (0.5, 0.4)}, ["weights"]),
        ({"weights": (0.5, 0.500002)}, ["weights"]),
        ({"weights": (1.0,)}, ["weights"]),
        ({"weights": (-0.5, 1.5)}, ["weights[0]"]),
        ({"weights": (NAN, True)}, ["weights[0]", "weights[1]"]),
        ({"coverage": 1.5}, ["coverage"]),
        ({"coverage": NAN}, ["coverage"]),
        ({"ranges": ((0.0, 0.5),)}, ["ranges"]),
        ({"ranges": ((0.0, 0.6), (0.5, 1.0))}, ["ranges[1]"]),
        ({"ranges": ((0.5, 1.0), (0.0, 0.6))}, ["ranges[0]"]),
        ({"ranges": ((0.6, 0.4), (-0.1, 2.0))}, ["ranges[0]", "ranges[1]"]),
        ({"ranges": ((0.0, 0.5), (0.5, 1.0)), "weights": (0.5, 0.5), "coverage": 0.5}, ["weights", "coverage"]),
        (
            {"phase": 0, "hash_version": 3, "hash_attribute": "", "seed": ""},
            ["phase", "hash_attribute", "hash_version", "seed"],
        ),
        ({"fallback_attribute": "device"}, ["fallback_attribute"]),
        ({"fallback_attribute": "user_id", "sticky": True}, ["fallback_attribute"]),
        ({"layer": Layer("", 0.5, 0.5)}, ["layer.name", "layer.high"]),
        (
            {"layer": Layer("l", -1, 2), "filters": (Filter("", ()),)},
            ["layer.low", "layer.high", "filters", "filters[0].seed", "filters[0].ranges"],
        ),
        ({"filters": (Filter("e", ((0.0, 1.0),)),)}, ["filters[0].seed"]),
        ({"condition": {"a": {"$foo": 1}, "$or": []}}, ["condition.a.$foo", "condition.$or"]),
        (
            {"prerequisites": (Prerequisite("e", {"country": "DE"}),)},
            ["prerequisites[0].key", "prerequisites[0].condition.country"],
        ),
        (
            {"default": "z", "released": "y", "forced": {"0123": "x"}, "holdout": "e"},
            ["default", "released", "forced.0123", "holdout"],
        ),
        ({"bucket_version": 1}, ["bucket_version"]),
        (
            {"bucket_version": -1, "minimum_bucket_version": 10**9, "sticky": True},
            ["bucket_version", "minimum_bucket_version", "minimum_bucket_version"],
        ),
        ({"kind": "holdout", "weights": (0.4, 0.6)}, ["weights"]),
        ({"kind": "holdout", "ranges": ((0.0, 0.1), (0.1, 0.3))}, ["ranges"]),
        ({"kind": "holdout", "variations": (Variation("a"), Variation("b"), Variation("c"))}, ["variations"]),
        (
            {
                "kind": "holdout",
                "sticky": True,
                "holdout": "h",
                "released": "a",
                "prerequisites": (Prerequisite("p", {}),),
            },
            ["holdout", "released", "prerequisites", "sticky"],
        ),
    ],
)
def test_every_fault_of_an_experiment_is_named(fields: dict[str, Any], faults: list[str]) -> None:
    """In the order of the fields."""
    assert [fault.field for fault in experiment_faults(experiment(**{"key": "e"} | fields))] == faults


@pytest.mark.parametrize(
    ("plan", "faults"),
    [
        (AnalysisPlan((Metric("m", "click"), Metric("m", ""))), ["metrics[1].name", "metrics[1].event"]),
        (AnalysisPlan((Metric("m", "click", window_s=0.0),)), ["metrics[0].window_s"]),
        (
            AnalysisPlan((Metric("m", "click", winsorise=0.5, covariate_s=-1.0),)),
            ["metrics[0].winsorise", "metrics[0].covariate_s"],
        ),
        (AnalysisPlan((Metric("m", "click", "ratio"),)), ["metrics[0].denominator"]),
        (AnalysisPlan((Metric("m", "click", denominator="view"),)), ["metrics[0].denominator"]),
        (AnalysisPlan((Metric("m", "dwell", "quantile"),)), ["metrics[0].quantile"]),
        (AnalysisPlan((Metric("m", "dwell", "quantile", quantile=1.0),)), ["metrics[0].quantile"]),
        (AnalysisPlan((Metric("m", "dwell", "mean", quantile=0.5),)), ["metrics[0].quantile"]),
        (AnalysisPlan((Metric("m", "click"),), ("n", "m", "m")), ["primary[2]", "primary[0]"]),
        (
            AnalysisPlan((Metric("m", "click"),), (), (Guardrail("n", -0.1),)),
            ["guardrails[0].metric", "guardrails[0].margin"],
        ),
        (AnalysisPlan((Metric("m", "click"),), (), (Guardrail("m"), Guardrail("m"))), ["guardrails[1].metric"]),
        (
            AnalysisPlan(stops_on_guardrail=True, control="z", confidence=0.5),
            ["stops_on_guardrail", "control", "confidence"],
        ),
        (AnalysisPlan(inference="group_sequential", looks=0, strata=""), ["planned_units", "looks", "strata"]),
        (AnalysisPlan(planned_units=0), ["planned_units"]),
    ],
)
def test_every_fault_of_a_plan_is_named(plan: AnalysisPlan, faults: list[str]) -> None:
    """Under `analysis`."""
    found = experiment_faults(experiment("e", analysis=plan))
    assert [fault.field for fault in found] == [f"analysis.{field}" for field in faults]


@pytest.mark.parametrize(
    ("rules", "faults"),
    [
        ((), []),
        (
            (
                Rule(value=None),
                Rule(experiment="e", pass_through=("a",)),
                Rule(prerequisites=(RulePrerequisite("p", {"value": 1}, gate=True),)),
            ),
            [],
        ),
        ((Rule(value=1, coverage=0.5, seed="s", fallback_attribute="device"), Rule(value=1, range=(0.0, 0.1))), []),
        ((Rule(),), ["rules[0]"]),
        ((Rule(value=1, experiment="e"),), ["rules[0].value"]),
        ((Rule(experiment="f", coverage=0.5),), ["rules[0].experiment", "rules[0].coverage"]),
        (
            (Rule(value=NAN, coverage=2.0, range=(0.5, 0.1), pass_through=("a",)),),
            ["rules[0].value", "rules[0].pass_through", "rules[0].coverage", "rules[0].range[0]", "rules[0].coverage"],
        ),
        ((Rule(id="a", value=1), Rule(id="a", value=2), Rule(id="default", value=3)), ["rules[2].id", "rules[1].id"]),
        ((Rule(value=1, id="rule-2"), Rule(value=2)), ["rules[1].id"]),
        (
            (Rule(value=1, condition={"$or": 1}, hash_version=NINE, hash_attribute=""),),
            ["rules[0].condition", "rules[0].hash_attribute", "rules[0].hash_version"],
        ),
        (
            (Rule(value=1, prerequisites=(RulePrerequisite("f", {"a": 1}),)),),
            ["rules[0].prerequisites[0].key", "rules[0].prerequisites[0].condition.a"],
        ),
    ],
)
def test_every_fault_of_a_flag_is_named(rules: tuple[Rule, ...], faults: list[str]) -> None:
    """With the rule it stands in."""
    found = [fault.field.replace("condition.$or", "condition") for fault in flag_faults(FlagSpec("f", 1, None, rules))]
    assert found == faults


@pytest.mark.parametrize(
    ("spec", "faults"),
    [
        (experiment("new", prerequisites=(Prerequisite("e", {}), Prerequisite("f", {}))), []),
        (
            experiment("new", prerequisites=(Prerequisite("nobody", {}),), holdout="e"),
            ["prerequisites[0].key", "holdout"],
        ),
        (experiment("new", holdout="h"), []),
        (experiment("f"), ["key"]),
        (FlagSpec("e", 2), ["key"]),
        (experiment("e", prerequisites=(Prerequisite("f", {}),)), ["prerequisites[0].key"]),
        (
            FlagSpec("f", 2, rules=(Rule(value=1, prerequisites=(RulePrerequisite("g", {}),)),)),
            ["rules[0].prerequisites[0].key"],
        ),
        (
            FlagSpec("new", 1, rules=(Rule(experiment="f"), Rule(experiment="e", pass_through=("z",)))),
            ["rules[0].experiment", "rules[1].pass_through[0]"],
        ),
        (experiment("new", seed="e"), ["seed"]),
        (experiment("s", phase=2), []),
        (experiment("new", seed="old"), []),
        (experiment("new", filters=(Filter("s", ((0.0, 1.0),)),)), ["filters[0].seed"]),
        (experiment("new", seed="lets-in"), ["seed"]),
        (experiment("new", seed="__layer"), ["seed"]),
        (FlagSpec("new", 1, rules=(Rule(value=1, seed="e", coverage=0.5),)), ["rules[0].seed"]),
        (FlagSpec("new", 1, rules=(Rule(value=1, seed="rollout", coverage=0.5),)), []),
        (experiment("new", seed="rollout"), ["seed"]),
        (experiment("new", layer=Layer("layer", 0.4, 0.6)), []),
    ],
)
def test_every_fault_among_others_is_named(spec: ExperimentSpec | FlagSpec, faults: list[str]) -> None:
    """Names that nobody has, circles, and hashes that are shared by accident."""
    others: dict[str, ExperimentSpec | FlagSpec] = {
        each.key: each
        for each in (
            experiment("e"),
            experiment("s", layer=Layer("layer", 0.0, 0.5), filters=()),
            experiment("lets", filters=(Filter("lets-in", ((0.0, 1.0),)),)),
            experiment("old", status="stopped"),
            experiment("h", kind="holdout"),
            FlagSpec("f", 1, rules=(Rule(experiment="e"), Rule(value=1, coverage=0.1, seed="rollout"))),
            FlagSpec("g", 1, rules=(Rule(value=1, prerequisites=(RulePrerequisite("f", {}),)),)),
        )
    }
    assert [fault.field for fault in catalogue_faults(spec, others)] == faults


def test_a_circle_is_spelled_out() -> None:
    """So that whoever wrote it sees where to cut it."""
    others: dict[str, ExperimentSpec | FlagSpec] = {
        "a": experiment("a", prerequisites=(Prerequisite("b", {}),)),
        "b": FlagSpec("b", 1, rules=(Rule(experiment="c"),)),
    }
    found = catalogue_faults(experiment("c", prerequisites=(Prerequisite("a", {}),)), others)
    assert [fault.detail for fault in found] == ["leads back here: c -> a -> b -> c"]


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["a", "$in", "$or", "$not", "$regex", "$elemMatch", "$all", "$size", "value"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=12,
)


@given(
    json,
    st.lists(st.floats() | st.integers(), max_size=4),
    st.lists(st.tuples(st.floats(), st.floats()), max_size=3),
    st.floats(),
)
def test_nothing_that_is_written_raises(
    condition: Any, weights: list[float], ranges: list[tuple[float, float]], number: float
) -> None:
    """Whatever JSON holds is either a fault or can be compiled and asked."""
    for fields in ({"weights": tuple(weights)}, {"ranges": tuple(ranges)}, {"coverage": number}):
        spec = experiment("e", condition=condition, **fields)
        if experiment_faults(spec) == []:
            of = Catalogue(1, [spec])
            assert of.broken == {}
            assert of.assign("e", {"user_id": "u", "a": condition}, lambda _, value: value).experiment == "e"
