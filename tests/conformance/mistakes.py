"""Mistakes to plant into a rendered overlay, one a row: what a platform team writes on a bad day.

Each says where it is planted, what, and which fields must be reported. `Refused` ones a real control plane refuses too;
`Dangerous` ones it accepts; `Ours` are rules of this project and of what refers to what.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Literal

from knative.checks.documents import Document, dotted

Path = tuple[str | int, ...]
DELETE = object()
"""Planted in place of a value: the field is taken away."""


class Appended:
    """Planted in place of a value: the list that stands there gets one more item."""

    def __init__(self, item: Any) -> None:
        self.item = item


@dataclass(frozen=True)
class Mistake:
    """`at` is where `value` is planted in the object `into`; `fields` must be reported, where `at` is unless said."""

    name: str
    into: str
    at: Path
    value: Any
    verdict: Literal["Refused", "Dangerous", "Ours"]
    fields: tuple[str, ...] = field(default=())
    environment: str = "prod"
    elsewhere: tuple[tuple[str, str], ...] = ()
    """Objects and fields that must be reported besides, because they refer to the one with the mistake."""

    @property
    def reported(self) -> set[tuple[str, str, str]]:
        """Return what must be reported: file, object, field."""
        kind, _, name = self.into.partition("/")
        if self.at == ("kind",):
            kind = self.value
        if self.at == ("metadata", "name"):
            name = self.value
        own = {(f"{kind}/{name}", one) for one in self.fields or (dotted(self.at),)}
        return {(f"{self.environment}.yaml", *place) for place in own | set(self.elsewhere)}

    def plant(self, documents: list[Document]) -> Document:
        """Plant the mistake into the objects of a render; return the object that has it now."""
        [document] = [one for one in documents if f"{one.kind}/{one.name}" == self.into and _unlike(one)]
        *way, last = self.at
        place: Any = document.content
        for step in way:
            place = place.setdefault(step, {}) if isinstance(place, dict) else place[step]
        if self.value is DELETE:
            del place[last]
        elif isinstance(self.value, Appended):
            if isinstance(place, dict):
                place.setdefault(last, [])
            place[last].append(deepcopy(self.value.item))
        else:
            place[last] = deepcopy(self.value)
        return document


def _unlike(document: Document) -> bool:
    """Tell Knative's Services from Kubernetes' of the same name."""
    return document.kind != "Service" or document.group != ""


AUTOSCALING = "autoscaling.knative.dev"
TEMPLATE: Path = ("spec", "template")
POD: Path = (*TEMPLATE, "spec")
CONTAINER: Path = (*POD, "containers", 0)
TRAFFIC: Path = ("spec", "traffic")
DELIVERY: Path = ("spec", "delivery")
JOB_POD: Path = ("spec", "job", "spec", "template", "spec")
RECOMMEND, LEARN, CONTROL = "Service/recommend", "Service/learn", "Service/control"
FEEDBACK_GIVEN, SWEEP, TRAIN = "Trigger/feedback-given", "PingSource/learn-sweep", "JobSink/train"


def scaling(
    key: str, value: Any, verdict: Literal["Refused", "Dangerous"] = "Refused", into: str = RECOMMEND
) -> Mistake:
    """Return a wrong annotation of autoscaling."""
    at = (*TEMPLATE, "metadata", "annotations", f"{AUTOSCALING}/{key}")
    return Mistake(f"{key}: {value!r}", into, at, value, verdict)


def pod(key: str, value: Any, *fields: str, into: str = RECOMMEND) -> Mistake:
    """Return a field of a pod that Knative Serving does not take."""
    return Mistake(f"pod: {key}", into, (*POD, key), value, "Refused", fields)


def container(key: str, value: Any, *fields: str) -> Mistake:
    """Return a field of a container that Knative Serving does not take."""
    return Mistake(f"container: {key}", RECOMMEND, (*CONTAINER, key), value, "Refused", fields)


def volume(kind: str, value: Any, *fields: str) -> Mistake:
    """Return a kind of volume that Knative Serving does not take, in place of the one that is mounted."""
    place = "spec.template.spec.volumes[0]"
    planted = {"name": "tmp", kind: value}
    wanted = fields or (f"{place}.{kind}",)
    return Mistake(f"volume: {kind}", RECOMMEND, (*POD, "volumes", 0), planted, "Refused", wanted)


def traffic(name: str, targets: list[dict[str, Any]], *fields: str) -> Mistake:
    """Return traffic that Knative Serving refuses."""
    return Mistake(f"traffic: {name}", RECOMMEND, TRAFFIC, targets, "Refused", fields)


def variable(name: str) -> Mistake:
    """Return a variable that Knative sets itself."""
    at = f"{dotted(CONTAINER)}.env[3].name"
    planted = Appended({"name": name, "value": "x"})
    return Mistake(f"environment: {name}", RECOMMEND, (*CONTAINER, "env"), planted, "Refused", (at,))


INITIAL_CONTAINER = {
    "name": "first",
    "image": "registry.example.com/knudge/knudge:0.1.0",
    "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
    "securityContext": {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    },
}
SECOND_PORT = {"containerPort": 8081}
ANNOTATIONS: Path = ("metadata", "annotations")
FILTERS: Path = ("spec", "filters")

SERVING_REFUSED = [
    Mistake("autoscaling on the Service", RECOMMEND, (*ANNOTATIONS, f"{AUTOSCALING}/min-scale"), "1", "Refused"),
    scaling("min-scale", 1),
    scaling("window", "60"),
    scaling("scale-down-delay", "300"),
    Mistake("rollout-duration: '300'", RECOMMEND, (*ANNOTATIONS, "serving.knative.dev/rollout-duration"), "300", "Refused"),
    Mistake(
        "progress-deadline: '600'", RECOMMEND,
        (*TEMPLATE, *ANNOTATIONS, "serving.knative.dev/progress-deadline"), "600", "Refused",
    ),
    scaling("window", "5s"),
    scaling("window", "2h"),
    scaling("initial-scale", "0"),
    scaling("activation-scale", "1", into=LEARN),
    scaling("max-scale", "2"),
    scaling("target", "0.001"),
    scaling("target-utilization-percentage", "0"),
    scaling("target-utilization-percentage", "101"),
    scaling("panic-threshold-percentage", "109"),
    scaling("panic-window-percentage", "0.5"),
    scaling("target-burst-capacity", "-2"),
    scaling("metric", "cpu"),
    scaling("metric", "memory"),
    scaling("metric", "queue-length"),
    scaling("min-scale", "-1"),
    Mistake("a second port", RECOMMEND, (*CONTAINER, "ports"), Appended(SECOND_PORT), "Refused",
            (f"{dotted(CONTAINER)}.ports[1]",)),
    Mistake("a port's name", RECOMMEND, (*CONTAINER, "ports", 0, "name"), "http", "Refused"),
    *(
        Mistake(f"port {port}", RECOMMEND, (*CONTAINER, "ports", 0, "containerPort"), port, "Refused")
        for port in (8008, 8012, 8013, 8022, 9090, 9091)
    ),
    *(variable(name) for name in ("PORT", "K_SERVICE", "K_CONFIGURATION", "K_REVISION")),
    Mistake(
        "fieldRef", RECOMMEND, (*CONTAINER, "env"),
        Appended({"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}), "Refused",
        (f"{dotted(CONTAINER)}.env[3].valueFrom.fieldRef",),
    ),
    pod("nodeSelector", {"disk": "fast"}),
    pod("tolerations", [{"operator": "Exists"}]),
    pod("affinity", {"podAntiAffinity": {}}),
    pod("runtimeClassName", "gvisor"),
    pod("initContainers", [INITIAL_CONTAINER]),
    pod("securityContext", {"runAsNonRoot": True}),
    pod("priorityClassName", "high"),
    pod("topologySpreadConstraints", [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}]),
    pod("hostNetwork", True),
    pod("terminationGracePeriodSeconds", 60),
    pod("restartPolicy", "Always"),
    pod("timeoutSeconds", 601),
    pod("containerConcurrency", 1001),
    pod("serviceAccountName", "nobody", "spec.template.spec.serviceAccountName"),
    volume(
        "persistentVolumeClaim", {"claimName": "data"},
        "spec.template.spec.volumes[0].persistentVolumeClaim",
        "spec.template.spec.volumes[0].persistentVolumeClaim.claimName",
    ),
    volume("hostPath", {"path": "/var"}),
    volume("csi", {"driver": "csi.example.com"}),
    Mistake("privileged", RECOMMEND, (*CONTAINER, "securityContext", "privileged"), True, "Refused"),
    Mistake("capabilities", RECOMMEND, (*CONTAINER, "securityContext", "capabilities", "add"), ["NET_ADMIN"], "Refused"),
    Mistake(
        "a volume that is not mounted", RECOMMEND, (*POD, "volumes"), Appended({"name": "spare", "emptyDir": {}}),
        "Refused", ("spec.template.spec.volumes[1].name",),
    ),
    Mistake("a mount of /dev", RECOMMEND, (*CONTAINER, "volumeMounts", 0, "mountPath"), "/dev", "Refused"),
    Mistake("a mount of /dev/log", RECOMMEND, (*CONTAINER, "volumeMounts", 0, "mountPath"), "/dev/log", "Refused"),
    container("lifecycle", {"preStop": {"exec": {"command": ["sleep", "5"]}}}),
    Mistake("hostPort", RECOMMEND, (*CONTAINER, "ports", 0, "hostPort"), 8080, "Refused"),
    Mistake("a revision's name", RECOMMEND, (*TEMPLATE, "metadata", "name"), "v2", "Refused"),
    traffic("90 %", [{"revisionName": "recommend-00001", "percent": 90}], "spec.traffic"),
    traffic(
        "a tag twice",
        [{"latestRevision": True, "percent": 100, "tag": "new"}, {"revisionName": "recommend-00001", "tag": "new"}],
        "spec.traffic[1].tag",
    ),
    traffic("a tag that is no label", [{"latestRevision": True, "percent": 100, "tag": "New_1"}], "spec.traffic[0].tag"),
    traffic(
        "a name and the latest", [{"latestRevision": True, "revisionName": "recommend-00001", "percent": 100}],
        "spec.traffic[0].latestRevision",
    ),
    container(
        "startupProbe", {"httpGet": {"path": "/health/ready"}}, f"{dotted(CONTAINER)}.startupProbe.httpGet.port"
    ),
    Mistake("a request above its limit", RECOMMEND, (*CONTAINER, "resources", "requests", "cpu"), "9", "Refused"),
    Mistake("an unknown field", RECOMMEND, (*CONTAINER, "imagePolicy"), "Always", "Refused"),
    Mistake("a text for a number", RECOMMEND, (*POD, "timeoutSeconds"), "75", "Refused"),
    Mistake("a port beyond all", RECOMMEND, (*CONTAINER, "ports", 0, "containerPort"), 70_000, "Refused"),
    Mistake("a volume of two kinds", RECOMMEND, (*POD, "volumes", 0, "configMap"), {"name": "x", "optional": True}, "Refused",
            ("spec.template.spec.volumes[0]",)),
    Mistake("a disk that is none", RECOMMEND, (*POD, "volumes", 0, "emptyDir", "medium"), "Disk", "Refused"),
    Mistake("a size that is none", RECOMMEND, (*POD, "volumes", 0, "emptyDir", "sizeLimit"), "64 MB", "Refused"),
    Mistake("a message from nowhere", RECOMMEND, (*CONTAINER, "terminationMessagePolicy"), "Logs", "Refused"),
    Mistake("a user beyond all", RECOMMEND, (*CONTAINER, "securityContext", "runAsUser"), 2**31, "Refused"),
    Mistake("times of Knative's own probe", RECOMMEND, (*CONTAINER, "readinessProbe", "failureThreshold"), 3, "Refused"),
    Mistake("a liveness probe that succeeds twice", RECOMMEND, (*CONTAINER, "livenessProbe", "successThreshold"), 2, "Refused"),
    Mistake("less than no processor", RECOMMEND, (*CONTAINER, "resources", "requests", "cpu"), "-1", "Refused"),
    Mistake("a resource that is none", RECOMMEND, (*CONTAINER, "resources", "requests", "cpus"), "1", "Refused"),
]  # fmt: skip
"""What the conformance README lists under "Serving, refused", and what the real webhook was seen to refuse besides."""

SERVING_DANGEROUS = [
    scaling("minscale", "3", "Dangerous"),
    scaling("bogus", "1", "Dangerous"),
    scaling("class", "keda.example.com", "Dangerous"),
    Mistake(
        "rollout-duration on the template", RECOMMEND,
        (*TEMPLATE, *ANNOTATIONS, "serving.knative.dev/rollout-duration"), "300s", "Dangerous",
    ),
    Mistake("visibility", CONTROL, ("metadata", "labels", "networking.knative.dev/visibility"), "private", "Dangerous"),
    Mistake("idle above the timeout", RECOMMEND, (*POD, "idleTimeoutSeconds"), 120, "Dangerous"),
    scaling("target", "101", "Dangerous", into=CONTROL),
    Mistake(
        "envFrom of nothing", RECOMMEND, (*CONTAINER, "envFrom", 0, "configMapRef", "name"), "knudge-configuration",
        "Dangerous",
    ),
    Mistake("an image that nobody builds", RECOMMEND, (*CONTAINER, "image"), "registry.example.com/knudg:0.1.0", "Dangerous"),
    Mistake("an image without a registry", RECOMMEND, (*CONTAINER, "image"), "knudge:0.1.0", "Dangerous"),
    Mistake("the image's tag latest", RECOMMEND, (*CONTAINER, "image"), "registry.example.com/knudge:latest", "Dangerous"),
    Mistake("an image without a tag", RECOMMEND, (*CONTAINER, "image"), "registry.example.com/knudge", "Dangerous"),
]  # fmt: skip
"""What it lists under "Serving, accepted and dangerous"."""

EVENTING_REFUSED = [
    Mistake("no broker", FEEDBACK_GIVEN, ("spec", "broker"), DELETE, "Refused"),
    Mistake("no subscriber", FEEDBACK_GIVEN, ("spec", "subscriber"), DELETE, "Refused"),
    Mistake("an absolute uri with ref", FEEDBACK_GIVEN, ("spec", "subscriber", "uri"), "http://feedback/", "Refused"),
    Mistake(
        "a relative uri without ref", FEEDBACK_GIVEN, (*DELIVERY, "deadLetterSink"), {"uri": "/v1/dead-letters"}, "Refused",
        ("spec.delivery.deadLetterSink.uri",),
    ),
    Mistake("a filter with a dash", FEEDBACK_GIVEN, ("spec", "filter", "attributes", "ce-kind"), "x", "Refused"),
    Mistake("a filter with capitals", FEEDBACK_GIVEN, ("spec", "filter", "attributes", "dataSchema"), "x", "Refused"),
    Mistake(
        "two dialects", FEEDBACK_GIVEN, FILTERS, [{"exact": {"type": "a"}, "prefix": {"type": "b"}}], "Refused",
        ("spec.filters[0]",),
    ),
    Mistake("bad CESQL", FEEDBACK_GIVEN, FILTERS, [{"cesql": "type = "}], "Refused", ("spec.filters[0].cesql",)),
    Mistake(
        "bad CESQL within all", FEEDBACK_GIVEN, FILTERS, [{"all": [{"cesql": "source LIKE subject"}]}], "Refused",
        ("spec.filters[0].all[0].cesql",),
    ),
    Mistake("a back-off of Go", FEEDBACK_GIVEN, (*DELIVERY, "backoffDelay"), "500ms", "Refused"),
    Mistake("a timeout of Go", FEEDBACK_GIVEN, (*DELIVERY, "timeout"), "30s", "Refused"),
    Mistake("a constant back-off", FEEDBACK_GIVEN, (*DELIVERY, "backoffPolicy"), "constant", "Refused"),
    Mistake("retryAfterMax", FEEDBACK_GIVEN, (*DELIVERY, "retryAfterMax"), "PT30S", "Refused"),
    Mistake("a negative retry", FEEDBACK_GIVEN, (*DELIVERY, "retry"), -1, "Refused"),
    Mistake("an unknown field of a delivery", FEEDBACK_GIVEN, (*DELIVERY, "retries"), 3, "Refused"),
    Mistake(
        "a JobSink of v1", TRAIN, ("apiVersion",), "sinks.knative.dev/v1", "Refused", ("apiVersion",),
        elsewhere=(
            ("PingSource/training", "spec.sink.ref.apiVersion"),
            ("Trigger/training-requested", "spec.subscriber.ref.apiVersion"),
        ),
    ),
    Mistake("a Job without restartPolicy", TRAIN, (*JOB_POD, "restartPolicy"), DELETE, "Refused"),
    Mistake("a Job that always restarts", TRAIN, (*JOB_POD, "restartPolicy"), "Always", "Refused"),
    Mistake("a failure policy beside OnFailure", TRAIN, (*JOB_POD, "restartPolicy"), "OnFailure", "Refused"),
    Mistake("a number to filter by", FEEDBACK_GIVEN, FILTERS, [{"exact": {"type": 1}}], "Refused",
            ("spec.filters[0].exact.type",)),
    Mistake("an unknown field of the Job", TRAIN, ("spec", "job", "spec", "retries"), 3, "Refused"),
    Mistake("a JobSink without a Job", TRAIN, ("spec", "job"), DELETE, "Refused"),
    Mistake("a bad schedule", SWEEP, ("spec", "schedule"), "*/10 * * *", "Refused"),
    Mistake("a minute that never comes", SWEEP, ("spec", "schedule"), "61 * * * *", "Refused"),
    Mistake("a time zone that is none", SWEEP, ("spec", "timezone"), "Europe/Atlantis", "Refused"),
    Mistake("data that is no JSON", SWEEP, ("spec", "data"), "{", "Refused"),
]  # fmt: skip
"""What it lists under "Eventing, refused"; an EventPolicy and the retry without back-off are planted on their own."""

OURS = [
    Mistake(
        "a type without its source", "EventType/dev.knudge.feedback.given.v1", ("spec", "attributes"),
        [{"name": "type", "value": "dev.knudge.feedback.given.v1", "required": True}], "Ours",
        ("spec.attributes.id", "spec.attributes.source", "spec.attributes.specversion"),
    ),
    Mistake("retry alone", FEEDBACK_GIVEN, DELIVERY, {"retry": 3}, "Ours",
            ("spec.delivery.backoffDelay", "spec.delivery.backoffPolicy")),
    Mistake("a broker that is not there", FEEDBACK_GIVEN, ("spec", "broker"), "default", "Ours"),
    Mistake("a subscriber that is not there", FEEDBACK_GIVEN, ("spec", "subscriber", "ref", "name"), "feed", "Ours"),
    Mistake(
        "a subscriber of another version", FEEDBACK_GIVEN, ("spec", "subscriber", "ref", "apiVersion"),
        "serving.knative.dev/v2", "Ours",
    ),
    Mistake("dead letters to nobody", FEEDBACK_GIVEN, (*DELIVERY, "deadLetterSink", "ref", "name"), "letters", "Ours"),
    Mistake("a sweep for nobody", SWEEP, ("spec", "sink", "ref", "name"), "learner", "Ours"),
    Mistake(
        "a type that nobody declares", FEEDBACK_GIVEN, ("spec", "filter", "attributes", "type"),
        "dev.knudge.feedback.taken.v1", "Ours",
    ),
    Mistake(
        "a secret that is not there", RECOMMEND, (*CONTAINER, "env", 1, "valueFrom", "secretKeyRef", "name"), "secrets",
        "Ours",
    ),
    Mistake(
        "a key that is not in the secret", RECOMMEND, (*CONTAINER, "env", 1, "valueFrom", "secretKeyRef", "key"), "redis",
        "Ours", environment="dev",
    ),
    Mistake("a budget for nobody", "PodDisruptionBudget/recommend", ("spec", "selector"),
            {"matchLabels": {"app": "recommend"}}, "Ours"),
    Mistake("a policy for nobody", "NetworkPolicy/autoscaling", ("spec", "podSelector"),
            {"matchLabels": {"app": "recommend"}}, "Ours"),
    Mistake("a monitor of nobody", "PodMonitor/knudge", ("spec", "selector"), {"matchLabels": {"app": "knudge"}}, "Ours",
            ("spec.podMetricsEndpoints[0].port", "spec.selector")),
    Mistake("a monitor of a port that is not there", "PodMonitor/knudge", ("spec", "podMetricsEndpoints", 0, "port"),
            "metrics", "Ours"),
    Mistake("another namespace", "NetworkPolicy/dns", ("metadata", "namespace"), "knudge-dev", "Ours",
            ("metadata.namespace", "spec.podSelector")),
    Mistake("a route that nobody grants", "HTTPRoute/knudge", ("spec", "rules", 0, "backendRefs", 0, "name"), "kourier",
            "Ours", ("spec.rules[0].backendRefs[0].namespace",)),
    Mistake("a timeout that loses the flush", RECOMMEND, (*POD, "timeoutSeconds"), 44, "Ours"),
    Mistake("the metrics port as the port", RECOMMEND, (*CONTAINER, "ports", 0, "containerPort"), 9095, "Ours"),
    Mistake("a root to write", RECOMMEND, (*CONTAINER, "securityContext", "readOnlyRootFilesystem"), False, "Ours"),
    Mistake("root", RECOMMEND, (*CONTAINER, "securityContext", "runAsNonRoot"), DELETE, "Ours"),
    Mistake("privileges to gain", RECOMMEND, (*CONTAINER, "securityContext", "allowPrivilegeEscalation"), DELETE, "Ours"),
    Mistake("capabilities kept", RECOMMEND, (*CONTAINER, "securityContext", "capabilities", "drop"), ["all"], "Ours"),
    Mistake("no seccomp profile", RECOMMEND, (*CONTAINER, "securityContext", "seccompProfile"), DELETE, "Ours",
            (f"{dotted(CONTAINER)}.securityContext.seccompProfile.type",)),
    Mistake("no memory asked for", RECOMMEND, (*CONTAINER, "resources", "requests", "memory"), DELETE, "Ours"),
    Mistake("pods without a name", RECOMMEND, (*TEMPLATE, "metadata", "labels", "app.kubernetes.io/name"), DELETE, "Ours",
            elsewhere=(("PodDisruptionBudget/recommend", "spec.selector"),)),
    Mistake("a key in plain text", RECOMMEND, (*CONTAINER, "env", 2),
            {"name": "KNUDGE_SERVER_KEY", "value": "0123456789abcdef"}, "Ours",
            (f"{dotted(CONTAINER)}.env[2].value",)),
    Mistake("a password in an address", RECOMMEND, (*CONTAINER, "env", 1),
            {"name": "KNUDGE_REDIS_URL", "value": "redis://:hunter2@redis:6379/0"}, "Ours",
            (f"{dotted(CONTAINER)}.env[1].value",), environment="dev"),
    Mistake("a setting that does not exist", RECOMMEND, (*CONTAINER, "env"),
            Appended({"name": "KNUDGE_JOURNAL_WAIT", "value": "20"}), "Ours", (f"{dotted(CONTAINER)}.env[3].value",)),
    Mistake("a token of the account for a migration", "Job/migrate", (*POD, "automountServiceAccountToken"), True, "Ours"),
    Mistake("a Job on the node's network", "Job/migrate", (*POD, "hostNetwork"), True, "Ours"),
    Mistake("an unknown field of a policy", "NetworkPolicy/dns", ("spec", "egresses"), [], "Ours"),
    Mistake("a kind that Kubernetes has not", "PodDisruptionBudget/recommend", ("kind",), "DisruptionBudget", "Ours"),
    Mistake("a role that is not there", "RoleBinding/rollout", ("roleRef", "name"), "roll", "Ours"),
]  # fmt: skip
"""Rules of this project, and references that lead nowhere, which no admission webhook sees."""

MISTAKES = [*SERVING_REFUSED, *SERVING_DANGEROUS, *EVENTING_REFUSED, *OURS]
