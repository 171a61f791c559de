"""The JSON Schema of each event type's data, from the same structures that functions decode and encode.

`python -m knative.checks.event_schemas` (`make schemas`) writes `eventing/schemas/<name>.json`, one for each type of
`shared.events.types`: `feedback.given.json` for `dev.knudge.feedback.given.v1`. An EventType names its file. Data that we
take is closed, as its decoder is; data that we send is open, because a later version may add fields.
"""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import msgspec

from shared.edge import assignment_contracts, contracts, learning_contracts, result_contracts
from shared.events import types

FOLDER = Path(__file__).resolve().parents[2] / "eventing/schemas"
DIALECT = "https://json-schema.org/draft/2020-12/schema"
DATA: dict[str, type[msgspec.Struct]] = {
    types.RECOMMENDATION_REQUESTED: contracts.RecommendRequest,
    types.RECOMMENDATION_MADE: contracts.RecommendAnswer,
    types.FEEDBACK_GIVEN: contracts.FeedbackIn,
    types.DECISION_LOGGED: contracts.LoggedDecision,
    types.ASSIGNMENT_REQUESTED: assignment_contracts.AssignmentRequest,
    types.ASSIGNMENT_MADE: assignment_contracts.AssignmentMade,
    types.EXPOSURE_RECORDED: assignment_contracts.ExposureIn,
    types.LEARNING_DUE: learning_contracts.LearningDue,
    types.TRAINING_REQUESTED: learning_contracts.TrainingRequested,
    types.TRAINING_FINISHED: learning_contracts.TrainingFinished,
    types.POLICY_PROMOTED: learning_contracts.PolicyPromoted,
    types.ANALYSIS_DUE: result_contracts.AnalysisDue,
    types.EXPERIMENT_DECIDED: result_contracts.ExperimentDecided,
}
"""The structure of each type's data. A PingSource's own type has none: whoever takes it looks at no data."""

CONDITIONS: dict[str, dict[str, Any]] = {
    types.FEEDBACK_GIVEN: {
        "oneOf": [{"required": [name], "properties": {name: {"type": "string"}}} for name in ("decision_id", "user_id")]
    },
}
"""What decoders ask beside the fields of a structure."""


def file_name(event_type: str) -> str:
    """Return the name of the file with a type's schema.

    >>> file_name("dev.knudge.feedback.given.v1")
    'feedback.given.json'
    """
    return event_type.removeprefix("dev.knudge.").removesuffix(".v1") + ".json"


def schema(event_type: str) -> dict[str, Any]:
    """Return the JSON Schema of a type's data."""
    made = msgspec.json.schema(DATA[event_type])
    for definition in made["$defs"].values():
        if "description" in definition:
            definition["description"] = inspect.cleandoc(definition["description"])
    return {"$schema": DIALECT, "$id": f"urn:knudge:event:{event_type}", "title": f"Data of {event_type}"} | (
        made | CONDITIONS.get(event_type, {})
    )


def written(event_type: str) -> str:
    """Return the file with a type's schema."""
    return json.dumps(schema(event_type), indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Write every schema, and take away what belongs to no type."""
    FOLDER.mkdir(exist_ok=True)
    for event_type in DATA:
        (FOLDER / file_name(event_type)).write_text(written(event_type))
    for file in FOLDER.glob("*.json"):
        if file.name not in {file_name(event_type) for event_type in DATA}:
            file.unlink()


if __name__ == "__main__":
    main()
