"""A fake server, and a small dataset of the Open Bandit Dataset's shape."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from functions.console.obd_log import BEHAVIOURS, CAMPAIGNS, USER_FEATURES
from tests.unit.console.fake_functions import FakeFunctions

ITEMS = 4
ROWS = 200


@pytest.fixture
def functions() -> Iterator[FakeFunctions]:
    """Serve a fake that keeps the contract."""
    with FakeFunctions() as serving:
        yield serving


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a folder of 200 rows per log: four items, of which item 3 is clicked far more often."""
    folder = tmp_path_factory.mktemp("data") / "obd"
    random = np.random.default_rng(7)
    start = datetime(2019, 11, 24, tzinfo=UTC)
    for behaviour in BEHAVIOURS:
        shares = np.full(ITEMS, 1 / ITEMS) if behaviour == "random" else np.array([0.1, 0.2, 0.2, 0.5])
        for campaign in CAMPAIGNS:
            path = folder / behaviour / campaign / f"{campaign}.csv"
            path.parent.mkdir(parents=True)
            with path.open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                header = ["timestamp", "item_id", "position", "click", "propensity_score", *USER_FEATURES]
                writer.writerow(["", *header, "user-item_affinity_0"])
                for row in range(ROWS):
                    item = int(random.choice(ITEMS, p=shares))
                    click = int(random.random() < (0.5 if item == ITEMS - 1 else 0.05))
                    time = (start + timedelta(minutes=47 * row)).isoformat(sep=" ", timespec="microseconds")
                    features = [f"{feature}-{random.integers(2)}" for feature in USER_FEATURES]
                    writer.writerow([row, time, item, 1 + row % 3, click, shares[item], *features, 0.0])
    return folder
