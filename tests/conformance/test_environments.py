"""What the environments promise beyond being admitted: order of installing, images, where events go, connections."""

from __future__ import annotations

import json
import tomllib
from typing import Any

import pytest

from functions.analyse import func as analyse
from functions.control import func as control
from functions.feedback import func as feedback
from functions.learn import func as learn
from tests.conformance.rendering import ENVIRONMENTS, ROOT, rendered

FUNCTIONS = ("assignment", "recommend", "feedback", "learn", "control", "analyse")
OF_TRAINING_IMAGE = {"analyse"}
"""What is served from the image that jobs are run from: it needs what nothing else that serves carries."""
PREPARE = "knudge.dev/phase"
SCALE = "autoscaling.knative.dev"
BROKER_TO_INGRESS = {"MTChannelBasedBroker": "broker-ingress", "Kafka": "kafka-broker-ingress"}
POOLS = {"feedback": feedback._POOL, "learn": learn._POOL, "control": control._POOL, "analyse": analyse._POOL}
STATED_CONNECTIONS = {"dev": 56, "staging": 64, "prod": 152}


def objects(environment: str) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the objects of an environment by API group and kind, and name."""
    found = {}
    for document in rendered(environment):
        group = document.content["apiVersion"].rpartition("/")[0]
        found[f"{group}/{document.kind}".lstrip("/"), document.content["metadata"]["name"]] = document.content
    return found


def service(environment: str, name: str) -> dict[str, Any]:
    """Return the Knative Service of a function."""
    return objects(environment)["serving.knative.dev/Service", name]


def settings(environment: str) -> dict[str, str]:
    """Return the settings of an environment, from its one generated ConfigMap."""
    [found] = [each for (_, name), each in objects(environment).items() if name.startswith("knudge-config-")]
    data = found["data"]
    assert isinstance(data, dict)
    return data


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_what_the_migration_needs_is_applied_before_it(environment: str) -> None:
    """The objects of the first phase suffice for the migration: they hold all that its pod names."""
    there = objects(environment)
    first = {key for key, each in there.items() if each["metadata"].get("labels", {}).get(PREPARE) == "prepare"}
    job = there["batch/Job", "migrate"]
    pod = job["spec"]["template"]["spec"]
    [container] = pod["containers"]
    needed = {("Namespace", "knudge"), ("batch/Job", "migrate"), ("ServiceAccount", pod["serviceAccountName"])}
    needed |= {("ConfigMap", each["configMapRef"]["name"]) for each in container["envFrom"]}
    needed |= {key for key in there if key[0] == "networking.k8s.io/NetworkPolicy"}
    if environment == "dev":
        needed |= {("Secret", each["valueFrom"]["secretKeyRef"]["name"]) for each in container["env"]}
        needed |= {(kind, name) for kind in ("apps/StatefulSet", "Service") for name in ("redis", "postgres")}
    assert needed <= first
    assert not {key for key in first if key[0].startswith(("serving.", "eventing.", "sources.", "sinks."))}


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_images_carry_the_version_of_the_project(environment: str) -> None:
    """Every image of ours is tagged with the project's version, the same in all objects."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    there = objects(environment)
    served = {
        name: service(environment, name)["spec"]["template"]["spec"]["containers"][0]["image"] for name in FUNCTIONS
    }
    [image] = {served[name] for name in FUNCTIONS if name not in OF_TRAINING_IMAGE}
    assert image.endswith(f"/knudge:{version}")
    assert there["batch/Job", "migrate"]["spec"]["template"]["spec"]["containers"][0]["image"] == image
    sink = there["sinks.knative.dev/JobSink", "train"]["spec"]["job"]["spec"]["template"]["spec"]["containers"][0]
    rollout = there["batch/CronJob", "rollout"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]
    others = {sink["image"], rollout["image"], *(served[name] for name in OF_TRAINING_IMAGE)}
    assert others == {image.replace("/knudge:", "/knudge-train:")}


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_events_go_to_the_broker_that_there_is(environment: str) -> None:
    """`K_SINK` is the address of the broker `knudge` at the ingress of its class."""
    broker = objects(environment)["eventing.knative.dev/Broker", "knudge"]
    ingress = BROKER_TO_INGRESS[broker["metadata"]["annotations"]["eventing.knative.dev/broker.class"]]
    address = f"http://{ingress}.knative-eventing.svc.cluster.local/knudge/knudge"
    assert settings(environment)["K_SINK"] == address


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_connections_to_postgresql_are_as_the_manual_says(environment: str) -> None:
    """Most pods times connections of each, over all functions, is the stated number for one revision of each."""
    connections = 0
    for name, pool in POOLS.items():
        annotations = service(environment, name)["spec"]["template"]["metadata"]["annotations"]
        connections += int(annotations[f"{SCALE}/max-scale"]) * pool
    assert connections == STATED_CONNECTIONS[environment]


def test_what_callers_wait_for_survives_a_node() -> None:
    """In staging and production two or more pods of `recommend`, `assignment` and `feedback` stay, with a budget; others go to zero."""
    for environment, least in (("staging", 2), ("prod", 3)):
        there = objects(environment)
        for name in FUNCTIONS:
            annotations = service(environment, name)["spec"]["template"]["metadata"]["annotations"]
            waited_for = name in {"recommend", "assignment", "feedback"}
            assert int(annotations[f"{SCALE}/min-scale"]) == (least if waited_for else 0)
            assert (("policy/PodDisruptionBudget", name) in there) == waited_for


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_a_changed_setting_makes_a_new_revision(environment: str) -> None:
    """What functions take their settings from carries a hash of the content in its name."""
    there = objects(environment)
    for name in FUNCTIONS:
        [container] = service(environment, name)["spec"]["template"]["spec"]["containers"]
        [source] = container["envFrom"]
        assert ("ConfigMap", source["configMapRef"]["name"]) in there
        assert source["configMapRef"]["name"].removeprefix("knudge-config-").isalnum()


def test_event_types_name_their_schemas() -> None:
    """Each EventType names the file of its data's schema, and that schema's `$id`."""
    found = [each for (kind, _), each in objects("dev").items() if kind == "eventing.knative.dev/EventType"]
    assert len(found) == len(list((ROOT / "eventing/schemas").glob("*.json")))
    for event_type in found:
        attributes = {each["name"]: each.get("value") for each in event_type["spec"]["attributes"]}
        schema = json.loads((ROOT / event_type["metadata"]["annotations"]["knudge.dev/schema"]).read_text())
        assert attributes["dataschema"] == schema["$id"] == f"urn:knudge:event:{attributes['type']}"
        assert event_type["metadata"]["name"] == attributes["type"]
