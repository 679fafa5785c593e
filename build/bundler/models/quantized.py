"""The packed engine's graph with its linear layers in whole numbers of eight bits.

Weights have a factor per output, tokens a factor each, found while the graph runs; so a text's
vector does not depend on the texts beside it, as it would with one factor for the whole batch. The
service makes the bytes from the weights when it loads them: where they belong the graph names a
place in the weights' file, as it must name one. Everything between linear layers is in float32.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from bundler.models.graph import CONTRIB, GraphOperations, serialised
from sidecar.engines.packed.quantized import BYTES, FACTORS, MOST, SMALLEST

if TYPE_CHECKING:
    from sidecar.engines.packed.architecture import Architecture
    from sidecar.engines.packed.weights import Weights

# Tokens are unsigned, for the instructions multiply unsigned by signed numbers; this is their zero.
ZERO = 128


class QuantizedOperations(GraphOperations):
    """Writes the nodes of a linear layer so that its products are sums of bytes."""

    def __init__(self, architecture: Architecture, weights: Weights) -> None:
        """Start with an empty graph."""
        super().__init__(architecture, weights)
        self._rows: dict[str, tuple[str, str]] = {}
        self._zeros = ""

    def linear(self, x: str, weight: str, bias: str | None = None) -> str:
        """Multiply bytes, then scale every row and column back."""
        outputs, inputs = self._weights.tensors[weight].shape
        whole = self._left_open(weight, BYTES, TensorProto.INT8, inputs, outputs)
        of_output = self._left_open(weight, FACTORS, TensorProto.FLOAT, outputs)
        tokens, of_token = self._tokens(x)
        zero = self._constant("zero", np.array(ZERO, dtype=np.uint8))
        parts = (tokens, whole, self._float("one", 1.0), of_output, zero)
        product = self._node("MatMulIntegerToFloat", *parts, domain=CONTRIB)
        product = self._node("Mul", product, of_token)
        return self._node("Add", product, self._wide_weight(bias)) if bias else product

    def _tokens(self, x: str) -> tuple[str, str]:
        """Return the rows of `x` as bytes, and the factor of each, of shape (T, 1)."""
        if x not in self._rows:
            axis = self._int("axis", 1)
            largest = self._node("ReduceMax", self._node("Abs", x), axis, keepdims=1)
            largest = self._node("Max", largest, self._float("least", SMALLEST))
            factor = self._node("Mul", largest, self._float("step", 1.0 / MOST))
            if not self._zeros:
                zero = numpy_helper.from_array(np.array([ZERO], dtype=np.uint8))
                shape = self._node("Shape", "places")
                self._zeros = self._node("ConstantOfShape", shape, value=zero)
            parts = (x, self._node("Squeeze", factor, axis), self._zeros)
            self._rows[x] = self._node("QuantizeLinear", *parts, axis=0), factor
        return self._rows[x]

    def _left_open(self, weight: str, suffix: str, kind: int, *shape: int) -> str:
        """Return a constant that the service fills in; until then it is any bytes of the file."""
        width = helper.tensor_dtype_to_np_dtype(kind).itemsize
        offset, length = self._weights.tensors[weight].offset, width * math.prod(shape)
        return self._external(f"{weight}{suffix}", kind, shape, offset=offset, length=length)


def quantized_graph(architecture: Architecture, weights: Weights) -> bytes:
    """Return the graph of the forward, serialised; same arguments, same bytes."""
    return serialised(QuantizedOperations(architecture, weights), architecture)
