from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from sidecar.engines.packed.architecture import HALF_WEIGHTS, WEIGHTS, forward, read
from sidecar.engines.packed.layout import arrange
from sidecar.engines.packed.weights import open_weights
from tests.support.clients import cosines
from tests.support.twins import lots

torch = pytest.importorskip("torch", reason="torch is not installed; `python3 build test` has it")

from sidecar.engines.packed import torch_executor  # noqa: E402 - it imports torch
from sidecar.engines.packed.torch_executor import (  # noqa: E402
    COLUMN_STEP,
    CUDA_GRID_COST,
    FEWEST_ROWS,
    TOKEN_STEP,
    TorchExecutor,
    TorchOperations,
    open_tensors,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from torch import Tensor

    from sidecar.engines import Vectors
    from tests.support.twins import Twin

    Anywhere = tuple[Callable[[str], TorchExecutor], list[TorchOperations]]

pytestmark = pytest.mark.torch
SAME, ROUNDING = 0.99999, 2e-6
MIX = [48, 1, 2, 2, 3, 30, 48, 5, 17, 9, 9, 9, 1, 33]


def stepped(
    twin: Twin, batch: Sequence[Sequence[int]], *, pooling: str, normalize: bool
) -> tuple[Vectors, TorchOperations]:
    """Compute on the CPU with the shapes that MPS gets; the operations tell them."""
    layout = arrange(batch, first_position=twin.architecture.first_position)
    weights = twin.torch()._weights
    with torch.inference_mode():
        ops = TorchOperations(twin.architecture, weights, layout, device="cpu", is_stepped=True)
        ops.pooling, ops.normalize = pooling, normalize
        found = forward(ops, twin.architecture).numpy()
    rows = np.empty((len(batch), found.shape[1]), dtype=np.float32)
    rows[layout.order] = found[: len(batch)]
    return rows, ops


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
def test_vectors_are_those_of_sentence_transformers(
    twin: Twin, pooling: str, *, normalize: bool
) -> None:
    batch = lots(twin.shape, MIX)
    ours = twin.torch().run(batch, pooling=pooling, normalize=normalize)
    theirs = twin.reference.encode(batch, pooling=pooling, normalize=normalize)
    assert ours.dtype == np.float32
    assert ours.shape == (len(batch), 32)
    assert cosines(ours, theirs).min() >= SAME
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
def test_vectors_are_those_of_the_graph(twin: Twin, pooling: str) -> None:
    batch = lots(twin.shape, MIX)
    ours = twin.torch().run(batch, pooling=pooling, normalize=True)
    theirs = twin.packed.encode(batch, pooling=pooling, normalize=True)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
def test_neighbours_do_not_change_a_vector(twin: Twin, pooling: str) -> None:
    executor, batch = twin.torch(), lots(twin.shape, MIX)
    together = executor.run(batch, pooling=pooling, normalize=False)
    for ids, row in zip(batch, together, strict=True):
        alone = executor.run([ids], pooling=pooling, normalize=False)
        np.testing.assert_allclose(row, alone[0], atol=ROUNDING)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
@pytest.mark.parametrize("lengths", [MIX, [1], [48] * 9, [7, 8, 9]])
def test_the_rounded_shapes_of_mps_change_no_vector(
    twin: Twin, lengths: list[int], pooling: str, *, normalize: bool
) -> None:
    batch = lots(twin.shape, lengths)
    ours, _ = stepped(twin, batch, pooling=pooling, normalize=normalize)
    theirs = twin.reference.encode(batch, pooling=pooling, normalize=normalize)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_on_mps_many_batches_share_few_shapes(twin: Twin) -> None:
    shapes = set()
    for seed, lengths in enumerate(([3, 9], [4, 4, 8], [1] * 8, [30], [20, 2, 11, 7])):
        batch = lots(twin.shape, lengths, seed=seed)
        _, ops = stepped(twin, batch, pooling="mean", normalize=True)
        assert ops._ids.shape == (TOKEN_STEP,)
        shapes |= {tuple(grid.cells.shape) for grid in ops._grids}
    assert shapes == {(FEWEST_ROWS, COLUMN_STEP)}


def test_on_mps_attention_gets_no_views_of_others(
    twin: Twin, monkeypatch: pytest.MonkeyPatch
) -> None:
    attend = torch.nn.functional.scaled_dot_product_attention

    def spy(*parts: Tensor, attn_mask: Tensor) -> Tensor:
        assert all(part.is_contiguous() for part in parts)
        assert parts[0].shape[2] >= COLUMN_STEP
        return attend(*parts, attn_mask=attn_mask)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", spy)
    stepped(twin, lots(twin.shape, MIX), pooling="mean", normalize=True)


@pytest.mark.parametrize("is_stepped", [True, False])
def test_no_row_of_attention_is_written_twice(twin: Twin, *, is_stepped: bool) -> None:
    batch = lots(twin.shape, MIX)
    layout = arrange(batch, first_position=twin.architecture.first_position)
    weights = twin.torch()._weights
    ops = TorchOperations(twin.architecture, weights, layout, device="cpu", is_stepped=is_stepped)
    written = []
    for grid in ops._grids:
        rows = grid.tokens.tolist()
        assert len(set(rows)) == len(rows)
        written += [row for row in rows if row < sum(MIX)]
    assert sorted(written) == list(range(sum(MIX)))


@pytest.fixture
def anywhere(twin: Twin, monkeypatch: pytest.MonkeyPatch) -> Iterator[Anywhere]:
    """Let executors for other devices compute on the CPU."""
    made: list[TorchOperations] = []

    class Spy(TorchOperations):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "device": "cpu"})
            made.append(self)

    monkeypatch.setattr(torch_executor, "TorchOperations", Spy)
    weights, products = twin.torch()._weights, torch.backends.cuda.matmul
    before = products.fp32_precision
    yield (
        lambda device: TorchExecutor(weights, architecture=twin.architecture, device=device),
        made,
    )
    products.fp32_precision = before


def test_only_mps_gets_rounded_shapes(anywhere: Anywhere) -> None:
    executor_on, made = anywhere
    for device in ("cpu", "cuda", "mps"):
        executor_on(device).run([(5, 6)], pooling="mean", normalize=True)
    assert [ops._is_stepped for ops in made] == [False, False, True]


def test_on_cuda_few_grids_are_made(twin: Twin, anywhere: Anywhere) -> None:
    executor_on, made = anywhere
    for device in ("cpu", "cuda"):
        batch = lots(twin.shape, MIX * 12)
        executor_on(device).run(batch, pooling="mean", normalize=True)
    assert len(made[0]._grids) > 1
    assert len(made[1]._grids) == 1


def test_on_cuda_a_long_text_is_no_grid_for_many_short_ones() -> None:
    batch = [[5] * 512, *[[5] * 5] * 700]
    layout = arrange(batch, first_position=0, grid_cost=CUDA_GRID_COST)
    assert [grid.cells.shape for grid in layout.grids] == [(1, 512), (700, 5)]


def test_products_are_rounded_on_cuda_alone_and_if_asked(anywhere: Anywhere) -> None:
    executor_on, _ = anywhere
    products = torch.backends.cuda.matmul
    seen = []
    for device, is_tf32 in (("cuda", False), ("cuda", True), ("mps", False), ("cpu", False)):
        products.fp32_precision = "tf32" if device == "cuda" and not is_tf32 else "ieee"
        executor = executor_on(device)
        executor.is_tf32 = is_tf32
        executor.run([(5, 6)], pooling="mean", normalize=True)
        seen.append(products.fp32_precision)
    assert seen == ["ieee", "tf32", "ieee", "ieee"]


def test_a_batch_reaches_the_device_in_one_piece(
    twin: Twin, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = twin.torch()
    read, pieces = torch.from_numpy, []

    def spy(array: Any) -> Tensor:
        pieces.append(array.dtype)
        return read(array)

    monkeypatch.setattr(torch, "from_numpy", spy)
    executor.run(lots(twin.shape, MIX), pooling="mean", normalize=True)
    assert pieces == [np.int64]


@pytest.mark.parametrize("prefix", ["", "bert."])
def test_of_weights_in_half_the_tables_stay_so(twin: Twin, prefix: str, tmp_path: Path) -> None:
    folder = shutil.copytree(twin.folder, tmp_path / "twin")
    tensors = {
        f"{prefix}{name}": array.astype(np.float16) if array.ndim > 1 else array
        for name, array in load_file(folder / WEIGHTS).items()
    }
    # Older files carry the numbers of the positions, too.
    tensors[f"{prefix}embeddings.position_ids"] = np.arange(64)
    save_file(tensors, folder / HALF_WEIGHTS)
    architecture = read(folder)
    half, whole = (
        open_tensors(open_weights(folder / name), architecture=architecture, device="cpu")
        for name in (HALF_WEIGHTS, WEIGHTS)
    )
    kept = {name for name in half._weights if name.endswith("_embeddings.weight")}
    assert "embeddings.word_embeddings.weight" in kept
    for name, tensor in half._weights.items():
        assert tensor.dtype == (torch.float16 if name in kept else torch.float32)
    assert {tensor.dtype for tensor in whole._weights.values()} == {torch.float32}
    batch = [(5, 6, 7), (9,)]
    ours = half.run(batch, pooling="mean", normalize=True)
    theirs = whole.run(batch, pooling="mean", normalize=True)
    assert 0.9999 < cosines(ours, theirs).min() < 1


@pytest.mark.parametrize("device", ["mps", "cuda"])
def test_what_the_device_holds_is_given_back(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    emptied = []
    for name in ("mps", "cuda"):
        module = getattr(torch, name)
        monkeypatch.setattr(module, "empty_cache", lambda name=name: emptied.append(name))
    architecture: Any = None
    TorchExecutor({}, architecture=architecture, device=device).trim()
    TorchExecutor({}, architecture=architecture, device="cpu").trim()
    assert emptied == [device]


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_on_mps_no_shape_is_made_of_several_grids(twin: Twin, pooling: str) -> None:
    shapes = set()
    for seed, rows in enumerate((3, 9, 17, 30)):
        batch = lots(twin.shape, [48] * rows + [30] * 5 + [1] * 40, seed=seed)
        _, ops = stepped(twin, batch, pooling=pooling, normalize=True)
        for grid in ops._grids:
            assert grid.cells.shape == grid.mask.shape
            assert grid.tokens.shape == (grid.cells.numel(),)
            shapes.add(grid.cells.shape[0])
    assert all(count & (count - 1) == 0 for count in shapes)


def test_one_thread_computes_at_a_time(twin: Twin, monkeypatch: pytest.MonkeyPatch) -> None:
    executor = twin.torch()
    held = []

    def forward(*_: Any) -> Tensor:
        held.append(executor._turn.locked())
        return torch.zeros((1, 4))

    monkeypatch.setattr(torch_executor, "forward", forward)
    executor.run([(5, 6)], pooling="mean", normalize=True)
    assert held == [True]
    assert not executor._turn.locked()
