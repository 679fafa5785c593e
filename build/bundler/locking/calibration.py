"""The constants of a model's int8, found by what its norms give for the golden texts.

The scheme is SmoothQuant's (Xiao et al., 2023), with a shift: a column's range is divided between
the tokens and the weights that they meet, most of it to the weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx

from bundler.assembly.model_graph import GraphOperations, rows, serialised
from sidecar.engines.packed import architecture, quantized, tokens
from sidecar.engines.packed.layout import arrange
from sidecar.engines.packed.onnx_executor import feed, onnxruntime
from sidecar.engines.packed.weights import open_weights, require

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from sidecar.engines.packed.architecture import Architecture
    from sidecar.engines.packed.quantized import Calibration, Floats
    from sidecar.engines.packed.weights import Weights

# How much of a column's range goes to the weights. The square root loses more.
SHARE = 0.7
SMALLEST = 1e-6
GRAPH = "calibration.onnx"


def calibrate(snapshot: Path, texts: Sequence[str]) -> Calibration | None:
    """Return the constants of int8 of the model in `snapshot`; None if it cannot have it."""
    try:
        shape = architecture.read(snapshot)
        stored = open_weights(snapshot / architecture.WEIGHTS)
        require(stored, shape)
        read = tokens.load(snapshot, max_tokens=shape.max_tokens)
    except architecture.UnpackableError:
        return None
    ranges = norm_ranges(snapshot, shape, stored, [found.ids for found in read.tokenize(texts)])
    readers = quantized.readers(shape)
    return quantized.Calibration(
        norms={
            norm: columns(*ranges[norm], [stored.array(name) for name in weights])
            for norm, weights in readers.items()
        }
    )


def columns(lowest: Floats, highest: Floats, readers: Sequence[np.ndarray]) -> quantized.Columns:
    """Return how columns between `lowest` and `highest`, which `readers` multiply, are stored."""
    largest = np.max([np.abs(weight.astype(np.float32)).max(axis=0) for weight in readers], axis=0)
    half = np.maximum((highest - lowest) / 2, SMALLEST)
    scales = half**SHARE / np.maximum(largest, SMALLEST) ** (1 - SHARE)
    return quantized.Columns(
        exponents=np.rint(np.log2(scales)).astype(np.int8),
        shifts=((lowest + highest) / 2).astype(np.float16),
    )


def norm_ranges(
    snapshot: Path, shape: Architecture, stored: Weights, batch: Sequence[Sequence[int]]
) -> Mapping[str, tuple[Floats, Floats]]:
    """Return the lowest and the highest value of each column that each norm gives for `batch`.

    `snapshot` holds the weights `stored`, and a graph beside them for as long as this takes.
    """
    ops = _Watched(shape, stored)
    model = onnx.load_model_from_string(serialised(ops, shape))
    model.graph.output.extend(rows(name) for name in ops.given.values())
    place = snapshot / GRAPH
    place.write_bytes(model.SerializeToString())
    try:
        session = onnxruntime.InferenceSession(str(place), providers=["CPUExecutionProvider"])
    finally:
        place.unlink()
    found: dict[str, tuple[Floats, Floats]] = {}
    for ids in batch:
        layout = arrange([ids], first_position=shape.first_position)
        inputs = feed(layout, heads=shape.heads, pooling="mean", normalize=True)
        given = session.run(list(ops.given.values()), inputs)
        for name, values in zip(ops.given, given, strict=True):
            low, high = values.min(axis=0), values.max(axis=0)
            if name in found:
                low, high = np.minimum(low, found[name][0]), np.maximum(high, found[name][1])
            found[name] = low, high
    return found


class _Watched(GraphOperations):
    """Notes by name what each norm but the last gives: that is the graph's result."""

    def __init__(self, architecture: Architecture, weights: Weights) -> None:
        super().__init__(architecture, weights)
        self.given: dict[str, str] = {}

    def norm(self, x: str, name: str) -> str:
        made = super().norm(x, name)
        if name in quantized.readers(self._architecture):
            self.given[name] = made
        return made
