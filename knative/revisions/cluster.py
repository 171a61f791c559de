"""The Kubernetes API, as far as roll-outs need it; the only module that imports its client, and only when it connects.

Reads a Knative Service, its revisions, their pods and the pods' metrics (through the API server's pod proxy, so that
the tool works from anywhere that kubectl does). Writes one thing: a Service's traffic and the roll-out's annotation,
together.

The write is a merge patch and not a PUT: it touches nothing but those two, loses no field of a newer Knative, and
needs only the right to patch. The Service's resource version stands in the patch, so that it is refused (409) where
anybody wrote in between, and is never applied to something that was not looked at.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

from knative.revisions.failure import Busy, ClusterFailure, NoAnswer, NotAllowed, NotThere, WriteConflict
from knative.revisions.traffic import Targets, read_targets, written
from knative.revisions.views import Pod, Revision, Service

ANNOTATION = "knudge.dev/rollout"
METRICS_PORT = 9095
DEFAULT_NAMESPACE = "knudge"
_GROUP, _VERSION = "serving.knative.dev", "v1"
_MANAGER = "knudge-revisions"
_TIMEOUT_S = (5.0, 20.0)  # to connect, between two packets
_METRICS_TIMEOUT_S = (3.0, 3.0)
_PAGE = 500

T = TypeVar("T")


class Cluster:
    """One namespace of one cluster."""

    def __init__(self, api: Any, namespace: str) -> None:  # noqa: ANN401 - ApiClient is not imported for its name
        """Speak through an `ApiClient`."""
        from kubernetes.client import CoreV1Api, CustomObjectsApi

        self.namespace = namespace
        self._host = str(api.configuration.host)
        self._custom: Any = CustomObjectsApi(api)
        self._core: Any = CoreV1Api(api)

    @classmethod
    def connect(cls, context: str | None = None, namespace: str | None = None) -> Self:
        """Connect as kubectl would: by `KUBECONFIG` (or the file in the home folder), else as a pod of the cluster.

        `namespace`: the context's where None, else `knudge`. Raises `ClusterFailure` where there is no configuration.
        """
        try:
            from kubernetes import client, config
            from urllib3 import Retry
            from yaml import YAMLError
        except ModuleNotFoundError as error:
            raise ClusterFailure("this command needs kubernetes: install knudge with its 'operate' extra") from error
        configuration = client.Configuration()
        configuration.retries = Retry(total=3, read=1)  # what does not answer is asked twice
        try:
            if context or _has_kubeconfig():
                config.load_kube_config(None, context, client_configuration=configuration)  # type: ignore[no-untyped-call]
                own = _namespace_of_context(context)
            else:
                config.load_incluster_config(configuration)  # type: ignore[no-untyped-call]
                own = _namespace_of_pod()
        except (config.ConfigException, YAMLError, OSError, ValueError) as error:
            raise ClusterFailure(f"no way to the cluster, neither by KUBECONFIG nor from within: {error}") from error
        return cls(client.ApiClient(configuration), namespace or own or DEFAULT_NAMESPACE)

    def service(self, name: str) -> Service:
        """Read a Knative Service. Raises `NotThere`, or another `ClusterFailure`."""
        read = partial(self._custom.get_namespaced_custom_object_with_http_info, *self._at("services"), name)
        return self._service(name, read)

    def revisions(self, service: str) -> list[Revision]:
        """Return the revisions of a Service, the newest first."""

        def page(**options: Any) -> Any:  # noqa: ANN401 - JSON of the API
            return self._custom.list_namespaced_custom_object(*self._at("revisions"), **options)

        found = [_revision(item) for item in self._pages(service, "revisions", page)]
        return sorted(found, key=lambda revision: (revision.generation, revision.created_at), reverse=True)

    def pods(self, service: str) -> list[Pod]:
        """Return the running pods of a Service that are not ending, with the revision of each."""

        def page(**options: Any) -> Any:  # noqa: ANN401 - JSON of the API
            return json.loads(self._core.list_namespaced_pod(self.namespace, _preload_content=False, **options).data)

        return [
            Pod(pod["metadata"]["name"], pod["metadata"]["labels"][f"{_GROUP}/revision"])
            for pod in self._pages(service, "pods", page)
            if pod["status"].get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]
            if f"{_GROUP}/revision" in pod["metadata"]["labels"]
        ]

    def metrics(self, pod: str) -> str:
        """Return a pod's metrics page. Raises `ClusterFailure` where the pod cannot be reached."""
        place = f"{pod}:{METRICS_PORT}"
        read = partial(self._core.connect_get_namespaced_pod_proxy_with_path, place, self.namespace, "metrics")
        page = self._do(f"the metrics of pod {pod}", partial(read, _request_timeout=_METRICS_TIMEOUT_S), proxied=True)
        return str(page)

    def shift(self, service: Service, targets: Targets, state: str | None) -> Service:
        """Set a Service's traffic and the roll-out's state (None removes it) in one write, and return what it is then.

        Raises `WriteConflict` where the Service is no longer the one that was read: read it again and decide anew.
        """
        patch = {
            "metadata": {"resourceVersion": service.resource_version, "annotations": {ANNOTATION: state}},
            "spec": {"traffic": written(targets)},
        }
        write = partial(
            self._custom.patch_namespaced_custom_object_with_http_info,
            *self._at("services"),
            service.name,
            patch,
            field_manager=_MANAGER,
            _content_type="application/merge-patch+json",
        )
        return self._service(service.name, write)

    def _service(self, name: str, call: Callable[..., Any]) -> Service:
        what = f"Knative Service {name!r}"
        manifest, _, headers = self._do(what, partial(call, _request_timeout=_TIMEOUT_S))
        return _service(manifest, _moment(headers))

    def _pages(self, service: str, plural: str, page: Callable[..., Any]) -> Iterator[dict[str, Any]]:
        """Yield all objects that carry the label of a Service, however many pages they fill."""
        token: str | None = None
        while token != "":
            options = {"label_selector": f"{_GROUP}/service={service}", "limit": _PAGE, "_continue": token}
            listed = self._do(f"the {plural} of {service!r}", partial(page, **options, _request_timeout=_TIMEOUT_S))
            yield from listed["items"]
            token = listed["metadata"].get("continue") or ""

    def _at(self, plural: str) -> tuple[str, str, str, str]:
        return _GROUP, _VERSION, self.namespace, plural

    def _do(self, what: str, call: Callable[[], T], *, proxied: bool = False) -> T:
        """Call the API, and say in plain words what went wrong; `proxied`: it may be a pod that answers."""
        import urllib3
        from kubernetes.client import ApiException

        try:
            return call()
        except ApiException as error:
            if not error.status:
                raise NoAnswer(f"the API server at {self._host} does not answer: {error.reason}") from error
            if proxied and _message(error.body or "") is error.body:
                raise ClusterFailure(f"{what}: the pod answers {error.status}") from error
            raise self._failure(what, error.status, error.body or "") from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            if proxied:
                raise Busy(f"{what}: no answer: {_reason(error)}") from error
            raise NoAnswer(f"the API server at {self._host} does not answer: {_reason(error)}") from error

    def _failure(self, what: str, status: int, body: str) -> ClusterFailure:
        message = _message(body)
        failure: ClusterFailure
        match status:
            case 401:
                failure = ClusterFailure(f"the API server at {self._host} does not know who asks (401): {message}")
            case 403:
                failure = NotAllowed(f"not allowed to reach {what} (403): {message}")
            case 404 if message is body:  # not the API server's own words: the path itself is unknown
                failure = NotThere(f"the cluster has no {_GROUP}/{_VERSION}: is Knative Serving installed?")
            case 404:
                failure = NotThere(f"there is no {what} in namespace {self.namespace!r}")
            case 409:
                failure = WriteConflict(f"{what} was changed by another hand: {message}")
            case 429 | 500 | 502 | 503 | 504:
                failure = Busy(f"{what}: the API server answers {status}: {message}")
            case _:
                failure = ClusterFailure(f"{what}: the API server answers {status}: {message}")
        return failure


def _has_kubeconfig() -> bool:
    from kubernetes.config import kube_config

    places = str(kube_config.KUBE_CONFIG_DEFAULT_LOCATION).split(kube_config.ENV_KUBECONFIG_PATH_SEPARATOR)
    try:
        return any(place and Path(place).expanduser().exists() for place in places)
    except RuntimeError:  # a user without a home, as in a container
        return False


def _namespace_of_context(name: str | None) -> str | None:
    from kubernetes.config import kube_config

    contexts, current = kube_config.list_kube_config_contexts()  # type: ignore[no-untyped-call]
    chosen = next((context for context in contexts if context["name"] == name), current)
    return str(chosen["context"].get("namespace") or "") or None


def _namespace_of_pod() -> str | None:
    place = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
    return place.read_text().strip() if place.exists() else None


def _message(body: str) -> str:
    """Return what the API server says, or the body itself where it is no `Status`."""
    try:
        return str(json.loads(body)["message"])
    except (ValueError, TypeError, KeyError):
        return body


def _reason(error: BaseException) -> str:
    reason = getattr(error, "reason", None) or error
    return str(reason)


def _service(manifest: Any, read_at: float) -> Service:  # noqa: ANN401 - JSON of the API
    metadata, status = manifest["metadata"], manifest.get("status") or {}
    return Service(
        name=metadata["name"],
        resource_version=metadata["resourceVersion"],
        targets=read_targets((manifest.get("spec") or {}).get("traffic")),
        routed=_routed(status.get("traffic") or []),
        latest_ready=status.get("latestReadyRevisionName") or None,
        latest_created=status.get("latestCreatedRevisionName") or None,
        state=(metadata.get("annotations") or {}).get(ANNOTATION),
        read_at=read_at,
    )


def _moment(headers: Mapping[str, str]) -> float:
    """Return when the API server answered, by its own clock."""
    date = next((value for name, value in headers.items() if name.lower() == "date"), None)
    return parsedate_to_datetime(date).timestamp() if date else time.time()


def _routed(traffic: list[dict[str, Any]]) -> dict[str, int]:
    revision_to_share: dict[str, int] = {}
    for entry in traffic:
        share = int(entry.get("percent") or 0)
        if share:
            revision_to_share[entry["revisionName"]] = revision_to_share.get(entry["revisionName"], 0) + share
    return revision_to_share


def _revision(manifest: dict[str, Any]) -> Revision:
    metadata = manifest["metadata"]
    conditions = {each["type"]: each for each in (manifest.get("status") or {}).get("conditions") or []}
    ready = conditions.get("Ready", {"status": "Unknown"})
    return Revision(
        name=metadata["name"],
        created_at=datetime.fromisoformat(metadata["creationTimestamp"]).timestamp(),
        generation=int((metadata.get("labels") or {}).get(f"{_GROUP}/configurationGeneration") or 0),
        ready={"True": True, "False": False}.get(ready["status"]),
        reason=": ".join(part for part in (ready.get("reason"), ready.get("message")) if part),
        image=str(manifest["spec"]["containers"][0].get("image", "")),
    )
