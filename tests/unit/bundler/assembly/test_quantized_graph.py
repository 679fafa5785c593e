from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
import pytest

from bench import TINY_BERT, TINY_MPNET, TINY_XLMR, Shape
from bench.synthetic import write_model
from bundler.assembly.model_graph import quantized_graph
from sidecar.engines.packed.architecture import WEIGHTS, read
from sidecar.engines.packed.weights import open_weights
from tests.support.twins import WORDS

if TYPE_CHECKING:
    from pathlib import Path

SHAPES = pytest.mark.parametrize(
    "shape", [TINY_BERT, TINY_XLMR, TINY_MPNET], ids=lambda shape: shape.family
)


def made(folder: Path, shape: Shape) -> bytes:
    snapshot = write_model(folder, shape, WORDS)
    return quantized_graph(read(snapshot), open_weights(snapshot / WEIGHTS))


@SHAPES
def test_the_same_model_gives_the_same_small_graph(tmp_path: Path, shape: Shape) -> None:
    first, second = (made(tmp_path / name, shape) for name in ("one", "two"))
    assert first == second
    assert len(first) < 100_000


@SHAPES
def test_linear_layers_multiply_bytes_and_no_floats(tmp_path: Path, shape: Shape) -> None:
    graph = onnx.load_model_from_string(made(tmp_path / "twin", shape)).graph
    kinds = [node.op_type for node in graph.node]
    assert kinds.count("MatMulIntegerToFloat") == 6 * shape.layers
    assert "Gemm" not in kinds


def test_tokens_that_three_layers_read_are_made_bytes_once(tmp_path: Path) -> None:
    graph = onnx.load_model_from_string(made(tmp_path / "twin", TINY_BERT)).graph
    kinds = [node.op_type for node in graph.node]
    assert kinds.count("QuantizeLinear") == 4 * TINY_BERT.layers


def test_what_the_service_fills_in_lies_inside_of_the_weights_file(tmp_path: Path) -> None:
    data = made(tmp_path / "twin", TINY_BERT)
    size = (tmp_path / "twin" / WEIGHTS).stat().st_size
    for constant in onnx.load_model_from_string(data).graph.initializer:
        place = {entry.key: entry.value for entry in constant.external_data}
        if place:
            assert place["location"] == WEIGHTS
            assert int(place["offset"]) + int(place["length"]) <= size
