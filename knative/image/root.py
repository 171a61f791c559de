"""Lays out the root file systems of the images: the interpreter, the libraries it needs, packages, our code.

Run by the Dockerfile's build stage, with the standard library alone:

    python3 root.py requirements pyproject.toml operate console   # what pip shall install
    python3 root.py runtime PACKAGES ROOT                         # interpreter and packages
    python3 root.py code SOURCE ROOT --without functions/local    # our packages
    python3 root.py command ROOT knudge functions.console.main    # a command in PATH

What it writes is a function of its input: modes, times and byte code do not depend on when and where it runs, so a layer whose
input is the same is the same. Nothing of it is a shell, a package manager, a compiler, a header, a test, or writable but `/tmp`.
"""

from __future__ import annotations

import argparse
import compileall
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Callable, Iterable
from fnmatch import fnmatch
from pathlib import Path
from py_compile import PycInvalidationMode

STANDARD_LIBRARY_LESS = (
    "__pycache__", "*-packages", "EXTERNALLY-MANAGED", "config-*",
    "test", "tests", "_test*", "_xx*", "xx*", "_ctypes_test*",
    "ensurepip", "venv",  # they install
    "idlelib", "tkinter", "_tkinter*", "turtledemo", "turtle.py", "pydoc_data",
    "curses", "_curses*", "readline*", "sqlite3", "_sqlite3*", "_dbm*", "_gdbm*",  # each brings libraries of its own
)  # fmt: skip
"""Names of the standard library that no function needs."""
PACKAGES_LESS = (
    "__pycache__", "bin", "tests", "test", "include", "RECORD", "INSTALLER", "REQUESTED", "direct_url.json",
    "*.pyi", "*.pxd", "*.pyx", "*.c", "*.cpp", "*.h", "*.hpp", "*.a", "*.f", "*.f90", "*.cmake", "*.pc",
    "_pyinstaller",
    "sample_data",  # Matplotlib's
)  # fmt: skip
"""Names in packages that nothing imports: tests, headers, sources and libraries to link, the installer's notes."""
PRUNED_FOLDERS = (
    "kubernetes/aio",
    *(f"scipy/{name}" for name in (
        "cluster", "constants", "datasets", "differentiate", "fft", "fftpack", "integrate", "interpolate", "io", "misc", "ndimage",
        "odr", "optimize", "signal", "sparse", "spatial", "stats",
    )),
)  # fmt: skip
"""Folders of packages that nothing of ours imports, by their paths: half of the Kubernetes client is asynchronous, and of SciPy we
use the special functions."""
NEEDED_BY = {"numpy/f2py": "scipy"}
"""Folders of packages that only one other package imports, by their paths: SciPy asks NumPy for every name that it has."""
LOADED_BY_NAME = ("libgcc_s.so.1",)
"""Libraries that glibc loads when a thread ends, which no other file names."""
ACCOUNTS = {
    "etc/passwd": "root:x:0:0:root:/root:/sbin/nologin\nknudge:x:65532:65532:knudge:/tmp:/sbin/nologin\n",
    "etc/group": "root:x:0:\nknudge:x:65532:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}
WRITTEN_S = 0
"""When every file was last written, in seconds of Unix time. Not the commit's time, or every commit would make new layers."""
MOUNT_POINTS = ("dev", "proc", "sys", "tmp")
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
OPERATING_SYSTEM = Path("/etc/os-release")


def requirements(pyproject: Path, extras: Iterable[str] = ()) -> list[str]:
    """Return what the project depends on, with the groups `extras`. Raises `KeyError` for a group that is not there."""
    project = tomllib.loads(pyproject.read_text())["project"]
    listed: list[str] = list(project["dependencies"])
    for extra in extras:
        listed += project["optional-dependencies"][extra]
    return listed


def runtime(packages: Path, root: Path) -> None:
    """Write the running interpreter, its standard library, `packages` and the libraries that they link."""
    executable = Path(sys.executable).resolve()
    _copy(executable, root)
    for name in {"python", "python3", f"python3.{sys.version_info.minor}"} - {executable.name}:
        _inside(root, executable.with_name(name)).symlink_to(executable.name)
    for name in ("stdlib", "platstdlib"):
        library = Path(sysconfig.get_path(name))
        _copy_tree(library, _inside(root, library), STANDARD_LIBRARY_LESS)
    site = _inside(root, Path(sysconfig.get_path("purelib")))
    _copy_tree(packages, site, PACKAGES_LESS)
    for folder in (*PRUNED_FOLDERS, *(each for each, needing in NEEDED_BY.items() if not (site / needing).exists())):
        shutil.rmtree(site / folder, ignore_errors=True)
    libraries = [
        library for library in _linked(_inside(root, executable), *root.rglob("*.so*")) if root not in library.parents
    ]
    for library in libraries:
        _copy(library, root)
    for top in ("lib", "lib64"):  # where the kernel looks for the loader, if it is not in /usr
        if Path("/", top).is_symlink():
            (root / top).symlink_to(Path("/", top).readlink())
    for name, text in ACCOUNTS.items():
        _inside(root, Path("/", name)).write_text(text)
    _copy(CERTIFICATES, root)
    _copy(OPERATING_SYSTEM, root)
    folders = sorted({str(library.parent.resolve()) for library in libraries})
    subprocess.run(["ldconfig", "-i", "-X", "-f", os.devnull, "-r", root, *folders], check=True)  # noqa: S603, S607
    shutil.rmtree(root / "var", ignore_errors=True)
    for name in MOUNT_POINTS:
        (root / name).mkdir()
    settle(root)
    _date(root / "tmp", 0o1777)


def code(source: Path, root: Path, without: Iterable[str] = ()) -> None:
    """Write the packages below `source` where the interpreter finds them, less the folders `without`."""
    left_out = {source / folder for folder in without}

    def ignored(folder: str, names: list[str]) -> set[str]:
        return {name for name in names if name == "__pycache__" or Path(folder, name) in left_out}

    shutil.copytree(source, _inside(root, Path(sysconfig.get_path("purelib"))), ignore=ignored, dirs_exist_ok=True)
    settle(root)


def command(root: Path, name: str, module: str) -> None:
    """Write the command `name`, which runs the `main` of a module."""
    executable = Path(sys.executable).resolve()
    path = _inside(root, Path(sysconfig.get_path("scripts"), name))
    path.write_text(f"#!{executable}\nimport sys\n\nfrom {module} import main\n\nsys.exit(main())\n")
    path.chmod(0o755)
    settle(root)


def settle(root: Path) -> None:
    """Compile everything below `root` as it will be found in the image, and make modes and times the same each time.

    The byte code is never compared with its source (unchecked hash): the root is read-only, and a start looks at half as
    many files.
    """
    compiled = compileall.compile_dir(
        root, maxlevels=50, quiet=1, stripdir=root, prependdir="/",
        invalidation_mode=PycInvalidationMode.UNCHECKED_HASH,
    )  # fmt: skip
    if not compiled:
        raise SystemExit(f"{root}: not everything compiles")
    for path in sorted(root.rglob("*")):
        if path.is_symlink():
            _date(path, None)
        elif path.is_dir():
            _date(path, 0o755)
        else:
            _date(path, 0o755 if path.stat().st_mode & 0o100 else 0o644)
    _date(root, 0o755)


def _date(path: Path, mode: int | None) -> None:
    if mode is not None:
        path.chmod(mode)
    os.utime(path, (WRITTEN_S, WRITTEN_S), follow_symlinks=False)


def _inside(root: Path, path: Path) -> Path:
    """Return where an absolute path of the image lies below `root`; its folder is there afterwards."""
    place = root / path.relative_to("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    return place


def _copy(path: Path, root: Path) -> None:
    """Copy one file to its own path below `root`: no links on the way to it, and none at its end."""
    place = _inside(root, path.parent.resolve() / path.name)
    if not place.exists():
        shutil.copyfile(path, place)
        place.chmod(0o755 if os.access(path, os.X_OK) else 0o644)


def _copy_tree(source: Path, target: Path, less: tuple[str, ...]) -> None:
    shutil.copytree(source, target, ignore=_less(less), ignore_dangling_symlinks=True, dirs_exist_ok=True)


def _less(patterns: tuple[str, ...]) -> Callable[[str, list[str]], set[str]]:
    def ignored(_folder: str, names: list[str]) -> set[str]:
        return {name for name in names if any(fnmatch(name, pattern) for pattern in patterns)}

    return ignored


def _linked(*files: Path) -> set[Path]:
    """Return the shared libraries that the files need, directly or not, as the dynamic loader finds them."""
    loaded = re.findall(r"^\S+ \S+ \S+ \S+ \S+ +(/.*)$", Path("/proc/self/maps").read_text(), re.MULTILINE)
    loader = next(Path(path) for path in loaded if Path(path).name.startswith("ld-"))
    libc = next(Path(path) for path in loaded if Path(path).name.startswith("libc.so"))
    found = {libc.with_name(name) for name in LOADED_BY_NAME}
    for file in files:
        # Libraries that a wheel brings find one another because whoever loads one has loaded the others.
        beside = ["--library-path", str(file.parent)] if file.parent.suffix == ".libs" else []
        listed = subprocess.run([loader, *beside, "--list", file], capture_output=True, text=True, check=False)  # noqa: S603
        if listed.returncode or "not found" in listed.stdout:
            raise SystemExit(f"{file}: {listed.stdout}{listed.stderr}")
        # "libm.so.6 => /lib/libm.so.6 (0x…)", and for the loader the path that the kernel looks at, "/lib64/ld.so => …"
        found |= {Path(path) for path in re.findall(r"(?<!\S)(/\S+)(?= \(| => )", listed.stdout)}
    return found


def main() -> None:
    """Do what the arguments say."""
    parser = argparse.ArgumentParser(description="Lay out the root file systems of the images.")
    commands = parser.add_subparsers(dest="verb", required=True)
    listing = commands.add_parser("requirements")
    listing.add_argument("pyproject", type=Path)
    listing.add_argument("extras", nargs="*")
    running = commands.add_parser("runtime")
    running.add_argument("packages", type=Path)
    running.add_argument("root", type=Path)
    ours = commands.add_parser("code")
    ours.add_argument("source", type=Path)
    ours.add_argument("root", type=Path)
    ours.add_argument("--without", nargs="*", default=[])
    calling = commands.add_parser("command")
    calling.add_argument("root", type=Path)
    calling.add_argument("name")
    calling.add_argument("module")
    given = parser.parse_args()
    if given.verb == "requirements":
        sys.stdout.write("".join(f"{line}\n" for line in requirements(given.pyproject, given.extras)))
    elif given.verb == "runtime":
        runtime(given.packages.resolve(), given.root.resolve())
    elif given.verb == "code":
        code(given.source.resolve(), given.root.resolve(), given.without)
    else:
        command(given.root.resolve(), given.name, given.module)


if __name__ == "__main__":
    main()
