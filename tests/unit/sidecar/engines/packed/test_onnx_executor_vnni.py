from __future__ import annotations

import onnx
from onnx import TensorProto, helper

from sidecar.engines.packed import onnx_executor
from sidecar.process.cpu_features import detect


def test_the_graph_that_asks_is_what_onnx_writes() -> None:
    node = helper.make_node("MatMulInteger", ["left", "right"], ["sums"])
    left = helper.make_tensor_value_info("left", TensorProto.UINT8, [1, 4])
    right = helper.make_tensor_value_info("right", TensorProto.INT8, [4, 16])
    sums = helper.make_tensor_value_info("sums", TensorProto.INT32, [1, 16])
    graph = helper.make_graph([node], "probe", [left, right], [sums])
    opset = onnx.OperatorSetIdProto(version=20)
    model = helper.make_model(graph, ir_version=9, opset_imports=[opset])
    onnx.checker.check_model(model, full_check=True)
    assert model.SerializeToString() == onnx_executor.PRODUCT_GRAPH


def test_sums_are_clipped_where_x86_lacks_the_instructions_alone() -> None:
    found = detect()
    is_x86 = found.level is not None
    assert onnx_executor.clips() is (is_x86 and not found.has_byte_products)
