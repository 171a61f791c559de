"""Training by events: broker, Trigger, JobSink, a Job, a new snapshot, and the event that says so."""

from __future__ import annotations

from typing import Any

import pytest

from shared.events.types import TRAINING_FINISHED, TRAINING_REQUESTED
from tests.e2e.cluster import Manifest, condition, wait_for
from tests.e2e.conftest import Knudge
from tests.e2e.installation import NAMESPACE

pytestmark = pytest.mark.e2e

TRAINED_WITHIN_S = 180.0


def test_a_requested_training_publishes_a_new_snapshot(knudge_there: Knudge) -> None:
    """The Job refits from history, the snapshot's version rises, what was learned stays, and the end is announced."""
    policy = knudge_there.policy()
    decided = knudge_there.decide(policy)
    action = decided["items"][0]["action"]
    event = {"decision_id": decided["decision_id"], "kind": "click"}
    knudge_there.ingress.ask("feedback", "POST", "/v1/feedback", event)
    mean = knudge_there.learned(policy, action, 0.1)
    before = knudge_there.snapshot(policy)["snapshot_version"]
    job = _trained(knudge_there, {"policy": policy})
    assert condition(job, "Complete")[0] == "True", condition(job, "Failed")[1]
    assert knudge_there.snapshot(policy)["snapshot_version"] > before
    assert knudge_there.mean(policy, action) == pytest.approx(mean, abs=1e-9)

    def announced() -> bool | None:
        seen = knudge_there.subscriber.seen(TRAINING_FINISHED)
        return any(policy in str(finished.data) for finished in seen) or None

    wait_for("the end of the training is announced", announced, TRAINED_WITHIN_S)


def test_a_training_of_a_policy_that_is_not_there_fails_once(knudge_there: Knudge) -> None:
    """No repetition mends such an event, so the Job's failure policy ends it at the first pod."""
    job = _trained(knudge_there, {"policy": "e2e-never-written"})
    failed, why = condition(job, "Failed")
    assert failed == "True", job["status"]
    assert why.startswith("PodFailurePolicy")
    assert job["status"]["failed"] == 1


def _trained(there: Knudge, data: dict[str, Any]) -> Manifest:
    """Request a training and return its Job when that is over."""
    before = {job["metadata"]["name"] for job in _jobs(there)}
    there.broker.send(TRAINING_REQUESTED, data)

    def over() -> Manifest | None:
        new = [job for job in _jobs(there) if job["metadata"]["name"] not in before]
        done = [job for job in new if "True" in {condition(job, kind)[0] for kind in ("Complete", "Failed")}]
        return done[0] if done else None

    return wait_for(f"a Job trains {data}", over, TRAINED_WITHIN_S)


def _jobs(there: Knudge) -> list[Manifest]:
    return there.cluster.list("batch/v1", "Job", NAMESPACE, "app.kubernetes.io/name=train")
