"""Finds the Open Bandit Dataset's small logs on this machine, or has pip fetch the wheel that carries them.

The logs lie in the wheel of obp 0.4.1 as plain CSV files. The wheel is never installed and none of its code
runs; its dependencies (among them torch) are never fetched. Looked for in this order: the path that the user
names, the cache folder, an installed obp, and then `pip download`. What the files mean is `obd_log`'s
business.
"""

from __future__ import annotations

import importlib.metadata
import io
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TextIO

from functions.console.failure import ConsoleFailure

REQUIREMENT = "obp==0.4.1"
CACHE = Path(".knudge/cache")
_IN_WHEEL = "obp/dataset/obd"
_PIP_LIMIT_S = 300.0


class Source(Protocol):
    """Where the log files lie. `name` says so to the user."""

    name: str

    def open(self, relative: str) -> TextIO:
        """Open the file at `relative`, a path such as "bts/all/all.csv". Raises `ConsoleFailure`."""
        ...


class Wheel:
    """The logs inside a wheel (or any zip file of the same layout)."""

    def __init__(self, path: Path) -> None:
        """Remember `path`; it is opened anew for each file."""
        self.name = str(path)
        self._path = path

    def open(self, relative: str) -> TextIO:
        """Read one file out of the archive. Raises `ConsoleFailure` where it has none or is no archive."""
        try:
            with zipfile.ZipFile(self._path) as archive:
                return io.StringIO(archive.read(f"{_IN_WHEEL}/{relative}").decode())
        except (KeyError, zipfile.BadZipFile, OSError, UnicodeDecodeError) as error:
            message = f"{self._path} holds no readable {_IN_WHEEL}/{relative}: {error}"
            raise ConsoleFailure(message, field="data") from error


class Folder:
    """The logs in a folder that holds bts/ and random/."""

    def __init__(self, path: Path) -> None:
        """Remember `path`."""
        self.name = str(path)
        self._path = path

    def open(self, relative: str) -> TextIO:
        """Open one file. Raises `ConsoleFailure` where there is none."""
        try:
            return (self._path / relative).open(encoding="utf-8", newline="")
        except OSError as error:
            message = f"{self._path / relative} cannot be read: {error.strerror}"
            raise ConsoleFailure(message, field="data") from error


def find_source(named: Path | None, *, cache: Path = CACHE, download: Callable[[Path], None] | None = None) -> Source:
    """Return where the logs lie, fetching the wheel into `cache` where nothing else has them.

    `named`: a wheel, or a folder that is or holds obd/. Raises `ConsoleFailure` where the logs cannot be had.
    """
    if named is not None:
        return _source_at(named)
    cached = _wheel_in(cache)
    if cached is not None:
        return Wheel(cached)
    installed = _installed()
    if installed is not None:
        return Folder(installed)
    (download or _pip_download)(cache)
    fetched = _wheel_in(cache)
    if fetched is None:
        message = f"pip ended well but left no wheel in {cache}"
        raise ConsoleFailure(message)
    return Wheel(fetched)


def _source_at(path: Path) -> Source:
    if path.is_file():
        return Wheel(path)
    for candidate in (path, path / "obd", path / "dataset" / "obd", path / "obp" / "dataset" / "obd"):
        if (candidate / "bts").is_dir() and (candidate / "random").is_dir():
            return Folder(candidate)
    message = f"{path} is neither a wheel nor a folder with bts/ and random/ in it"
    raise ConsoleFailure(message, field="data")


def _wheel_in(cache: Path) -> Path | None:
    return next(iter(sorted(cache.glob(f"{REQUIREMENT.replace('==', '-')}-*.whl"))), None)


def _installed() -> Path | None:
    try:
        distribution = importlib.metadata.distribution(REQUIREMENT.partition("==")[0])
    except importlib.metadata.PackageNotFoundError:
        return None
    path = Path(str(distribution.locate_file(_IN_WHEEL)))
    return path if (path / "random").is_dir() else None


def _pip_download(cache: Path) -> None:
    """Have pip put the wheel alone into `cache`; where from is pip's own configuration."""
    cache.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--no-input", "--dest", str(cache), REQUIREMENT]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PIP_LIMIT_S, check=False)  # noqa: S603
    except subprocess.TimeoutExpired as error:
        reason = f"pip did not finish within {_PIP_LIMIT_S:.0f} s"
        raise ConsoleFailure(_cannot_be_had(reason)) from error
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise ConsoleFailure(_cannot_be_had(lines[-1] if lines else f"pip ended with {done.returncode}"))


def _cannot_be_had(reason: str) -> str:
    return (
        f"the Open Bandit Dataset cannot be had ({reason}); fetch the wheel of {REQUIREMENT} elsewhere "
        "(pip download --no-deps) and name it with --data"
    )
