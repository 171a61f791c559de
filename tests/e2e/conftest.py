"""One installation for all tests of this folder. Skips them where `KUBECONFIG` names no cluster."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from shared.events.types import RECOMMENDATION_MADE, TRAINING_FINISHED
from tests.e2e.cluster import Cluster, Manifest, wait_for
from tests.e2e.events import Broker, Subscriber
from tests.e2e.ingress import Ingress, find_ingress
from tests.e2e.installation import NAMESPACE, image_of, install, knudge, manifests, uninstall

LEARNED_WITHIN_S = 120.0
"""From a decision or feedback to the posterior, with functions that may have to start first."""


class Knudge(NamedTuple):
    """Knudge on the cluster, and the ways to it."""

    cluster: Cluster
    ingress: Ingress
    broker: Broker
    subscriber: Subscriber
    objects: list[Manifest]

    def policy(self, **fields: Any) -> str:
        """Write a policy of three actions and return its name."""
        name = f"e2e-{uuid.uuid4().hex[:8]}"
        body = {"kind": "thompson", "actions": ["a", "b", "c"], "reward": {"click": 1.0}, **fields}
        self.ingress.ask("control", "PUT", f"/v1/policies/{name}", body)
        return name

    def snapshot(self, policy: str) -> dict[str, Any]:
        """Return the newest snapshot of a policy."""
        found: dict[str, Any] = self.ingress.ask("control", "GET", f"/v1/policies/{policy}")["snapshot"]
        return found

    def mean(self, policy: str, action: str) -> float | None:
        """Return the mean reward that the newest snapshot knows of an action; None until a decision for it was learned."""
        found = (each["mean"] for each in self.snapshot(policy)["actions"] if each["action"] == action)
        return next(found, None)

    def decide(self, policy: str, **fields: Any) -> dict[str, Any]:
        """Ask for decisions until one was made from a snapshot and kept in the journal, and return that one."""

        def decided() -> dict[str, Any] | None:
            body = {"policy": policy, "user_id": uuid.uuid4().hex, **fields}
            answer: dict[str, Any] = self.ingress.ask("recommend", "POST", "/v1/recommend", body)
            return answer if answer["snapshot_version"] and not answer["degraded"] else None

        return wait_for(f"a decision from the snapshot of {policy}", decided, LEARNED_WITHIN_S)

    def learned(self, policy: str, action: str, mean: float) -> float:
        """Wait until the posterior gives an action at least this mean reward; return it."""

        def moved() -> float | None:
            found = self.mean(policy, action)
            return found if found is not None and found >= mean else None

        return wait_for(f"a mean reward of {mean} for {action} of {policy}", moved, LEARNED_WITHIN_S)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--keep`."""
    parser.addoption(
        "--keep", action="store_true", help="leave the installation on the cluster, and take one that is there"
    )


@pytest.fixture(scope="session")
def knudge_there(request: pytest.FixtureRequest) -> Iterator[Knudge]:
    """Install Knudge, and delete it at the end, unless it shall be kept."""
    if not Cluster.named():
        pytest.skip("needs a cluster with Knative: set KUBECONFIG (docs/operations/laptop-cluster.md)")
    objects = manifests()
    with Cluster() as cluster:
        address = find_ingress(cluster)
        try:
            took = install(cluster, objects)
            print(
                f"\ninstalled: stores and migration {took['prepare']:.0f} s, everything ready {took['install']:.0f} s"
            )
            pinned = knudge("revisions", "promote", "recommend", "--namespace", NAMESPACE)
            assert pinned.returncode == 0, pinned.stderr
            subscriber = Subscriber(
                cluster, NAMESPACE, image_of(objects, "train"), [RECOMMENDATION_MADE, TRAINING_FINISHED]
            )
            ingress = Ingress(address, cluster, NAMESPACE)
            yield Knudge(cluster, ingress, Broker(cluster, NAMESPACE), subscriber, objects)
        finally:
            if not request.config.getoption("--keep", default=False):
                uninstall(cluster)
