"""The references of group-sequential bounds, as `tests.oracles.experiments`, in an environment of their own: `python -m tests.oracles.bounds [--write]`."""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path

from tests.oracles import spotify_bounds
from tests.oracles.kept import Fixture, check

FIXTURES = Path(__file__).parents[1] / "unit/experiments/statistics/fixtures"
PACKAGES = ("spotify-confidence", "gsdesign", "numpy", "scipy")


def main() -> int:
    """Run the oracle; return 1 where it differs from the kept one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the fixture anew instead of checking it")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", FutureWarning)  # pandas tells spotify-confidence about its future
    return check((Fixture(FIXTURES / "bounds.json", PACKAGES, spotify_bounds.fixture),), write=arguments.write)


if __name__ == "__main__":
    sys.exit(main())
