"""What the images hold and how they behave where a cluster runs them. They are built by the Dockerfile and run in a box."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import stat
import struct
import subprocess
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from functions.local.servers import LocalServers
from knative.image.build import ROOT, version
from shared.experiments.plan import AnalysisPlan, Metric
from tests.experiment_world import World, spec
from tests.hosted import free_port
from tests.image.boxed import Boxed, boxed
from tests.image.conftest import Image, Workshop

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SERVING = ("recommend", "feedback", "learn", "control")
NEEDS = {
    "recommend": ("redis-url", "server-key"),
    "feedback": ("database-url", "server-key"),
    "learn": ("redis-url", "database-url"),
    "control": ("redis-url", "database-url", "server-key"),
    "analyse": ("redis-url", "database-url"),
}
"""What a pod of each function gets of the secret."""
USERS = (65532, 1_000_650_000)
MOST_MB = 200
READY_MS = 100
LABEL = "org.opencontainers.image."
EVENT = "/tmp/event"  # noqa: S108 - of the box
UNCHECKED_HASH = 0b01
TOOLS = re.compile(
    r"(^|/)(sh|bash|dash|busybox|pip[\d.]*|apt[\w-]*|dpkg[\w-]*|cc|gcc[\w.-]*|g\+\+[\w.-]*|clang[\w.-]*|ld|as|make|perl|curl|wget"
    r"|easy_install|ensurepip|setuptools|idle[\d.]*|buildah|git)$"
)
SOURCES = (".c", ".h", ".cpp", ".hpp", ".pyx", ".pxd", ".pyi", ".a", ".o", ".la")
SECRETS = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----|postgres(?:ql)?://\w+:[^@\s'\"{}<>]{8,}@")


def variables(servers: LocalServers, name: str) -> dict[str, str]:
    """Return the environment that a pod of a function has, and `K_REVISION` as Knative sets it."""
    secret = {
        "redis-url": servers.redis_url,
        "database-url": servers.database_url,
        "server-key": servers.server_key,
    }
    given = {f"KNUDGE_{key.replace('-', '_').upper()}": secret[key] for key in NEEDS[name]}
    return {"FUNCTION": name, "K_REVISION": f"{name}-00001", "KNUDGE_METRICS_PORT": str(free_port()), **given}


@contextlib.contextmanager
def running(image: Image, servers: LocalServers, name: str, user: int, log: Path) -> Iterator[Boxed]:
    """Serve a function of the image until the block ends."""
    port = free_port()
    environment = variables(servers, name) | {"PORT": str(port), "KNUDGE_JOURNAL_WAIT_MS": "2000"}
    with Boxed(boxed(image.root, image.settings, environment, user), port, log / f"{name}-{user}.log") as box:
        box.wait_ready()
        yield box


def run(
    image: Image, environment: dict[str, str], *command: str, files: dict[str, Path] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command in an image to its end, as its own user."""
    arguments = boxed(image.root, image.settings, environment, USERS[0], command, files=files)
    return subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture(params=["serving", "training"])
def image(request: pytest.FixtureRequest) -> Image:
    """Give each image in turn."""
    built: Image = request.getfixturevalue(request.param)
    return built


def test_an_image_says_what_it_is(image: Image) -> None:
    """User, signal and labels are there; the user is a number, so that a cluster can see that it is not root."""
    settings, labels = image.settings, image.settings["Labels"]
    assert settings["User"] == "65532:65532"
    assert settings["StopSignal"] == "SIGTERM"
    assert settings["WorkingDir"] == "/"
    assert labels[LABEL + "title"] in {"knudge", "knudge-train"}
    assert labels[LABEL + "version"] == version()
    assert labels[LABEL + "licenses"] == "Apache-2.0"
    assert LABEL + "source" in labels
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?|unknown", labels[LABEL + "revision"])
    assert datetime.fromisoformat(labels[LABEL + "created"]).tzinfo


def test_the_serving_image_starts_python_itself(serving: Image) -> None:
    """No shell stands between the cluster and process 1, and the function is chosen by FUNCTION alone."""
    assert serving.settings["Entrypoint"] == ["python3", "-m", "shared.edge.hosting"]
    assert not serving.settings.get("Cmd")
    assert set(serving.settings["ExposedPorts"]) == {"8080/tcp", "9095/tcp"}


def test_the_serving_image_is_small(serving: Image) -> None:
    """It stays under the target, unpacked."""
    sizes = serving.archive.unpacked_bytes()
    assert {"numpy", "uvloop", "psycopg_binary", "standard library", "interpreter", "knudge"} <= set(sizes)
    assert sum(sizes.values()) < MOST_MB * 1e6


def test_an_image_holds_nothing_to_build_or_break_in_with(image: Image) -> None:
    """No shell, installer, compiler, source or test; nothing set-uid, nothing writable but /tmp, all of it root's."""
    entries = image.archive.entries()
    assert len(entries) > 1_000
    assert not [name for name in entries if TOOLS.search(name)]
    assert not [name for name in entries if name.endswith(SOURCES)]
    assert not [name for name in entries if re.search(r"(^|/)tests?/", name)]
    assert not [name for name, entry in entries.items() if entry.mode & (stat.S_ISUID | stat.S_ISGID)]
    assert not [name for name, entry in entries.items() if (entry.uid, entry.gid) != (0, 0)]
    assert not [name for name, entry in entries.items() if entry.mode & 0o022 and not entry.issym() and name != "tmp"]
    assert entries["tmp"].mode & 0o7777 == 0o1777
    assert not [
        name for name, entry in entries.items()
        if not entry.issym() and entry.mode & (0o555 if entry.isdir() else 0o444) != (0o555 if entry.isdir() else 0o444)
    ]  # fmt: skip


def test_an_image_holds_no_secret(image: Image, servers: LocalServers) -> None:
    """No private key, no URL with a password, and nothing of this machine's environment."""
    names = re.compile(r"(^|/)(\.env|\.git|\.netrc|\.pypirc|pip\.conf|secrets\.json|id_rsa|.*\.pem|.*\.key)$")
    found = [name for name in image.archive.entries() if names.search(name)]
    assert [name for name in found if not name.endswith("certifi/cacert.pem")] == []
    for path in image.root.rglob("*"):
        if path.is_file() and not path.is_symlink() and path.suffix != ".pyc":
            content = path.read_bytes()
            assert servers.server_key.encode() not in content
            assert str(ROOT).encode() not in content, path
            if "-packages" not in str(path) or path.is_relative_to(_site(image) / "shared"):
                assert not SECRETS.search(content), path


def _site(image: Image) -> Path:
    [site] = image.root.glob("usr/local/lib/python3.*/*-packages")
    return site


def test_an_image_is_compiled(image: Image) -> None:
    """Every module comes with byte code that is taken without a look at its source."""
    sources = list(image.root.rglob("*.py"))
    assert len(sources) > 1_000
    for path in sources:
        [compiled] = path.parent.glob(f"__pycache__/{path.stem}.cpython-*.pyc")
        with compiled.open("rb") as file:
            _, flags = struct.unpack("<4sI", file.read(8))
        assert flags == UNCHECKED_HASH, path


def test_the_serving_image_holds_what_serves_and_no_more(serving: Image, training: Image) -> None:
    """The four functions, and neither the console nor the Kubernetes client, plots or SciPy; those are in the training image."""
    site, larger = _site(serving), _site(training)
    for name in SERVING:
        assert (site / "functions" / name / "func.py").exists()
    absent = (
        "shared/experiments/statistics",
        "functions/analyse",
        "functions/console",
        "functions/local",
        "functions/train",
        "kubernetes",
        "matplotlib",
        "scipy",
    )
    for name in (*absent, "knative"):
        assert not (site / name).exists(), name
    for name in (
        "functions/analyse", "functions/console", "kubernetes/client", "matplotlib", "scipy", "knative", "shared/storage/sql",
    ):  # fmt: skip
        assert (larger / name).exists(), name
    assert not (larger / "functions/local").exists()


def test_every_module_of_an_image_can_be_imported(image: Image) -> None:
    """What was left out of the packages and the standard library is missed by none of our modules."""
    script = (
        "import importlib.util, pkgutil, functions, shared\n"
        "ours = [functions, shared]\n"
        "if importlib.util.find_spec('knative'): ours.append(importlib.import_module('knative'))\n"
        "found = [m.name for p in ours for m in pkgutil.walk_packages(p.__path__, p.__name__ + '.')]\n"
        "[importlib.import_module(name) for name in found if not name.endswith('__main__')]\n"
        "print(len(found))"
    )
    ended = run(image, {}, "python3", "-W", "error", "-c", script)
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout) > 40


def test_nothing_in_an_image_can_be_written_but_tmp(image: Image) -> None:
    """Neither its own user nor another finds a writable folder besides /tmp, even if the root were not read-only."""
    script = (
        "import os\n"
        "found = [f for f, _, _ in os.walk('/') if not f.startswith(('/proc', '/dev', '/sys')) and os.access(f, os.W_OK)]\n"
        "open('/tmp/written', 'w').close()\n"
        "print(os.getpid(), os.getuid(), found)"
    )
    for user in USERS:
        command = boxed(image.root, image.settings, {}, user, ["python3", "-c", script])
        ended = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        assert ended.stdout.split(maxsplit=2) == ["1", str(user), "['/tmp']\n"]
    for path in image.root.rglob("*"):
        assert path.is_symlink() or path == image.root / "tmp" or not path.stat().st_mode & stat.S_IWOTH


@pytest.mark.parametrize("user", USERS)
def test_the_functions_of_the_image_learn_from_each_other(
    serving: Image, servers: LocalServers, tmp_path: Path, user: int
) -> None:
    """Policy, decision, feedback, learning: all four as containers; each drains at SIGTERM and exits with 0."""
    policy = f"image-{user}"
    with contextlib.ExitStack() as stack:
        boxes = {name: stack.enter_context(running(serving, servers, name, user, tmp_path)) for name in SERVING}
        status, _ = boxes["control"].request(
            "PUT", f"/v1/policies/{policy}", {"kind": "thompson", "actions": ["a", "b"], "reward": {"click": 1.0}}
        )
        assert status == 201
        status, made = boxes["recommend"].request("POST", "/v1/recommend", {"policy": policy, "context": {}})
        assert (status, made["degraded"], len(made["items"])) == (200, False, 1)
        given = {"decision_id": made["decision_id"], "kind": "click"}
        assert boxes["feedback"].request("POST", "/v1/feedback", given) == (200, {"accepted": 1, "duplicates": 0})
        event = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "test", "ce-type": "dev.knudge.learning.due.v1"}
        assert boxes["learn"].request("POST", "/", {"policy": policy}, event) == (204, None)
        with psycopg.connect(servers.database_url) as connection:
            found = connection.execute("select revision from decisions where policy = %s", [policy]).fetchall()
        assert found == [("recommend-00001",)]
        status, learned = boxes["control"].request("GET", f"/v1/policies/{policy}")
        assert status == 200
        assert learned["snapshot"]["snapshot_version"] > made["snapshot_version"]
        assert {name: box.stop() for name, box in boxes.items()} == dict.fromkeys(SERVING, 0)
        for name, box in boxes.items():
            assert {line["function"] for line in box.lines()} == {name}


def test_a_probe_is_answered_within_its_limit(serving: Image, servers: LocalServers, tmp_path: Path) -> None:
    """Knative's readiness probe waits 100 ms: the quickest of a few answers on a busy machine is far below that."""
    with running(serving, servers, "recommend", USERS[0], tmp_path) as box:
        took = []
        for _ in range(20):
            began = datetime.now().astimezone()
            assert box.request("GET", "/health/ready")[0] == 200
            took.append((datetime.now().astimezone() - began).total_seconds() * 1000)
        assert sorted(took)[len(took) // 2] < READY_MS


def test_a_wrong_function_ends_with_its_reason(serving: Image) -> None:
    """A container that cannot serve says why and exits, instead of hanging until the progress deadline."""
    ended = run(serving, {"PORT": str(free_port())})
    assert (ended.returncode, "FUNCTION" in ended.stderr) == (2, True)
    ended = run(serving, {"PORT": str(free_port()), "FUNCTION": "recommend"})
    assert (ended.returncode, "KNUDGE_REDIS_URL is missing" in ended.stderr) == (2, True)


def test_the_training_image_migrates(training: Image, tmp_path: Path) -> None:
    """`knudge migrate` makes the tables of an empty database, and does nothing the second time."""
    with LocalServers.start(tmp_path / "servers") as empty:
        environment = {"KNUDGE_DATABASE_URL": empty.database_url}
        first = run(training, environment, "knudge", "migrate")
        assert first.returncode == 0, first.stderr
        assert run(training, environment, "knudge", "migrate").stdout == "migrated: nothing to do\n"
        with psycopg.connect(empty.database_url) as connection:
            assert connection.execute("select count(*) from decisions").fetchone() == (0,)


def test_the_training_image_trains(training: Image, shelf: Path, servers: LocalServers) -> None:
    """A training Job takes its event from a file, trains, and exits with 0; one that cannot be used ends it with 2."""
    environment = {
        "KNUDGE_REDIS_URL": servers.redis_url,
        "KNUDGE_DATABASE_URL": servers.database_url,
        "K_EVENT_PATH": EVENT,
    }
    event = {
        "specversion": "1.0", "id": "image-1", "source": "test", "type": "dev.knudge.training.requested.v1",
        "datacontenttype": "application/json", "data": {},
    }  # fmt: skip
    for kind, code in (("dev.knudge.training.requested.v1", 0), ("dev.knudge.nothing.v1", 2)):
        file = shelf / "event"
        file.write_text(json.dumps(event | {"type": kind}))
        ended = run(training, environment, "python", "-m", "functions.train.job", files={EVENT: file})
        assert ended.returncode == code, ended.stdout + ended.stderr


def test_the_training_image_serves_analyse(training: Image, servers: LocalServers, tmp_path: Path) -> None:
    """`analyse` serves from it by the command that its manifest gives, and finds the statistics that it needs."""
    manifests = yaml.safe_load_all((ROOT / "knative/base/analyse.yaml").read_text())
    [service] = [one for one in manifests if one["kind"] == "Service"]
    [container] = service["spec"]["template"]["spec"]["containers"]
    with World(servers.database_url) as world:
        of = world.experiment(spec(analysis=AnalysisPlan(metrics=(Metric("clicks", "click", window_s=60.0),))), 0.0)
        world.expose_many(of, [(f"{of.key} {n}", ("off", "on")[n % 2], 3600.0 + n, "", {}) for n in range(400)])
        world.did_many((f"{of.key} {n}", "click", 3601.0 + n, 1.0) for n in range(1, 400, 2))
    port = free_port()
    environment = variables(servers, "analyse") | {"PORT": str(port)}
    command = boxed(training.root, training.settings, environment, USERS[0], container["command"])
    with Boxed(command, port, tmp_path / "analyse.log") as box:
        box.wait_ready()
        status, shown = box.request("GET", f"/v1/experiments/{of.key}/results")
        assert (status, shown["units"], shown["metrics"][0]["effects"][0]["difference"]) == (200, 400, 1.0)
        assert box.stop() == 0


def test_the_training_image_has_its_tools(training: Image) -> None:
    """The command answers, and what it needs beyond the serving image can be used as this user."""
    ended = run(training, {}, *training.settings["Entrypoint"], *training.settings["Cmd"])
    assert ended.returncode == 0
    assert "migrate" in ended.stdout
    script = (
        "import kubernetes.client, kubernetes.config, kubernetes.watch, rich, matplotlib.pyplot as plot, knative\n"
        "kubernetes.client.CustomObjectsApi()\n"
        "plot.plot([1, 2]); plot.savefig('/tmp/plot.png')"
    )
    ended = run(training, {"MPLBACKEND": "agg"}, "python3", "-c", script)
    assert ended.returncode == 0, ended.stderr


def test_an_image_is_reproducible(workshop: Workshop, serving: Image, tmp_path: Path) -> None:
    """Built again without a cache, from a copy of the sources with other times, it has the same layers, bit for bit."""
    context = tmp_path / "copy"
    context.mkdir()
    for name in ("functions", "knative", "shared"):
        shutil.copytree(ROOT / name, context / name, copy_function=shutil.copy, ignore=shutil.ignore_patterns("*.pyc"))
    for name in ("Dockerfile", ".dockerignore", "constraints.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, context / name)
    for path in context.rglob("*"):
        os.utime(path, (1_234_567_890, 1_234_567_890))
    again = workshop.make("serving", "again", context=context, cached=False)
    assert again.archive.digest() == serving.archive.digest()
    assert again.archive.layer_digests == serving.archive.layer_digests


def test_images_that_differ_have_different_digests(serving: Image, training: Image) -> None:
    """The digest that shows an image to be reproducible does look at the files."""
    assert serving.archive.digest() != training.archive.digest()


def settings_of(image: Image) -> dict[str, Any]:
    """Return the environment of an image by name."""
    return dict(entry.split("=", 1) for entry in image.settings["Env"])


def test_an_image_leaves_no_files_behind(image: Image) -> None:
    """Python writes no byte code, flushes what it prints, and takes no module from the folder it is started in."""
    assert {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1", "PYTHONSAFEPATH": "1"}.items() <= settings_of(
        image
    ).items()
