"""The layout of an image's root: what pip shall install, byte code, modes and times, the libraries that files need."""

from __future__ import annotations

import marshal
import os
import shutil
import stat
import struct
import sys
import sysconfig
from pathlib import Path

import pytest

from knative.image.root import WRITTEN_S, _linked, code, command, requirements, settle

ROOT = Path(__file__).resolve().parents[3]
CODE_AT = 16
"""Where the code begins in a file of byte code."""


def tree(root: Path) -> dict[str, tuple[int, float, bytes]]:
    """Return mode, time and content of everything below a folder."""
    return {
        str(path.relative_to(root)): (path.stat().st_mode, path.stat().st_mtime, path.read_bytes() if path.is_file() else b"")
        for path in sorted(root.rglob("*"))
    }  # fmt: skip


def test_requirements_are_the_projects() -> None:
    """The serving image takes the project's dependencies, the training image those of its groups too."""
    serving = requirements(ROOT / "pyproject.toml")
    assert any(line.startswith("uvloop==") for line in serving)
    assert not any(line.startswith("kubernetes==") for line in serving)
    larger = requirements(ROOT / "pyproject.toml", ["operate"])
    assert larger[: len(serving)] == serving
    assert any(line.startswith("kubernetes==") for line in larger)


def test_a_group_that_is_not_there_is_refused() -> None:
    """A misspelt group is no empty one."""
    with pytest.raises(KeyError, match="operator"):
        requirements(ROOT / "pyproject.toml", ["operator"])


def test_a_root_is_the_same_wherever_and_whenever_it_is_laid_out(tmp_path: Path) -> None:
    """Times and modes of the sources, and the folder that is written to, leave no trace."""
    source = tmp_path / "source"
    (source / "pack").mkdir(parents=True)
    (source / "pack/__init__.py").write_text("NAMES = {'a', 'b'}\n\n\ndef name():\n    return __file__\n")
    code(source, tmp_path / "one")
    os.utime(source / "pack/__init__.py", (1_234_567_890, 1_234_567_890))
    (source / "pack/__init__.py").chmod(0o600)
    code(source, tmp_path / "a" / "longer" / "path")
    first = tree(tmp_path / "one")
    assert first == tree(tmp_path / "a" / "longer" / "path")
    assert {moment for _, moment, _ in first.values()} == {WRITTEN_S}
    assert {stat.S_IMODE(mode) for mode, _, _ in first.values()} == {0o644, 0o755}


def test_byte_code_is_not_checked_and_names_the_path_in_the_image(tmp_path: Path) -> None:
    """Its flags say so, and a traceback will show where the source lies in the image."""
    (tmp_path / "opt").mkdir()
    (tmp_path / "opt/module.py").write_text("x = 1\n")
    settle(tmp_path)
    [compiled] = tmp_path.glob("opt/__pycache__/module.*.pyc")
    content = compiled.read_bytes()
    assert struct.unpack("<I", content[4:8]) == (0b01,)
    assert marshal.loads(content[CODE_AT:]).co_filename == "/opt/module.py"  # noqa: S302 - just compiled


def test_what_does_not_compile_stops_the_build(tmp_path: Path) -> None:
    """Otherwise it would be compiled, and fail, at each start."""
    (tmp_path / "module.py").write_text("x = (\n")
    with pytest.raises(SystemExit, match="not everything compiles"):
        settle(tmp_path)


def test_folders_are_left_out(tmp_path: Path) -> None:
    """Only the folders named, not others of the same name; caches always."""
    source = tmp_path / "source"
    for folder in ("functions/local", "shared/local", "shared/__pycache__"):
        (source / folder).mkdir(parents=True)
        (source / folder / "module.py").touch()
    code(source, tmp_path / "root", ["functions/local", "functions/absent"])
    site = tmp_path / "root" / sysconfig.get_path("purelib").removeprefix("/")
    assert not (site / "functions/local").exists()
    assert (site / "shared/local/module.py").exists()
    assert not list((site / "shared/__pycache__").glob("module.py"))


def test_a_command_runs_a_main(tmp_path: Path) -> None:
    """It is executable, and begins with the interpreter's own path: there is no shell to find it."""
    command(tmp_path, "knudge", "functions.console.main")
    path = tmp_path / sysconfig.get_path("scripts").removeprefix("/") / "knudge"
    assert path.read_text().startswith(f"#!{Path(sys.executable).resolve()}\n")
    assert os.access(path, os.X_OK)


def test_the_libraries_of_a_program_are_found(tmp_path: Path) -> None:
    """Those of the interpreter, with the loader by the path that the kernel looks at, and what glibc loads by name."""
    found = _linked(Path(sys.executable).resolve())
    assert all(path.is_absolute() and path.exists() for path in found)
    names = {path.name for path in found}
    assert {"libc.so.6", "libgcc_s.so.1"} <= names
    assert any(name.startswith("ld-linux") for name in names)


def test_a_library_that_is_missing_stops_the_build(tmp_path: Path) -> None:
    """An image whose program cannot start must not come into being."""
    broken = shutil.copy(Path(sys.executable).resolve(), tmp_path / "program")
    content = Path(broken).read_bytes()
    assert b"libm.so.6" in content or b"libc.so.6" in content
    Path(broken).write_bytes(content.replace(b"libm.so.6\0", b"libq.so.6\0").replace(b"libc.so.6\0", b"libq.so.6\0"))
    with pytest.raises(SystemExit, match=r"libq\.so\.6"):
        _linked(Path(broken))
