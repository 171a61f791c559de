"""A fake of the Kubernetes API at the level of HTTP: Knative Services, revisions, pods, the pod proxy.

It keeps what the real one keeps of the contract that the roll-out tool relies on: objects have a resource version that
every write raises; a merge patch that names another one is refused (409), one that names none is not; the webhook of
Knative Serving refuses traffic that is not valid, and sets defaults; a controller then routes what is wanted, unless a
revision is missing or not ready. Lists are paged; nobody is served without the token of the kubeconfig.

A pod's metrics are the real exposition of a real `Metrics`. Hooks let a test stand in front of a write and behind it.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

from prometheus_client import CollectorRegistry, generate_latest

from shared.observability.exposition import MetricsCollector
from shared.observability.metrics import Metrics

Json = dict[str, Any]
TOKEN = "only-the-kubeconfig-knows"  # noqa: S105 - of nothing but this fake
GROUP = "serving.knative.dev"
_DNS_1035 = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
_SERVING = re.compile(r"/apis/serving\.knative\.dev/v1/namespaces/([^/]+)/(services|revisions)(?:/([^/]+))?")
_PODS = re.compile(r"/api/v1/namespaces/([^/]+)/pods(?:/([^/]+)/proxy/(.*))?")


@dataclass
class FakePod:
    """A pod. `metrics`: None where nobody answers on its metrics port, a text where something else answers 404 with it."""

    name: str
    revision: str
    metrics: Metrics | str | None = field(default_factory=Metrics)
    phase: str = "Running"
    ending: bool = False
    delay_s: float = 0.0


class Refused(Exception):
    """An answer of the API server that is no success."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        """Name the status, and what a `Status` object says."""
        super().__init__(message)
        self.status = status
        self.reason = reason


class FakeKubernetes:
    """The API server, with Knative Serving installed, on a free port of the loopback address."""

    def __init__(self, folder: Path, namespace: str = "knudge") -> None:
        """Serve nothing yet; `folder` takes the kubeconfig."""
        self.namespace = namespace
        self.services: dict[str, Json] = {}
        self.revisions: dict[str, Json] = {}
        self.pods: dict[str, FakePod] = {}
        self.forbidden: set[tuple[str, str]] = set()
        """Pairs of a verb and a resource that the token may not use, such as `("patch", "services")`."""
        self.used: set[tuple[str, str]] = set()
        """The rights that were made use of, as such pairs."""
        self.knative_installed = True
        self.page = 500
        self.requests: list[tuple[str, str]] = []
        self.writes: list[Json] = []
        """Every Service as a write left it."""
        self.before_write: Callable[[int], None] | None = None
        """Called with the number of the write (from 0) when its request has come and nothing is done yet."""
        self.after_write: Callable[[int], None] | None = None
        """Called when the write is done and its answer has not gone out yet."""
        self.on_read: Callable[[], None] | None = None
        """Called after a Service was read for an answer, before it goes out."""
        self.clock: Callable[[], float] = time.time
        """What the `Date` header says; a test may let time pass as it likes."""
        self.kubeconfig = folder / "kubeconfig.json"
        self.lock = threading.RLock()
        self._version = 1_000
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def address(self) -> str:
        """Return where it answers."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        """Begin to serve."""
        self.kubeconfig.write_text(json.dumps(self._configuration()))
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it."""
        self._server.shutdown()
        self._thread.join(10)
        self._server.server_close()

    def _configuration(self) -> Json:
        """Return a kubeconfig with one context, `fake`."""
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "fake",
            "clusters": [{"name": "fake", "cluster": {"server": self.address}}],
            "users": [{"name": "operator", "user": {"token": TOKEN}}],
            "contexts": [
                {"name": "fake", "context": {"cluster": "fake", "user": "operator", "namespace": self.namespace}}
            ],
        }

    # What a test does to the cluster

    def deploy(self, service: str, *, ready: bool = True, reason: str = "", created_at: str | None = None) -> str:
        """Change a Service's template (making the Service at first) and return the new revision's name."""
        with self.lock:
            generation = 1 + sum(
                r["metadata"]["labels"][f"{GROUP}/service"] == service for r in self.revisions.values()
            )
            name = f"{service}-{generation:05d}"
            condition = {"type": "Ready", "status": "True"}
            if not ready:
                condition = {"type": "Ready", "status": "False", "reason": reason, "message": "it does not start"}
            self.revisions[name] = {
                "apiVersion": f"{GROUP}/v1",
                "kind": "Revision",
                "metadata": {
                    "name": name,
                    "namespace": self.namespace,
                    "creationTimestamp": created_at or f"2026-11-2{generation % 10}T10:00:00Z",
                    "labels": {f"{GROUP}/service": service, f"{GROUP}/configurationGeneration": str(generation)},
                },
                "spec": {"containers": [{"image": f"dev.local/knudge:{generation}"}]},
                "status": {"conditions": [condition]},
            }
            if service not in self.services:
                self.services[service] = {
                    "apiVersion": f"{GROUP}/v1",
                    "kind": "Service",
                    "metadata": {"name": service, "namespace": self.namespace, "annotations": {"team": "shop"}},
                    "spec": {"template": {}, "traffic": [{"latestRevision": True, "percent": 100}]},
                    "status": {},
                }
            status = self.services[service]["status"]
            status["latestCreatedRevisionName"] = name
            if ready:
                status["latestReadyRevisionName"] = name
            self.services[service]["spec"]["template"] = {"spec": {"containers": [{"image": f"knudge:{generation}"}]}}
            self._written(self.services[service])
            return name

    def set_traffic(self, service: str, traffic: list[Json]) -> None:
        """Write the traffic as another hand would."""
        with self.lock:
            self._patch(service, {"spec": {"traffic": traffic}})

    def touch(self, service: str) -> None:
        """Change something else of a Service, as a controller does all the time."""
        with self.lock:
            self._written(self.services[service])

    def add_pod(self, revision: str, metrics: Metrics | None = None, **more: Any) -> FakePod:
        """Start a pod of a revision."""
        name = f"{revision}-deployment-{len(self.pods):04x}"
        pod = FakePod(name, revision, metrics or Metrics(), **more)
        self.pods[name] = pod
        return pod

    def traffic(self, service: str) -> list[Json]:
        """Return the traffic that is wanted."""
        with self.lock:
            return deepcopy(self.services[service]["spec"]["traffic"])

    def share(self, service: str, revision: str) -> int:
        """Return the percent that a revision has been routed."""
        with self.lock:
            return sum(
                entry.get("percent") or 0
                for entry in self.services[service]["status"].get("traffic", [])
                if entry["revisionName"] == revision
            )

    def annotation(self, service: str) -> str | None:
        """Return the state of the roll-out as it is stored."""
        with self.lock:
            return self.services[service]["metadata"]["annotations"].get("knudge.dev/rollout")  # type: ignore[no-any-return]

    # What the API server does

    def answer(self, method: str, target: str, headers: Json, body: bytes) -> tuple[int, bytes, str]:
        """Return status, body and content type for a request."""
        split = urlsplit(target)
        path, query = unquote(split.path), {name: values[-1] for name, values in parse_qs(split.query).items()}
        self.requests.append((method, path))
        if headers.get("authorization") != f"Bearer {TOKEN}":
            raise Refused(401, "Unauthorized", "Unauthorized")
        found = _SERVING.fullmatch(path)
        if found and self.knative_installed:
            return 200, json.dumps(self._serving(method, found, query, headers, body)).encode(), "application/json"
        found = _PODS.fullmatch(path)
        if found:
            return self._pods(method, found, query)
        return 404, b"404 page not found\n", "text/plain"

    def _serving(self, method: str, found: re.Match[str], query: Json, headers: Json, body: bytes) -> Json:
        namespace, plural, name = found.groups()
        verb = {"GET": "get" if name else "list", "PATCH": "patch", "PUT": "update"}.get(method, method)
        self._check(verb, plural)
        objects = {"services": self.services, "revisions": self.revisions}[plural]
        if not name:
            return self._page([o for o in objects.values() if namespace == self.namespace], query)
        if name not in objects or namespace != self.namespace:
            raise Refused(404, "NotFound", f'{plural}.{GROUP} "{name}" not found')
        if method == "GET":
            with self.lock:
                shown = deepcopy(objects[name])
            if self.on_read:
                self.on_read()
            return shown
        if (method, plural) != ("PATCH", "services"):
            raise Refused(405, "MethodNotAllowed", f"{method} is not here")
        if headers.get("content-type") != "application/merge-patch+json":
            raise Refused(415, "UnsupportedMediaType", f"no {headers.get('content-type')}")
        number = len(self.writes)
        if self.before_write:
            self.before_write(number)
        with self.lock:
            patched = self._patch(name, json.loads(body))
            self.writes.append(deepcopy(patched))
        if self.after_write:
            self.after_write(number)
        return patched

    def _pods(self, method: str, found: re.Match[str], query: Json) -> tuple[int, bytes, str]:
        namespace, place, path = found.groups()
        self._check("list" if place is None else "get", "pods" if place is None else "pods/proxy")
        if place is None:
            pods = [self._pod(pod) for pod in list(self.pods.values()) if namespace == self.namespace]
            return (
                200,
                json.dumps({"apiVersion": "v1", "kind": "PodList", **self._page(pods, query)}).encode(),
                "application/json",
            )
        name, _, port = place.partition(":")
        if name not in self.pods:
            raise Refused(404, "NotFound", f'pods "{name}" not found')
        time.sleep(self.pods[name].delay_s)
        metrics = self.pods[name].metrics
        if metrics is None or port != "9095":
            raise Refused(503, "ServiceUnavailable", "error trying to reach service: connect: connection refused")
        if path != "metrics" or isinstance(metrics, str):
            return 404, str(metrics).encode(), "text/plain"
        registry = CollectorRegistry()
        registry.register(MetricsCollector(metrics))
        return 200, generate_latest(registry), "text/plain; version=1.0.0"

    def _check(self, verb: str, resource: str) -> None:
        self.used.add((verb, resource))
        if (verb, resource) in self.forbidden:
            message = f'{resource} is forbidden: User "operator" cannot {verb} resource "{resource}"'
            raise Refused(403, "Forbidden", message)

    def _page(self, items: list[Json], query: Json) -> Json:
        key, _, value = query.get("labelSelector", "").partition("=")
        chosen = [item for item in items if not key or item["metadata"]["labels"].get(key) == value]
        first, most = int(query.get("continue") or 0), min(self.page, int(query.get("limit", self.page)))
        rest = len(chosen) > first + most
        return {"items": chosen[first : first + most], "metadata": {"continue": str(first + most) if rest else ""}}

    def _pod(self, pod: FakePod) -> Json:
        labels = {f"{GROUP}/revision": pod.revision, f"{GROUP}/service": pod.revision.rpartition("-")[0]}
        metadata = {"name": pod.name, "namespace": self.namespace, "labels": labels}
        if pod.ending:
            metadata["deletionTimestamp"] = "2026-11-25T10:00:00Z"
        return {"metadata": metadata, "spec": {"containers": []}, "status": {"phase": pod.phase}}

    def _patch(self, name: str, patch: Json) -> Json:
        present = self.services[name]
        wanted = patch.get("metadata", {}).get("resourceVersion")
        if wanted is not None and wanted != present["metadata"]["resourceVersion"]:
            message = (
                f'Operation cannot be fulfilled on services.{GROUP} "{name}": the object has been modified; '
                "please apply your changes to the latest version and try again"
            )
            raise Refused(409, "Conflict", message)
        patched = merged(present, patch)
        set_defaults(patched["spec"])
        faults = traffic_faults(patched["spec"]["traffic"])
        if faults:
            message = (
                f'admission webhook "validation.webhook.{GROUP}" denied the request: validation failed: {faults[0]}'
            )
            raise Refused(400, "BadRequest", message)
        self.services[name] = patched
        self._written(patched)
        return deepcopy(patched)

    def _written(self, service: Json) -> None:
        """Raise the resource version, and let the controller route what is wanted where it can."""
        self._version += 1
        service["metadata"]["resourceVersion"] = str(self._version)
        latest = service["status"].get("latestReadyRevisionName")
        routed = []
        for entry in service["spec"]["traffic"]:
            name = entry.get("revisionName") or latest
            conditions = self.revisions.get(name, {}).get("status", {}).get("conditions", [])
            if not any(each["type"] == "Ready" and each["status"] == "True" for each in conditions):
                return  # the route stays as it is, as a real one does for a revision that is missing or not ready
            routed.append({**entry, "revisionName": name})
        service["status"]["traffic"] = routed


def merged(present: Any, patch: Any) -> Any:
    """Apply a JSON merge patch (RFC 7386)."""
    if not isinstance(patch, dict):
        return deepcopy(patch)
    result = deepcopy(present) if isinstance(present, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


def set_defaults(spec: Json) -> None:
    """Set what Knative's webhook sets in a Service's traffic."""
    if not spec.get("traffic"):
        spec["traffic"] = [{"percent": 100, "latestRevision": True}]
    for entry in spec["traffic"]:
        entry.setdefault("latestRevision", not entry.get("revisionName"))


def traffic_faults(traffic: list[Json]) -> list[str]:
    """Return why Knative's webhook refuses a Service's traffic, if it does."""
    faults = []
    place_of_tag: dict[str, int] = {}
    for at, entry in enumerate(traffic):
        where = f"spec.traffic[{at}]"
        unknown = entry.keys() - {"percent", "revisionName", "latestRevision", "tag"}
        faults += [f"must not set the field(s): {where}.{name}" for name in sorted(unknown)]
        name, tag, percent = entry.get("revisionName", ""), entry.get("tag", ""), entry.get("percent")
        if bool(name) == entry.get("latestRevision", not name):
            latest = str(entry["latestRevision"]).lower()
            faults.append(f'may not set revisionName "{name}" when latestRevision is {latest}: {where}.latestRevision')
        if percent is not None and (not isinstance(percent, int) or not 0 <= percent <= 100):
            faults.append(f"expected 0 <= {percent} <= 100: {where}.percent")
        if tag and not _DNS_1035.fullmatch(tag):
            faults.append(f"not a DNS 1035 label: {where}.tag")
        if tag in place_of_tag:
            faults.append(f'Multiple definitions for "{tag}": {where}.tag, spec.traffic[{place_of_tag[tag]}].tag')
        if tag:
            place_of_tag[tag] = at
    total = sum(entry.get("percent") or 0 for entry in traffic)
    if total != 100:
        faults.append(f"Traffic targets sum to {total}, want 100: spec.traffic")
    return faults


def _handler(cluster: FakeKubernetes) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            try:
                status, content, kind = cluster.answer(self.command, self.path, headers, body)
            except Refused as refused:
                said = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": refused.reason}
                said |= {"message": str(refused), "code": str(refused.status)}
                status, content, kind = refused.status, json.dumps(said).encode(), "application/json"
            try:
                self.send_response(status)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
            except OSError:  # whoever asked was killed
                self.close_connection = True

        do_GET = do_PATCH = do_PUT = do_POST = do_DELETE = _serve  # noqa: N815 - http.server's names

        def date_time_string(self, timestamp: float | None = None) -> str:
            """Say what time it is by the cluster's clock."""
            return formatdate(cluster.clock() if timestamp is None else timestamp, usegmt=True)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
            """Say nothing."""

    return Handler
