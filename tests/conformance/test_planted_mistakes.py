"""Every mistake that the conformance README names, planted into the real overlays: that file, object and field, no other."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import yaml

from knative.checks.__main__ import main
from knative.checks.checker import check
from knative.checks.documents import Document, Fault, read
from tests.conformance.mistakes import EVENTING_REFUSED, MISTAKES, OURS, SERVING_DANGEROUS, SERVING_REFUSED, Mistake
from tests.conformance.rendering import ENVIRONMENTS, ROOT, rendered, schemas

Print = Callable[[], pytest.CaptureFixture[str]]


@cache
def faults_before(environment: str) -> list[Fault]:
    """Return what is reported of an environment as it is."""
    return check(rendered(environment), schemas())


def test_the_mistakes_are_many_and_each_its_own() -> None:
    """No two rows plant the same, each kind is there, and what is accepted and dangerous is among them."""
    assert len({(mistake.into, mistake.at, repr(mistake.value)) for mistake in MISTAKES}) == len(MISTAKES)
    assert (len(SERVING_REFUSED), len(EVENTING_REFUSED)) >= (60, 20)
    assert min(len(SERVING_DANGEROUS), len(OURS)) >= 10


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_a_planted_mistake_is_found(mistake: Mistake) -> None:
    """The mistake is reported at its field and nowhere else; before it was planted nothing was reported."""
    assert faults_before(mistake.environment) == []
    documents = rendered(mistake.environment)
    mistake.plant(documents)
    faults = check(documents, schemas())
    assert {(fault.file, fault.object, fault.field) for fault in faults} == mistake.reported


def test_an_event_policy_is_found() -> None:
    """An EventPolicy is refused by a cluster with default settings."""
    documents = rendered("prod")
    policy = {
        "apiVersion": "eventing.knative.dev/v1alpha1", "kind": "EventPolicy",
        "metadata": {"name": "callers", "namespace": "knudge"}, "spec": {"from": [{"sub": "feeder"}]},
    }  # fmt: skip
    documents.append(Document("prod.yaml", policy))
    assert [(fault.object, fault.field) for fault in check(documents, schemas())] == [("EventPolicy/callers", "kind")]


def test_a_secret_outside_dev_is_found() -> None:
    """The Secret that `dev` makes is a fault in any other environment."""
    [secret] = [one for one in rendered("dev") if one.kind == "Secret"]
    documents = [*rendered("staging"), Document("staging.yaml", secret.content)]
    found = {(fault.object, fault.field) for fault in check(documents, schemas())}
    assert found == {(f"Secret/{secret.name}", "data")}


def test_an_object_that_stands_twice_is_found() -> None:
    """A second object of the same name would replace the first."""
    documents = rendered("prod")
    documents.append(documents[-1])
    assert [fault.field for fault in check(documents, schemas())] == ["metadata.name"]


def test_kinds_that_knative_has_not_are_found() -> None:
    """A kind or a version of Knative that no definition serves is a fault, not passed by."""
    metadata = {"name": "x", "namespace": "knudge"}
    documents = rendered("prod")
    for api_version, kind in (("eventing.knative.dev/v1", "Trigge"), ("serving.knative.dev/v2", "Route")):
        documents.append(Document("prod.yaml", {"apiVersion": api_version, "kind": kind, "metadata": metadata}))
    found = {(fault.object, fault.field) for fault in check(documents, schemas())}
    assert found == {("Trigge/x", "kind"), ("Route/x", "apiVersion")}


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_rules_need_no_schemas(environment: str) -> None:
    """Without Knative's schemas its kinds are still held against the rules."""
    documents = rendered(environment)
    assert check(documents, None) == []
    [service] = [
        one for one in documents if (one.kind, one.name, one.group) == ("Service", "learn", "serving.knative.dev")
    ]
    service.content["spec"]["template"]["spec"]["timeoutSeconds"] = 601
    assert [fault.field for fault in check(documents, None)] == ["spec.template.spec.timeoutSeconds"]


# The command


def test_the_command_names_file_object_and_field(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line a fault, exit 1; nothing and exit 0 where there is none."""
    documents = rendered("prod")
    file = tmp_path / "prod.yaml"
    file.write_text(yaml.safe_dump_all([one.content for one in documents]))
    assert main(["--schemas", str(schemas()), str(file)]) == 0
    said = capsys.readouterr()
    assert (said.out, "HTTPRoute/knudge" in said.err) == ("", True)
    [mistake] = [one for one in MISTAKES if one.name == "a back-off of Go"]
    mistake.plant(documents)
    file.write_text(yaml.safe_dump_all([one.content for one in documents]))
    assert main(["--schemas", str(schemas()), str(file)]) == 1
    detail = "'500ms' is no ISO 8601 duration such as PT1S"
    assert capsys.readouterr().out == f"{file}: Trigger/feedback-given: spec.delivery.backoffDelay: {detail}\n"


def test_absent_schemas_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where the folder with the schemas is absent, the command says that it skipped them."""
    file = tmp_path / "prod.yaml"
    file.write_text(yaml.safe_dump_all([one.content for one in rendered("prod")]))
    assert main(["--schemas", str(tmp_path / "none"), str(file)]) == 0
    assert capsys.readouterr().err.startswith("skipped: ")


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("a: 1\na: 2\n", "the key a stands twice"),
        ("a: [1\n", "expected"),
        ("- a\n", "must be a mapping"),
        ("a: \x00", "special characters"),
    ],
)
def test_what_cannot_be_read_is_a_fault(tmp_path: Path, written: str, said: str) -> None:
    """Broken YAML, a key that stands twice, a list: each is a fault of its file."""
    file = tmp_path / "broken.yaml"
    file.write_text(written)
    documents, faults = read([file])
    assert documents == []
    assert [fault.file for fault in faults] == [str(file)]
    assert said in faults[0].detail


# func.yaml


@pytest.mark.parametrize(
    ("field", "value"),
    [("name", "recommendations"), ("invoke", "grpc"), ("scale", {"min": 1}), ("specVersion", ""), ("created", "today")],
)
def test_a_mistake_in_a_description_is_found(tmp_path: Path, field: str, value: object) -> None:
    """A field of func.yaml that its schema does not know or does not let stand is reported by name."""
    (tmp_path / "recommend").mkdir()
    file = tmp_path / "recommend/func.yaml"
    shutil.copy(ROOT / "functions/recommend/func.yaml", file)
    documents, _ = read([file])
    assert check(documents, schemas()) == []
    documents[0].content[field] = value
    assert {fault.field for fault in check(documents, schemas())} == {field}
