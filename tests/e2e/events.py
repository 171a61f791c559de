"""Events in and out: sends to the broker, and a subscriber in the cluster that writes down what reaches it."""

from __future__ import annotations

import json
import uuid
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from tests.e2e.cluster import Cluster, Manifest, condition, wait_for

EVENTING = "eventing.knative.dev/v1"
SOURCE = "/tests/e2e"
SUBSCRIBER = "e2e-subscriber"
_PORT = 8080
_LABELS = {"app.kubernetes.io/name": SUBSCRIBER, "app.kubernetes.io/part-of": "knudge-e2e"}
_LISTENING = """
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Subscriber(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
        attributes = {name[3:].lower(): value for name, value in self.headers.items() if name.lower().startswith("ce-")}
        print(json.dumps({"attributes": attributes, "data": json.loads(body) if body else None}), flush=True)
        self.send_response(202)
        self.send_header("content-length", "0")
        self.end_headers()
    def do_GET(self):
        self.send_response(204)
        self.end_headers()
    def log_message(self, *_):
        pass

ThreadingHTTPServer(("", %d), Subscriber).serve_forever()
"""


class Seen(NamedTuple):
    """An event as it reached the subscriber."""

    attributes: dict[str, str]
    data: Any


class Broker:
    """The broker `knudge`, reached through the API server."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        """Look up where the broker takes events."""
        broker = cluster.get(cluster.path(EVENTING, "Broker", namespace, "knudge"))
        address = urlsplit(broker["status"]["address"]["url"])
        service, at, *_ = str(address.hostname).split(".")
        self._cluster, self._at = cluster, (at, f"{service}:{address.port or 80}", address.path)

    def send(self, event_type: str, data: Any, event_id: str | None = None) -> str:
        """Send an event in binary mode; the broker must take it. Returns the event's id."""
        event_id = event_id or str(uuid.uuid4())
        headers = {"ce-specversion": "1.0", "ce-type": event_type, "ce-source": SOURCE, "ce-id": event_id}
        answer = self._cluster.through(*self._at, data, headers)
        assert answer.status == 202, f"the broker answered {answer.status}: {answer.body[:500]!r}"
        return event_id


class Subscriber:
    """A pod that takes events of some types from the broker and prints them."""

    def __init__(self, cluster: Cluster, namespace: str, image: str, event_types: list[str]) -> None:
        """Start it and wait until events of the types reach it."""
        self._cluster, self._namespace = cluster, namespace
        triggers = [_trigger(namespace, event_type) for event_type in event_types]
        cluster.apply([_policy(namespace), _service(namespace), _pod(namespace, image), *triggers])
        wait_for("the subscriber is ready", lambda: self._ready("v1", "Pod", SUBSCRIBER), 120)
        for trigger in triggers:
            name = trigger["metadata"]["name"]
            wait_for(f"the trigger {name} is ready", partial(self._ready, EVENTING, "Trigger", name), 120)

    def _ready(self, api_version: str, kind: str, name: str) -> bool:
        found = self._cluster.get(self._cluster.path(api_version, kind, self._namespace, name))
        return bool(found) and condition(found)[0] == "True"

    def seen(self, event_type: str) -> list[Seen]:
        """Return what has come so far of a type."""
        lines = self._cluster.logs(self._namespace, SUBSCRIBER).splitlines()
        events = [Seen(**json.loads(line)) for line in lines if line.startswith("{")]
        return [event for event in events if event.attributes.get("type") == event_type]


def _metadata(namespace: str, name: str = SUBSCRIBER) -> Manifest:
    return {"name": name, "namespace": namespace, "labels": _LABELS}


def _trigger(namespace: str, event_type: str) -> Manifest:
    return {
        "apiVersion": EVENTING,
        "kind": "Trigger",
        "metadata": _metadata(namespace, f"e2e-{event_type.split('.', 2)[2].replace('.', '-')}"),
        "spec": {
            "broker": "knudge",
            "filter": {"attributes": {"type": event_type}},
            "subscriber": {"ref": {"apiVersion": "v1", "kind": "Service", "name": SUBSCRIBER}},
        },
    }


def _service(namespace: str) -> Manifest:
    ports = [{"name": "http", "port": 80, "targetPort": _PORT, "protocol": "TCP"}]
    spec = {"selector": _LABELS, "ports": ports}
    return {"apiVersion": "v1", "kind": "Service", "metadata": _metadata(namespace), "spec": spec}


def _policy(namespace: str) -> Manifest:
    spec = {
        "podSelector": {"matchLabels": _LABELS},
        "policyTypes": ["Ingress"],
        "ingress": [{"ports": [{"port": _PORT, "protocol": "TCP"}]}],
    }
    metadata = _metadata(namespace)
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}


def _pod(namespace: str, image: str) -> Manifest:
    container = {
        "name": "subscriber",
        "image": image,
        "command": ["python3", "-u", "-c", _LISTENING % _PORT],
        "ports": [{"containerPort": _PORT}],
        "readinessProbe": {"httpGet": {"path": "/", "port": _PORT}, "periodSeconds": 1},
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    spec = {
        "containers": [container],
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 1,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": _metadata(namespace), "spec": spec}
