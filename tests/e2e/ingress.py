"""Calls to functions from outside, through the cluster's ingress: plain HTTP, the function's name in the Host header."""

from __future__ import annotations

import http.client
import json
import os
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from tests.e2e.cluster import Cluster, Manifest

SERVING = "serving.knative.dev/v1"
PLACES = (("kourier-system", "kourier"), ("istio-system", "istio-ingressgateway"), ("contour-external", "envoy"))
"""Where Knative's ingresses have their Service."""
PATIENCE_S = 90.0


class Reply(NamedTuple):
    """A function's answer."""

    status: int
    body: Any
    headers: dict[str, str]


class Ingress:
    """The address that requests are sent to."""

    def __init__(self, address: str, cluster: Cluster, namespace: str) -> None:
        """Take `http://host:port`."""
        parts = urlsplit(address)
        assert parts.scheme == "http", f"KNUDGE_E2E_INGRESS: {address!r} is no http address"
        self._host, self._port = str(parts.hostname), parts.port or 80
        self._cluster, self._namespace = cluster, namespace
        self._names: dict[str, str] = {}

    def host(self, function: str) -> str:
        """Return the host name that Knative gave a function."""
        if function not in self._names:
            service = self._cluster.get(self._cluster.path(SERVING, "Service", self._namespace, function))
            self._names[function] = str(urlsplit(service["status"]["url"]).hostname)
        return self._names[function]

    def call(self, function: str, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        """Send one request and return the answer, whatever its status."""
        connection = http.client.HTTPConnection(self._host, self._port, timeout=PATIENCE_S)
        given = {"Host": self.host(function), **{name.replace("_", "-"): value for name, value in headers.items()}}
        if body is not None:
            given.setdefault("content-type", "application/json")
        try:
            connection.request(method, path, None if body is None else json.dumps(body), given)
            answer = connection.getresponse()
            text = answer.read()
            is_json = "json" in (answer.getheader("content-type") or "")
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Reply(answer.status, json.loads(text) if text and is_json else text.decode(), found)
        finally:
            connection.close()

    def ask(self, function: str, method: str, path: str, body: Any = None) -> Any:
        """Send one request that must succeed; return what it answers."""
        reply = self.call(function, method, path, body)
        assert reply.status // 100 == 2, f"{method} {path} of {function}: {reply.status} {reply.body}"
        return reply.body


def find_ingress(cluster: Cluster) -> str:
    """Return the address of the cluster's ingress: `KNUDGE_E2E_INGRESS`, else a load balancer's, else a node port."""
    if given := os.environ.get("KNUDGE_E2E_INGRESS", "").strip():
        return given
    for namespace, name in PLACES:
        service = cluster.get(cluster.path("v1", "Service", namespace, name))
        if service is None:
            continue
        balancer = (service.get("status") or {}).get("loadBalancer") or {}
        for point in balancer.get("ingress") or []:
            return f"http://{point.get('ip') or point['hostname']}:80"
        port = next((each.get("nodePort") for each in service["spec"]["ports"] if each["port"] == 80), None)
        if port:
            return f"http://{_node_address(cluster)}:{port}"
    raise AssertionError("no ingress found: name it by KNUDGE_E2E_INGRESS=http://host:port")


def _node_address(cluster: Cluster) -> str:
    nodes: list[Manifest] = cluster.ask("GET", "/api/v1/nodes")["items"]
    addresses = {each["type"]: each["address"] for each in nodes[0]["status"]["addresses"]}
    return str(addresses.get("ExternalIP") or addresses["InternalIP"])
