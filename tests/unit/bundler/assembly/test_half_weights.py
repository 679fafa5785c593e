from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from safetensors.numpy import load_file

from bench import TINY_BERT, TINY_MPNET, TINY_XLMR, Shape
from bench.synthetic import write_model
from bundler.assembly.model_graph import ALIGNMENT, write_half
from sidecar.engines.packed.architecture import WEIGHTS, read
from sidecar.engines.packed.weights import names_read, open_weights
from tests.support.twins import WORDS

if TYPE_CHECKING:
    from pathlib import Path

SHAPES = pytest.mark.parametrize(
    "shape", [TINY_BERT, TINY_XLMR, TINY_MPNET], ids=lambda shape: shape.family
)


@SHAPES
def test_tables_and_matrices_are_halved_and_vectors_stay(tmp_path: Path, shape: Shape) -> None:
    folder = write_model(tmp_path / "twin", shape, WORDS)
    architecture, weights = read(folder), open_weights(folder / WEIGHTS)
    path = tmp_path / "half.safetensors"
    write_half(weights, architecture, path)
    found = load_file(path)
    assert found.keys() == names_read(architecture)
    for name, tensor in found.items():
        whole = weights.array(name)
        assert tensor.dtype == (np.float16 if whole.ndim > 1 else np.float32)
        assert np.array_equal(tensor, whole.astype(tensor.dtype))


def test_the_data_begins_at_a_round_place_and_is_the_same_every_time(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "twin", TINY_BERT, WORDS)
    architecture, weights = read(folder), open_weights(folder / WEIGHTS)
    paths = [tmp_path / name for name in ("one", "two")]
    for path in paths:
        write_half(weights, architecture, path)
    first, second = (path.read_bytes() for path in paths)
    assert first == second
    assert (8 + int.from_bytes(first[:8], "little")) % ALIGNMENT == 0
