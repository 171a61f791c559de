"""`func.yaml` says what the manifests deploy, and a function is given the secrets that it needs and no others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.edge.hosting import load
from shared.settings import variable

ROOT = Path(__file__).resolve().parents[2]
SERVED = ["analyse", "assignment", "control", "feedback", "learn", "recommend"]
SECRET_KEYS = {"redis_url": "redis-url", "database_url": "database-url", "server_key": "server-key"}
"""The keys of the Secret `knudge-secrets`, by the setting that each fills."""


def documents(path: str) -> list[dict[str, Any]]:
    """Return the objects of a YAML file of the repository."""
    return [document for document in yaml.safe_load_all((ROOT / path).read_text()) if document]


def template(name: str) -> dict[str, Any]:
    """Return the pod template of what runs a function, and the template's metadata."""
    if name == "train":
        [sink] = documents("eventing/jobsink.yaml")
        found = sink["spec"]["job"]["spec"]["template"]
    else:
        [service] = [
            one for one in documents(f"knative/base/{name}.yaml") if "serving.knative.dev" in one["apiVersion"]
        ]
        found = service["spec"]["template"]
    assert isinstance(found, dict)
    return found


def secrets(name: str) -> dict[str, str]:
    """Return the variables of a function's container that come from the Secret, with the keys they come from."""
    [container] = template(name)["spec"]["containers"]
    references = {one["name"]: one["valueFrom"]["secretKeyRef"] for one in container["env"] if "valueFrom" in one}
    assert {reference["name"] for reference in references.values()} == {"knudge-secrets"}
    return {variable: reference["key"] for variable, reference in references.items()}


@pytest.mark.parametrize("name", [*SERVED, "train"])
def test_a_function_is_given_the_secrets_it_needs(name: str) -> None:
    """Each setting that a function cannot start without comes from its key of the Secret; no other secret reaches it."""
    needs = load(name)[1].needs
    assert secrets(name) == {variable(need): SECRET_KEYS[need] for need in needs}


@pytest.mark.parametrize("name", [*SERVED, "train"])
def test_func_yaml_names_what_is_deployed(name: str) -> None:
    """Image, account, settings and resources of `func.yaml` are those of the manifest."""
    [func] = documents(f"functions/{name}/func.yaml")
    pod = template(name)["spec"]
    [container] = pod["containers"]
    assert (func["name"], func["image"]) == (name, container["image"])
    assert func["deploy"]["serviceAccountName"] == pod["serviceAccountName"]
    envs = func["run"]["envs"]
    assert {"value": "{{ configMap:knudge-config }}"} in envs
    given = {one["name"]: one["value"] for one in envs if "name" in one and one["name"] != "FUNCTION"}
    assert given == {key: f"{{{{ secret:knudge-secrets:{value} }}}}" for key, value in secrets(name).items()}
    resources = func["deploy"]["options"]["resources"]
    limits = {key: value for key, value in resources["limits"].items() if key != "concurrency"}
    assert {"requests": resources["requests"], "limits": limits} == container["resources"]


@pytest.mark.parametrize("name", SERVED)
def test_func_yaml_scales_as_the_service_does(name: str) -> None:
    """The numbers of `func.yaml` are the annotations of the base, and its health endpoints the probes' paths."""
    [func] = documents(f"functions/{name}/func.yaml")
    described = template(name)
    annotations = described["metadata"]["annotations"]
    named = {
        "min": "min-scale",
        "max": "max-scale",
        "metric": "metric",
        "target": "target",
        "utilization": "target-utilization-percentage",
    }
    scale = func["deploy"]["options"]["scale"]
    assert {key: str(value) for key, value in scale.items()} == {
        key: annotations[f"autoscaling.knative.dev/{annotation}"]
        for key, annotation in named.items()
        if f"autoscaling.knative.dev/{annotation}" in annotations
    }
    spec = described["spec"]
    [container] = spec["containers"]
    assert func["deploy"]["options"]["resources"]["limits"]["concurrency"] == spec["containerConcurrency"]
    assert func["deploy"]["healthEndpoints"] == {
        "liveness": container["livenessProbe"]["httpGet"]["path"],
        "readiness": container["readinessProbe"]["httpGet"]["path"],
    }
    assert {"name": "FUNCTION", "value": name} in container["env"]


def test_func_yaml_subscribes_to_what_the_triggers_deliver() -> None:
    """The subscriptions of all `func.yaml` together are the triggers, recipient by recipient."""
    subscribed = {
        (name, subscription["source"], subscription["filters"]["type"])
        for name in [*SERVED, "train"]
        for [func] in [documents(f"functions/{name}/func.yaml")]
        for subscription in func["deploy"].get("subscriptions", [])
    }
    triggers = [trigger for path in (ROOT / "eventing/triggers").glob("*.yaml") for trigger in documents(str(path))]
    assert subscribed == {
        (one["spec"]["subscriber"]["ref"]["name"], one["spec"]["broker"], one["spec"]["filter"]["attributes"]["type"])
        for one in triggers
    }
