"""Fixtures that references computed: written anew, or compared with what they compute now.

A difference beyond 1e-9, relative to the larger of the number and 1, counts.
"""

from __future__ import annotations

import importlib.metadata
import json
import math
import platform
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

TOLERANCE = 1e-9


class Fixture(NamedTuple):
    """`path`: the JSON file. `packages`: whose versions stand in it. `make`: what computes its content."""

    path: Path
    packages: tuple[str, ...]
    make: Callable[[], dict[str, Any]]


def check(fixtures: tuple[Fixture, ...], *, write: bool) -> int:
    """Write all of `fixtures`, or say how each compares with the kept one; return the number of those that differ."""
    wrong = 0
    for path, packages, make in fixtures:
        body = {"source": _source(packages), **make()}
        if write:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(body, separators=(",", ":"), allow_nan=False) + "\n")
            print(f"{path.name}: written")
            continue
        differences = list(_differences("", json.loads(path.read_text()), json.loads(json.dumps(body))))
        wrong += bool(differences)
        print(f"{path.name}: " + ("as kept" if not differences else "; ".join(differences[:5])))
    return wrong


def _source(packages: tuple[str, ...]) -> dict[str, str]:
    versions = {name: importlib.metadata.version(name) for name in packages}
    return {**versions, "python": ".".join(platform.python_version_tuple()[:2])}


def _differences(path: str, kept: Any, now: Any) -> Iterator[str]:
    if isinstance(kept, dict) and isinstance(now, dict):
        if kept.keys() != now.keys():
            yield f"{path}: keys differ"
            return
        for key in kept:
            yield from _differences(f"{path}.{key}", kept[key], now[key])
    elif isinstance(kept, list) and isinstance(now, list):
        if len(kept) != len(now):
            yield f"{path}: {len(kept)} against {len(now)}"
            return
        for place, (one, other) in enumerate(zip(kept, now, strict=True)):
            yield from _differences(f"{path}[{place}]", one, other)
    elif isinstance(kept, float) and isinstance(now, (float, int)):
        if not math.isclose(kept, now, rel_tol=TOLERANCE, abs_tol=TOLERANCE):
            yield f"{path}: kept {kept!r}, now {now!r}"
    elif kept != now:
        yield f"{path}: kept {kept!r}, now {now!r}"
