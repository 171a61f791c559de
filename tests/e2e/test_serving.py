"""Functions behind the ingress: decisions, errors, health; and from zero to an answer."""

from __future__ import annotations

import time

import pytest

from tests.e2e.cluster import wait_for
from tests.e2e.conftest import Knudge
from tests.e2e.installation import NAMESPACE

pytestmark = pytest.mark.e2e

TO_ZERO_WITHIN_S = 240.0
FROM_ZERO_WITHIN_S = 60.0


def test_a_decision_and_its_feedback_are_learned(knudge_there: Knudge) -> None:
    """A policy is written, decides through the ingress, takes feedback, and its posterior moves."""
    policy = knudge_there.policy()
    decided = knudge_there.decide(policy)
    assert decided["policy_version"] == 1
    assert 0 < decided["items"][0]["propensity"] <= 1
    action = decided["items"][0]["action"]
    assert knudge_there.learned(policy, action, 0.0) == 0.0
    event = {"decision_id": decided["decision_id"], "kind": "click", "event_id": "e2e"}
    assert knudge_there.ingress.ask("feedback", "POST", "/v1/feedback", event) == {"accepted": 1, "duplicates": 0}
    assert knudge_there.ingress.ask("feedback", "POST", "/v1/feedback", event) == {"accepted": 0, "duplicates": 1}
    assert 0 < knudge_there.learned(policy, action, 0.1) <= 1


def test_a_bad_request_is_answered_by_the_function(knudge_there: Knudge) -> None:
    """Problem details come back through activator and ingress as the function wrote them."""
    reply = knudge_there.ingress.call("recommend", "POST", "/v1/recommend", {"policy": "e2e-bad", "count": 0})
    assert reply.status == 400
    assert reply.headers["content-type"].startswith("application/problem+json")
    assert reply.body["field"] == "count"


@pytest.mark.parametrize("function", ["assignment", "recommend", "feedback", "learn", "control", "analyse"])
def test_every_function_is_ready_and_describes_itself(knudge_there: Knudge, function: str) -> None:
    """Health and OpenAPI are reached through the ingress."""
    assert knudge_there.ingress.ask(function, "GET", "/health/ready") == {"status": "ok"}
    described = knudge_there.ingress.ask(function, "GET", "/openapi.json")
    assert described["openapi"].startswith("3.1")


@pytest.mark.timeout(TO_ZERO_WITHIN_S + FROM_ZERO_WITHIN_S + 60)
def test_control_goes_to_zero_and_a_request_wakes_it(knudge_there: Knudge) -> None:
    """Left alone it has no pod; the next request waits for one and is answered."""
    knudge_there.ingress.ask("control", "GET", "/health/live")
    wait_for("control has no pod", lambda: not _pods(knudge_there, "control") or None, TO_ZERO_WITHIN_S)
    began = time.monotonic()
    knudge_there.ingress.ask("control", "GET", "/v1/policies")
    took_s = time.monotonic() - began
    assert took_s < FROM_ZERO_WITHIN_S
    assert _pods(knudge_there, "control")
    began = time.monotonic()
    knudge_there.ingress.ask("control", "GET", "/v1/policies")
    print(f"\ncontrol from zero: {took_s:.2f} s; warm: {(time.monotonic() - began) * 1000:.0f} ms")


def _pods(there: Knudge, function: str) -> list[str]:
    pods = there.cluster.list("v1", "Pod", NAMESPACE, f"serving.knative.dev/service={function}")
    return [pod["metadata"]["name"] for pod in pods if "deletionTimestamp" not in pod["metadata"]]
