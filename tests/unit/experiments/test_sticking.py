"""Which attributes are looked up before an experiment or a flag is evaluated."""

from __future__ import annotations

from typing import Any

from shared.experiments.assigning import Catalogue
from shared.experiments.experiment import ExperimentSpec, Prerequisite, Variation
from shared.experiments.flags import FlagSpec, Rule, RulePrerequisite
from shared.experiments.sticking import sticky_attributes

TRUE = {"value": True}


def experiment(key: str, **fields: Any) -> ExperimentSpec:
    """Return an experiment of two variations."""
    return ExperimentSpec(key, 1, (Variation("a", False), Variation("b", True)), **fields)


def test_only_running_sticky_experiments_are_looked_up() -> None:
    """A plain one costs nothing, nor does a sticky one that assigns nobody any more."""
    found = sticky_attributes(
        Catalogue(
            1,
            [
                experiment("plain"),
                experiment("ended", sticky=True, status="stopped"),
                experiment("drafted", sticky=True, status="draft"),
                experiment("sticks", sticky=True),
                experiment("falls-back", sticky=True, hash_attribute="account", fallback_attribute="device"),
            ],
        )
    )
    assert found == {"sticks": {"user_id"}, "falls-back": {"account", "device"}}


def test_what_an_evaluation_may_come_to_counts() -> None:
    """Holdouts, prerequisites and the experiments of a flag's rules are followed, through any number of steps and around cycles."""
    found = sticky_attributes(
        Catalogue(
            1,
            [
                experiment("holdout", kind="holdout", sticky=True, hash_attribute="household"),
                experiment("held", holdout="holdout"),
                experiment("needs", prerequisites=(Prerequisite("flag", TRUE),)),
                experiment("device", sticky=True, hash_attribute="device"),
                experiment("circle", prerequisites=(Prerequisite("back", TRUE),)),
                experiment("back", prerequisites=(Prerequisite("circle", TRUE), Prerequisite("gone", TRUE))),
            ],
            [
                FlagSpec("flag", 1, None, (Rule(experiment="device"), Rule(experiment="nowhere"))),
                FlagSpec("gated", 1, None, (Rule(value=1, prerequisites=(RulePrerequisite("held", TRUE),)),)),
            ],
        )
    )
    assert found == {
        "holdout": {"household"},
        "held": {"household"},
        "gated": {"household"},
        "device": {"device"},
        "flag": {"device"},
        "needs": {"device"},
    }
