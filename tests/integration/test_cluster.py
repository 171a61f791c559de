"""The adapter, through the real Kubernetes client, against the API faked at the level of HTTP."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from knative.revisions.cluster import Cluster
from knative.revisions.counters import read_counters
from knative.revisions.failure import Busy, ClusterFailure, NoAnswer, NotAllowed, NotThere, WriteConflict
from knative.revisions.rollout import PodCounters
from knative.revisions.traffic import Target, steer
from shared.errors import InvalidInput
from shared.observability.metrics import Metrics
from tests.fake_kubernetes import FakeKubernetes


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeKubernetes]:
    """Serve a cluster with the Service `web`, of two revisions."""
    with FakeKubernetes(tmp_path) as serving:
        serving.deploy("web")
        serving.deploy("web")
        serving.deploy("other")
        yield serving


@pytest.fixture
def cluster(fake: FakeKubernetes, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """Connect by the fake's kubeconfig."""
    return connected(fake, monkeypatch)


def connected(fake: FakeKubernetes, monkeypatch: pytest.MonkeyPatch, **how: str) -> Cluster:
    """Connect as a process with this KUBECONFIG would; the client reads the variable when it is imported."""
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(fake.kubeconfig))
    return Cluster.connect(**how)


def test_a_service_and_its_revisions_are_read(fake: FakeKubernetes, cluster: Cluster) -> None:
    """Targets, what is routed, names, readiness with its reason, and the newest revision first, over several pages."""
    fake.page = 1
    fake.deploy("web", ready=False, reason="ContainerMissing")
    fake.set_traffic("web", [{"revisionName": "web-00001", "percent": 100, "tag": "old"}])
    service = cluster.service("web")
    assert service.targets == (Target(100, "web-00001", "old"),)
    assert service.routed == service.shares == {"web-00001": 100}
    assert (service.latest_ready, service.latest_created, service.state) == ("web-00002", "web-00003", None)
    revisions = cluster.revisions("web")
    assert [revision.name for revision in revisions] == ["web-00003", "web-00002", "web-00001"]
    assert [revision.ready for revision in revisions] == [False, True, True]
    assert revisions[0].reason == "ContainerMissing: it does not start"
    assert revisions[1].image == "dev.local/knudge:2"
    assert revisions[1].created_at - revisions[2].created_at == 86_400


def test_pods_that_run_are_listed_by_revision(fake: FakeKubernetes, cluster: Cluster) -> None:
    """Pods that are not up yet, or are ending, are not asked for metrics."""
    fake.page = 2
    running = [fake.add_pod("web-00001"), fake.add_pod("web-00002"), fake.add_pod("web-00002")]
    fake.add_pod("web-00002", phase="Pending")
    fake.add_pod("web-00002", ending=True)
    fake.add_pod("other-00001")
    assert [(pod.name, pod.revision) for pod in cluster.pods("web")] == [(pod.name, pod.revision) for pod in running]


def test_a_pods_counters_come_through_the_proxy(fake: FakeKubernetes, cluster: Cluster) -> None:
    """What a pod's own exposition shows is what is counted: all answers, 5xx among them, slow ones."""
    fed = Metrics()
    for status, seconds in (("200", 0.004), ("200", 0.2), ("404", 0.3), ("500", 0.21), ("503", 0.001)):
        fed.requests.inc(status)
        fed.requested.observe(seconds)
    pod = fake.add_pod("web-00002", fed)
    page = cluster.metrics(pod.name)
    assert read_counters(page, "web-00002", 0.2) == PodCounters("web-00002", requests=5, errors=2, slow=2)
    assert read_counters(page, "web-00002", 10.0) == PodCounters("web-00002", requests=5, errors=2, slow=0)
    with pytest.raises(InvalidInput, match=r"0\.3 s is none of the histogram's bounds: 0\.001, .*, 10") as caught:
        read_counters(page, "web-00002", 0.3)
    assert caught.value.field == "slow"


def test_a_page_without_our_metrics_says_so() -> None:
    """A pod of an older release, and what is no metrics page, are failures with a reason."""
    with pytest.raises(ClusterFailure, match="no http_request_latency_seconds"):
        read_counters("up 1\n", "web-00002", 0.2)
    with pytest.raises(ClusterFailure, match="cannot be read"):
        read_counters("<html>\n", "web-00002", 0.2)


def test_one_write_sets_traffic_and_state(fake: FakeKubernetes, cluster: Cluster) -> None:
    """Both stand in the same write; everything else of the object stays; None removes the state."""
    service = cluster.service("web")
    targets = steer(service.targets, latest="web-00002", new="web-00002", serving="web-00001", percent=5)
    written = cluster.shift(service, targets, '{"step": 0}')
    assert len(fake.writes) == 1
    assert (written.targets, written.state) == (targets, '{"step": 0}')
    assert fake.share("web", "web-00002") == 5
    manifest = fake.services["web"]
    assert manifest["metadata"]["annotations"] == {"team": "shop", "knudge.dev/rollout": '{"step": 0}'}
    assert manifest["spec"]["template"] == {"spec": {"containers": [{"image": "knudge:2"}]}}
    assert cluster.shift(written, targets, None).state is None
    assert fake.services["web"]["metadata"]["annotations"] == {"team": "shop"}


def test_a_write_never_overtakes_another_hand(fake: FakeKubernetes, cluster: Cluster) -> None:
    """A Service that changed since it was read is not written; read again, it is."""
    service = cluster.service("web")
    fake.touch("web")
    with pytest.raises(WriteConflict, match="Knative Service 'web' was changed by another hand"):
        cluster.shift(service, (Target(100, "web-00001"),), None)
    assert fake.writes == []
    cluster.shift(cluster.service("web"), (Target(100, "web-00001"),), None)
    assert fake.share("web", "web-00001") == 100


def test_what_the_webhook_refuses_is_said(cluster: Cluster) -> None:
    """The words of the admission webhook reach the operator."""
    with pytest.raises(ClusterFailure, match="Traffic targets sum to 90, want 100"):
        cluster.shift(cluster.service("web"), (Target(90, "web-00001"),), None)


def test_what_is_not_there_or_not_allowed_is_said(fake: FakeKubernetes, cluster: Cluster) -> None:
    """404 names the Service and the namespace, or says that Knative is missing; 403 says what is not allowed."""
    with pytest.raises(NotThere, match="no Knative Service 'wep' in namespace 'knudge'"):
        cluster.service("wep")
    assert cluster.revisions("wep") == []
    with pytest.raises(NotThere):
        cluster.metrics("gone")
    fake.forbidden = {("patch", "services"), ("get", "pods/proxy"), ("list", "pods"), ("list", "revisions")}
    with pytest.raises(NotAllowed, match=r"not allowed to reach Knative Service 'web' \(403\): .*cannot patch"):
        cluster.shift(cluster.service("web"), (Target(100, "web-00001"),), None)
    with pytest.raises(NotAllowed, match=r"not allowed to reach the pods of 'web' \(403\)"):
        cluster.pods("web")
    with pytest.raises(ClusterFailure, match="cannot list"):
        cluster.revisions("web")
    with pytest.raises(ClusterFailure, match=r"pods/proxy"):
        cluster.metrics("web-00002-x")
    fake.knative_installed = False
    with pytest.raises(NotThere, match="is Knative Serving installed"):
        cluster.service("web")


def test_a_pod_that_cannot_be_reached_is_a_failure_of_its_own(fake: FakeKubernetes, cluster: Cluster) -> None:
    """The proxy's 503 is said with its reason."""
    pod = fake.add_pod("web-00002")
    pod.metrics = None
    with pytest.raises(Busy, match=f"the metrics of pod {pod.name}: .* 503: .*connection refused"):
        cluster.metrics(pod.name)
    pod.metrics = "nothing here"
    with pytest.raises(ClusterFailure, match=f"the metrics of pod {pod.name}: the pod answers 404"):
        cluster.metrics(pod.name)


def test_a_server_that_is_away_is_said(fake: FakeKubernetes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listens: the address stands in the message."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
        configuration = json.loads(fake.kubeconfig.read_text())
        configuration["clusters"][0]["cluster"]["server"] = address
        fake.kubeconfig.write_text(json.dumps(configuration))
        with pytest.raises(NoAnswer, match=f"the API server at {address} does not answer: .*refused"):
            connected(fake, monkeypatch).service("web")


def test_a_stranger_is_told(fake: FakeKubernetes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token that is not known is a 401 with an explanation."""
    fake.kubeconfig.write_text(fake.kubeconfig.read_text().replace("only-the", "not-the"))
    with pytest.raises(ClusterFailure, match=r"does not know who asks \(401\)"):
        connected(fake, monkeypatch).service("web")


def test_namespaces_and_contexts(fake: FakeKubernetes, monkeypatch: pytest.MonkeyPatch) -> None:
    """The namespace is the one that is named, else the context's, else `knudge`; an unknown context is said."""
    assert connected(fake, monkeypatch).namespace == "knudge"
    assert connected(fake, monkeypatch, namespace="shop").namespace == "shop"
    configuration = json.loads(fake.kubeconfig.read_text())
    second = {"name": "second", "context": {"cluster": "fake", "user": "operator", "namespace": "elsewhere"}}
    third = {"name": "third", "context": {"cluster": "fake", "user": "operator"}}
    configuration["contexts"] += [second, third]
    fake.kubeconfig.write_text(json.dumps(configuration))
    assert connected(fake, monkeypatch, context="second").namespace == "elsewhere"
    assert connected(fake, monkeypatch, context="third").namespace == "knudge"
    with pytest.raises(ClusterFailure, match=r"no way to the cluster.*fourth"):
        connected(fake, monkeypatch, context="fourth")


def test_a_pod_of_the_cluster_needs_no_kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its service account is taken, also where its user has no home; the API server is the one of its environment."""
    (tmp_path / "token").write_text("of the service account")
    (tmp_path / "ca.crt").write_text("a certificate")
    monkeypatch.setattr("kubernetes.config.incluster_config.SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr("kubernetes.config.incluster_config.SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", "~nobody-of-this-name/config")
    monkeypatch.setattr("kubernetes.client.ApiClient", configured := Configured())
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    assert Cluster.connect().namespace == "knudge"
    assert configured.configuration.host == "https://10.96.0.1:443"
    assert configured.configuration.ssl_ca_cert == str(tmp_path / "ca.crt")
    assert configured.configuration.api_key["BearerToken"] == "bearer of the service account"


class Configured:
    """Stands where a client is made, and keeps what it was configured with; the certificate is no real one."""

    configuration: Any = None

    def __call__(self, configuration: Any) -> Self:
        """Take the configuration."""
        self.configuration = configuration
        return self


def test_no_configuration_at_all_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a kubeconfig nor a pod's service account, and a kubeconfig that is none."""
    place = tmp_path / "kubeconfig"
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(place))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(ClusterFailure, match="neither by KUBECONFIG nor from within"):
        Cluster.connect()
    place.write_text("{ this is: [no YAML")
    with pytest.raises(ClusterFailure, match="no way to the cluster"):
        Cluster.connect()
