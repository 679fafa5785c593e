"""A quantised graph whose sums of byte products are exact on every processor.

Instructions that multiply bytes sum them in 32 bits, and x86 processors without them clip. Here the
same sums are taken in float64: a product of bytes is a whole number below 2**15, and a sum of any
model's width of them far below 2**53, so nothing is rounded, in whatever order it is added. The
vectors are those of the byte instructions but for the last bits of what float32 does between the
layers. Slow, and never shipped.
"""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper

from bundler.models.graph import CONTRIB

PRODUCT = "MatMulIntegerToFloat"


def widened(graph: bytes) -> bytes:
    """Return `graph`, made by `quantized_graph`, with its byte products as sums in float64."""
    model = onnx.load_model_from_string(graph)
    nodes: list[onnx.NodeProto] = []
    centred: dict[tuple[str, str], str] = {}
    for node in model.graph.node:
        if (node.op_type, node.domain) != (PRODUCT, CONTRIB):
            nodes.append(node)
            continue
        tokens, weight, of_tokens, of_outputs, zero = node.input
        (output,) = node.output
        if (tokens, zero) not in centred:
            nodes += [
                _wide(tokens, f"{tokens}.wide"),
                _wide(zero, f"{tokens}.zero"),
                helper.make_node("Sub", [f"{tokens}.wide", f"{tokens}.zero"], [f"{tokens}.even"]),
            ]
            centred[tokens, zero] = f"{tokens}.even"
        # Rounded once to float32, then scaled, as ONNX Runtime does with sums of 32 bits.
        nodes += [
            _wide(weight, f"{output}.weight"),
            helper.make_node(
                "MatMul", [centred[tokens, zero], f"{output}.weight"], [f"{output}.sums"]
            ),
            helper.make_node("Cast", [f"{output}.sums"], [f"{output}.float"], to=TensorProto.FLOAT),
            helper.make_node("Mul", [of_tokens, of_outputs], [f"{output}.factors"]),
            helper.make_node("Mul", [f"{output}.float", f"{output}.factors"], [output]),
        ]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _wide(name: str, wide: str) -> onnx.NodeProto:
    return helper.make_node("Cast", [name], [wide], to=TensorProto.DOUBLE)
