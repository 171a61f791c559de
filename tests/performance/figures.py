"""The arithmetic of the bench: percentiles, ratios and their spread. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

QUANTILES = (50, 95, 99)


def percentiles_ms(latencies_ns: Sequence[int]) -> dict[str, float | None]:
    """Return `{"p50", "p95", "p99"}` in milliseconds; each None where nothing was measured.

    >>> percentiles_ms([1_000_000, 2_000_000, 3_000_000])["p50"]
    2.0
    """
    if not len(latencies_ns):
        return {f"p{quantile}": None for quantile in QUANTILES}
    values = np.percentile(np.asarray(latencies_ns, dtype=np.float64) / 1e6, QUANTILES)
    return {f"p{quantile}": round(float(value), 3) for quantile, value in zip(QUANTILES, values, strict=True)}


def percentile(values: Sequence[float], quantile: float) -> float | None:
    """Return the `quantile` (0 to 100) of `values`, in their unit; None of nothing."""
    return float(np.percentile(np.asarray(values), quantile)) if values else None


def median_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the median of the ratios round by round: noise that hits a whole round cancels.

    >>> median_ratio([10.0, 5.0, 12.0], [2.0, 1.0, 3.0])
    5.0
    """
    return median(own / other for own, other in zip(ours, theirs, strict=True))


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Return the least and the greatest."""
    return min(values), max(values)


def ratio_of_means(
    ours: npt.NDArray[np.float64], theirs: npt.NDArray[np.float64], *, paired: bool
) -> tuple[float, float]:
    """Return `mean(ours) / mean(theirs)` and its standard error (delta method).

    Paired: the i-th of each share their luck, so their covariance counts; both shape (n,).

    >>> ratio_of_means(np.array([2.0, 4.0]), np.array([1.0, 2.0]), paired=True)
    (2.0, 0.0)
    """
    ratio = float(ours.mean() / theirs.mean())
    if paired:
        variance = float(np.var(ours - ratio * theirs, ddof=1)) / len(ours)
    else:
        variance = float(np.var(ours, ddof=1)) / len(ours) + ratio**2 * float(np.var(theirs, ddof=1)) / len(theirs)
    return ratio, math.sqrt(variance) / float(theirs.mean())


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return `rows` as text, a column for each key of the first, numbers to the right.

    >>> print(table([{"server": "a", "per s": 1234.5}]))
    server  per s
    a       1,234
    """
    names = list(rows[0])
    cells = [names, *([_cell(row.get(name)) for name in names] for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(names))]
    lines = [
        "  ".join(
            [
                line[0].ljust(widths[0]),
                *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)),
            ]
        )
        for line in cells
    ]
    return "\n".join(line.rstrip() for line in lines)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
