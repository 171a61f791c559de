"""A cluster through its API: applies manifests, waits, reads, and reaches what only the inside of the cluster reaches.

Everything goes through `kubernetes`' client by path, so that one way serves every kind, Knative's too. Services inside the
cluster (the broker's ingress) are reached through the API server's proxy: from anywhere that `kubectl` works.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

Manifest = dict[str, Any]
T = TypeVar("T")

MANAGER = "knudge-e2e"
_TIMEOUT_S = (10.0, 60.0)
_TRIED_AGAIN = frozenset({429, 500, 502, 503, 504})
_TRIES = 5


class ApiError(AssertionError):
    """The API server refused something."""

    def __init__(self, method: str, path: str, status: int, body: str) -> None:
        """Say what was asked and what was answered."""
        super().__init__(f"{method} {path}: {status} {body[:2000]}")
        self.status = status


class Answer(NamedTuple):
    """What came back through the API server."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the decoded body."""
        return json.loads(self.body) if self.body else None


class Cluster:
    """One cluster, as the current context of `KUBECONFIG` names it."""

    def __init__(self) -> None:
        """Read `KUBECONFIG` and connect."""
        from kubernetes import client, config

        configuration = client.Configuration()
        config.load_kube_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        self._client: Any = client.ApiClient(configuration)
        self._host = str(configuration.host)
        self._kinds: dict[str, dict[str, tuple[str, bool]]] = {}

    @staticmethod
    def named() -> bool:
        """Tell whether `KUBECONFIG` names a file that is there."""
        return any(path and Path(path).exists() for path in os.environ.get("KUBECONFIG", "").split(os.pathsep))

    def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        text: str | None = None,
    ) -> Answer:
        """Send one request to the API server and return its answer, whatever its status. `text` is sent as it stands."""
        given = {"Accept": "application/json", **(headers or {})}
        if body is not None and text is None:
            text = json.dumps(body)
            given.setdefault("Content-Type", "application/json")
        self._client.update_params_for_auth(given, [], ["BearerToken"], path, method, text)
        pool = self._client.rest_client.pool_manager
        import urllib3

        answer = pool.request(
            method, self._host + path, body=None if text is None else text.encode(), headers=given,
            timeout=urllib3.Timeout(*_TIMEOUT_S), retries=False,
        )  # fmt: skip
        return Answer(answer.status, {name.lower(): value for name, value in answer.headers.items()}, answer.data)

    def ask(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Any:
        """Send one request and return the decoded answer; raises `ApiError` for any status but 2xx."""
        answer = self.send(method, path, body, headers)
        if answer.status // 100 != 2:
            raise ApiError(method, path, answer.status, answer.body.decode(errors="replace"))
        return answer.json()

    def get(self, path: str) -> Any:
        """Read an object or a list; None where there is none."""
        try:
            return self.ask("GET", path)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def apply(self, manifests: Iterable[Manifest]) -> None:
        """Apply objects as `kubectl apply --server-side` does; what a webhook refuses for a moment is tried again."""
        for manifest in manifests:
            path = f"{self.path_of(manifest)}?fieldManager={MANAGER}&force=true&fieldValidation=Strict"
            for attempt in range(_TRIES):
                headers = {"Content-Type": "application/apply-patch+yaml"}
                answer = self.send("PATCH", path, headers=headers, text=json.dumps(manifest))
                if answer.status // 100 == 2:
                    break
                if answer.status not in _TRIED_AGAIN or attempt == _TRIES - 1:
                    raise ApiError("PATCH", path, answer.status, answer.body.decode(errors="replace"))
                time.sleep(2.0 * (attempt + 1))

    def path_of(self, manifest: Manifest) -> str:
        """Return the path of an object in the API."""
        metadata = manifest["metadata"]
        return self.path(manifest["apiVersion"], manifest["kind"], metadata.get("namespace"), metadata["name"])

    def path(self, api_version: str, kind: str, namespace: str | None = None, name: str | None = None) -> str:
        """Return the path of an object, or of a list of them; raises `ApiError` where the cluster does not know the kind."""
        root = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
        if api_version not in self._kinds:
            self._kinds[api_version] = {
                each["kind"]: (each["name"], each["namespaced"])
                for each in self.ask("GET", root)["resources"]
                if "/" not in each["name"]
            }
        plural, namespaced = self._kinds[api_version][kind]
        place = f"/namespaces/{namespace}" if namespaced and namespace else ""
        return f"{root}{place}/{plural}" + (f"/{name}" if name else "")

    def list(self, api_version: str, kind: str, namespace: str, labels: str = "") -> list[Manifest]:
        """Return the objects of a kind in a namespace."""
        query = f"?labelSelector={labels}" if labels else ""
        items: list[Manifest] = self.ask("GET", self.path(api_version, kind, namespace) + query)["items"]
        return items

    def delete(self, path: str) -> None:
        """Delete an object with what it owns; none is no fault."""
        answer = self.send("DELETE", path, {"propagationPolicy": "Background"})
        if answer.status not in {200, 202, 404}:
            raise ApiError("DELETE", path, answer.status, answer.body.decode(errors="replace"))

    def logs(self, namespace: str, pod: str, container: str | None = None) -> str:
        """Return what a pod's container has said so far."""
        query = f"?container={container}" if container else ""
        answer = self.send("GET", f"/api/v1/namespaces/{namespace}/pods/{pod}/log{query}", headers={"Accept": "*/*"})
        return answer.body.decode(errors="replace")

    def through(self, namespace: str, service: str, path: str, body: Any, headers: Mapping[str, str]) -> Answer:
        """Post to a Service inside the cluster, through the API server's proxy."""
        place = f"/api/v1/namespaces/{namespace}/services/{service}/proxy{path}"
        return self.send("POST", place, body, headers)

    def close(self) -> None:
        """Close the connections."""
        self._client.rest_client.pool_manager.clear()

    def __enter__(self) -> Self:
        """Use it as a context."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()


def wait_for(what: str, probe: Callable[[], T | None], within_s: float, every_s: float = 1.0) -> T:
    """Return the first thing that `probe` finds; fails with `what` when the time is over."""
    ends = time.monotonic() + within_s
    while True:
        found = probe()
        if found is not None and found is not False:
            return found
        if time.monotonic() > ends:
            raise AssertionError(f"not within {within_s:.0f} s: {what}")
        time.sleep(every_s)


def condition(manifest: Manifest, kind: str = "Ready") -> tuple[str, str]:
    """Return the status of a condition, and its reason and message."""
    for each in (manifest.get("status") or {}).get("conditions") or []:
        if each["type"] == kind:
            return each["status"], f"{each.get('reason', '')}: {each.get('message', '')}"
    return "Unknown", "no such condition yet"
