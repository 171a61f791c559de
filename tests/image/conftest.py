"""Builds both images once for every test here, in a store of their own; skips them all where that cannot be done.

`KNUDGE_IMAGES` names a folder of images that are there already, as `make image` leaves them: then those are tested.
`KNUDGE_IMAGE_BASE` names a base image for the Dockerfile, where a registry is at hand.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from knative.image.archive import Archive
from knative.image.build import IMAGES, build, find_builder, said_of_it, save
from tests.image import base, boxed

SOURCE = "https://example.com/knudge"
BASE = "localhost/knudge-base"


class Image(NamedTuple):
    """An image as a file, and its root file system in a folder that every user may read."""

    archive: Archive
    root: Path

    @property
    def settings(self) -> dict[str, Any]:
        """What the image says of itself."""
        return self.archive.settings


class Workshop(NamedTuple):
    """A builder with a store of its own."""

    builder: str
    folder: Path
    arguments: dict[str, str]

    def make(self, target: str, name: str, **options: Any) -> Image:
        """Build a target and unpack it."""
        tag = f"localhost/knudge-test-{name}:test"
        build(self.builder, target, tag, self.arguments, **options)
        return unpacked(save(self.builder, tag, self.folder / f"{name}.tar"), self.folder / name)


def unpacked(archive: Archive, folder: Path) -> Image:
    """Unpack an image into a new folder."""
    folder.mkdir()
    archive.unpack(folder)
    return Image(archive, folder)


def store(folder: Path, driver: str) -> Path:
    """Write the settings of a store for Podman and Buildah; return their path."""
    path = folder / "storage.conf"
    path.write_text(
        f'[storage]\ndriver = "{driver}"\ngraphroot = "{folder}/{driver}"\nrunroot = "{folder}/run-{driver}"\n'
    )
    return path


@pytest.fixture(scope="session")
def shelf() -> Iterator[Path]:
    """Give a folder that every user may read, for the time of the tests."""
    missing = [name for name in boxed.NEEDED if shutil.which(name) is None]
    if missing:
        pytest.skip(f"no image can be run here: {', '.join(missing)} missing")
    folder = Path(tempfile.mkdtemp(prefix="knudge-image-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def workshop(shelf: Path) -> Iterator[Workshop]:
    """Give a builder that knows the base image."""
    given = os.environ.get("KNUDGE_IMAGE_BASE")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BUILDAH_ISOLATION", "chroot")
        for driver in ("overlay", "vfs"):  # the first is quicker, the second always there
            patch.setenv("CONTAINERS_STORAGE_CONF", str(store(shelf, driver)))
            if builder := find_builder():
                break
        missing = [name for name in (() if given else base.NEEDED) if shutil.which(name) is None]
        if builder is None or missing:
            pytest.skip(f"no image can be built here: {missing or 'docker, podman or buildah'} missing")
        if not given:
            base.make_image(builder, shelf / "base", BASE)
        yield Workshop(builder, shelf, {"BASE": given or BASE} | said_of_it(SOURCE))


@pytest.fixture(scope="session")
def serving(request: pytest.FixtureRequest, shelf: Path) -> Image:
    """Build the serving image, or take the one that is there."""
    return _image(request, shelf, "serving")


@pytest.fixture(scope="session")
def training(request: pytest.FixtureRequest, shelf: Path) -> Image:
    """Build the training image, or take the one that is there."""
    return _image(request, shelf, "training")


def _image(request: pytest.FixtureRequest, shelf: Path, target: str) -> Image:
    if built := os.environ.get("KNUDGE_IMAGES"):
        return unpacked(Archive(Path(built) / f"{IMAGES[target]}.tar"), shelf / target)
    workshop: Workshop = request.getfixturevalue("workshop")
    return workshop.make(target, target)
