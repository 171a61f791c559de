"""Checks that the kept fixtures are what the references compute here, or writes them anew: `python -m tests.oracles.write [--write]`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.oracles import mabwiser_posteriors, obp_estimators
from tests.oracles.kept import Fixture, check

UNIT = Path(__file__).parents[1] / "unit"


def main() -> int:
    """Run every oracle; return the number of fixtures that differ from the kept ones."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the fixtures anew instead of checking them")
    return check(
        (
            Fixture(UNIT / "policies/fixtures/mabwiser.json", ("mabwiser", "numpy"), mabwiser_posteriors.fixture),
            Fixture(UNIT / "evaluation/fixtures/obp.json", ("obp", "numpy", "scikit-learn"), obp_estimators.fixture),
        ),
        write=parser.parse_args().write,
    )


if __name__ == "__main__":
    sys.exit(main())
