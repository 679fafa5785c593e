"""Asks ONNX Runtime whether it clips sums of products of bytes on this processor.

x86 processors before VNNI add up two products in sixteen bits. Where neither processor nor system
tells which instructions there are, sums do: the largest bytes give others with and without them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from sidecar.engines.packed.runtime import onnxruntime

_LENGTH = 4
_COLUMNS = 16
_UINT8, _INT8, _INT32 = 2, 3, 6  # of TensorProto.DataType
_IR_VERSION, _OPSET = 9, 20


def clips() -> bool:
    """Return whether the sum of the largest products is too small."""
    make: Callable[..., Any] = onnxruntime.InferenceSession
    session = make(product_graph(), providers=["CPUExecutionProvider"])
    left = np.full((1, _LENGTH), 255, dtype=np.uint8)
    right = np.full((_LENGTH, _COLUMNS), 127, dtype=np.int8)
    found = session.run(["sums"], {"left": left, "right": right})[0]
    return not np.array_equal(found, left.astype(np.int32) @ right.astype(np.int32))


def product_graph() -> bytes:
    """Return an ONNX model of one MatMulInteger: onnx itself is no part of a bundle."""
    node = _text(1, "left") + _text(1, "right") + _text(2, "sums") + _text(4, "MatMulInteger")
    graph = _bytes(1, node) + _text(2, "probe")
    graph += _bytes(11, _tensor("left", _UINT8, 1, _LENGTH))
    graph += _bytes(11, _tensor("right", _INT8, _LENGTH, _COLUMNS))
    graph += _bytes(12, _tensor("sums", _INT32, 1, _COLUMNS))
    return _number(1, _IR_VERSION) + _bytes(7, graph) + _bytes(8, _number(2, _OPSET))


def _tensor(name: str, kind: int, *shape: int) -> bytes:
    sizes = b"".join(_bytes(1, _number(1, size)) for size in shape)
    return _text(1, name) + _bytes(2, _bytes(1, _number(1, kind) + _bytes(2, sizes)))


def _number(field: int, value: int) -> bytes:
    return bytes((field << 3, value))


def _text(field: int, value: str) -> bytes:
    return _bytes(field, value.encode())


def _bytes(field: int, value: bytes) -> bytes:
    """Return a field of protobuf; lengths of two groups of seven bits are enough here."""
    length = len(value)
    groups = (length,) if length < 1 << 7 else (length & 0x7F | 0x80, length >> 7)
    return bytes((field << 3 | 2, *groups)) + value
