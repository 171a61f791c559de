"""Write the public data sets of `make bench-policies` as arrays; runs in the peers' environment, not in the project's.

`python -m tests.performance.policies_data FILE.npz`. Two arrays per data set: `<name>_x`, shape (n, d), as its
package gives it (digits: scaled from 0..16 to [0, 1]), and `<name>_y`, shape (n,), the class as 0, 1, ...
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from river import datasets as river_datasets
from sklearn import datasets as sklearn_datasets

DIGITS_SCALE = 16.0


def main() -> None:
    """Write what the module's docstring says."""
    (target,) = sys.argv[1:]
    arrays: dict[str, Any] = {}
    for name, load in {
        "digits": sklearn_datasets.load_digits,
        "wine": sklearn_datasets.load_wine,
        "breast_cancer": sklearn_datasets.load_breast_cancer,
    }.items():
        x, y = load(return_X_y=True)
        arrays[f"{name}_x"] = x / DIGITS_SCALE if name == "digits" else x
        arrays[f"{name}_y"] = y
    for name, data in {
        "image_segments": river_datasets.ImageSegments(),
        "phishing": river_datasets.Phishing(),
    }.items():
        rows = list(data)
        features = sorted(rows[0][0])
        arrays[f"{name}_x"] = np.array([[float(x[feature]) for feature in features] for x, _ in rows])
        arrays[f"{name}_y"] = np.unique([str(y) for _, y in rows], return_inverse=True)[1]
    unfinished = Path(target).with_suffix(".unfinished.npz")
    np.savez_compressed(unfinished, **arrays)
    unfinished.rename(target)


if __name__ == "__main__":
    main()
