"""The eventing manifests are read whole, and what the reader does not know is an error."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from functions.local.triggers import (
    DEFAULT_DELIVERY,
    MANIFESTS,
    DeadLetterSink,
    Delivery,
    duration_s,
    read_job_sinks,
    read_schedules,
    read_triggers,
)
from shared.errors import Misconfigured

SERVICE = {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "name": "control"}


@pytest.fixture
def manifests(tmp_path: Path) -> Path:
    """Return a copy of the manifests to change."""
    return Path(shutil.copytree(MANIFESTS, tmp_path / "eventing"))


def change(path: Path, **spec: object) -> None:
    """Change the spec of a manifest; None takes a member out."""
    document = yaml.safe_load(path.read_text())
    document["spec"] = {k: v for k, v in (document["spec"] | spec).items() if v is not None}
    path.write_text(yaml.safe_dump(document))


def test_every_event_that_functions_take_has_a_trigger() -> None:
    """The event types that this system takes reach the functions that take them, a training through its JobSink."""
    type_to_subscriber = {trigger.attributes["type"]: trigger.subscriber for trigger in read_triggers()}
    assert type_to_subscriber == {
        "dev.knudge.recommendation.requested.v1": "recommend",
        "dev.knudge.assignment.requested.v1": "assignment",
        "dev.knudge.exposure.recorded.v1": "assignment",
        "dev.knudge.feedback.given.v1": "feedback",
        "dev.knudge.decision.logged.v1": "feedback",
        "dev.knudge.learning.due.v1": "learn",
        "dev.knudge.analysis.due.v1": "analyse",
        "dev.knudge.training.requested.v1": "jobsinks/train",
    }


def test_the_sweep_comes_every_ten_minutes() -> None:
    """The learner is swept every ten minutes, with an empty object."""
    [sweep] = [each for each in read_schedules() if each.subscriber == "learn"]
    assert (sweep.cron, sweep.data, sweep.subscriber) == ("*/10 * * * *", b"{}", "learn")


def test_the_training_comes_every_night() -> None:
    """Every policy is trained once a day, through the JobSink."""
    [training] = [each for each in read_schedules() if each.subscriber == "jobsinks/train"]
    assert (training.name, training.data, training.subscriber) == ("training", b"{}", "jobsinks/train")
    minute, hour, *rest = training.cron.split()
    assert minute.isdigit()
    assert hour.isdigit()
    assert rest == ["*", "*", "*"]


def test_a_job_is_played_as_its_manifest_says() -> None:
    """The command, how often a failed one is followed by another, and which exit code is final, are the manifest's."""
    [plan] = read_job_sinks()
    assert (plan.name, plan.command) == ("train", ("python", "-m", "functions.train.job"))
    assert plan.final_codes == {2}
    assert plan.backoff_limit >= 1
    assert 60 <= plan.deadline_s < 86_400
    assert plan.environment == {}


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("spec", {"job": {"spec": {}}, "retries": 1}),
        ("job", {"bogus": 1}),
        ("job", {"template": {"spec": {"restartPolicy": "OnFailure"}}}),
        ("pod", {"initContainers": []}),
        ("pod", {"containers": []}),
        ("container", {"livenessProbe": {}}),
        ("container", {"command": []}),
        (
            "job",
            {"podFailurePolicy": {"rules": [{"action": "Ignore", "onExitCodes": {"operator": "In", "values": [3]}}]}},
        ),
        ("job", {"podFailurePolicy": {"rules": [{"action": "FailJob", "onExitCodes": {"operator": "NotIn"}}]}}),
    ],
)
def test_a_job_that_cannot_be_played_is_an_error(manifests: Path, place: str, value: dict[str, Any]) -> None:
    """What a JobSink says and the local runner would not do is said at the start."""
    path = manifests / "jobsink.yaml"
    document = yaml.safe_load(path.read_text())
    job = document["spec"]["job"]["spec"]
    pod = job["template"]["spec"]
    {"spec": document["spec"], "job": job, "pod": pod, "container": pod["containers"][0]}[place].update(value)
    path.write_text(yaml.safe_dump(document))
    with pytest.raises(Misconfigured, match=r"jobsink\.yaml"):
        read_job_sinks(manifests)


def test_a_trigger_matches_by_equal_attributes() -> None:
    """Every wanted attribute must be equal; an event of another type is not for the trigger."""
    trigger = next(t for t in read_triggers() if t.name == "feedback-given")
    assert trigger.matches({"type": "dev.knudge.feedback.given.v1", "id": "1"})
    assert not trigger.matches({"type": "dev.knudge.feedback.given.v2", "id": "1"})
    assert not trigger.matches({"id": "1"})


def test_a_trigger_without_delivery_takes_the_brokers(manifests: Path) -> None:
    """The broker's delivery is the default, and Knative's own stands behind it."""
    path = manifests / "triggers" / "feedback-given.yaml"
    change(path, delivery=None)
    assert next(t for t in read_triggers(manifests) if t.name == "feedback-given").delivery.retry == 8
    change(manifests / "broker.yaml", delivery=None)
    assert next(t for t in read_triggers(manifests) if t.name == "feedback-given").delivery == DEFAULT_DELIVERY


def test_what_is_given_up_goes_to_the_dead_letter_sink(manifests: Path) -> None:
    """Every trigger names the sink; one that does not has its broker's, whatever else it says of delivery."""
    sink = DeadLetterSink("control", "/v1/dead-letters")
    assert {trigger.dead_letter_sink for trigger in read_triggers()} == {sink}
    change(manifests / "triggers" / "feedback-given.yaml", delivery={"retry": 2})
    change(manifests / "triggers" / "decision-logged.yaml", delivery=None)
    assert {trigger.dead_letter_sink for trigger in read_triggers(manifests)} == {sink}
    change(manifests / "broker.yaml", delivery=None)
    name_to_sink = {trigger.name: trigger.dead_letter_sink for trigger in read_triggers(manifests)}
    assert name_to_sink["feedback-given"] is name_to_sink["decision-logged"] is None
    assert name_to_sink["learning-due"] == sink


def test_retry_alone_drops_the_back_off(manifests: Path) -> None:
    """A delivery that says only how often has no pauses, as in Knative."""
    change(manifests / "triggers" / "feedback-given.yaml", delivery={"retry": 2})
    delivery = next(t for t in read_triggers(manifests) if t.name == "feedback-given").delivery
    assert [delivery.pause_s(n) for n in range(3)] == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    "spec",
    [
        {"broker": "other"},
        {"filters": [{"exact": {"type": "x"}}]},
        {"delivery": {"retry": 1, "backoffDelay": "1s"}},
        {"delivery": {"retry": 1, "backoffPolicy": "random"}},
        {"delivery": {"retries": 1}},
        {"delivery": {"deadLetterSink": {"uri": "http://elsewhere/"}}},
        {"delivery": {"deadLetterSink": {"ref": SERVICE, "uri": "http://elsewhere/"}}},
        {"delivery": {"deadLetterSink": {"ref": SERVICE, "uri": "//elsewhere/"}}},
        {"delivery": {"deadLetterSink": {"ref": SERVICE, "CACerts": "x"}}},
        {"delivery": {"deadLetterSink": {"ref": {"apiVersion": "v1", "kind": "Service", "name": "control"}}}},
        {"subscriber": {"uri": "http://elsewhere"}},
        {"subscriber": {"ref": {"apiVersion": "v1", "kind": "Service", "name": "learn"}}},
    ],
)
def test_what_the_reader_does_not_know_is_an_error(manifests: Path, spec: dict[str, object]) -> None:
    """A manifest that the local run cannot honour is refused instead of half obeyed."""
    change(manifests / "triggers" / "learning-due.yaml", **spec)
    with pytest.raises(Misconfigured):
        read_triggers(manifests)


def test_pauses_grow_by_the_policy() -> None:
    """Exponential pauses double, linear ones grow by the delay, and none exceeds an hour."""
    assert [Delivery(3, "exponential", 0.5, 1.0).pause_s(n) for n in range(4)] == [0.5, 1.0, 2.0, 4.0]
    assert [Delivery(3, "linear", 0.5, 1.0).pause_s(n) for n in range(3)] == [0.0, 0.5, 1.0]
    assert Delivery(99, "exponential", 1.0, 1.0).pause_s(98) == 3600.0


@pytest.mark.parametrize(("text", "seconds"), [("PT0.5S", 0.5), ("PT1M30S", 90.0), ("P1DT2H", 93_600.0), ("PT0S", 0.0)])
def test_durations_are_iso_8601(text: str, seconds: float) -> None:
    """Durations are read as Knative reads them."""
    assert duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "P", "PT", "1s", "PT-1S", "0.5"])
def test_other_durations_are_refused(text: str) -> None:
    """A Go duration, which Knative refuses too, is refused here."""
    with pytest.raises(Misconfigured):
        duration_s(text)
