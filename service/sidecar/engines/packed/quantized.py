"""The weights of linear layers as whole numbers of eight bits, made while a model is loaded.

Made from the file that the exact graph reads, so that nothing is shipped twice. Each output has a
factor of its own.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from sidecar.engines.packed.architecture import Architecture
from sidecar.engines.packed.weights import Weights, names_read

BYTES = ".bytes"
FACTORS = ".factors"
Constant = tuple[str, NDArray[np.generic]]
MOST = 127
# A row of noughts has no largest value to divide by.
SMALLEST = 1e-30
_LAYER = "encoder.layer."


def quantize(weight: NDArray[np.generic]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return `weight` (outputs, inputs) as bytes (inputs, outputs), and each output's factor."""
    wide = np.asarray(weight, dtype=np.float32)
    factors = np.maximum(np.abs(wide).max(axis=1), np.float32(SMALLEST)) / np.float32(MOST)
    whole = np.rint(wide / factors[:, None]).astype(np.int8)
    return np.ascontiguousarray(whole.T), factors


def constants(weights: Weights, architecture: Architecture) -> Iterator[Constant]:
    """Yield the name and value of every constant that the quantised graph leaves open."""
    for name in sorted(names_read(architecture)):
        if name.startswith(_LAYER) and len(weights.tensors[name].shape) > 1:
            whole, factors = quantize(weights.array(name))
            yield f"{name}{BYTES}", whole
            yield f"{name}{FACTORS}", factors
