"""`make bench-cold-start`: how long each function of the serving image takes from process start to ready, and on what.

The image is the file that `make image` leaves. Every function is started in a box as a cluster would (read-only root, user 65532)
and, in turn with it, from the sources by the interpreter of the virtual environment; `python -c pass` goes beside both. A start
is ready with the first 200 of `/health/ready`, asked every millisecond. The processor time until then is told beside it, for it
says more on a machine that does other work. Starts with cold files come after the image's files were
put out of the page cache. Prints a table and writes `build/bench/cold_start.json`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from functions.local.servers import LocalServers
from knative.image.archive import Archive
from shared.storage.migrate import migrate
from tests.hosted import ROOT, free_port
from tests.image.boxed import NEEDED, Boxed, boxed

FUNCTIONS = ("recommend", "assignment", "feedback", "learn", "control")
RESULT = ROOT / "build" / "bench" / "cold_start.json"
USER = 65532
NOTHING = ("-c", "pass")
SHOWN = 8


class Stage:
    """Servers, an unpacked image, and the ways to start something."""

    def __init__(self, servers: LocalServers, archive: Archive, folder: Path) -> None:
        """Unpack the image."""
        self.cpu_ms: list[float] = []
        """Processor time of each start with warm files."""
        self._servers, self._settings, self._folder = servers, archive.settings, folder
        self._root = folder / "root"
        self._root.mkdir()
        archive.unpack(self._root)
        self._files = [path for path in self._root.rglob("*") if path.is_file() and not path.is_symlink()]

    def environment(self, name: str, port: int) -> dict[str, str]:
        """Return a function's environment."""
        return {
            "FUNCTION": name,
            "PORT": str(port),
            "KNUDGE_METRICS_PORT": "0",
            "KNUDGE_REDIS_URL": self._servers.redis_url,
            "KNUDGE_DATABASE_URL": self._servers.database_url,
            "KNUDGE_SERVER_KEY": self._servers.server_key,
        }

    def inside(self, name: str) -> float:
        """Start a function in the box; return the milliseconds until it was ready."""
        ready_ms, cpu_ms = self._boxed_ms(name)
        self.cpu_ms.append(cpu_ms)
        return ready_ms

    def inside_cold(self, name: str) -> float:
        """The same, with none of the image's files in the page cache."""
        for path in self._files:
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return self._boxed_ms(name)[0]

    def outside(self, name: str) -> float:
        """Start a function from the sources, in the same namespaces but on this machine's own files."""
        port = free_port()
        variables = [f"{key}={value}" for key, value in self.environment(name, port).items()]
        command = [
            "bwrap", "--unshare-pid", "--as-pid-1", "--bind", "/", "/", "--dev-bind", "/dev", "/dev", "--proc", "/proc",
            "--", "env", "-i", *variables, sys.executable, "-m", "shared.edge.hosting",
        ]  # fmt: skip
        return self._ready_ms(command, port)[0]

    def nothing_inside(self, _name: str) -> float:
        """Run `python -c pass` in the box; return the milliseconds until it has ended."""
        return _ended_ms(boxed(self._root, self._settings, {}, USER, ["python3", *NOTHING]))

    def nothing_outside(self, _name: str) -> float:
        """Run `python -c pass` by the interpreter of the virtual environment."""
        return _ended_ms([sys.executable, *NOTHING])

    def imports_ms(self, name: str) -> dict[str, float]:
        """Return the milliseconds that a start spends on importing each package, without what that imports in turn."""
        command = ["python3", "-X", "importtime", "-c", f"import shared.edge.hosting, uvloop, functions.{name}.func"]
        ended = subprocess.run(
            boxed(self._root, self._settings, {}, USER, command), capture_output=True, text=True, check=True
        )
        spent: Counter[str] = Counter()
        for own_us, module in re.findall(r"^import time: +(\d+) \| +\d+ \| +(\S+)$", ended.stderr, re.MULTILINE):
            top = module.split(".")[0]
            spent["standard library" if top in sys.stdlib_module_names else top] += int(own_us)
        return {package: round(us / 1000, 1) for package, us in spent.most_common(SHOWN)}

    def _boxed_ms(self, name: str) -> tuple[float, float]:
        port = free_port()
        return self._ready_ms(boxed(self._root, self._settings, self.environment(name, port), USER), port)

    def _ready_ms(self, command: list[str], port: int) -> tuple[float, float]:
        """Start a function and stop it; return the milliseconds until it was ready, and those of processor time."""
        with Boxed(command, port, self._folder / "log") as box:
            ready_s = box.wait_ready()
            cpu_s = box.cpu_s()
            if box.stop() != 0:
                raise AssertionError((self._folder / "log").read_text())
        return ready_s * 1000, cpu_s * 1000


def _ended_ms(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, cwd=ROOT)
    return (time.perf_counter() - began) * 1000


def measured(ways: dict[str, Callable[[str], float]], name: str, rounds: int) -> dict[str, list[float]]:
    """Take every way in turn, `rounds` times; the order changes from round to round."""
    took: dict[str, list[float]] = {way: [] for way in ways}
    order = list(ways)
    for _ in range(rounds):
        for way in order:
            took[way].append(ways[way](name))
        order.append(order.pop(0))
    return took


def summary(values: list[float]) -> dict[str, float]:
    """Return median, quickest and slowest, in milliseconds."""
    return {"median": round(statistics.median(values)), "least": round(min(values)), "most": round(max(values))}


@contextlib.contextmanager
def staged(image: Path) -> Iterator[Stage]:
    """Give a stage over servers of its own."""
    folder = Path(tempfile.mkdtemp(prefix="knudge-cold-start-"))
    folder.chmod(0o755)
    try:
        with LocalServers.start(folder / "servers") as servers:
            migrate(servers.database_url)
            yield Stage(servers, Archive(image), folder)
    finally:
        shutil.rmtree(folder)


def main() -> int:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="make bench-cold-start")
    parser.add_argument("--image", type=Path, default=ROOT / "build" / "image" / "knudge.tar")
    parser.add_argument("--rounds", type=int, default=20)
    given = parser.parse_args()
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing or not given.image.exists():
        sys.stderr.write(f"missing: {', '.join(missing) or f'{given.image}, which make image makes'}\n")
        return 1
    found: dict[str, Any] = {"rounds": given.rounds, "functions": {}}
    with staged(given.image) as stage:
        found["machine"] = {"cores": os.cpu_count(), "load_1min": os.getloadavg()[0], "system": platform.platform()}
        ways = {
            "image": stage.inside,
            "image, cold files": stage.inside_cold,
            "sources": stage.outside,
            "image: python -c pass": stage.nothing_inside,
            "sources: python -c pass": stage.nothing_outside,
        }
        for name in FUNCTIONS:
            took = {way: summary(values) for way, values in measured(ways, name, given.rounds).items()}
            took["image: processor time"] = summary(stage.cpu_ms)
            stage.cpu_ms.clear()
            found["functions"][name] = {"ms": took, "imports_ms": stage.imports_ms(name)}
            shown = "; ".join(f"{way} {ms['median']} ({ms['least']} to {ms['most']})" for way, ms in took.items())
            imports = ", ".join(f"{package} {ms}" for package, ms in found["functions"][name]["imports_ms"].items())
            sys.stdout.write(f"{name}: {shown}\n  imports: {imports}\n")
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(found, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
