"""Roll-outs of `recommend` by the command, under load: forward to a good revision, back from a bad one; tags stay."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.e2e.cluster import Manifest, condition, wait_for
from tests.e2e.conftest import Knudge
from tests.e2e.ingress import SERVING
from tests.e2e.installation import NAMESPACE, knudge

pytestmark = pytest.mark.e2e

NAME = "recommend"
TAG = "kept"
REVISION_WITHIN_S = 120.0
ROLLOUT_WITHIN_S = 300.0
PAUSE_S = 0.02
QUICK = ("--compare", "health", "--steps", "20,60", "--step-time", "5", "--step-requests", "50", "--every", "3")
NOWHERE = {"name": "KNUDGE_REDIS_URL", "value": "redis://127.0.0.1:9/0"}
"""A revision with this decides nothing: it holds no snapshot, and answers 503 to whoever names no actions."""


class Load:
    """One caller after the other, until it is told to end; counts what was answered."""

    def __init__(self, there: Knudge, policy: str) -> None:
        """Call for decisions of a policy."""
        self._there, self._body = there, {"policy": policy}
        self._over = threading.Event()
        self.statuses: dict[int, int] = {}

    def run(self) -> None:
        """Call, bounded in time."""
        ends = time.monotonic() + ROLLOUT_WITHIN_S
        while not self._over.is_set() and time.monotonic() < ends:
            status = self._there.ingress.call(NAME, "POST", "/v1/recommend", self._body).status
            self.statuses[status] = self.statuses.get(status, 0) + 1
            time.sleep(PAUSE_S)

    def end(self) -> None:
        """Let the next call be the last."""
        self._over.set()


@contextmanager
def _load(there: Knudge, policy: str) -> Iterator[Load]:
    load = Load(there, policy)
    thread = threading.Thread(target=load.run, name="load")
    thread.start()
    try:
        yield load
    finally:
        load.end()
        thread.join(REVISION_WITHIN_S)


@pytest.mark.timeout(ROLLOUT_WITHIN_S + 2 * REVISION_WITHIN_S)
def test_a_good_revision_is_promoted_and_can_be_taken_back(knudge_there: Knudge) -> None:
    """Traffic moves in steps to the new revision without one failed request; `rollback` gives it back; the tag stays."""
    policy = knudge_there.policy()
    knudge_there.decide(policy)
    old = _leading(knudge_there)
    _tag(knudge_there, old)
    new = _revise(knudge_there)
    assert _shares(knudge_there) == {old: 100}, "a new revision takes no traffic by itself"
    with _load(knudge_there, policy) as load:
        done = knudge("revisions", "rollout", NAME, "-n", NAMESPACE, *QUICK, within_s=ROLLOUT_WITHIN_S)
    print(f"\n{done.stdout}{done.stderr}{load.statuses}")
    assert done.returncode == 0, done.stderr
    assert _shares(knudge_there) == {new: 100}
    assert set(load.statuses) == {200}
    assert _tagged(knudge_there) == old
    back = knudge("revisions", "rollback", NAME, "-n", NAMESPACE)
    assert back.returncode == 0, back.stderr
    assert _shares(knudge_there) == {old: 100}
    assert _tagged(knudge_there) == old


@pytest.mark.timeout(ROLLOUT_WITHIN_S + 2 * REVISION_WITHIN_S)
def test_a_revision_that_fails_is_rolled_back(knudge_there: Knudge) -> None:
    """A revision that answers 503 loses its traffic at the first step, and the command says so by its status."""
    policy = knudge_there.policy()
    knudge_there.decide(policy)
    old = _leading(knudge_there)
    _revise(knudge_there, NOWHERE)
    with _load(knudge_there, policy) as load:
        done = knudge("revisions", "rollout", NAME, "-n", NAMESPACE, *QUICK, within_s=ROLLOUT_WITHIN_S)
    print(f"\n{done.stdout}{done.stderr}{load.statuses}")
    assert done.returncode == 3, done.stderr
    assert load.statuses[503] > 0
    assert _shares(knudge_there) == {old: 100}


def _path(there: Knudge) -> str:
    return there.cluster.path(SERVING, "Service", NAMESPACE, NAME)


def _service(there: Knudge) -> Manifest:
    found: Manifest = there.cluster.get(_path(there))
    return found


def _patch(there: Knudge, patch: Any, kind: str = "merge-patch") -> None:
    there.cluster.ask("PATCH", _path(there), patch, {"Content-Type": f"application/{kind}+json"})


def _revise(there: Knudge, variable: dict[str, str] | None = None) -> str:
    """Make a new revision, wait until it is ready and return its name. `variable` replaces one of the environment's."""
    template = _service(there)["spec"]["template"]
    template["metadata"].setdefault("annotations", {})["knudge.dev/e2e"] = uuid.uuid4().hex
    container = template["spec"]["containers"][0]
    declared = next(each for each in there.objects if each["kind"] == "Service" and each["metadata"]["name"] == NAME)
    environment = list(declared["spec"]["template"]["spec"]["containers"][0]["env"])
    if variable is not None:
        environment = [each for each in environment if each["name"] != variable["name"]] + [variable]
    container["env"] = environment
    _patch(there, {"spec": {"template": template}})

    def ready() -> str | None:
        found = _service(there)
        status = found["status"]
        if status.get("observedGeneration") != found["metadata"]["generation"]:
            return None
        newest = str(status["latestCreatedRevisionName"])
        revision = there.cluster.get(there.cluster.path(SERVING, "Revision", NAMESPACE, newest))
        return newest if revision and condition(revision)[0] == "True" else None

    return wait_for("the new revision is ready", ready, REVISION_WITHIN_S)


def _tag(there: Knudge, revision: str) -> None:
    kept = [each for each in _service(there)["spec"]["traffic"] if each.get("tag") != TAG]
    _patch(there, {"spec": {"traffic": [*kept, {"revisionName": revision, "percent": 0, "tag": TAG}]}})


def _tagged(there: Knudge) -> str | None:
    targets = _service(there)["spec"]["traffic"]
    return next((str(each["revisionName"]) for each in targets if each.get("tag") == TAG), None)


def _shares(there: Knudge) -> dict[str, int]:
    """Return what the Service asks for: revisions with a share of the traffic."""
    shares: dict[str, int] = {}
    for each in _service(there)["spec"]["traffic"]:
        if each.get("percent"):
            name = str(each["revisionName"])
            shares[name] = shares.get(name, 0) + int(each["percent"])
    return shares


def _leading(there: Knudge) -> str:
    shares = _shares(there)
    assert list(shares.values()) == [100], shares
    return next(iter(shares))
