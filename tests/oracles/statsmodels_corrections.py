"""Adjusted p-values of statsmodels."""

from __future__ import annotations

from typing import Any

import numpy as np
from statsmodels.stats.multitest import multipletests


def fixture() -> dict[str, Any]:
    """Return inputs and what statsmodels makes of them."""
    random = np.random.RandomState(3)
    rows: list[list[float]] = [
        [0.01, 0.04, 0.03],
        [0.5],
        [0.02, 0.02, 1.0, 0.0],
        *((random.uniform(size=n) ** 3).tolist() for n in (4, 9, 20)),
    ]
    return {
        "cases": [
            {
                "p_values": row,
                "holm": multipletests(row, method="holm")[1].tolist(),
                "benjamini_hochberg": multipletests(row, method="fdr_bh")[1].tolist(),
            }
            for row in rows
        ]
    }
