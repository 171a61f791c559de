"""Events through the broker: feedback that is learned, replies that come back, and what nobody can use."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from shared.events.types import FEEDBACK_GIVEN, RECOMMENDATION_MADE, RECOMMENDATION_REQUESTED
from tests.e2e.cluster import wait_for
from tests.e2e.conftest import LEARNED_WITHIN_S, Knudge
from tests.e2e.events import SOURCE, Seen

pytestmark = pytest.mark.e2e

DELIVERED_WITHIN_S = 90.0


def test_feedback_through_the_broker_moves_the_posterior_and_counts_once(knudge_there: Knudge) -> None:
    """An event that is delivered twice is one reward: the mean ends where one click puts it."""
    policy = knudge_there.policy(actions=["only"])
    decided = [knudge_there.decide(policy)["decision_id"] for _ in range(4)]
    knudge_there.learned(policy, "only", 0.0)
    for decision_id in [decided[0], decided[0], decided[1]]:
        data = {"decision_id": decision_id, "kind": "click"}
        knudge_there.broker.send(FEEDBACK_GIVEN, data, event_id=f"{decision_id}-click")

    def counted() -> float | None:
        snapshot = knudge_there.snapshot(policy)["actions"][0]
        made = snapshot["weight"]
        return snapshot["mean"] if made >= len(decided) and snapshot["mean"] * made >= 2 - 1e-6 else None

    mean = wait_for("two clicks are learned", counted, LEARNED_WITHIN_S)
    made = knudge_there.snapshot(policy)["actions"][0]["weight"]
    assert mean * made == pytest.approx(2.0)


def test_a_requested_recommendation_comes_back_as_an_event(knudge_there: Knudge) -> None:
    """The reply of `recommend` goes back into the broker and reaches whoever asked for its type."""
    policy = knudge_there.policy()
    knudge_there.decide(policy)
    asked = {"policy": policy, "user_id": "grace", "context": {"asked": uuid.uuid4().hex}}
    knudge_there.broker.send(RECOMMENDATION_REQUESTED, asked)

    def replied() -> Seen | None:
        made = [event for event in knudge_there.subscriber.seen(RECOMMENDATION_MADE) if event.data["policy"] == policy]
        return made[0] if made else None

    event = wait_for("the reply reaches the subscriber", replied, DELIVERED_WITHIN_S)
    assert event.attributes["source"] == "knudge/recommend"
    assert event.data["items"][0]["action"] in {"a", "b", "c"}


def test_a_poison_event_becomes_a_dead_letter_and_is_replayed(knudge_there: Knudge) -> None:
    """What `feedback` refuses is kept by `control` with the reason, seen through the API and the command, and sent again."""
    event_id = knudge_there.broker.send(FEEDBACK_GIVEN, {"decision_id": "no decision at all", "kind": "click"})

    def kept() -> dict[str, Any] | None:
        letters = knudge_there.ingress.ask("control", "GET", "/v1/dead-letters")["letters"]
        return next((each for each in letters if each["event_id"] == event_id), None)

    letter = wait_for("the dead letter is kept", kept, DELIVERED_WITHIN_S)
    assert (letter["type"], letter["source"], letter["error_code"]) == (FEEDBACK_GIVEN, SOURCE, 400)
    whole = knudge_there.ingress.ask("control", "GET", f"/v1/dead-letters/{letter['id']}")
    assert "decision_id" in whole["error_data"]
    replayed = knudge_there.ingress.ask("control", "POST", f"/v1/dead-letters/{letter['id']}/replay")
    assert replayed["replays"] == 1

    def failed_again() -> bool | None:
        again = knudge_there.ingress.ask("control", "GET", f"/v1/dead-letters/{letter['id']}")
        return again["arrivals"] >= 2 or None

    wait_for("the replayed event failed again and is counted", failed_again, DELIVERED_WITHIN_S)
