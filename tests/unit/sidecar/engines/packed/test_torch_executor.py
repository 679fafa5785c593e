from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from sidecar.engines.packed.architecture import HALF_WEIGHTS, WEIGHTS, forward, read
from sidecar.engines.packed.layout import arrange
from sidecar.engines.packed.weights import names_read, open_weights
from tests.support.clients import cosines
from tests.support.twins import lots

torch = pytest.importorskip("torch", reason="torch is not installed; `python3 build test` has it")

from sidecar.engines.packed import torch_executor  # noqa: E402 - it imports torch
from sidecar.engines.packed.torch_executor import (  # noqa: E402
    COLUMN_STEP,
    FEWEST_ROWS,
    TOKEN_STEP,
    TorchExecutor,
    TorchOperations,
    open_tensors,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

    from sidecar.engines import Vectors
    from tests.support.twins import Twin

pytestmark = pytest.mark.torch
SAME, ROUNDING = 0.99999, 2e-6
MIX = [48, 1, 2, 2, 3, 30, 48, 5, 17, 9, 9, 9, 1, 33]


def stepped(
    twin: Twin, batch: Sequence[Sequence[int]], *, pooling: str, normalize: bool
) -> tuple[Vectors, TorchOperations]:
    """Compute on the CPU with the shapes that MPS gets; the operations tell them."""
    layout = arrange(batch, first_position=twin.architecture.first_position)
    stored = open_weights(twin.folder / WEIGHTS)
    weights = {
        name: torch.from_numpy(np.array(stored.array(name)))
        for name in names_read(twin.architecture)
    }
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
        shapes |= {tuple(cells.shape) for cells, _, _ in ops._grids}
    assert shapes == {(FEWEST_ROWS, COLUMN_STEP)}


def test_only_mps_gets_rounded_shapes(twin: Twin, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    class Spy(TorchOperations):
        def __init__(self, *args: Any, is_stepped: bool, **options: Any) -> None:
            seen.append(is_stepped)
            super().__init__(*args, is_stepped=is_stepped, **{**options, "device": "cpu"})

    monkeypatch.setattr(torch_executor, "TorchOperations", Spy)
    weights = twin.torch()._weights
    for device in ("cpu", "cuda", "mps"):
        made = TorchExecutor(weights, architecture=twin.architecture, device=device)
        made.run([(5, 6)], pooling="mean", normalize=True)
    assert seen == [False, False, True]


@pytest.mark.parametrize("prefix", ["", "bert."])
def test_weights_in_half_under_any_prefix_are_widened(bert: Path, prefix: str) -> None:
    tensors = {
        f"{prefix}{name}": array.astype(np.float16) if array.ndim > 1 else array
        for name, array in load_file(bert / WEIGHTS).items()
    }
    # Older files carry the numbers of the positions, too.
    tensors[f"{prefix}embeddings.position_ids"] = np.arange(64)
    save_file(tensors, bert / HALF_WEIGHTS)
    architecture = read(bert)
    half, whole = (
        open_tensors(open_weights(bert / name), architecture=architecture, device="cpu")
        for name in (HALF_WEIGHTS, WEIGHTS)
    )
    assert half._weights.keys() == names_read(architecture)
    assert {tensor.dtype for tensor in half._weights.values()} == {torch.float32}
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
        for cells, mask, tokens in ops._grids:
            assert cells.shape == mask.shape
            assert tokens.shape == (cells.numel(),)
            shapes.add(cells.shape[0])
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
