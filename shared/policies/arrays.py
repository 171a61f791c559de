"""Arrays inside msgspec records: how they are written, and how they are read again."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from shared.policies.algorithm import FloatArray


def written(value: object) -> tuple[tuple[int, ...], bytes]:
    """Return (shape, float64 in little-endian order) of an array; for the `enc_hook` of an encoder."""
    if isinstance(value, np.ndarray):
        return value.shape, np.ascontiguousarray(value, dtype="<f8").tobytes()
    raise NotImplementedError(type(value).__name__)


def read(kind: Any, value: Any) -> FloatArray:  # noqa: ANN401 - what msgspec hands over
    """Return the array, not to be written to; for the `dec_hook` of a decoder."""
    del kind
    shape, content = value
    array: FloatArray = np.frombuffer(content, dtype="<f8").reshape(shape)
    return array


encode = msgspec.msgpack.Encoder(enc_hook=written).encode
"""Encodes any record that holds arrays."""
