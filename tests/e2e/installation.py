"""Knudge as `build/manifests/dev.yaml` installs it, in the order of docs/operations/knative.md, for the time of the tests."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.e2e.cluster import Cluster, Manifest, condition, wait_for

ROOT = Path(__file__).resolve().parents[2]
MANIFESTS = ROOT / "build/manifests/dev.yaml"
NAMESPACE = "knudge"
OURS = "knudge.dev/e2e"
"""Label of a namespace that these tests made, and may delete."""
PHASE = "knudge.dev/phase"
IMAGES = {"dev.local/knudge": "KNUDGE_E2E_IMAGE", "dev.local/knudge-train": "KNUDGE_E2E_TRAIN_IMAGE"}
AUTOSCALING = "autoscaling.knative.dev"
QUICK_TO_ZERO = {"window": "10s", "scale-to-zero-pod-retention-period": "0s"}
"""In place of minutes, for functions that scale to zero: the tests wait for it."""
READY_WITHIN_S = 300.0
WAITED_FOR = (
    ("serving.knative.dev/v1", "Service"),
    ("eventing.knative.dev/v1", "Broker"),
    ("eventing.knative.dev/v1", "Trigger"),
    ("sinks.knative.dev/v1alpha1", "JobSink"),
    ("sources.knative.dev/v1", "PingSource"),
)


def manifests() -> list[Manifest]:
    """Return the rendered overlay, with the images that the environment names and less patience before scaling to zero."""
    assert MANIFESTS.exists(), f"{MANIFESTS} is missing: run `make manifests`"
    objects: list[Manifest] = [each for each in yaml.safe_load_all(MANIFESTS.read_text()) if each]
    for container in _containers(objects):
        name = container["image"].rsplit(":", 1)[0]
        container["image"] = os.environ.get(IMAGES.get(name, ""), "") or container["image"]
    for each in objects:
        if each["apiVersion"] == "serving.knative.dev/v1" and each["kind"] == "Service":
            annotations = each["spec"]["template"]["metadata"]["annotations"]
            if annotations.get(f"{AUTOSCALING}/min-scale") == "0":
                annotations.update({f"{AUTOSCALING}/{name}": value for name, value in QUICK_TO_ZERO.items()})
        if each["kind"] == "Namespace":
            each["metadata"]["labels"][OURS] = "true"
    return objects


def image_of(objects: list[Manifest], container: str) -> str:
    """Return the image of the first container with a name."""
    return next(str(each["image"]) for each in _containers(objects) if each.get("name") == container)


def _containers(node: Any) -> Iterator[dict[str, Any]]:
    """Yield every container, wherever an object holds its pod template."""
    if isinstance(node, dict):
        for name, value in node.items():
            if name == "containers":
                yield from value
            else:
                yield from _containers(value)
    elif isinstance(node, list):
        for value in node:
            yield from _containers(value)


def install(cluster: Cluster, objects: list[Manifest]) -> dict[str, float]:
    """Install; return how long each part took, in seconds. Fails where a namespace is there that is not ours."""
    there = cluster.get(f"/api/v1/namespaces/{NAMESPACE}")
    if there is not None:
        mine = (there["metadata"].get("labels") or {}).get(OURS) == "true"
        assert mine, f"the cluster has a namespace {NAMESPACE!r} that these tests did not make: they leave it alone"
        assert "deletionTimestamp" not in there["metadata"], f"the namespace {NAMESPACE!r} is being deleted: try later"
    took: dict[str, float] = {}
    began = time.monotonic()
    job = cluster.path("batch/v1", "Job", NAMESPACE, "migrate")
    cluster.delete(job)
    wait_for("the last migration is gone", lambda: cluster.get(job) is None, 60)
    cluster.apply(each for each in objects if (each["metadata"].get("labels") or {}).get(PHASE) == "prepare")
    wait_for("the migration is complete", lambda: _complete(cluster.get(job)), READY_WITHIN_S)
    took["prepare"] = time.monotonic() - began
    cluster.apply(objects)
    for api_version, kind in WAITED_FOR:
        for each in objects:
            if (each["apiVersion"], each["kind"]) == (api_version, kind):
                wait_ready(cluster, each)
    took["install"] = time.monotonic() - began
    return took


def wait_ready(cluster: Cluster, manifest: Manifest, within_s: float = READY_WITHIN_S) -> Manifest:
    """Wait until the controller has seen what was applied last, and calls it ready."""
    path = cluster.path_of(manifest)
    last: list[str] = [""]

    def ready() -> Manifest | None:
        found: Manifest = cluster.get(path)
        status, last[0] = condition(found)
        seen = (found.get("status") or {}).get("observedGeneration") == found["metadata"]["generation"]
        return found if seen and status == "True" else None

    try:
        return wait_for(f"{path} is ready", ready, within_s)
    except AssertionError as error:
        raise AssertionError(f"{error} ({last[0]})") from None


def uninstall(cluster: Cluster) -> None:
    """Delete the namespace and wait until it is gone."""
    path = f"/api/v1/namespaces/{NAMESPACE}"
    cluster.delete(path)
    wait_for(f"the namespace {NAMESPACE} is gone", lambda: cluster.get(path) is None, READY_WITHIN_S)


def knudge(*arguments: str, within_s: float = 120.0) -> subprocess.CompletedProcess[str]:
    """Run the command `knudge` here, as an operator would, against the same cluster."""
    command = [sys.executable, "-m", "functions.console.main", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=within_s, check=False)


def _complete(job: Manifest | None) -> bool | None:
    if job is None:
        return None
    failed, why = condition(job, "Failed")
    assert failed != "True", f"the migration failed: {why}"
    return condition(job, "Complete")[0] == "True" or None
