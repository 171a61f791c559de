"""The shape of the repository: functions, triggers, settings, names, sizes, and what starting up may import."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.edge.function import Function
from shared.edge.hosting import load
from shared.events import types
from shared.settings import Settings, variable

ROOT = Path(__file__).resolve().parents[2]
TOOLS = {"console", "local"}
"""Folders of `functions/` that deploy nothing: the command `knudge`, and the local runner."""
FUNCTIONS = sorted(
    folder.name
    for folder in (ROOT / "functions").iterdir()
    if (folder / "__init__.py").exists() and folder.name not in TOOLS
)
SETTINGS_PAGE = ROOT / "docs/operations/settings.md"
LONGEST_FILE = 300
DRAWERS = {"utils", "util", "helpers", "helper", "common", "misc"}
HEAVY = (
    "scipy",
    "matplotlib",
    "psycopg",
    "functions_framework",
    "cloudevents.http",
    "opentelemetry",
    "pandas",
    "kubernetes",
    "pyarrow",
)
IMPORT_LIMIT_S = 1.0
"""Far above what it takes (a quarter of a second on one slow core), below what one heavy import costs more."""

EVENT_TYPES = {name: value for name, value in vars(types).items() if name.isupper()}
REGISTRIES = [
    # A package registry's address in a file would pin everyone to it. Spelt in halves, so that this file names none.
    "pypi" + ".org",
    "pythonhosted" + ".org",
    "registry" + ".npmjs",
    "conda" + ".anaconda",
    "index" + "-url",
    "proxy.golang" + ".org",
    "crates" + ".io",
    "jfrog" + ".io",
    "/artifactory" + "/",
    "/simple" + "/ ",
]


@cache
def repository() -> list[Path]:
    """Return the files of the repository: what Git tracks, or would if it were told."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if listed.returncode:
        pytest.skip("needs the repository's Git")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def python_files(*folders: str) -> Iterator[Path]:
    """Yield the Python files below folders of the repository."""
    for folder in folders:
        yield from sorted((ROOT / folder).rglob("*.py"))


def manifests(folder: str) -> list[dict[str, Any]]:
    """Return the Kubernetes objects below a folder of `eventing/`."""
    return [
        manifest
        for path in sorted((ROOT / "eventing" / folder).glob("*.yaml"))
        for manifest in yaml.safe_load_all(path.read_text())
        if manifest
    ]


def door(name: str) -> Function[Any]:
    """Return the `Function` of a folder."""
    return load(name)[1]


def takes(function: Function[Any]) -> set[str]:
    """Return the event types that a function takes."""
    return set(function._events)


# Functions


def test_there_are_functions() -> None:
    """The folders that the other tests look at are found."""
    assert {"assignment", "recommend", "feedback", "learn", "control", "train"} <= set(FUNCTIONS)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_has_an_edge_and_a_use_case(name: str) -> None:
    """Each folder has func.py, with a target and a `door` of its name, and handler.py, which knows nothing of HTTP."""
    folder = ROOT / "functions" / name
    assert (folder / "func.py").exists()
    assert (folder / "handler.py").exists()
    target, function = load(name)
    assert (function.name, getattr(target, "__name__", "")) == (name, name)
    handler = (folder / "handler.py").read_text()
    for edge in ("shared.edge.http", "shared.edge.function", "shared.edge.hosting", "shared.edge.problems"):
        assert edge not in handler


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_functions_needs_are_settings(name: str) -> None:
    """What a function says it needs is the name of a setting that has no default."""
    for needed in door(name).needs:
        assert getattr(Settings(), needed) == ""


def test_routes_belong_to_one_function() -> None:
    """No two functions answer the same method and path, so one host can serve them all."""
    routes = [(route.method, re.sub(r"{\w+}", "{}", route.path)) for name in FUNCTIONS for route in door(name).routes]
    assert len(routes) == len(set(routes))


# Events


def test_event_types_are_named_alike() -> None:
    """Every type of ours is `dev.knudge.<name>.v1`, and no two names share one."""
    ours = [value for name, value in EVENT_TYPES.items() if name != "PING"]
    assert {types.FEEDBACK_GIVEN, types.LEARNING_DUE} <= set(ours)
    for value in ours:
        assert re.fullmatch(r"dev\.knudge\.[a-z]+\.[a-z]+\.v1", value)
    assert len(set(EVENT_TYPES.values())) == len(EVENT_TYPES)


def test_a_trigger_names_a_declared_type_and_who_takes_it() -> None:
    """Every trigger filters by a type of `shared.events.types`, and its subscriber is a function that takes the type."""
    triggers = manifests("triggers")
    assert triggers
    for trigger in triggers:
        event_type = trigger["spec"]["filter"]["attributes"]["type"]
        assert event_type in EVENT_TYPES.values(), trigger["metadata"]["name"]
        name = trigger["spec"]["subscriber"]["ref"]["name"]
        assert name in FUNCTIONS
        assert event_type in takes(door(name)), (event_type, name)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_type_that_a_function_takes_is_delivered(name: str) -> None:
    """What a function takes has a trigger; a ping has a schedule instead, for a PingSource knows no broker filter."""
    delivered = {
        (trigger["spec"]["filter"]["attributes"]["type"], trigger["spec"]["subscriber"]["ref"]["name"])
        for trigger in manifests("triggers")
    }
    delivered |= {
        (types.PING, schedule["spec"]["sink"]["ref"]["name"])
        for schedule in manifests("schedules")
        if schedule["kind"] == "PingSource"
    }
    for event_type in takes(door(name)):
        assert event_type in EVENT_TYPES.values()
        assert (event_type, name) in delivered


def test_triggers_are_named_for_their_types() -> None:
    """A trigger's file and name say which type it delivers, so that it is found."""
    for path in (ROOT / "eventing/triggers").glob("*.yaml"):
        [trigger] = yaml.safe_load_all(path.read_text())
        event_type = trigger["spec"]["filter"]["attributes"]["type"]
        assert path.stem == trigger["metadata"]["name"]
        assert path.stem == event_type.removeprefix("dev.knudge.").removesuffix(".v1").replace(".", "-")


# Settings


def test_every_setting_is_documented() -> None:
    """The page of settings names the environment variable of each, and none that does not exist."""
    page = SETTINGS_PAGE.read_text()
    known = {variable(name) for name in Settings.__struct_fields__}
    for name in known:
        assert f"`{name}`" in page, f"{name} is not documented"
    for name in set(re.findall(r"`(KNUDGE_[A-Z_]+)`", page)) - known:
        assert any(
            name in path.read_text() for path in [ROOT / "Makefile", *python_files("functions", "shared", "tests")]
        )


def test_the_environment_is_read_at_the_door() -> None:
    """Only entry points hand the environment over; nothing deeper looks at it."""
    allowed = {
        "shared/edge/hosting.py",
        "shared/edge/function.py",
        "shared/storage/migrate.py",
        "functions/train/job.py",
    }
    for path in python_files("shared", *(f"functions/{name}" for name in FUNCTIONS)):
        if path.relative_to(ROOT).as_posix() not in allowed:
            read = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)]
            assert not [node for node in read if node.attr in {"environ", "getenv"}], path


# Names and sizes


def test_nothing_is_a_drawer() -> None:
    """No module or folder is called utils, helpers, common or misc, at any depth."""
    for path in python_files("functions", "knative", "shared", "tests"):
        parts = {part.removesuffix(".py") for part in path.relative_to(ROOT).parts}
        assert not parts & DRAWERS, path


def test_no_file_is_too_long() -> None:
    """A Python file of functions/, knative/ and shared/ has at most 300 lines: a reader can hold it."""
    long = {
        path.relative_to(ROOT).as_posix(): lines
        for path in python_files("functions", "knative", "shared")
        if (lines := len(path.read_text().splitlines())) > LONGEST_FILE
    }
    assert long == {}


def test_every_module_says_what_it_is_for() -> None:
    """Every module of functions/, knative/ and shared/ begins with a docstring."""
    for path in python_files("functions", "knative", "shared"):
        assert ast.get_docstring(ast.parse(path.read_text())), path


def test_no_file_names_a_package_registry() -> None:
    """Packages come from wherever an installation's pip is told to look; no file of the repository says where."""
    for path in repository():
        try:
            content = path.read_text().lower()
        except UnicodeDecodeError:
            continue
        for registry in REGISTRIES:
            assert registry not in content, path


# Start-up


def imported(module: str) -> tuple[set[str], float]:
    """Return what a fresh process holds once it has imported a module, and the seconds that the import took."""
    script = f"import {module}, sys; print(*sys.modules)"
    ended = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", script],
        cwd=ROOT, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    lines = [line.split("|") for line in ended.stderr.splitlines() if line.startswith("import time:")][1:]
    [seconds] = [int(line[1]) / 1e6 for line in lines if line[2].strip() == module]
    return set(ended.stdout.split()), seconds


@pytest.mark.parametrize("name", FUNCTIONS)
def test_importing_a_function_is_quick(name: str) -> None:
    """Nothing heavy stands on the start-up path of a function, and importing it stays below a ceiling."""
    modules, seconds = imported(f"functions.{name}.func")
    stores = (
        {"psycopg"} if name not in {"assignment", "recommend"} else set()
    )  # the others cannot work without PostgreSQL
    for heavy in HEAVY:
        if heavy not in stores:
            assert not {module for module in modules if module == heavy or module.startswith(heavy + ".")}
    if name in {"assignment", "feedback"}:
        assert "numpy" not in modules  # they choose nothing
    for _ in range(3):  # a machine may be busy: the best of some runs counts
        if seconds > IMPORT_LIMIT_S:
            seconds = min(seconds, imported(f"functions.{name}.func")[1])
    assert seconds <= IMPORT_LIMIT_S


@pytest.mark.parametrize("name", FUNCTIONS)
def test_importing_a_function_touches_nothing(name: str) -> None:
    """Nothing connects and nothing of the environment is needed at import."""
    script = (
        "import socket, os\n"
        "def refuse(*a, **k): raise AssertionError('connects at import')\n"
        "socket.socket.connect = refuse\n"
        f"from functions.{name}.func import door\n"
        "assert door._state is None"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env={}, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")
