"""Who may talk to whom: nothing that is needed is denied, and nothing else is allowed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from tests.conformance.reach import Peer, reaches
from tests.conformance.rendering import ENVIRONMENTS, rendered

REDIS, POSTGRES, REQUESTS, AUTOSCALING, METRICS = 6379, 5432, 8012, 9090, 9095
FUNCTIONS = {"assignment", "recommend", "feedback", "learn", "control", "analyse"}
SENDERS = {"assignment", "recommend", "feedback", "control", "train", "analyse"}
"""Those that send events to `$K_SINK`."""
ELSEWHERE = Peer(address="198.51.100.7")
SHOP = Peer(namespace="shop")
ACTIVATOR = Peer({"app": "activator"}, "knative-serving")
INGRESS = Peer({"app": "3scale-kourier-gateway"}, "kourier-system")
BROKER = Peer({"eventing.knative.dev/brokerRole": "ingress"}, "knative-eventing")


def policies(environment: str) -> Sequence[Mapping[str, Any]]:
    """Return the NetworkPolicies of an environment."""
    found = [document.content for document in rendered(environment) if document.kind == "NetworkPolicy"]
    assert found
    return found


def pod_templates(value: object) -> Iterator[Mapping[str, Any]]:
    """Yield every pod template within an object."""
    if isinstance(value, Mapping):
        if isinstance(value.get("spec"), Mapping) and "containers" in value["spec"]:
            yield value
        for member in value.values():
            yield from pod_templates(member)


def pods(environment: str) -> dict[str, tuple[Peer, Mapping[str, Any]]]:
    """Return the pods of an environment by name, each with its container."""
    found = {}
    for document in rendered(environment):
        for template in pod_templates(document.content):
            labels = template["metadata"]["labels"]
            found[labels["app.kubernetes.io/name"]] = (Peer(labels), template["spec"]["containers"][0])
    assert {*FUNCTIONS, "train", "migrate", "rollout"} <= set(found)
    return found


def keys(container: Mapping[str, Any]) -> set[str]:
    """Return the keys of the Secret that a container is given."""
    return {one["valueFrom"]["secretKeyRef"]["key"] for one in container.get("env", []) if "valueFrom" in one}


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_who_holds_a_stores_address_reaches_it_and_nobody_else(environment: str) -> None:
    """A pod reaches Redis or PostgreSQL exactly if it is given the URL."""
    there = pods(environment)
    redis, postgres = (there[name][0] if name in there else ELSEWHERE for name in ("redis", "postgres"))
    allowed = policies(environment)
    for name, (pod, container) in there.items():
        assert reaches(allowed, pod, redis, REDIS) == ("redis-url" in keys(container)), name
        assert reaches(allowed, pod, postgres, POSTGRES) == ("database-url" in keys(container)), name
    if environment == "dev":
        assert not reaches(allowed, SHOP, redis, REDIS)
        assert not reaches(allowed, SHOP, postgres, POSTGRES)
        assert not reaches(allowed, there["learn"][0], ELSEWHERE, REDIS)


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_functions_are_reached_through_knative_alone(environment: str) -> None:
    """Activator and ingress reach the queue-proxy's ports; nobody reaches the process behind it."""
    allowed = policies(environment)
    there = pods(environment)
    for name, (pod, _) in there.items():
        served = name in FUNCTIONS
        for port in (REQUESTS, 8013, 8112):
            assert reaches(allowed, ACTIVATOR, pod, port) == served, (name, port)
            assert reaches(allowed, INGRESS, pod, port) == served, (name, port)
        for stranger in (SHOP, BROKER, ELSEWHERE, there["learn"][0]):
            assert not reaches(allowed, stranger, pod, REQUESTS), name
        for peer in (ACTIVATOR, INGRESS, SHOP, there["recommend"][0]):
            assert not reaches(allowed, peer, pod, 8080), name


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_the_autoscaler_and_monitors_read_what_they_need(environment: str) -> None:
    """Serving's namespace reads 9090; anybody in the cluster and the API server read the metrics of functions."""
    allowed = policies(environment)
    for name, (pod, _) in pods(environment).items():
        served = name in FUNCTIONS
        assert reaches(allowed, Peer({"app": "autoscaler"}, "knative-serving"), pod, AUTOSCALING) == served, name
        assert not reaches(allowed, SHOP, pod, AUTOSCALING), name
        for reader in (Peer(namespace="monitoring"), ELSEWHERE):
            assert reaches(allowed, reader, pod, METRICS) == served, name


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_what_leaves_a_pod_is_what_it_has_to_send(environment: str) -> None:
    """Events to the broker from those that send some, the Kubernetes API from the roll-out alone, names from every pod."""
    allowed = policies(environment)
    for name, (pod, _) in pods(environment).items():
        assert reaches(allowed, pod, BROKER, 8080) == (name in SENDERS), name
        assert reaches(allowed, pod, ELSEWHERE, 443) == (name == "rollout"), name
        assert reaches(allowed, pod, Peer(namespace="kube-system"), 53), name
        assert not reaches(allowed, pod, ELSEWHERE, 25), name
        assert not reaches(allowed, pod, SHOP, 80), name
