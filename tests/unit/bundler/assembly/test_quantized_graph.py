from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
import pytest

from bench import TINY_BERT, TINY_MPNET, TINY_XLMR, Shape
from bench.synthetic import write_model
from bundler.assembly.model_graph import quantized_graph
from sidecar.engines.packed.architecture import WEIGHTS, read
from sidecar.engines.packed.weights import open_weights
from tests.support.twins import WORDS, uneven

if TYPE_CHECKING:
    from pathlib import Path

SHAPES = pytest.mark.parametrize(
    "shape", [TINY_BERT, TINY_XLMR, TINY_MPNET], ids=lambda shape: shape.family
)


def made(folder: Path, shape: Shape, *, is_wide: bool = False) -> bytes:
    snapshot = write_model(folder, shape, WORDS)
    architecture, weights = read(snapshot), open_weights(snapshot / WEIGHTS)
    return quantized_graph(architecture, weights, uneven(architecture), is_wide=is_wide)


def kinds_of(data: bytes) -> list[str]:
    return [node.op_type for node in onnx.load_model_from_string(data).graph.node]


@SHAPES
def test_the_same_model_gives_the_same_small_graph(tmp_path: Path, shape: Shape) -> None:
    first, second = (made(tmp_path / name, shape) for name in ("one", "two"))
    assert first == second
    assert len(first) < 200_000


@SHAPES
def test_linear_layers_multiply_bytes_and_few_columns_of_floats(
    tmp_path: Path, shape: Shape
) -> None:
    kinds = kinds_of(made(tmp_path / "twin", shape))
    assert kinds.count("MatMulIntegerToFloat") == 6 * shape.layers
    assert kinds.count("Gemm") == shape.layers


@SHAPES
def test_the_wide_graph_makes_every_sum_of_floats(tmp_path: Path, shape: Shape) -> None:
    kinds = kinds_of(made(tmp_path / "twin", shape, is_wide=True))
    assert "MatMulIntegerToFloat" not in kinds
    assert kinds.count("MatMul") == 6 * shape.layers


def test_tokens_that_three_layers_read_are_made_bytes_once(tmp_path: Path) -> None:
    kinds = kinds_of(made(tmp_path / "twin", TINY_BERT))
    assert kinds.count("QuantizeLinear") == 4 * TINY_BERT.layers


def test_what_the_service_fills_in_lies_inside_of_the_weights_file(tmp_path: Path) -> None:
    data = made(tmp_path / "twin", TINY_BERT)
    size = (tmp_path / "twin" / WEIGHTS).stat().st_size
    for constant in onnx.load_model_from_string(data).graph.initializer:
        place = {entry.key: entry.value for entry in constant.external_data}
        if place:
            assert place["location"] == WEIGHTS
            assert int(place["offset"]) + int(place["length"]) <= size
