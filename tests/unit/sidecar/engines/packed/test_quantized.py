from __future__ import annotations

import json
import re
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from bench.synthetic import write_model
from bundler.assembly.model_graph import write_half
from sidecar.engines.packed import engine as packed
from sidecar.engines.packed.architecture import (
    CALIBRATION,
    HALF_WEIGHTS,
    WEIGHTS,
    UnpackableError,
    read,
)
from sidecar.engines.packed.quantized import (
    BYTES,
    EXACT,
    FACTORS,
    calibration_of,
    constants,
    layers,
    matrix,
    order,
    plain,
    quantize,
    read_calibration,
    readers,
)
from sidecar.engines.packed.weights import open_weights
from tests.support.clients import cosines
from tests.support.twins import SHAPES, WORDS, edit, lots, without_clipping, write_graph

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sidecar.engines.packed.engine import PackedEngine
    from tests.support.twins import Twin

MIX = [48, 1, 2, 3, 30, 17, 9, 9]
LEAST = 0.995
ROUNDING = 2e-6


def test_bytes_times_their_factor_are_the_weights_to_half_a_step() -> None:
    weight = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    whole, factors = quantize(weight)
    assert whole.dtype == np.int8
    assert (whole.shape, factors.shape) == ((7, 5), (5,))
    assert np.abs(whole.T * factors[:, None] - weight).max() <= factors.max() / 2 * 1.001
    assert (np.abs(whole.astype(np.int16)).max(axis=0) == 127).all()


def test_each_output_has_a_factor_of_its_own() -> None:
    _, factors = quantize(np.array([[1.0, -2.0], [100.0, 0.0]], dtype=np.float32))
    assert factors == pytest.approx([2 / 127, 100 / 127])


def test_an_output_of_noughts_stays_nought() -> None:
    whole, factors = quantize(np.zeros((2, 3), dtype=np.float16))
    assert not whole.any()
    assert np.isfinite(factors).all()


def test_every_linear_layer_is_filled_in_and_nothing_else(twin: Twin) -> None:
    stored = open_weights(twin.folder / WEIGHTS)
    held = dict(constants(stored, twin.architecture, plain(twin.architecture)))
    names = layers(twin.architecture)
    assert len(set(names)) == 6 * twin.architecture.layers
    assert held.keys() == {f"{name}{end}" for name in names for end in (BYTES, FACTORS)}
    assert {held[f"{name}{BYTES}"].shape for name in names} == {
        tuple(reversed(stored.tensors[name].shape)) for name in names
    }


def test_bytes_are_of_the_weights_as_what_they_read_is_stored(twin: Twin) -> None:
    stored = open_weights(twin.folder / WEIGHTS)
    held = read_calibration(twin.folder, twin.architecture)
    for norm, weights in readers(twin.architecture).items():
        scales = 2.0 ** held.norms[norm].exponents
        for name in weights:
            whole = np.asarray(stored.array(name)) * scales
            if "intermediate" in name:
                whole = whole[order(stored, name)]
            assert np.array_equal(matrix(stored, name, held), whole)


def test_the_largest_columns_behind_gelu_have_no_bytes(twin: Twin) -> None:
    stored = open_weights(twin.folder / WEIGHTS)
    name = "encoder.layer.0.output.dense.weight"
    largest = np.abs(stored.array(name)).max(axis=0)
    found = order(stored, name)
    assert sorted(found) == list(range(len(largest)))
    assert (np.diff(largest[found]) <= 0).all()
    bytes_of = matrix(stored, name, plain(twin.architecture))
    assert not bytes_of[:, :EXACT].any()
    assert np.array_equal(bytes_of[:, EXACT:], stored.array(name)[:, found[EXACT:]])


@pytest.fixture(scope="module", params=SHAPES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a twin of each family whose sums of bytes no processor clips, with its graphs."""
    made = tmp_path_factory.mktemp("even") / request.param
    return write_graph(without_clipping(write_model(made, SHAPES[request.param], WORDS)))


def both(folder: Path, *, multiplies_bytes: bool = True) -> tuple[PackedEngine, PackedEngine]:
    """Return the engine of int8, and the exact one."""
    ours = packed.load(
        folder,
        device="cpu",
        threads=1,
        precision="int8",
        multiplies_bytes=multiplies_bytes,
    )
    return ours, packed.load(folder, device="cpu", threads=1)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
def test_vectors_are_near_the_exact_ones_and_in_a_space_of_their_own(
    folder: Path, pooling: str, *, normalize: bool
) -> None:
    engine, exact_engine = both(folder)
    held = read_calibration(folder, read(folder))
    assert (engine.precision, engine.space) == ("int8", held.space)
    assert (exact_engine.precision, exact_engine.space) == ("float32", "exact")
    batch = lots(SHAPES[folder.name], MIX)
    ours = engine.encode(batch, pooling=pooling, normalize=normalize)
    exact = exact_engine.encode(batch, pooling=pooling, normalize=normalize)
    assert cosines(ours, exact).min() >= LEAST
    assert not np.allclose(ours, exact, atol=ROUNDING)


def test_processors_without_byte_products_give_the_same_vectors(folder: Path) -> None:
    # Where nothing is clipped, byte products are exact on every processor, and so comparable.
    batch = lots(SHAPES[folder.name], MIX)
    ours, wide = (
        both(folder, multiplies_bytes=given)[0].encode(batch, pooling="mean", normalize=True)
        for given in (True, False)
    )
    assert cosines(ours, wide).min() >= 0.999999


def test_constants_are_read_as_they_were_written(twin: Twin) -> None:
    held = read_calibration(twin.folder, twin.architecture)
    again = calibration_of(json.loads(json.dumps(held.table())), twin.architecture)
    assert again.space == held.space
    for norm, columns in held.norms.items():
        assert np.array_equal(again.norms[norm].exponents, columns.exponents)
        assert np.array_equal(again.norms[norm].shifts, columns.shifts)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda table: table.update(scheme=1), "scheme 1, not 2"),
        (lambda table: table.pop("norms"), "cannot be read"),
        (lambda table: table["norms"].popitem(), "another model's"),
        (lambda table: table["norms"]["embeddings.LayerNorm"].update(shifts="AAA="), "another"),
        (lambda table: table["norms"]["embeddings.LayerNorm"].update(shifts="AAA"), "cannot be"),
        (lambda table: table["norms"]["embeddings.LayerNorm"].update(shifts="AAA8"), "cannot be"),
        (lambda table: table["norms"]["embeddings.LayerNorm"].update(shifts="AAA8AA=="), "another"),
    ],
    ids=range(7),
)
def test_constants_that_are_not_this_models_are_refused(
    bert: Path, damage: Callable[[dict[str, Any]], object], said: str
) -> None:
    edit(bert, CALIBRATION, damage)
    with pytest.raises(UnpackableError, match=said):
        packed.load(bert, device="cpu", threads=1, precision="int8")


def test_a_vector_does_not_depend_on_its_neighbours(folder: Path) -> None:
    engine, _ = both(folder)
    batch = lots(SHAPES[folder.name], MIX)
    together = engine.encode(batch, pooling="mean", normalize=True)
    alone = [engine.encode([ids], pooling="mean", normalize=True)[0] for ids in batch]
    # A value that lies between two bytes may be rounded the other way.
    assert cosines(together, np.stack(alone)).min() >= 0.9999


def test_weights_in_half_serve_as_well(folder: Path, tmp_path: Path) -> None:
    _, exact_engine = both(folder)
    half = shutil.copytree(folder, tmp_path / folder.name)
    write_half(open_weights(half / WEIGHTS), read(half), half / HALF_WEIGHTS)
    (half / WEIGHTS).unlink()
    write_graph(half, HALF_WEIGHTS)
    engine, _ = both(half)
    batch = lots(SHAPES[folder.name], MIX)
    ours = engine.encode(batch, pooling="mean", normalize=True)
    exact = exact_engine.encode(batch, pooling="mean", normalize=True)
    assert cosines(ours, exact).min() >= LEAST


@pytest.mark.parametrize("name", ["packed-int8.onnx", "packed-int8-wide.onnx", "packed-int8.json"])
def test_a_snapshot_without_what_int8_needs_cannot_be_served_so(bert: Path, name: str) -> None:
    (bert / name).unlink()
    with pytest.raises(UnpackableError, match=re.escape(name)):
        packed.load(bert, device="cpu", threads=1, precision="int8")
    assert packed.load(bert, device="cpu", threads=1).precision == "float32"
