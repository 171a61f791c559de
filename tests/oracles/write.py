"""Checks that the kept fixtures are what the references compute here, or writes them anew: `python -m tests.oracles.write [--write]`.

Without `--write` a difference beyond 1e-9, relative to the larger of the number and 1, is an error.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np

from tests.oracles import mabwiser_posteriors, obp_estimators

UNIT = Path(__file__).parents[1] / "unit"
TOLERANCE = 1e-9


def main() -> int:
    """Run every oracle; return the number of fixtures that differ from the kept ones."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the fixtures anew instead of checking them")
    arguments = parser.parse_args()
    wrong = 0
    for path, packages, make in (
        (UNIT / "policies/fixtures/mabwiser.json", ("mabwiser", "numpy"), mabwiser_posteriors.fixture),
        (UNIT / "evaluation/fixtures/obp.json", ("obp", "numpy", "scikit-learn"), obp_estimators.fixture),
    ):
        body = {"source": _source(packages), **make()}
        if arguments.write:
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


def _differences(path: str, kept: Any, now: Any) -> Any:
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
        if not np.isclose(kept, now, rtol=TOLERANCE, atol=TOLERANCE):
            yield f"{path}: kept {kept!r}, now {now!r}"
    elif kept != now:
        yield f"{path}: kept {kept!r}, now {now!r}"


if __name__ == "__main__":
    sys.exit(main())
