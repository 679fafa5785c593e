from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from safetensors.numpy import load_file, save_file

from bench.synthetic import write_model
from bundler.assembly.model_graph import CONTRIB, IR_VERSION, OPSET, graph
from sidecar.engines.packed.architecture import WEIGHTS, read
from sidecar.engines.packed.weights import names_read, open_weights
from tests.support.twins import SHAPES, WORDS

if TYPE_CHECKING:
    from pathlib import Path

TABLE = "embeddings.word_embeddings.weight"


@pytest.fixture(params=SHAPES)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return write_model(tmp_path / request.param, SHAPES[request.param], WORDS)


def made(folder: Path) -> bytes:
    return graph(read(folder), open_weights(folder / WEIGHTS))


def external(constant: onnx.TensorProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in constant.external_data}


def test_the_same_weights_give_the_same_bytes_wherever_they_lie(
    folder: Path, tmp_path: Path
) -> None:
    first = made(folder)
    moved = tmp_path / "another place"
    folder.rename(moved)
    assert made(moved) == first
    assert str(tmp_path).encode() not in first


def test_other_weights_of_the_same_shape_give_the_same_graph(folder: Path) -> None:
    first = made(folder)
    before = (folder / WEIGHTS).read_bytes()
    tensors = load_file(folder / WEIGHTS)
    changed = {name: array + np.float32(1) for name, array in tensors.items()}
    save_file(changed, folder / WEIGHTS, metadata={"format": "pt"})
    assert (folder / WEIGHTS).read_bytes() != before
    assert made(folder) == first


def test_every_weight_is_a_place_in_the_file_and_none_is_in_the_graph(folder: Path) -> None:
    held = onnx.load_from_string(made(folder))
    known = open_weights(folder / WEIGHTS)
    outside = [c for c in held.graph.initializer if c.data_location == onnx.TensorProto.EXTERNAL]
    inside = [c for c in held.graph.initializer if c not in outside]
    assert {c.name for c in outside} == names_read(read(folder))
    for constant in outside:
        tensor = known.tensors[constant.name]
        place = {"location": WEIGHTS, "offset": str(tensor.offset), "length": str(tensor.size)}
        assert external(constant) == place
        assert tuple(constant.dims) == tensor.shape
        assert not constant.raw_data
    assert sum(onnx.numpy_helper.to_array(c).nbytes for c in inside) < 1000


def test_weights_in_half_are_widened_but_the_table_of_words_is_not(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    save_file({name: array.astype(np.float16) for name, array in tensors.items()}, folder / WEIGHTS)
    held = onnx.load_from_string(made(folder))
    widened = {node.input[0] for node in held.graph.node if node.op_type == "Cast"}
    assert TABLE not in widened
    assert names_read(read(folder)) - {TABLE} <= widened


def test_what_runs_it_is_pinned_and_no_target_is_named(folder: Path) -> None:
    held = onnx.load_from_string(made(folder))
    assert held.ir_version == IR_VERSION
    assert {entry.domain: entry.version for entry in held.opset_import} == {"": OPSET, CONTRIB: 1}
    assert (held.producer_name, held.producer_version, held.doc_string) == ("sidecar", "", "")
    assert not held.metadata_props
    assert [value.name for value in held.graph.output] == ["vectors"]


def test_the_architecture_decides_the_graph(folder: Path) -> None:
    architecture, tensors = read(folder), open_weights(folder / WEIGHTS)
    shallow = dataclasses.replace(architecture, layers=1)
    assert len(graph(shallow, tensors)) < len(graph(architecture, tensors))
