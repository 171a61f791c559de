"""Reading a saved image: layers on top of each other, sizes, digests, and files that hold none."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from knative.image.archive import Archive, part
from shared.errors import InvalidInput

FILES = {"usr/lib/python3.13/ssl.py": b"a" * 10, "usr/bin/python3.13": b"b" * 7}


def tarred(files: dict[str, bytes], mode: int = 0o644, mtime: int = 0) -> bytes:
    """Return a tar of files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.mtime = len(content), mode, mtime
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def saved(path: Path, *layers: bytes) -> Archive:
    """Write an image as `docker save` does."""
    names = [f"{number}.tar" for number in range(len(layers))]
    digests = ["sha256:" + hashlib.sha256(layer).hexdigest() for layer in layers]
    settings = {"config": {"User": "65532"}, "rootfs": {"diff_ids": digests}}
    members = {
        "manifest.json": json.dumps([{"Config": "config.json", "Layers": names}]).encode(),
        "config.json": json.dumps(settings).encode(),
        **dict(zip(names, layers, strict=True)),
    }
    path.write_bytes(tarred(members))
    return Archive(path)


def test_layers_lie_on_top_of_each_other(tmp_path: Path) -> None:
    """What a later layer holds replaces what an earlier one held, in the list, the sizes and on disk."""
    archive = saved(tmp_path / "image.tar", tarred(FILES), tarred({"usr/bin/python3.13": b"new"}))
    assert archive.settings == {"User": "65532"}
    assert archive.unpacked_bytes() == {"standard library": 10, "interpreter": 3}
    archive.unpack(tmp_path / "root")
    assert (tmp_path / "root/usr/bin/python3.13").read_bytes() == b"new"
    assert 0 < archive.compressed_bytes() < 1_000


def test_a_digest_sees_everything(tmp_path: Path) -> None:
    """Content, name, mode and time change it; how the files are spread over layers does not."""
    path = tmp_path / "image.tar"
    digest = saved(path, tarred(FILES)).digest()
    first, second = ({name: content} for name, content in FILES.items())
    assert saved(path, tarred(first), tarred(second)).digest() == digest
    others = [
        saved(path, tarred(FILES | {"usr/bin/python3.13": b"c" * 7})).digest(),
        saved(path, tarred(FILES | {"more": b""})).digest(),
        saved(path, tarred(FILES, mode=0o666)).digest(),
        saved(path, tarred(FILES, mtime=1)).digest(),
    ]
    assert len({digest, *others}) == 5


def test_a_layer_that_deletes_is_refused(tmp_path: Path) -> None:
    """Our images hide nothing: what was deleted would weigh all the same."""
    with pytest.raises(InvalidInput, match=r"deletes usr/\.wh\.bin"):
        saved(tmp_path / "image.tar", tarred(FILES), tarred({"usr/.wh.bin": b""})).entries()


@pytest.mark.parametrize("content", [b"", b"no tar", tarred({"manifest.json": b"{"}), tarred({"other": b""})])
def test_a_file_that_holds_no_image_is_refused(tmp_path: Path, content: bytes) -> None:
    """With its name, whatever is wrong with it."""
    path = tmp_path / "image.tar"
    path.write_bytes(content)
    with pytest.raises(InvalidInput, match=r"image\.tar is no saved image"):
        Archive(path)


@pytest.mark.parametrize(
    ("path", "belongs_to"),
    [
        ("usr/local/lib/python3.13/site-packages/numpy/__init__.py", "numpy"),
        ("usr/local/lib/python3.13/dist-packages/numpy-2.4.6.dist-info/METADATA", "numpy"),
        ("usr/local/lib/python3.13/site-packages/functions/learn/func.py", "knudge"),
        ("usr/local/lib/python3.13/asyncio/events.py", "standard library"),
        ("usr/local/lib/libpython3.13.so.1.0", "system libraries"),
        ("usr/local/bin/python3.13", "interpreter"),
        ("etc/passwd", "other"),
    ],
)
def test_files_are_told_by_what_they_belong_to(path: str, belongs_to: str) -> None:
    """In the official image's layout and in Debian's."""
    assert part(path) == belongs_to
