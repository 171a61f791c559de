"""The references of the experiments' statistics, as `tests.oracles.write` for those of the policies: `python -m tests.oracles.experiments [--write]`.

One module a topic; each has `fixture()`, which returns inputs and what the reference makes of them, and a line below.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.oracles import (
    gbstats_bayesian,
    gbstats_frequentist,
    ssrm_sample_ratio,
    statsmodels_comparisons,
    statsmodels_corrections,
)
from tests.oracles.kept import Fixture, check

FIXTURES = Path(__file__).parents[1] / "unit/experiments/statistics/fixtures"


def main() -> int:
    """Run every oracle; return the number of fixtures that differ from the kept ones."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the fixtures anew instead of checking them")
    return check(
        (
            Fixture(FIXTURES / "gbstats_frequentist.json", ("gbstats", "scipy"), gbstats_frequentist.fixture),
            Fixture(FIXTURES / "statsmodels.json", ("statsmodels", "scipy"), statsmodels_comparisons.fixture),
            Fixture(FIXTURES / "gbstats_bayesian.json", ("gbstats", "scipy"), gbstats_bayesian.fixture),
            Fixture(FIXTURES / "ssrm_sample_ratio.json", ("ssrm-test", "scipy"), ssrm_sample_ratio.fixture),
            Fixture(FIXTURES / "statsmodels_corrections.json", ("statsmodels",), statsmodels_corrections.fixture),
        ),
        write=parser.parse_args().write,
    )


if __name__ == "__main__":
    sys.exit(main())
