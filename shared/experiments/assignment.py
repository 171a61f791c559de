"""What an assignment and an evaluation say, and what is asked of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

from shared.experiments.experiment import Json

Reason = Literal[
    "assigned",
    "forced",
    "sticky",
    "released",
    "holdout",
    "prerequisite",
    "layer",
    "condition",
    "coverage",
    "no_hash_attribute",
    "bucket_version",
    "draft",
    "stopped",
    "preview",
    "unknown",
]
"""Why a unit has its variation, or none: what first kept it out."""
Source = Literal["default", "value", "experiment", "prerequisite", "cycle", "unknown"]
"""Where a flag's value comes from; `value`: a rule's; `prerequisite`, `cycle`: a gate gave null."""
Kept = Mapping[str, Mapping[str, str]]
"""What sticks to a unit: attribute -> key of a sticky experiment (`experiment__bucket version`) -> variation."""


class Assignment(NamedTuple):
    """What one unit gets of one experiment.

    `variation`: None for whoever is not in it, who is served `value`, that of the default variation. `in_experiment`: whether the
    unit counts in the analysis: assigned, newly or earlier, not forced or released. `hash_value`: empty where the unit lacks the
    attribute; in the clear. `place`: in [0, 1), None where none was needed. `holdout`: an exposure of the holdout that is due, too, whenever
    this one is asked for in earnest: (key, phase, variation). `kept`: what is to be kept for the value of `hash_attribute`, None where
    nothing is or all is kept already: (sticky key, variation).
    """

    experiment: str
    phase: int
    variation: str | None
    value: Json
    in_experiment: bool
    reason: Reason
    hash_attribute: str = ""
    hash_value: str = ""
    place: float | None = None
    holdout: tuple[str, int, str] | None = None
    kept: tuple[str, str] | None = None


class Evaluation(NamedTuple):
    """What one unit gets of a flag, or of an experiment that is asked for as one.

    `variant`: the variation served, a rule's id (`rule-1` for the first without one), or `default`. `rule`: the id of the rule that
    decided, None where it has none. `assignments`: of the experiments that were looked at on the way, in order; those with
    `in_experiment` or a holdout are exposures.
    """

    key: str
    value: Json
    variant: str
    source: Source
    rule: str | None = None
    assignments: tuple[Assignment, ...] = ()


class Preview(NamedTuple):
    """What a tester wants to see, whatever the shares say; none of it counts in an analysis.

    `variations`: experiment -> variation that the unit gets, even of a draft. `pinned`: the same, but only where it would take part.
    `alone`: it is assigned to nothing else.
    """

    variations: Mapping[str, str] = {}
    pinned: Mapping[str, str] = {}
    alone: bool = False


NO_PREVIEW = Preview()
"""Of everybody who is no tester."""


class Asked(NamedTuple):
    """Who asks, and what was found out on the way.

    `kept`: what sticks. `known`: what was evaluated already, which prerequisites may need many times. `circles`: the keys that led back to
    themselves. `path`: what is being evaluated; a second time would be a circle.
    """

    attributes: Mapping[str, Json]
    pseudonym_of: Callable[[str, str], str]
    kept: Kept
    preview: Preview
    known: dict[str, Evaluation]
    circles: list[str]
    path: frozenset[str] = frozenset()

    def onward(self, key: str) -> Asked:
        """Return the same, while `key` is evaluated."""
        return Asked(
            self.attributes, self.pseudonym_of, self.kept, self.preview, self.known, self.circles, self.path | {key}
        )
