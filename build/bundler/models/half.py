"""Weights in half: a safetensors file with its tables and matrices in float16, tensor by tensor.

Vectors (biases, norms) stay in float32: they weigh nothing and scale everything. What the packed
engine does not read is left out. The order is that of the names, so the same weights give the same
bytes.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from sidecar.engines.packed.weights import DTYPES, names_read

if TYPE_CHECKING:
    from pathlib import Path

    from sidecar.engines.packed.architecture import Architecture
    from sidecar.engines.packed.weights import Weights

# Where a tensor may begin: vector instructions and mappings like round places.
ALIGNMENT = 64
ROWS = 8192
CODES = {np.dtype(kind): code for code, kind in DTYPES.items()}


def write_half(weights: Weights, architecture: Architecture, path: Path) -> None:
    """Write to `path` what the forward reads of `weights`, a few megabytes at a time."""
    names = sorted(names_read(architecture))
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name in names:
        tensor = weights.array(name)
        dtype = _dtype(tensor)
        size = tensor.size * dtype.itemsize
        header[name] = {
            "dtype": CODES[dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + size],
        }
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 8) % ALIGNMENT)
    with path.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little"))
        stream.write(text)
        for name in names:
            tensor = weights.array(name)
            for start in range(0, len(tensor), ROWS):
                stream.write(tensor[start : start + ROWS].astype(_dtype(tensor)).tobytes())


def _dtype(tensor: np.ndarray) -> np.dtype[np.generic]:
    return np.dtype(np.float16 if tensor.ndim > 1 else np.float32)
