"""Reads an image as `docker save`, `podman save` and `buildah push … docker-archive:` write it: one tar of layers and settings."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import tarfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from shared.errors import InvalidInput

COMPRESSION = 6
"""What registries and builders take by default."""
OURS = {"functions", "knative", "shared"}
_MODE = 0o7777  # some builders write the kind of the file into it
_PACKAGE = re.compile(r"-packages/([^/]+)")
_STANDARD = re.compile(r"/lib/python3\.\d+/")
_LIBRARY = re.compile(r"/(lib[^/]*|ld-[^/]*)\.so[^/]*$")


class Archive:
    """An image in a file. Its layers add files and delete none."""

    def __init__(self, path: Path) -> None:
        """Read what the image says of itself. Raises `InvalidInput` where the file holds no image."""
        self._path = path
        try:
            with tarfile.open(path) as outer:
                [image] = json.load(_member(outer, "manifest.json"))
                written = json.load(_member(outer, image["Config"]))
        except (tarfile.TarError, KeyError, ValueError) as error:
            raise InvalidInput(f"{path} is no saved image: {error}", field="image") from error
        self._layers: list[str] = image["Layers"]
        self.settings: dict[str, Any] = written["config"]
        """Entry point, environment, labels, user, …"""
        self.layer_digests: list[str] = written["rootfs"]["diff_ids"]
        """A digest for each layer, uncompressed."""

    def entries(self) -> dict[str, tarfile.TarInfo]:
        """Return the files, folders and links by their paths, without a leading slash."""
        found: dict[str, tarfile.TarInfo] = {}
        for layer in self._opened():
            for entry in layer:
                if PurePosixPath(entry.name).name.startswith(".wh."):
                    raise InvalidInput(f"{self._path}: a layer deletes {entry.name}", field="image")
                found[entry.name.removeprefix("./").strip("/")] = entry
        found.pop("", None)
        return found

    def digest(self) -> str:
        """Return a SHA-256 over paths, kinds, modes, owners, times and contents of everything in the image."""
        lines: dict[str, str] = {}
        for layer in self._opened():
            for entry in layer:
                file = layer.extractfile(entry) if entry.isreg() else None
                content = hashlib.sha256(file.read()).hexdigest() if file else entry.linkname
                lines[entry.name] = (
                    f"{entry.type!r} {entry.mode & _MODE:o} {entry.uid}:{entry.gid} {entry.mtime} {content}"
                )
        return hashlib.sha256("".join(f"{name} {lines[name]}\n" for name in sorted(lines)).encode()).hexdigest()

    def unpack(self, folder: Path) -> None:
        """Write the root file system to a folder; the owners are right if root does it."""
        for layer in self._opened():
            layer.extractall(folder, filter="fully_trusted")  # noqa: S202 - just built

    def unpacked_bytes(self) -> dict[str, int]:
        """Return the bytes of all files, by what they are part of, the largest first."""
        sizes: Counter[str] = Counter()
        for path, entry in self.entries().items():
            if entry.isreg():
                sizes[part(path)] += entry.size
        return dict(sizes.most_common())

    def compressed_bytes(self) -> int:
        """Return what the layers weigh in a registry."""
        weight = 0
        with tarfile.open(self._path) as outer:
            for name in self._layers:
                content = _member(outer, name).read()
                if not content.startswith(b"\x1f\x8b"):
                    content = gzip.compress(content, COMPRESSION, mtime=0)
                weight += len(content)
        return weight

    def _opened(self) -> Iterator[tarfile.TarFile]:
        with tarfile.open(self._path) as outer:
            for name in self._layers:
                with _layer(outer, name) as layer:
                    yield layer


def part(path: str) -> str:
    """Return what a file belongs to: a package, the standard library, the interpreter, the system's libraries.

    >>> part("usr/local/lib/python3.13/site-packages/numpy.libs/libscipy_openblas64_.so")
    'numpy'
    >>> part("usr/lib/x86_64-linux-gnu/libc.so.6"), part("usr/local/lib/python3.13/ssl.py"), part("etc/passwd")
    ('system libraries', 'standard library', 'other')
    """
    if found := _PACKAGE.search(path):
        name = re.split(r"[.-]", found[1])[0].lower()
        return "knudge" if name in OURS else name
    if _STANDARD.search(path):
        return "standard library"
    if _LIBRARY.search(path):
        return "system libraries"
    return "interpreter" if "/bin/python" in path else "other"


def _member(outer: tarfile.TarFile, name: str) -> io.BufferedIOBase:
    file = outer.extractfile(name)
    if file is None:
        raise KeyError(name)
    return file  # type: ignore[return-value]


@contextmanager
def _layer(outer: tarfile.TarFile, name: str) -> Iterator[tarfile.TarFile]:
    with tarfile.open(fileobj=_member(outer, name)) as layer:
        yield layer
