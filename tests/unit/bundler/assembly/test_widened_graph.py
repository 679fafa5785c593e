from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from bench.synthetic import write_model
from bundler.assembly.model_graph import (
    CONTRIB,
    IR_VERSION,
    OPSET,
    PRODUCT,
    quantized_graph,
    widened,
)
from sidecar.engines.packed import engine as packed
from sidecar.engines.packed.architecture import QUANTIZED_GRAPH, WEIGHTS, read
from sidecar.engines.packed.onnx_executor import onnxruntime
from sidecar.engines.packed.weights import open_weights
from tests.support.twins import SHAPES, WORDS, lots, without_clipping, write_graph

if TYPE_CHECKING:
    from pathlib import Path

MIX = [48, 1, 2, 3, 30, 17, 9, 9]


@pytest.fixture(params=SHAPES)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return a twin whose sums of bytes no processor clips, with its graphs."""
    made = write_model(tmp_path / request.param, SHAPES[request.param], WORDS)
    return write_graph(without_clipping(made))


def test_vectors_are_bit_for_bit_those_of_the_graph_that_ships(folder: Path) -> None:
    # Where nothing is clipped, byte products are exact on every processor, and so comparable.
    batch = lots(SHAPES[folder.name], MIX)
    found = []
    shipped = (folder / QUANTIZED_GRAPH).read_bytes()
    for graph in (shipped, widened(shipped)):
        (folder / QUANTIZED_GRAPH).write_bytes(graph)
        engine = packed.load(folder, device="cpu", threads=1, precision="int8")
        found.append(engine.encode(batch, pooling="mean", normalize=True))
    assert np.array_equal(found[0], found[1])


def test_every_product_is_widened_and_nothing_else_is_touched(folder: Path) -> None:
    shipped = quantized_graph(read(folder), open_weights(folder / WEIGHTS))
    before, after = (
        onnx.load_model_from_string(data).graph for data in (shipped, widened(shipped))
    )
    assert PRODUCT not in {node.op_type for node in after.node}
    assert sum(node.op_type == "MatMul" for node in after.node) == 6 * read(folder).layers
    others = [node for node in before.node if node.op_type != PRODUCT]
    assert [node for node in after.node if node in others] == others
    assert list(after.initializer) == list(before.initializer)
    assert widened(shipped) == widened(shipped)


def test_the_largest_sums_are_exact() -> None:
    length, columns = 3072, 3
    bytes_, float_ = TensorProto.UINT8, TensorProto.FLOAT
    node = helper.make_node(
        PRODUCT, ["tokens", "weight", "one", "factors", "zero"], ["out"], domain=CONTRIB
    )
    graph = helper.make_graph(
        [node],
        "product",
        [
            helper.make_tensor_value_info("tokens", bytes_, [2, length]),
            helper.make_tensor_value_info("weight", TensorProto.INT8, [length, columns]),
            helper.make_tensor_value_info("factors", float_, [columns]),
        ],
        [helper.make_tensor_value_info("out", float_, [2, columns])],
        initializer=[
            helper.make_tensor("one", float_, [], [1.0]),
            helper.make_tensor("zero", bytes_, [], [128]),
        ],
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
    session = onnxruntime.InferenceSession(
        widened(model.SerializeToString()), providers=["CPUExecutionProvider"]
    )
    tokens = np.stack([np.zeros(length), np.full(length, 255)]).astype(np.uint8)
    weight = np.repeat(np.array([[127, -127, 1]], dtype=np.int8), length, axis=0)
    factors = np.array([1.0, 0.1, 3.0], dtype=np.float32)
    feed = {"tokens": tokens, "weight": weight, "factors": factors}
    sums = (tokens.astype(np.int64) - 128) @ weight.astype(np.int64)
    expected = sums.astype(np.float32) * factors
    assert np.array_equal(session.run(["out"], feed)[0], expected)
