"""The three environments: without a fault, and with all that each function needs to be run, reached and sent events."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import pytest

from knative.checks.checker import check, check_sources, unchecked
from knative.checks.documents import Document, mapping, read
from knative.checks.eventing import declared_type
from knative.checks.pods import SERVING, SINKS, PodTemplate, pod_template
from shared.edge.function import Function
from shared.edge.hosting import load
from shared.events import types
from shared.settings import Settings, variable
from tests.conformance.rendering import ENVIRONMENTS, ROOT, SCHEMAS, rendered, schemas

FUNCTIONS = sorted(folder.parent.name for folder in (ROOT / "functions").glob("*/func.py"))
SOURCES = (
    "knative/base",
    "knative/external",
    "knative/gateway",
    "knative/kafka",
    "knative/monitoring",
    "knative/stores",
)
SCHEMALESS = {"HTTPRoute", "KafkaSource", "PodMonitor", "PrometheusRule", "RedisStreamSource", "ReferenceGrant"}
"""Kinds whose schemas nobody carries here: looked at by small rules alone."""
OPERATORS_TOO = "knudge-operators"


def door(name: str) -> Function[Any]:
    """Return the `Function` of a folder."""
    return load(name)[1]


@cache
def runs(environment: str, name: str) -> PodTemplate:
    """Return the pod template of what runs a function: a Knative Service, or the Job of a JobSink."""
    [found] = [
        template
        for document in rendered(environment)
        if (document.group, document.kind) in {(SERVING, "Service"), (SINKS, "JobSink")} and document.name == name
        if (template := pod_template(document)) is not None
    ]
    return found


def there(environment: str, kind: str) -> list[Document]:
    """Return the objects of a kind."""
    return [document for document in rendered(environment) if document.kind == kind]


# Faults


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_an_environment_is_without_fault(environment: str) -> None:
    """Every object meets its schema and every rule, and what no schema was found for is as few kinds as known."""
    documents = rendered(environment)
    assert [str(fault) for fault in check(documents, schemas())] == []
    assert {document.kind for document in unchecked(documents)} <= SCHEMALESS


def test_the_sources_are_without_fault() -> None:
    """Each object as it stands in the sources meets its schema and the rules, where nothing can render them too."""
    documents, unreadable = read(ROOT / folder for folder in (*SOURCES, "eventing", "functions"))
    assert unreadable == []
    assert {"Service", "JobSink", "Trigger", "NetworkPolicy", "StatefulSet", "KafkaSource"} <= {
        document.kind for document in documents
    }
    found = check_sources(documents, SCHEMAS if SCHEMAS.is_dir() else None)
    assert [str(fault) for fault in found] == []


# Functions


def test_there_are_functions() -> None:
    """The folders that the other tests look at are found."""
    assert {"assignment", "recommend", "feedback", "learn", "control", "train"} <= set(FUNCTIONS)


@pytest.mark.parametrize("environment", ENVIRONMENTS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_is_run(environment: str, name: str) -> None:
    """A function has what runs it, an account of its own, and pods that bear its name."""
    template = runs(environment, name)
    assert template.labels["app.kubernetes.io/name"] == name
    assert template.service_account == name
    assert name in {account.name for account in there(environment, "ServiceAccount")}
    assert (ROOT / "functions" / name / "func.yaml").is_file()


@pytest.mark.parametrize("environment", ENVIRONMENTS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_is_told_what_it_needs(environment: str, name: str) -> None:
    """The container says which function it is and is given every setting that the function cannot start without."""
    template = runs(environment, name)
    [container] = template.containers()
    given = {one["name"]: one for one in container.content["env"]}
    if template.of_knative:
        assert given["FUNCTION"]["value"] == name
    for need in door(name).needs:
        reference = mapping(given[variable(need)]["valueFrom"])["secretKeyRef"]
        assert reference["key"] == need.replace("_", "-")


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_settings_are_those_of_a_process(environment: str) -> None:
    """The ConfigMap of an environment loads as settings, and names no variable that is none."""
    [settings] = [one for one in there(environment, "ConfigMap") if one.name.startswith("knudge-config-")]
    data = settings.content["data"]
    assert set(data) <= {variable(name) for name in Settings.__struct_fields__}
    loaded = Settings.load(data)
    assert loaded.k_sink.startswith("http://")


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_requests_and_probes_meet_the_port(environment: str) -> None:
    """A Service declares the port that a process listens on, and is probed on its health paths."""
    for name in FUNCTIONS:
        template = runs(environment, name)
        if template.of_knative:
            [container] = template.containers()
            [port] = container.content["ports"]
            assert port["containerPort"] == Settings().port
            assert container.content["readinessProbe"]["httpGet"]["path"] == "/health/ready"
            assert container.content["livenessProbe"]["httpGet"]["path"] == "/health/live"


@pytest.mark.parametrize("environment", ["staging", "prod"])
def test_one_host_leads_to_every_route(environment: str) -> None:
    """Each route of the HTTP interface is rewritten to its function's host: by the longest prefix, and then by the method.

    Where a regular expression leads somewhere nothing else does, for which of the two goes first is up to the Gateway.
    """
    hosts = {
        (match["path"]["type"], match["path"]["value"], match.get("method")): rewrite["urlRewrite"]["hostname"]
        for route in there(environment, "HTTPRoute")
        for rule in route.spec["rules"]
        for rewrite in rule["filters"]
        for match in rule["matches"]
    }
    for name in FUNCTIONS:
        for route in door(name).routes:
            leading = [
                (kind, value, method)
                for kind, value, method in hosts
                if method in (None, route.method)
                and (
                    re.search(value, route.path)
                    if kind == "RegularExpression"
                    else f"{route.path}/".startswith(f"{value}/")
                )
            ]
            assert leading, f"nothing leads to {route.path}"
            assert len(leading) == 1 or {kind for kind, _, _ in leading} == {"PathPrefix"}, route.path
            first = max(leading, key=lambda match: (len(match[1]), match[2] is not None))
            assert hosts[first] == f"{name}.knudge.svc.cluster.local", route.path


@pytest.mark.parametrize("environment", ["staging", "prod"])
def test_operators_paths_are_not_on_the_public_gateway(environment: str) -> None:
    """What `control` and `analyse` answer hangs on the operators' Gateway alone."""
    for route in there(environment, "HTTPRoute"):
        hosts = {
            one["urlRewrite"]["hostname"].partition(".")[0] for rule in route.spec["rules"] for one in rule["filters"]
        }
        assert (hosts & {"control", "analyse"} == {"control", "analyse"}) == (route.name == OPERATORS_TOO)
        assert len({parent["name"] for parent in route.spec["parentRefs"]}) == 1


# Events


@pytest.mark.parametrize("environment", ENVIRONMENTS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_type_that_a_function_takes_reaches_it(environment: str, name: str) -> None:
    """A type of ours has a Trigger and is declared; a ping has a schedule."""
    delivered = {
        (one.spec["filter"]["attributes"]["type"], one.spec["subscriber"]["ref"]["name"])
        for one in there(environment, "Trigger")
    } | {(types.PING, one.spec["sink"]["ref"]["name"]) for one in there(environment, "PingSource")}
    declared = {declared_type(one) for one in there(environment, "EventType")} | {types.PING}
    for event_type in door(name)._events:
        assert (event_type, name) in delivered
        assert event_type in declared


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_no_trigger_delivers_what_nobody_takes(environment: str) -> None:
    """A Trigger's subscriber takes the type: else every such event would become a dead letter."""
    triggers = there(environment, "Trigger")
    assert triggers
    for trigger in triggers:
        event_type = trigger.spec["filter"]["attributes"]["type"]
        assert event_type in door(trigger.spec["subscriber"]["ref"]["name"])._events


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_what_cannot_be_delivered_is_kept(environment: str) -> None:
    """The broker and every Trigger send what they give up to the dead letters of `control`, after retries with back-off."""
    for one in [*there(environment, "Broker"), *there(environment, "Trigger")]:
        delivery = one.spec["delivery"]
        sink = delivery["deadLetterSink"]
        assert (sink["ref"]["kind"], sink["ref"]["name"], sink["uri"]) == ("Service", "control", "/v1/dead-letters")
        assert delivery["retry"] >= 3
        assert delivery["backoffPolicy"] == "exponential"
