"""The overlays as `kubectl kustomize` renders them, once a session, and where Knative's schemas are."""

from __future__ import annotations

import os
import shutil
import subprocess
from copy import deepcopy
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from knative.checks.documents import Document, read

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENTS = ("dev", "staging", "prod")
KUBECTL = os.environ.get("KUBECTL", "kubectl")
SCHEMAS = Path(os.environ.get("KNUDGE_CONFORMANCE", ROOT / "../shared/conformance")) / "knative"


def has_kubectl() -> bool:
    """Say whether there is a kubectl to render with."""
    return shutil.which(KUBECTL) is not None


def schemas() -> Path:
    """Return the folder with Knative's schemas; skips the test where it is absent."""
    if not SCHEMAS.is_dir():
        pytest.skip(f"Knative's schemas are not in {SCHEMAS}: set KNUDGE_CONFORMANCE")
    return SCHEMAS


def rendered(environment: str) -> list[Document]:
    """Return a copy of the objects of an environment; skips the test where nothing can render them."""
    if not has_kubectl():
        pytest.skip(f"no {KUBECTL} to render the overlays with; the sources are checked in its place")
    return deepcopy(_render(environment))


@cache
def _render(environment: str) -> list[Document]:
    ended = subprocess.run(
        [KUBECTL, "kustomize", str(ROOT / "knative/overlays" / environment)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    with TemporaryDirectory() as folder:
        file = Path(folder) / f"{environment}.yaml"
        file.write_text(ended.stdout)
        documents, faults = read([file])
    assert faults == []
    return [Document(f"{environment}.yaml", document.content) for document in documents]
