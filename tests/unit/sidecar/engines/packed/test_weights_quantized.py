from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest

from bench.synthetic import write_model
from bundler.assembly.model_graph import write_half
from sidecar.engines.packed import engine as packed
from sidecar.engines.packed.architecture import HALF_WEIGHTS, WEIGHTS, UnpackableError, read
from sidecar.engines.packed.weights import BYTES, FACTORS, constants, open_weights, quantize
from tests.support.clients import cosines
from tests.support.twins import SHAPES, WORDS, lots, without_clipping, write_graph

if TYPE_CHECKING:
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
    held = dict(constants(open_weights(twin.folder / WEIGHTS), twin.architecture))
    layers = {name.removesuffix(BYTES) for name in held if name.endswith(BYTES)}
    assert {f"{name}{FACTORS}" for name in layers} == held.keys() - {f"{n}{BYTES}" for n in layers}
    assert len(layers) == 6 * twin.architecture.layers
    assert all(name.startswith("encoder.layer.") for name in layers)


@pytest.fixture(scope="module", params=SHAPES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a twin of each family whose sums of bytes no processor clips, with its graphs."""
    made = tmp_path_factory.mktemp("even") / request.param
    return write_graph(without_clipping(write_model(made, SHAPES[request.param], WORDS)))


def both(folder: Path) -> tuple[PackedEngine, PackedEngine]:
    """Return the engine that multiplies bytes, and the exact one."""
    ours = packed.load(folder, device="cpu", threads=1, precision="int8")
    return ours, packed.load(folder, device="cpu", threads=1)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
def test_vectors_are_near_the_exact_ones_and_in_a_space_of_their_own(
    folder: Path, pooling: str, *, normalize: bool
) -> None:
    engine, exact_engine = both(folder)
    assert (engine.precision, engine.space) == ("int8", "int8")
    assert (exact_engine.precision, exact_engine.space) == ("float32", "exact")
    batch = lots(SHAPES[folder.name], MIX)
    ours = engine.encode(batch, pooling=pooling, normalize=normalize)
    exact = exact_engine.encode(batch, pooling=pooling, normalize=normalize)
    assert cosines(ours, exact).min() >= LEAST
    assert not np.allclose(ours, exact, atol=ROUNDING)


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


def test_a_snapshot_without_the_graph_cannot_be_served_so(bert: Path) -> None:
    (bert / "packed-int8.onnx").unlink()
    with pytest.raises(UnpackableError, match=r"packed-int8\.onnx"):
        packed.load(bert, device="cpu", threads=1, precision="int8")
    assert packed.load(bert, device="cpu", threads=1).precision == "float32"
