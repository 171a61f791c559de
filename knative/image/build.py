"""`make image`: builds the images with the builder that is at hand, keeps them as files, and says what they weigh.

    python -m knative.image.build [--base IMAGE] [--repository dev.local] [--source URL] [--output build/image]

Docker, Podman or Buildah, the first that works. Each image stays in the builder's store under its tag, and as a file that
`docker load` and its like read; `sizes.json` beside them has the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from knative.image.archive import Archive
from shared.errors import KnudgeError

ROOT = Path(__file__).resolve().parents[2]
IMAGES = {"serving": "knudge", "training": "knudge-train"}
"""The Dockerfile's targets, and what their images are called."""
SIZES = "sizes.json"
_BUILD = {"docker": ("docker", "build"), "podman": ("podman", "build"), "buildah": ("buildah", "bud", "--layers")}
_SAVE = {
    "docker": ("docker", "save", "--output", "{file}", "{tag}"),
    "podman": ("podman", "save", "--format", "docker-archive", "--output", "{file}", "{tag}"),
    "buildah": ("buildah", "push", "--quiet", "{tag}", "docker-archive:{file}:{tag}"),
}
_LABELLED = {"VERSION", "REVISION", "CREATED", "SOURCE"}
_MEGABYTE = 1e6
_SMALL_BYTES = 500_000


class BuildError(KnudgeError):
    """An image could not be built."""


def find_builder() -> str | None:
    """Return the first of Docker, Podman and Buildah that is installed and works; a client without its engine does not."""
    for name in _BUILD:
        if shutil.which(name) and subprocess.run([name, "info"], capture_output=True, check=False).returncode == 0:  # noqa: S603
            return name
    return None


def build(
    builder: str, target: str, tag: str, arguments: Mapping[str, str], *, context: Path = ROOT, cached: bool = True
) -> None:
    """Build one target of the Dockerfile in `context` and give it a tag. Raises `BuildError`."""
    given = [part for name, value in arguments.items() for part in ("--build-arg", f"{name}={value}")]
    for name in sorted(
        _LABELLED & arguments.keys()
    ):  # Buildah and Podman would take a cached label although its argument changed
        given += ["--label", f"org.opencontainers.image.{name.lower()}={arguments[name]}"]
    fresh = [] if cached else ["--no-cache"]
    _run([*_BUILD[builder], *fresh, "--target", target, "--tag", tag, *given, str(context)])


def save(builder: str, tag: str, file: Path) -> Archive:
    """Write an image to a file."""
    file.unlink(missing_ok=True)
    _run([part.format(file=file, tag=tag) for part in _SAVE[builder]])
    return Archive(file)


def said_of_it(source: str = "") -> dict[str, str]:
    """Return the build arguments that become labels: version, revision, when that was committed, where it came from.

    Where there is no Git, the revision is `unknown` and the time that of Unix' beginning.
    """
    committed_s = int(_git("log", "-1", "--format=%ct") or 0)
    return {
        "VERSION": version(),
        "REVISION": _git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*") or "unknown",
        "CREATED": datetime.fromtimestamp(committed_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "SOURCE": source,
    }


def version() -> str:
    """Return the project's version."""
    stated: str = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    return stated


def figures(archive: Archive) -> dict[str, Any]:
    """Return what an image weighs, in bytes, and the digest of its files."""
    parts = archive.unpacked_bytes()
    return {
        "unpacked_bytes": sum(parts.values()),
        "gzip_bytes": archive.compressed_bytes(),
        "digest": archive.digest(),
        "parts": parts,
    }


def _run(command: list[str]) -> None:
    try:
        subprocess.run(command, check=True, stdout=sys.stderr)  # noqa: S603
    except (OSError, subprocess.CalledProcessError) as error:
        raise BuildError(str(error)) from error


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return ""


def _table(tag: str, weighed: Mapping[str, Any]) -> str:
    rows = [
        f"{tag}: {weighed['unpacked_bytes'] / _MEGABYTE:.1f} MB, in a registry {weighed['gzip_bytes'] / _MEGABYTE:.1f} MB"
    ]
    small = 0
    for name, size in weighed["parts"].items():
        if size < _SMALL_BYTES:
            small += size
        else:
            rows.append(f"  {size / _MEGABYTE:6.1f}  {name}")
    return "\n".join([*rows, f"  {small / _MEGABYTE:6.1f}  everything smaller", ""])


def main() -> int:
    """Build, save and weigh both images."""
    parser = argparse.ArgumentParser(prog="knative.image.build", description="Build the images with what is at hand.")
    parser.add_argument("--builder", choices=_BUILD, help="(default: the first that works)")
    parser.add_argument("--base", help="image with Python and pip to take them from (default: the Dockerfile's)")
    parser.add_argument("--repository", default="dev.local", help="what goes before the names (default: dev.local)")
    parser.add_argument("--source", default="", help="where the sources are published, for the label")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "image", help="(default: build/image)")
    given = parser.parse_args()
    builder = given.builder or find_builder()
    if builder is None:
        sys.stderr.write(f"none of {', '.join(_BUILD)} is here and works\n")
        return 1
    arguments = said_of_it(given.source) | ({"BASE": given.base} if given.base else {})
    given.output.mkdir(parents=True, exist_ok=True)
    weighed = {}
    try:
        for target, name in IMAGES.items():
            tag = f"{given.repository}/{name}:{version()}"
            build(builder, target, tag, arguments)
            weighed[name] = figures(save(builder, tag, given.output / f"{name}.tar"))
            sys.stdout.write(_table(tag, weighed[name]))
    except KnudgeError as error:
        sys.stderr.write(f"{error.detail}\n")
        return 1
    (given.output / SIZES).write_text(json.dumps(weighed, indent=2) + os.linesep)
    return 0


if __name__ == "__main__":
    sys.exit(main())
